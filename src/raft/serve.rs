//! The receiving side of the peer service, as functions over bytes: `rpc` owns the listener and calls these.
//!
//! Invariants: a call for another cluster or another node is refused before it is read; a snapshot is handed on only
//! when all its bytes are here and its checksum matches; its size is bounded.

use std::sync::Arc;

use openraft::raft::AppendEntriesResponse;

use super::{
    Consensus, PeerError,
    codec::{CodecError, Coded, SnapshotOffer},
    types::RaftSnapshot,
};
use crate::{
    state::NodeRole,
    wire::v1::{PeerHeader, RaftMessage},
};

impl Consensus {
    /// Refuses what is not for this node of this cluster.
    pub fn check_peer(&self, header: Option<&PeerHeader>) -> Result<(), PeerError> {
        let header = header.ok_or_else(|| PeerError::Malformed { reason: "its header is missing".into() })?;
        if header.cluster_id != self.cluster() {
            return Err(PeerError::OtherCluster { ours: self.cluster().into(), theirs: header.cluster_id.clone() });
        }
        if self.view().nodes.get(&header.from).is_some_and(|n| n.role == NodeRole::Removed) {
            return Err(PeerError::Removed { node: header.from });
        }
        if header.to != self.node_id() {
            return Err(PeerError::OtherNode { ours: self.node_id(), theirs: header.to });
        }
        Ok(())
    }

    /// `Peer.Append`.
    pub async fn handle_append(&self, message: RaftMessage) -> Result<RaftMessage, PeerError> {
        let ask = self.open(&message)?;
        let answer = self.raft().append_entries(ask).await.map_err(failed)?;
        let taken = !matches!(answer, AppendEntriesResponse::HigherVote(_));
        if let (true, Some(header)) = (taken, &message.header) {
            self.hear(header.from);
        }
        self.seal(&answer)
    }

    /// `Peer.Vote`.
    pub async fn handle_vote(&self, message: RaftMessage) -> Result<RaftMessage, PeerError> {
        let ask = self.open(&message)?;
        self.seal(&self.raft().vote(ask).await.map_err(failed)?)
    }

    /// `Peer.PreVote`.
    pub async fn handle_pre_vote(&self, message: RaftMessage) -> Result<RaftMessage, PeerError> {
        let ask = self.open(&message)?;
        self.seal(&self.raft().pre_vote(ask).await.map_err(failed)?)
    }

    /// `Peer.Transfer`.
    pub async fn handle_transfer(&self, message: RaftMessage) -> Result<RaftMessage, PeerError> {
        let ask = self.open(&message)?;
        self.seal(&self.raft().handle_transfer_leader(ask).await.map_err(failed)?)
    }

    /// The first message of `Peer.Snapshot`; give the receiver the others.
    pub fn begin_snapshot(&self, first: &RaftMessage) -> Result<SnapshotReceiver, PeerError> {
        let offer: SnapshotOffer = self.open(first)?;
        let limit = self.config().max_snapshot;
        if offer.size > limit {
            return Err(PeerError::Malformed {
                reason: format!("snapshot of {} bytes; this node takes {limit}", offer.size),
            });
        }
        Ok(SnapshotReceiver { consensus: self.clone(), offer, bytes: Vec::new() })
    }

    fn open<T: Coded>(&self, message: &RaftMessage) -> Result<T, PeerError> {
        self.check_peer(message.header.as_ref())?;
        T::decode(&message.payload).map_err(malformed)
    }

    pub(super) fn open_shared<T: Coded>(&self, message: RaftMessage) -> Result<T, PeerError> {
        self.check_peer(message.header.as_ref())?;
        T::decode_shared(message.payload).map_err(malformed)
    }

    /// An answer names only its sender; the caller knows whom it asked.
    fn seal<T: Coded>(&self, answer: &T) -> Result<RaftMessage, PeerError> {
        Ok(RaftMessage { header: None, payload: answer.encode() })
    }
}

/// Collects one snapshot from its stream.
pub struct SnapshotReceiver {
    consensus: Consensus,
    offer: SnapshotOffer,
    bytes: Vec<u8>,
}

impl SnapshotReceiver {
    /// Takes the next message of the stream.
    pub fn push(&mut self, message: &RaftMessage) -> Result<(), PeerError> {
        self.consensus.check_peer(message.header.as_ref())?;
        if (self.bytes.len() as u64).saturating_add(message.payload.len() as u64) > self.offer.size {
            return Err(PeerError::Malformed {
                reason: format!("snapshot is longer than the {} bytes announced", self.offer.size),
            });
        }
        self.bytes.extend_from_slice(&message.payload);
        Ok(())
    }

    /// At the end of the stream: verifies and installs it.
    pub async fn finish(self) -> Result<RaftMessage, PeerError> {
        if self.bytes.len() as u64 != self.offer.size {
            return Err(PeerError::Malformed {
                reason: format!("snapshot ended at {} of {} bytes", self.bytes.len(), self.offer.size),
            });
        }
        if crc32c::crc32c(&self.bytes) != self.offer.crc {
            return Err(PeerError::Malformed { reason: "snapshot's checksum does not match".into() });
        }
        let snapshot = RaftSnapshot { meta: self.offer.meta, snapshot: Arc::new(self.bytes) };
        let answer = self.consensus.raft().install_full_snapshot(self.offer.vote, snapshot).await.map_err(failed)?;
        self.consensus.seal(&answer)
    }
}

fn malformed(error: CodecError) -> PeerError {
    PeerError::Malformed { reason: error.to_string() }
}

fn failed(error: impl std::error::Error) -> PeerError {
    PeerError::Failed { reason: error.to_string() }
}
