//! What status and metrics pages show of Raft, as plain values.
//!
//! Deliberately not here: names and formats of exported metrics (`http`).

use std::time::Duration;

use openraft::{Instant as _, ServerState, async_runtime::WatchReceiver};

use super::Consensus;
use crate::model::NodeId;

/// This node's part at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// Receives the log, does not vote.
    Learner,
    /// Follows a leader or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads, or believes so.
    Leader,
    /// Raft has stopped.
    #[default]
    Stopped,
}

impl Role {
    /// As shown to people and in labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A member of the cluster as Raft knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: NodeId,
    /// Its peer address.
    pub addr: String,
    /// Whether it votes (in any of the joint configurations).
    pub voter: bool,
    /// The last entry it is known to hold; the leader knows, others do not.
    pub matched: Option<u64>,
    /// How long ago it last answered the leader; the leader knows, others do not.
    pub heard: Option<Duration>,
}

/// A look at Raft on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsensusMetrics {
    pub node: NodeId,
    /// Its part.
    pub role: Role,
    /// The newest term it knows.
    pub term: u64,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// Its last log entry.
    pub last_log: Option<u64>,
    /// The last entry it knows to be committed.
    pub committed: Option<u64>,
    /// The last entry in its published view.
    pub applied: u64,
    /// What its newest snapshot stands for.
    pub snapshot: Option<u64>,
    /// The last entry removed from its log.
    pub purged: Option<u64>,
    /// How long ago a majority last confirmed its leadership; leaders only.
    pub quorum_age: Option<Duration>,
    /// All members, ordered by id.
    pub members: Vec<Member>,
}

impl Consensus {
    /// Looks at Raft on this node.
    #[must_use]
    pub fn metrics(&self) -> ConsensusMetrics {
        let applied = self.view().applied.index;
        let watched = self.raft().metrics();
        let seen = watched.borrow_watched();
        let membership = seen.membership_config.membership();
        let voters: std::collections::BTreeSet<u64> = membership.voter_ids().collect();
        let members = membership
            .nodes()
            .map(|(id, node)| Member {
                id: *id,
                addr: node.addr.clone(),
                voter: voters.contains(id),
                matched: seen.replication.as_ref().and_then(|r| r.get(id).copied().flatten()).map(|log| log.index),
                heard: seen.heartbeat.as_ref().and_then(|h| h.get(id).copied().flatten()).map(|at| at.elapsed()),
            })
            .collect();
        let role = match seen.state {
            ServerState::Learner => Role::Learner,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Leader => Role::Leader,
            ServerState::Shutdown => Role::Stopped,
        };
        ConsensusMetrics {
            node: seen.id,
            role: if seen.running_state.is_err() { Role::Stopped } else { role },
            term: seen.current_term,
            leader: seen.current_leader,
            last_log: seen.last_log_index,
            committed: seen.cluster_committed.or(seen.local_committed).map(|id| id.index),
            applied,
            snapshot: seen.snapshot.map(|id| id.index),
            purged: seen.purged.map(|id| id.index),
            quorum_age: seen.last_quorum_acked.map(|at| at.elapsed()),
            members,
        }
    }
}
