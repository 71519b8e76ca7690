//! A node's own place in the cluster: it announces its program and addresses, follows a drain, and ends when it may not
//! take part.
//!
//! Invariants: a removed node marks its directory before it ends, so that it cannot come back. It learns of its removal
//! from its own State, or from a majority of the other voters in that State, as nobody sends it the log any more.
//!
//! Not here: the steps of membership, which the leader takes (`membership`).

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use tonic::transport::Endpoint;

use super::start::Parts;
use crate::{
    api::Api,
    raft::Consensus,
    state::{Command, NodeRole, NodeRow, command::NodeAnnounced},
    wire::v1::{self, cluster_client::ClusterClient},
};

const RETRY: Duration = Duration::from_millis(500);
/// How often the others are asked whether this node still belongs to them: while it knows no leader or is leaving, and
/// while it hears nothing new. A removed node may believe in its last leader for ever.
const ALONE: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(5);
const ASK: Duration = Duration::from_secs(1);

/// Announces this node's program and addresses, at the start and after the level was raised. Keeps a drained node from
/// standing for election, unless no leader has confirmed anything for so long that no other node can lead.
pub(super) async fn follow(parts: Arc<Parts>, consensus: Consensus, api: Api) {
    let mut views = consensus.view_changes();
    let (min, max) = parts.levels();
    let mine = parts.as_new_node();
    let version = env!("CARGO_PKG_VERSION");
    loop {
        views.borrow_and_update();
        let state = consensus.view();
        let row = state.nodes.get(&consensus.node_id());
        let drained = row.is_some_and(|n| n.drained);
        // With pre-votes a term outlives its leader: that one is named says nothing.
        let nobody_leads = parts.confirmed.problem(parts.clock.mono()).is_some();
        // One place decides, so that no reason undoes another.
        consensus.set_electable(consensus.diverged().is_none() && (!drained || nobody_leads));
        let new = |n: &NodeRow| {
            let moved = n.client_addr != mine.client_addr || n.dns_addr != mine.dns_addr;
            moved || n.level != max || n.version != version || n.min_level != min
        };
        if row.is_some_and(|n| n.role != NodeRole::Removed && new(n)) {
            let (client_addr, dns_addr) = (mine.client_addr.clone(), mine.dns_addr.clone());
            let (node, version) = (consensus.node_id(), version.into());
            let command = Command::NodeAnnounced(NodeAnnounced { node, version, min, max, client_addr, dns_addr });
            if let Err(error) = api.node_change(command).await {
                tracing::debug!(%error, "not announced yet");
                sleep(RETRY).await;
                continue;
            }
        }
        let changed = async {
            // Time that passes without a leader changes no State.
            if drained { timeout(ALONE, views.changed()).await.unwrap_or(Ok(())) } else { views.changed().await }
        };
        if changed.await.is_err() {
            return;
        }
    }
}

/// Waits until this node may not take part any more; says why.
pub(super) async fn unfit(parts: Arc<Parts>, consensus: Consensus) -> String {
    let mut views = consensus.view_changes();
    let mut leadership = consensus.leader();
    let (min, max) = parts.levels();
    let mut quiet = false;
    loop {
        views.borrow_and_update();
        let state = consensus.view();
        let me = consensus.node_id();
        let leaving = state.nodes.get(&me).is_some_and(|n| n.role == NodeRole::Leaving);
        let alone = leaving || leadership.borrow_and_update().leader.is_none();
        let name = &parts.config.name;
        if state.cluster.is_some() && (max < state.level || min > state.level) {
            let (what, fix) = if max < state.level {
                ("old", "install a newer version")
            } else {
                ("new", "install the version before it, and finalize that first")
            };
            return format!(
                "this program is too {what}: node {name} supports feature levels {min} to {max}, the cluster is at {}: {fix}",
                state.level
            );
        }
        let removed = state.nodes.get(&me).is_some_and(|n| n.role == NodeRole::Removed);
        if removed || ((alone || quiet) && disowned(&consensus).await) {
            let log = parts.dir.log().clone();
            match tokio::task::spawn_blocking(move || log.mark_removed()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the data directory could not be marked"),
                Err(error) => tracing::error!(%error, "the data directory could not be marked"),
            }
            return format!(
                "node {me} ({name}) was removed from cluster {}: its data directory is marked and cannot come back; to join \
                 again, start it on an empty one",
                consensus.cluster()
            );
        }
        let changed = async {
            tokio::select! {
                _ = views.changed() => {}
                _ = leadership.changed() => {}
            }
        };
        if alone {
            sleep(ALONE).await;
        } else {
            quiet = timeout(QUIET, changed).await.is_err();
        }
    }
}

/// Whether a majority of the other voters in this node's State say that it was removed. What follows cannot be undone,
/// so the answer of one node is not enough, and nodes that were merely admitted are not asked. Ids are never used
/// again, so a majority that says so is right.
async fn disowned(consensus: &Consensus) -> bool {
    let state = consensus.view();
    let me = consensus.node_id();
    let voters: Vec<&NodeRow> = state.nodes.values().filter(|n| n.id != me && n.role == NodeRole::Voter).collect();
    let said = join_all(voters.iter().map(|voter| disowned_by(consensus, voter))).await;
    let against = said.iter().filter(|removed| **removed).count();
    let of = voters.len();
    tracing::debug!(of, against, "asked the voters whether this node still belongs to them");
    if against > 0 && !is_majority(against, of) {
        tracing::warn!(of, against, "some voters say that this node was removed, but no majority of those it knows");
    }
    is_majority(against, of)
}

fn is_majority(said: usize, of: usize) -> bool {
    said.saturating_mul(2) > of
}

/// Whether this voter says so of itself, for this cluster.
async fn disowned_by(consensus: &Consensus, voter: &NodeRow) -> bool {
    let ask = async {
        let endpoint = Endpoint::from_shared(format!("http://{}", voter.client_addr)).ok()?;
        let channel = endpoint.connect_timeout(ASK).connect().await.ok()?;
        ClusterClient::new(channel).status(v1::StatusRequest {}).await.ok()
    };
    let Ok(Some(said)) = timeout(ASK, ask).await else { return false };
    let (said, me) = (said.into_inner(), consensus.node_id());
    let itself = said.node_id == voter.id && said.cluster_id == consensus.cluster();
    itself && said.nodes.iter().any(|n| n.node_id == me && n.role == "removed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_voter_of_several_removes_nobody() {
        assert!(!is_majority(0, 0), "nobody to ask");
        assert!(is_majority(1, 1) && is_majority(2, 2) && is_majority(3, 4));
        assert!(!is_majority(1, 2) && !is_majority(2, 4));
    }
}
