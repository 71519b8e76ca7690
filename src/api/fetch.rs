//! Fetching a package from another node: resumed, verified, durable, then committed as held.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::{Api, ApiError, artifacts::Intake};
use crate::{
    model::{Digest, NodeId},
    storage::StorageError,
};

/// Longest wait for the next bytes: one that stands still must not keep the others from being asked.
const STILL: Duration = Duration::from_secs(10);

/// Fetches from `from` unless the package is here, and commits that this node holds it.
pub async fn fetch_blob(api: &Api, from: NodeId, digest: &Digest, size: u64) -> Result<(), ApiError> {
    if size == 0 || size > crate::model::MAX_PACKAGE {
        return Err(ApiError::bad(format!("a package of {size} bytes is refused")));
    }
    if !api.blobs.has(digest.as_str()) {
        match copy(api, from, digest, size).await {
            Ok(()) => {}
            Err(error) if api.blobs.has(digest.as_str()) => {
                tracing::debug!(%error, digest = digest.short(), "another upload was faster");
            }
            Err(error) => return Err(error),
        }
    }
    api.hold(digest, size).await
}

async fn copy(api: &Api, from: NodeId, digest: &Digest, size: u64) -> Result<(), ApiError> {
    let state = api.consensus()?.view();
    let row = state.nodes.get(&from).ok_or_else(|| ApiError::not_found(format!("node {from} is not known")))?;
    let away = |why: String| ApiError::unavailable(format!("node {from}: {why}"));
    let still = |_| away(format!("nothing came for {STILL:?}"));
    let began = Intake::begin(&api.blobs, digest.as_str(), size).await;
    if matches!(began, Err(StorageError::BlobHeld { .. })) {
        return Ok(());
    }
    let (intake, offset) = began?;
    let asked = api.remote.fetch(&row.client_addr, digest, offset);
    let mut stream = timeout(STILL, asked).await.map_err(still)??;
    while let Some(chunk) = timeout(STILL, stream.next()).await.map_err(still)?.transpose()? {
        if !chunk.data.is_empty() && intake.push(chunk.data).await.is_err() {
            break;
        }
    }
    intake.finish().await.map_err(ApiError::from)
}
