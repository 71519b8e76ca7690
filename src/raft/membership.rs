//! Membership: learners first, voters by joint change, removal.
//!
//! Invariants: only joint changes (openraft's two-step protocol), one at a time; a voter was a learner that had caught
//! up; ids come from committed admissions and are never used twice, which `state` guarantees.
//!
//! Deliberately not here: when to change it (`node`'s membership loop).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use openraft::{
    BasicNode, ChangeMembers,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, RaftError},
};

use super::{Consensus, ConsensusError, types::TypeConfig};
use crate::{
    model::NodeId,
    state::NodeRole,
    wire::v1::{PresentReply, PresentRequest},
};

/// Longest wait for a new node's answer that it takes part.
const PRESENT_LIMIT: Duration = Duration::from_secs(2);
/// A learner that lags by more entries than this is not made a voter.
const CAUGHT_UP: u64 = 500;

type Change = ChangeMembers<u64, BasicNode>;

impl Consensus {
    /// Adds a node that receives the log and does not vote. Refused while the node does not take part at its address: a
    /// node that never heard of its admission asks for it again, which works only as long as it is no member. Repeating
    /// the call is harmless.
    pub async fn add_learner(&self, id: NodeId, peer_addr: &str) -> Result<(), ConsensusError> {
        const WHAT: &str = "adding a learner";
        if self.address(id).is_some_and(|known| known.addr == peer_addr) {
            return Ok(());
        }
        self.present(WHAT, id, peer_addr).await?;
        self.change(WHAT, ChangeMembers::AddNodes(BTreeMap::from([(id, BasicNode::new(peer_addr))]))).await
    }

    /// Asks a node whether it runs as this one, and why it could not lead.
    async fn present(&self, what: &'static str, id: NodeId, peer_addr: &str) -> Result<PresentReply, ConsensusError> {
        let refused = |reason: String| ConsensusError::Refused { what, reason };
        let mut client = self.client_at(id, peer_addr).map_err(refused)?;
        let ask = PresentRequest { header: Some(self.peer_header(id)) };
        let said = tokio::time::timeout(PRESENT_LIMIT, client.present(ask)).await;
        let said =
            said.map_err(|_| refused(format!("node {id} at {peer_addr} does not answer within {PRESENT_LIMIT:?}")))?;
        match said {
            Ok(said) => Ok(said.into_inner()),
            Err(status) => Err(refused(format!("node {id} does not take part at {peer_addr}: {}", status.message()))),
        }
    }

