//! Handing leadership over: who may be handed leadership, and what became of it.
//!
//! Invariants: whoever is named is asked first whether he can lead, so that nobody gives up a leadership for nothing; a
//! request names the term in which its sender saw the leader, so a retry that reaches the next one hands over nothing
//! anew.
//!
//! Deliberately not here: handing over without being asked (`node`).

use super::{Answer, Api, ApiError, Caller, Kind, Reply, membership};
use crate::{
    model::NodeId,
    raft::{Consensus, ConsensusError},
    wire::v1,
};

impl Api {
    /// Answers once somebody else leads, or says why nobody does.
    pub async fn transfer_leader(&self, _: &Caller, ask: v1::TransferLeaderRequest) -> Reply<v1::TransferLeaderReply> {
        let consensus = self.consensus()?;
        // Only the leader can hand over; its client listener takes the same request.
        if let Some(addr) = membership::leader(consensus)? {
            return self.remote.transfer_leader(&addr, ask).await.map(Answer::from);
        }
        let (me, now) = (consensus.node_id(), consensus.leader().borrow().clone());
        let moved = ask.term != 0 && ask.term != now.term;
        if ask.to == me || (moved && ask.to == 0) {
            return Ok(v1::TransferLeaderReply { leader_id: me, term: now.term }.into());
        }
        if moved {
            let who = name(consensus, me);
            return Err(ApiError::precondition(format!(
                "leadership has moved meanwhile: {who} leads in term {}; ask again",
                now.term
            )));
        }
        let to = match ask.to {
            0 => consensus
                .successor(me, false)
                .ok_or_else(|| ApiError::precondition("there is no other voter that may lead and answers"))?,
            id => id,
        };
        if let Some(row) = consensus.view().nodes.get(&to).filter(|n| n.drained) {
            return Err(ApiError::precondition(format!(
                "{} is drained: `slipway cluster drain {} --undo` first",
                row.name, row.name
            )));
        }
        consensus.can_lead(to).await.map_err(|e| outcome(consensus, to, &e))?;
        consensus.transfer_leader(to).await.map_err(|e| outcome(consensus, to, &e))?;
        let after = consensus.leader().borrow().clone();
        Ok(v1::TransferLeaderReply { leader_id: after.leader.map_or(0, |l| l.id), term: after.term }.into())
    }
}

fn name(consensus: &Consensus, id: NodeId) -> String {
    consensus.view().nodes.get(&id).map_or_else(|| format!("node {id}"), |n| n.name.clone())
}

/// What became of it, as a status. That another one leads now is an answer, and not a reason to try again.
fn outcome(consensus: &Consensus, to: NodeId, e: &ConsensusError) -> ApiError {
    match e {
        ConsensusError::NotLeader { leader: Some(other) } => ApiError::precondition(format!(
            "{} did not take over: {} leads now",
            name(consensus, to),
            name(consensus, other.id)
        )),
        ConsensusError::NotLeader { leader: None } => ApiError::no_leader(),
        ConsensusError::TimedOut { .. } | ConsensusError::Stopped { .. } => {
            ApiError::new(Kind::Unavailable, "unavailable", e.to_string())
        }
        ConsensusError::Refused { reason, .. } => ApiError::precondition(format!("{}: {reason}", name(consensus, to))),
        ConsensusError::Config { .. } | ConsensusError::Storage(_) => ApiError::precondition(e.to_string()),
    }
}
