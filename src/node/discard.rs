//! Deletes packages that no release names any more, and uploads that nobody finished.
//!
//! Invariant: a package's file goes only after the cluster knows that this node is no holder, and nobody can bring it
//! or count on it meanwhile (the protocol stands in `state/catalog/blob_doomed.rs`). Not here: which packages are
//! needed (`state`), fetching (`repair`).

use std::time::Duration;

use super::repair::{held, needed};
use crate::{
    api::{Api, ApiError},
    model::Digest,
    raft::Consensus,
    state::{Command, command::BlobDoomed},
};

/// Between two looks at the disk.
const EVERY: Duration = Duration::from_secs(10);
/// A file that State does not name may be one that was brought just now.
const FRESH: Duration = Duration::from_secs(600);
/// An upload that was not touched for so long is not gone on with.
const GIVEN_UP: Duration = Duration::from_secs(24 * 3600);

/// Looks now and then.
pub(super) async fn run(api: Api, consensus: Consensus) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = look(&api, &consensus).await {
            tracing::debug!(%error, "packages that nothing needs stay for now");
        }
    }
}

async fn look(api: &Api, consensus: &Consensus) -> Result<(), ApiError> {
    let (blobs, now) = (api.blobs.clone(), api.clock.wall_ms());
    let (whole, partial) = tokio::task::spawn_blocking(move || Ok::<_, ApiError>((blobs.list()?, blobs.partials()?)))
        .await
        .map_err(ApiError::internal)??;
    let old = |written: u64, age: Duration| Duration::from_millis(now.saturating_sub(written)) > age;
    for (digest, written) in partial {
        // One that is being written now is busy, and stays.
        if old(written, GIVEN_UP) && api.blobs.remove_partial(&digest).unwrap_or(false) {
            tracing::info!(digest, "an upload that nobody finished is deleted");
        }
    }
    let (state, me) = (consensus.view(), consensus.node_id());
    let needed = needed(&state);
    let spare = whole.iter().filter_map(|(text, _)| Digest::new(text).ok()).filter(|digest| !needed.contains(digest));
    for digest in spare {
        // It is worth asking once its time is over. The law has the last word.
        let over = match state.blobs.get(&digest).filter(|_| held(&state, &digest, me)) {
            Some(blob) => blob.kept_until <= state.now,
            None => api.blobs.written_ms(digest.as_str())?.is_some_and(|written| old(written, FRESH)),
        };
        if over {
            discard(api, consensus, &digest).await?;
        }
    }
    Ok(())
}

async fn discard(api: &Api, consensus: &Consensus, digest: &Digest) -> Result<(), ApiError> {
    // Who uploads or fetches it has it already: another time.
    let Ok(lock) = api.blobs.lock(digest.as_str()) else { return Ok(()) };
    let node = consensus.node_id();
    let index = api.node_change(Command::BlobDoomed(BlobDoomed { digest: digest.clone(), node })).await?;
    let state = consensus.view();
    if state.applied.index < index {
        return Ok(());
    }
    if held(&state, digest, node) || state.releases.values().any(|r| &r.digest == digest) {
        return Ok(());
    }
    let removed = tokio::task::spawn_blocking(move || lock.remove()).await.map_err(ApiError::internal)??;
    if removed {
        tracing::info!(digest = digest.short(), "a package that no release names is deleted");
    }
    Ok(())
}
