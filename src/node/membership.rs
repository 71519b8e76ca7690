//! The leader's membership loop: an admitted node becomes a learner, then a voter; State's row follows each step.
//!
//! Invariant: Raft's membership changes first, the row second; every step may be repeated, so a new leader goes on where the old
//! one stopped.

use std::time::Duration;

use crate::{
    model::Principal,
    raft::{Consensus, ConsensusError},
    state::{Command, NodeRole, NodeRow},
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
        let next = state.nodes.values().find(|n| matches!(n.role, NodeRole::Joining | NodeRole::Learner)).cloned();
        let mut again = false;
        if let Some(row) = next.filter(|_| leads) {
            if let Err(error) = advance(&consensus, &row).await {
                tracing::debug!(node = row.id, %error, "membership step to be repeated");
            }
            again = true;
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
        NodeRole::Voter | NodeRole::Leaving | NodeRole::Removed => return Ok(()),
    };
    let command = Command::NodeRoleSet { node: row.id, role, seen: row.role };
    match consensus.propose(Principal::leader(), None, command).await {
        Ok(applied) => match applied.result {
            Ok(_) => tracing::info!(node = row.id, name = row.name, ?role, "membership changed"),
            Err(refusal) => tracing::warn!(node = row.id, %refusal, "role not set"),
        },
        Err(error) => tracing::debug!(node = row.id, %error, "role not set yet"),
    }
    Ok(())
}
