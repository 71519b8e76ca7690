//! Packages that releases need and this node lacks are fetched from a holder; ones that vanished are said to be gone.

use std::time::Duration;

use crate::{
    model::Digest,
    raft::Consensus,
    rpc::{Shared, fetch_blob},
    state::{Command, NodeRole, State},
};

const EVERY: Duration = Duration::from_secs(5);

/// Looks every few seconds.
pub(super) async fn run(shared: Shared, consensus: Consensus) {
    loop {
        tokio::time::sleep(EVERY).await;
        let state = consensus.view();
        let me = consensus.node_id();
        if !state.nodes.get(&me).is_some_and(|n| matches!(n.role, NodeRole::Learner | NodeRole::Voter)) {
            continue;
        }
        for digest in needed(&state) {
            let Some(blob) = state.blobs.get(&digest) else { continue };
            let here = shared.blobs.has(digest.as_str());
            let said = blob.holders.contains(&me);
            let done = if said && !here {
                tracing::warn!(digest = digest.short(), "a package of this node has vanished; it is fetched again");
                shared.node_change(Command::BlobDropped { digest, node: me }).await.map(drop)
            } else if said {
                continue;
            } else {
                let from = blob.holders.iter().copied().find(|h| *h != me);
                match from {
                    Some(from) => fetch_blob(&shared, from, &digest, blob.size).await,
                    None if here => fetch_blob(&shared, me, &digest, blob.size).await,
                    None => continue,
                }
            };
            if let Err(status) = done {
                tracing::debug!(%status, "package not repaired yet");
            }
        }
    }
}

/// Packages of all releases.
fn needed(state: &State) -> Vec<Digest> {
    let mut all: Vec<Digest> = state.releases.values().map(|r| r.digest.clone()).collect();
    all.sort();
    all.dedup();
    all
}
