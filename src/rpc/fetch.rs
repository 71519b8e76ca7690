//! Fetching a package from another node: resumed, verified, durable, then committed as held.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, Status, transport::Endpoint};

use super::{Shared, artifacts::Intake, error};
use crate::{
    model::{Digest, NodeId},
    storage::StorageError,
    wire::v1::{self, artifacts_client::ArtifactsClient},
};

const CONNECT: Duration = Duration::from_secs(2);
/// Longest wait for the next bytes: one that stands still must not keep the others from being asked.
const STILL: Duration = Duration::from_secs(10);

/// Fetches from `from` unless the package is here, and commits that this node holds it.
pub async fn fetch_blob(shared: &Shared, from: NodeId, digest: &Digest, size: u64) -> Result<(), Status> {
    if size == 0 || size > crate::model::MAX_PACKAGE {
        return Err(error::bad(format!("a package of {size} bytes is refused")));
    }
    if !shared.blobs.has(digest.as_str()) {
        match copy(shared, from, digest, size).await {
            Ok(()) => {}
            Err(status) if shared.blobs.has(digest.as_str()) => {
                tracing::debug!(%status, digest = digest.short(), "another upload was faster");
            }
            Err(status) => return Err(status),
        }
    }
    shared.hold(digest, size).await
}

async fn copy(shared: &Shared, from: NodeId, digest: &Digest, size: u64) -> Result<(), Status> {
    let state = shared.consensus()?.view();
    let row = state.nodes.get(&from).ok_or_else(|| error::not_found(format!("node {from} is not known")))?;
    let away = |why: String| error::status(Code::Unavailable, "unavailable", format!("node {from}: {why}"));
    let still = |_| away(format!("nothing came for {STILL:?}"));
    let endpoint = Endpoint::from_shared(format!("http://{}", row.client_addr)).map_err(|e| away(e.to_string()))?;
    let channel = endpoint.connect_timeout(CONNECT).connect().await.map_err(|e| away(e.to_string()))?;
    let mut client = ArtifactsClient::new(channel);
    let began = Intake::begin(&shared.blobs, digest.as_str(), size).await;
    if matches!(began, Err(StorageError::BlobHeld { .. })) {
        return Ok(());
    }
    let (intake, offset) = began.map_err(|e| error::stored(&e))?;
    let request = v1::FetchRequest { digest: digest.to_string(), offset };
    let mut stream = timeout(STILL, client.fetch(request)).await.map_err(still)??.into_inner();
    while let Some(chunk) = timeout(STILL, stream.message()).await.map_err(still)?? {
        if !chunk.data.is_empty() && intake.push(chunk.data).await.is_err() {
            break;
        }
    }
    intake.finish().await.map_err(|e| error::stored(&e))
}