    /// Makes a learner a voter by a joint change; refused while it has said nothing or lags. Repeating it is harmless.
    pub async fn promote(&self, id: NodeId) -> Result<(), ConsensusError> {
        const WHAT: &str = "making a node a voter";
        let status = self.metrics();
        let Some(member) = status.members.iter().find(|m| m.id == id) else {
            return Err(ConsensusError::Refused {
                what: WHAT,
                reason: format!("node {id} is no member; add it as a learner first"),
            });
        };
        if member.voter {
            return Ok(());
        }
        if status.leader == Some(self.node_id()) {
            let Some(matched) = member.matched else {
                let reason = format!("node {id} has confirmed nothing yet; is it running?");
                return Err(ConsensusError::Refused { what: WHAT, reason });
            };
            let lag = status.last_log.unwrap_or(0).saturating_sub(matched);
            if lag > CAUGHT_UP {
                let reason = format!("node {id} lags by {lag} entries; wait until it has caught up");
                return Err(ConsensusError::Refused { what: WHAT, reason });
            }
        }
        self.change(WHAT, ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// Removes a node from the cluster for ever. Repeating it is harmless. A leader that removes itself hands over and
    /// stops leading.
    pub async fn remove(&self, id: NodeId) -> Result<(), ConsensusError> {
        const WHAT: &str = "removing a node";
        let members = self.metrics().members;
        let Some(member) = members.iter().find(|m| m.id == id) else { return Ok(()) };
        if !member.voter {
            return self.change(WHAT, ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await;
        }
        if members.iter().filter(|m| m.voter).count() == 1 {
            return Err(ConsensusError::Refused {
                what: WHAT,
                reason: format!("node {id} is the only voter; add another first"),
            });
        }
        self.change(WHAT, ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await
    }

    /// Asks a voter whether it can lead now. A voter that does not answer, lags or must not lead is refused, before
    /// this leader gives up its leadership.
    pub async fn can_lead(&self, id: NodeId) -> Result<(), ConsensusError> {
        const WHAT: &str = "handing over leadership";
        let refused = |reason: String| Err(ConsensusError::Refused { what: WHAT, reason });
        let status = self.metrics();
        let Some(member) = status.members.iter().find(|m| m.id == id && m.voter) else {
            return refused(format!("node {id} is not a voter"));
        };
        let said = self.present(WHAT, id, &member.addr).await?;
        if !said.cannot_lead.is_empty() {
            return refused(format!("node {id} cannot lead: {}", said.cannot_lead));
        }
        let lag = status.last_log.unwrap_or(0).saturating_sub(member.matched.unwrap_or(0));
        if lag > CAUGHT_UP {
            return refused(format!("node {id} lags by {lag} entries; wait until it has caught up"));
        }
        Ok(())
    }

    /// Hands leadership to a voter that has caught up and waits until it leads.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), ConsensusError> {
        const WHAT: &str = "handing over leadership";
        let mut leader = self.leader();
        if !leader.borrow_and_update().is_me {
            return Err(ConsensusError::NotLeader { leader: self.other_leader() });
        }
        if to == self.node_id() {
            return Ok(());
        }
        if !self.metrics().members.iter().any(|m| m.id == to && m.voter) {
            return Err(ConsensusError::Refused { what: WHAT, reason: format!("node {to} is not a voter") });
        }
        self.limited(WHAT, async {
            self.raft()
                .trigger()
                .transfer_leader(to)
                .await
                .map_err(|e| ConsensusError::Stopped { reason: e.to_string() })?;
            let elected = leader.wait_for(|seen| seen.leader.as_ref().is_some_and(|at| at.id != self.node_id())).await;
            let elected = elected.map_err(|_| ConsensusError::Stopped { reason: "it was shut down".into() })?.clone();
            match elected.leader {
                Some(at) if at.id == to => Ok(()),
                other => Err(ConsensusError::NotLeader { leader: other }),
            }
        })
        .await
    }

    /// The voter to hand over to: it answers, has caught up and is not drained. Of several the next one after `after`
    /// in a circle is taken, so that a node which cannot lead passes leadership on and not back. A leader that ends
    /// takes a drained node when there is no other.
    #[must_use]
    pub fn successor(&self, after: NodeId, ends: bool) -> Option<NodeId> {
        let state = self.view();
        let drained = |id: NodeId| state.nodes.get(&id).is_some_and(|n| n.drained);
        let fit = |id: NodeId| {
            let differs = state.replicas.diverged.contains_key(&id);
            let votes = state.nodes.get(&id).is_none_or(|n| n.role == NodeRole::Voter);
            !differs && votes && (ends || !drained(id))
        };
        let limit = self.config().timing.election_max * 2;
        let metrics = self.metrics();
        let last = metrics.last_log.unwrap_or(0);
        let able = metrics.members.iter().filter(|m| m.voter && m.id != self.node_id() && fit(m.id));
        let able = able.filter(|m| m.heard.is_some_and(|age| age < limit));
        let behind = |matched: Option<u64>| last.saturating_sub(matched.unwrap_or(0)) > CAUGHT_UP;
        able.min_by_key(|m| (drained(m.id), behind(m.matched), m.id <= after, m.id)).map(|m| m.id)
    }

    /// Makes a snapshot now and waits until it is durable; answers the index it stands for.
    pub async fn trigger_snapshot(&self) -> Result<u64, ConsensusError> {
        const WHAT: &str = "making a snapshot";
        let wanted = self.view().applied.index;
        let mut metrics = self.raft().metrics();
        self.limited(WHAT, async {
            let mut asked_after = None;
            loop {
                let made = metrics.borrow_watched().snapshot.map(|id| id.index);
                if let Some(made) = made.filter(|made| *made >= wanted) {
                    return Ok(made);
                }
                // While one is being made that began earlier, openraft takes no word for another: it is asked again
                // after that one.
                if asked_after != Some(made) {
                    asked_after = Some(made);
                    let asked = self.raft().trigger().snapshot().await;
                    asked.map_err(|e| ConsensusError::Stopped { reason: e.to_string() })?;
                }
                metrics.changed().await.map_err(|_| ConsensusError::Stopped { reason: "it was shut down".into() })?;
            }
        })
        .await
    }

    async fn change(&self, what: &'static str, change: Change) -> Result<(), ConsensusError> {
        self.limited(what, async {
            match self.raft().change_membership(change, false).await {
                Ok(_) => Ok(()),
                Err(error) => Err(self.refused(what, error)),
            }
        })
        .await
    }

    fn refused(
        &self,
        what: &'static str,
        error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>,
    ) -> ConsensusError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
                ConsensusError::NotLeader { leader: self.named_leader(&forward) }
            }
            RaftError::APIError(other) => ConsensusError::Refused { what, reason: other.to_string() },
            RaftError::Fatal(fatal) => ConsensusError::Stopped { reason: fatal.to_string() },
        }
    }
}
