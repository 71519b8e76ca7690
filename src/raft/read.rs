//! Linearizable reads: an index that the leader confirms with a majority, and waiting until this node's view has
//! reached it.
//!
//! Invariants: leases are never trusted for this, as they assume clocks; a follower asks the leader and reads its own
//! view.
//!
//! Deliberately not here: reads that may be old; those just take `view()`.

use std::time::Duration;

use openraft::{
    ReadPolicy,
    errors::{LinearizableReadError, RaftError},
};
use tokio::time::timeout;

use super::{Consensus, ConsensusError, PeerError, ReadError};
use crate::wire::v1::{ReadIndexReply, ReadIndexRequest};

impl Consensus {
    /// Returns once this node's view holds everything that was committed before the call; also on followers. Answers
    /// the index.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        let limit = self.config().call_timeout;
        let index = self.confirmed_index(limit).await?;
        self.wait_applied(index, limit).await?;
        Ok(index)
    }

    /// Waits until the published view has reached the index.
    pub async fn wait_applied(&self, index: u64, limit: Duration) -> Result<(), ReadError> {
        let mut applied = self.view_changes();
        match timeout(limit, applied.wait_for(|at| *at >= index)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::Stopped { reason: "it was shut down".into() }),
            Err(_) => Err(ReadError::Behind { index, limit }),
        }
    }

    /// Cluster time by the term's anchor; `None` while this node does not lead.
    #[must_use]
    pub fn cluster_now(&self) -> Option<crate::model::Millis> {
        let at = self.clock().mono();
        self.anchor().borrow().map(|anchor| anchor.time(at))
    }

    /// `Peer.ReadIndex`: on the leader only; does not wait for this node's own view.
    pub async fn handle_read_index(&self, request: ReadIndexRequest) -> Result<ReadIndexReply, PeerError> {
        self.check_peer(request.header.as_ref())?;
        let index = self
            .own_index(self.config().call_timeout)
            .await
            .map_err(|e| PeerError::Failed { reason: e.to_string() })?;
        Ok(ReadIndexReply { index, now_ms: self.view().now.0 })
    }

    /// On the leader only: the index that a majority confirms after this call. Does not wait for this node's own view.
    pub async fn leader_index(&self, limit: Duration) -> Result<u64, ReadError> {
        self.own_index(limit).await
    }

    async fn confirmed_index(&self, limit: Duration) -> Result<u64, ReadError> {
        if self.leader().borrow().is_me {
            return self.own_index(limit).await;
        }
        let Some(leader) = self.leader_at_hand() else { return Err(ReadError::NoLeader { leader: None }) };
        let Some(mut client) = self.peer_client(leader.id) else {
            return Err(ReadError::NoLeader { leader: Some(leader) });
        };
        let request = ReadIndexRequest { header: Some(self.peer_header(leader.id)) };
        match timeout(limit, client.read_index(request)).await {
            Ok(Ok(reply)) => Ok(reply.into_inner().index),
            Ok(Err(status)) => {
                tracing::debug!(leader = leader.id, %status, "the leader did not answer a read");
                Err(ReadError::NoLeader { leader: Some(leader) })
            }
            Err(_) => Err(ReadError::NoLeader { leader: Some(leader) }),
        }
    }

    async fn own_index(&self, limit: Duration) -> Result<u64, ReadError> {
        match timeout(limit, self.raft().get_read_linearizer(ReadPolicy::ReadIndex)).await {
            Ok(Ok(confirmed)) => Ok(confirmed.read_log_id().index()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
                Err(ReadError::NoLeader { leader: self.named_leader(&forward) })
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) | Err(_) => {
                Err(ReadError::NoQuorum)
            }
            Ok(Err(RaftError::Fatal(fatal))) => Err(ReadError::Stopped { reason: fatal.to_string() }),
        }
    }
}

impl From<ReadError> for ConsensusError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoLeader { leader } => Self::NotLeader { leader },
            ReadError::Stopped { reason } => Self::Stopped { reason },
            other @ (ReadError::NoQuorum | ReadError::Behind { .. }) => {
                Self::Refused { what: "linearizable read", reason: other.to_string() }
            }
        }
    }
}
