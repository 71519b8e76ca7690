//! Fetches packages that releases need and this node lacks, and reports packages that vanished from its disk.
//!
//! Invariants: every holder is asked, in a random order, one after the other with a pause between; a package that no
//! holder gives is tried ever more rarely and delays no other package. Not here: the fetch itself (`api`), and which
//! nodes count as holders (`state::catalog`).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use rand::seq::SliceRandom as _;

use crate::{
    api::{Api, ApiError, fetch_blob},
    clock::Mono,
    model::{Digest, NodeId},
    raft::Consensus,
    state::{Blob, Command, NodeRole, State, command::BlobDropped},
};

const EVERY: Duration = Duration::from_secs(1);
/// Looks at State between two looks at the disk, which may have lost what State says is there.
const DISK: u32 = 5;
/// Between two holders of one package.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a package rests that no holder gave: twice as long each time.
const REST: (u64, u64) = (1_000, 30_000);
/// Packages that are fetched at once.
const AT_ONCE: usize = 4;

/// When a package that no holder gave is tried again.
#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Mono,
    ms: u64,
}

/// Looks every second.
pub(super) async fn run(api: Api, consensus: Consensus) {
    let mut resting: BTreeMap<Digest, Rest> = BTreeMap::new();
    for look in (0..DISK).cycle() {
        tokio::time::sleep(EVERY).await;
        let state = consensus.view();
        let me = consensus.node_id();
        if !state.nodes.get(&me).is_some_and(|n| matches!(n.role, NodeRole::Learner | NodeRole::Voter)) {
            continue;
        }
        let needed = needed(&state);
        resting.retain(|digest, _| needed.contains(digest));
        if look == 0 {
            for digest in needed.iter().filter(|d| held(&state, d, me) && !api.blobs.has(d.as_str())) {
                tracing::warn!(digest = digest.short(), "a package of this node has vanished; it is fetched again");
                let gone = Command::BlobDropped(BlobDropped { digest: digest.clone(), node: me });
                if let Err(error) = api.node_change(gone).await {
                    tracing::debug!(%error, digest = digest.short(), "not said to be gone yet");
                }
            }
        }
        let now = api.clock.mono();
        let due = |d: &&Digest| resting.get(*d).is_none_or(|rest| rest.until <= now);
        let missing = needed.iter().filter(|d| !held(&state, d, me)).filter(due).cloned();
        let missing: Vec<Digest> = missing.collect();
        let (from, with) = (&*state, &api);
        let tries = stream::iter(missing).map(|digest| async move {
            let done = fetch(with, &digest, from.blobs.get(&digest), me).await;
            (digest, done)
        });
        let done: Vec<(Digest, Result<(), ApiError>)> = tries.buffer_unordered(AT_ONCE).collect().await;
        let now = api.clock.mono();
        for (digest, done) in done {
            match done {
                Ok(()) => drop(resting.remove(&digest)),
                Err(error) => {
                    let ms = resting.get(&digest).map_or(REST.0, |rest| rest.ms.saturating_mul(2).min(REST.1));
                    tracing::warn!(digest = digest.short(), %error, again_ms = ms, "no holder gave a package");
                    resting.insert(digest, Rest { until: Mono(now.0.saturating_add(ms)), ms });
                }
            }
        }
    }
}

pub(super) fn held(state: &State, digest: &Digest, node: NodeId) -> bool {
    state.blobs.get(digest).is_some_and(|b| b.holders.contains(&node))
}

/// The other holders, in the order in which they are asked.
fn sources(blob: &Blob, me: NodeId) -> Vec<NodeId> {
    let mut from: Vec<NodeId> = blob.holders.iter().copied().filter(|h| *h != me).collect();
    from.shuffle(&mut rand::rng());
    from
}

/// Fetches from the first that gives it; what is here already is only said.
async fn fetch(api: &Api, digest: &Digest, blob: Option<&Blob>, me: NodeId) -> Result<(), ApiError> {
    let mut last = ApiError::not_found("no node holds it: push it again");
    let Some(blob) = blob else { return Err(last) };
    if api.blobs.has(digest.as_str()) {
        return fetch_blob(api, me, digest, blob.size).await;
    }
    for (n, from) in sources(blob, me).into_iter().enumerate() {
        if n > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        match fetch_blob(api, from, digest, blob.size).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                tracing::debug!(node = from, digest = digest.short(), %error, "package not fetched from this holder");
                last = error;
            }
        }
    }
    Err(last)
}

/// Packages of all releases.
pub(super) fn needed(state: &State) -> BTreeSet<Digest> {
    state.releases.values().map(|r| r.digest.clone()).collect()
}
