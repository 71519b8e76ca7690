//! `Cluster.TransferLeader`: who may be handed leadership, and what became of it.
//!
//! Invariants: whoever is named is asked first whether he can lead, so that nobody gives up a leadership for nothing; a request names the
//! term in which its sender saw the leader, so a retry that reaches the next one hands over nothing anew.
//!
//! Deliberately not here: handing over without being asked (`node`).

use tonic::{Code, Status};

use super::{Shared, error, membership};
use crate::{
    model::NodeId,
    raft::{Consensus, ConsensusError},
    wire::v1,
};

impl Shared {
    pub(super) async fn transfer_now(&self, ask: v1::TransferLeaderRequest) -> Result<v1::TransferLeaderReply, Status> {
        let consensus = self.consensus()?;
        // Only the leader can hand over; its client listener takes the same request.
        if let Some(mut client) = membership::leader(consensus).await? {
            return client.transfer_leader(ask).await.map(tonic::Response::into_inner);
        }
        let (me, now) = (consensus.node_id(), consensus.leader().borrow().clone());
        let moved = ask.term != 0 && ask.term != now.term;
        if ask.to == me || (moved && ask.to == 0) {
            return Ok(v1::TransferLeaderReply { leader_id: me, term: now.term });
        }
        if moved {
            let who = name(consensus, me);
            return Err(no(format!("leadership has moved meanwhile: {who} leads in term {}; ask again", now.term)));
        }
        let to = match ask.to {
            0 => consensus
                .successor(me, false)
                .ok_or_else(|| no("there is no other voter that may lead and answers".into()))?,
            id => id,
        };
        if let Some(row) = consensus.view().nodes.get(&to).filter(|n| n.drained) {
            return Err(no(format!("{} is drained: `slipway cluster drain {} --undo` first", row.name, row.name)));
        }
        consensus.can_lead(to).await.map_err(|e| outcome(consensus, to, &e))?;
        consensus.transfer_leader(to).await.map_err(|e| outcome(consensus, to, &e))?;
        let after = consensus.leader().borrow().clone();
        Ok(v1::TransferLeaderReply { leader_id: after.leader.map_or(0, |l| l.id), term: after.term })
    }
}

fn no(text: String) -> Status {
    error::status(Code::FailedPrecondition, "precondition", text)
}

fn name(consensus: &Consensus, id: NodeId) -> String {
    consensus.view().nodes.get(&id).map_or_else(|| format!("node {id}"), |n| n.name.clone())
}

/// What became of it, as a status. That another one leads now is an answer, and not a reason to try again.
fn outcome(consensus: &Consensus, to: NodeId, e: &ConsensusError) -> Status {
    match e {
        ConsensusError::NotLeader { leader: Some(other) } => {
            no(format!("{} did not take over: {} leads now", name(consensus, to), name(consensus, other.id)))
        }
        ConsensusError::NotLeader { leader: None } => error::no_leader(),
        ConsensusError::TimedOut { .. } | ConsensusError::Stopped { .. } => {
            error::status(Code::Unavailable, "unavailable", e.to_string())
        }
        ConsensusError::Refused { reason, .. } => no(format!("{}: {reason}", name(consensus, to))),
        ConsensusError::Config { .. } | ConsensusError::Storage(_) => no(e.to_string()),
    }
}
