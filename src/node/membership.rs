//! The leader's membership loop: an admitted node becomes a learner and then a voter, a leaving node is removed, and
//! State's row follows each step. A leader that leaves or is drained hands over first.
//!
//! Invariants: Raft's membership changes first and the row second; every step may be repeated, so a new leader goes on
//! where the old one stopped; no step is taken while traffic is switched; a node that does not come or catch up keeps
//! no other node waiting. Not here: who may join or leave (`state::cluster`).

use std::time::Duration;

use crate::{
    model::Principal,
    raft::{Consensus, ConsensusError},
    state::{Command, NodeRole, NodeRow, command::NodeRoleSet, switching},
};

const RETRY: Duration = Duration::from_millis(300);

/// Runs as long as consensus does; acts while this node leads.
pub(super) async fn run(consensus: Consensus) {
    let mut views = consensus.view_changes();
    let mut leadership = consensus.leader();
    loop {
        views.borrow_and_update();
        let leads = leadership.borrow_and_update().ready;
        let state = consensus.view();
        let me = consensus.node_id();
        let mine = state.nodes.get(&me).filter(|_| leads);
        let leaving = mine.is_some_and(|n| n.role == NodeRole::Leaving);
        let drained = mine.is_some_and(|n| n.drained);
        let handed = (leaving || drained) && step_down(&consensus, leaving).await;
        // A drained node leads when no other can; then it has to do this work too.
        if handed || leaving {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        let members = if leads { consensus.metrics().members } else { Vec::new() };
        // A node that was given up while it was still joining may be in Raft's membership already.
        let stray = |n: &&NodeRow| n.role == NodeRole::Removed && members.iter().any(|m| m.id == n.id);
        let moving = |n: &&NodeRow| matches!(n.role, NodeRole::Joining | NodeRole::Learner | NodeRole::Leaving);
        let mut rows: Vec<NodeRow> =
            state.nodes.values().filter(|n| leads && (moving(n) || stray(n))).cloned().collect();
        // A node that may lead can come back without an entry in State.
        let again = drained || !rows.is_empty();
        if let Some(switch) = switching(&state).filter(|_| !rows.is_empty()) {
            tracing::debug!(switch, "membership waits until traffic was switched");
            rows.clear();
        }
        // An admitted node may never come and must not delay others: it is handled last, and the next one after it.
        rows.sort_by_key(|n| n.role == NodeRole::Joining);
        for row in &rows {
            match advance(&consensus, row).await {
                Ok(()) => break,
                Err(error) => tracing::debug!(node = row.id, %error, "membership step to be repeated"),
            }
        }
        let changed = async {
            tokio::select! {
                seen = views.changed() => seen,
                seen = leadership.changed() => seen,
            }
        };
        if again {
            tokio::time::sleep(RETRY).await;
        } else if changed.await.is_err() {
            return;
        }
    }
}

async fn advance(consensus: &Consensus, row: &NodeRow) -> Result<(), ConsensusError> {
    let role = match row.role {
        NodeRole::Joining => {
            consensus.add_learner(row.id, &row.peer_addr).await?;
            NodeRole::Learner
        }
        NodeRole::Learner => {
            consensus.promote(row.id).await?;
            NodeRole::Voter
        }
        NodeRole::Leaving => {
            consensus.remove(row.id).await?;
            NodeRole::Removed
        }
        NodeRole::Removed => return consensus.remove(row.id).await,
        NodeRole::Voter => return Ok(()),
    };
    let command = Command::NodeRoleSet(NodeRoleSet { node: row.id, role, seen: row.role, lose_packages: false });
    match consensus.propose(Principal::leader(), None, command).await {
        Ok(applied) => match applied.result {
            Ok(_) => tracing::info!(node = row.id, name = row.name, ?role, "membership changed"),
            Err(refusal) => tracing::warn!(node = row.id, %refusal, "role not set"),
        },
        Err(error) => tracing::debug!(node = row.id, %error, "role not set yet"),
    }
    Ok(())
}

/// A leader that is to leave or is drained lets another lead, which goes on with what is to be done. Whether there was
/// one to ask.
async fn step_down(consensus: &Consensus, leaving: bool) -> bool {
    let Some(to) = consensus.successor(consensus.node_id(), leaving) else {
        tracing::debug!("nobody to hand leadership to yet");
        return false;
    };
    // Two nodes that hand leadership to each other would serve no one: one may be drained, the other without room on
    // its disk.
    if let Err(error) = consensus.can_lead(to).await {
        tracing::debug!(to, %error, "leadership is kept");
        return false;
    }
    match consensus.transfer_leader(to).await {
        Ok(()) => tracing::info!(to, "leadership handed over"),
        Err(error) => tracing::debug!(to, %error, "leadership not handed over yet"),
    }
    true
}
