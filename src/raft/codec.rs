//! Our own encoding of what openraft persists and sends: a version byte, then protobuf.
//!
//! Invariants: openraft's types are converted, never serialised, as their serde form is not a stable format; an unknown
//! version, a missing field or an unknown payload is an error, never a default.
//!
//! Deliberately not here: commands and states, which are opaque bytes with an envelope of their own.

mod wire;

use wire::{
    WireAppend, WireAppended, WireEntry, WireMembership, WirePayload, WireSnapshotMeta, WireSnapshotOffer,
    WireTransfer, WireTransferred, WireVoteAsked, WireVoted, WireVoters,
};
pub(super) use wire::{WireLogId, WireVote};

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, Bytes};
use openraft::{
    BasicNode, EntryPayload,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use prost::Message;

use super::types::{Entry, LogId, Membership, Sealed, SnapshotMeta, StoredMembership, TypeConfig, Vote};

const VERSION: u8 = 1;

/// Why bytes could not be understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodecError {
    #[error("{what} has encoding version {found}; this version reads {VERSION}")]
    Version { what: &'static str, found: u8 },
    /// Not such a value.
    #[error("{what} cannot be decoded: {why}")]
    Malformed { what: &'static str, why: String },
}

impl CodecError {
    /// For the storage traits.
    pub(super) fn into_io(self) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, self)
    }
}

/// A type of openraft's with a wire form of ours.
pub(super) trait Coded: Sized {
    /// Names the value in errors.
    const WHAT: &'static str;
    /// The wire form.
    type Wire: Message + Default;
    fn to_wire(&self) -> Self::Wire;
    fn from_wire(wire: Self::Wire) -> Result<Self, CodecError>;

    fn encode(&self) -> Vec<u8> {
        let wire = self.to_wire();
        let mut bytes = Vec::with_capacity(1 + wire.encoded_len());
        bytes.push(VERSION);
        // Fails only for want of room, and a vector makes room.
        let _always_ok = wire.encode(&mut bytes);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        Self::decode_from(bytes)
    }

    /// The same; commands in it share the bytes.
    fn decode_shared(bytes: Vec<u8>) -> Result<Self, CodecError> {
        Self::decode_from(Bytes::from(bytes))
    }

    fn decode_from(mut bytes: impl Buf) -> Result<Self, CodecError> {
        match bytes.try_get_u8() {
            Ok(VERSION) => Self::from_wire(Self::Wire::decode(bytes).map_err(|e| Self::malformed(e.to_string()))?),
            Ok(found) => Err(CodecError::Version { what: Self::WHAT, found }),
            Err(_) => Err(Self::malformed("it is empty")),
        }
    }

    fn malformed(why: impl Into<String>) -> CodecError {
        CodecError::Malformed { what: Self::WHAT, why: why.into() }
    }

    fn need<T>(field: Option<T>, name: &str) -> Result<T, CodecError> {
        field.ok_or_else(|| Self::malformed(format!("{name} is missing")))
    }
}

impl Coded for LogId {
    const WHAT: &'static str = "log id";
    type Wire = WireLogId;

    fn to_wire(&self) -> WireLogId {
        WireLogId { term: self.leader_id.term, index: self.index }
    }

    fn from_wire(wire: WireLogId) -> Result<Self, CodecError> {
        Ok(LogId::new_term_index(wire.term, wire.index))
    }
}

impl Coded for Vote {
    const WHAT: &'static str = "vote";
    type Wire = WireVote;

    fn to_wire(&self) -> WireVote {
        WireVote { term: self.leader_id.term, node: self.leader_id.voted_for, committed: self.committed }
    }

    fn from_wire(wire: WireVote) -> Result<Self, CodecError> {
        Ok(if wire.committed { Vote::new_committed(wire.term, wire.node) } else { Vote::new(wire.term, wire.node) })
    }
}

impl Coded for Membership {
    const WHAT: &'static str = "membership";
    type Wire = WireMembership;

    fn to_wire(&self) -> WireMembership {
        WireMembership {
            configs: self.get_joint_config().iter().map(|c| WireVoters { ids: c.iter().copied().collect() }).collect(),
            nodes: self.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        }
    }

    fn from_wire(wire: WireMembership) -> Result<Self, CodecError> {
        let configs: Vec<BTreeSet<u64>> = wire.configs.into_iter().map(|c| c.ids.into_iter().collect()).collect();
        let nodes: BTreeMap<u64, BasicNode> =
            wire.nodes.into_iter().map(|(id, addr)| (id, BasicNode::new(addr))).collect();
        if configs.is_empty() && nodes.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(configs, nodes).map_err(|e| Self::malformed(e.to_string()))
    }
}

impl Coded for Entry {
    const WHAT: &'static str = "log entry";
    type Wire = WireEntry;

    fn to_wire(&self) -> WireEntry {
        let payload = match &self.payload {
            EntryPayload::Blank => WirePayload::Blank(true),
            EntryPayload::Normal(command) => WirePayload::Command(command.0.clone()),
            EntryPayload::Membership(membership) => WirePayload::Membership(membership.to_wire()),
        };
        WireEntry { id: Some(self.log_id.to_wire()), payload: Some(payload) }
    }

    fn from_wire(wire: WireEntry) -> Result<Self, CodecError> {
        let log_id = LogId::from_wire(Self::need(wire.id, "its id")?)?;
        let payload = match Self::need(wire.payload, "its payload")? {
            WirePayload::Blank(_) => EntryPayload::Blank,
            WirePayload::Command(bytes) => EntryPayload::Normal(Sealed(bytes)),
            WirePayload::Membership(membership) => EntryPayload::Membership(Membership::from_wire(membership)?),
        };
        Ok(Entry { log_id, payload })
    }
}

impl Coded for SnapshotMeta {
    const WHAT: &'static str = "snapshot description";
    type Wire = WireSnapshotMeta;

    fn to_wire(&self) -> WireSnapshotMeta {
        WireSnapshotMeta {
            last: self.last_log_id.as_ref().map(Coded::to_wire),
            membership_at: self.last_membership.log_id().as_ref().map(Coded::to_wire),
            membership: Some(self.last_membership.membership().to_wire()),
        }
    }

    fn from_wire(wire: WireSnapshotMeta) -> Result<Self, CodecError> {
        let membership = Membership::from_wire(Self::need(wire.membership, "its membership")?)?;
        Ok(SnapshotMeta {
            last_log_id: wire.last.map(LogId::from_wire).transpose()?,
            last_membership: StoredMembership::new(wire.membership_at.map(LogId::from_wire).transpose()?, membership),
        })
    }
}

impl Coded for AppendEntriesRequest<TypeConfig> {
    const WHAT: &'static str = "append request";
    type Wire = WireAppend;

    fn to_wire(&self) -> WireAppend {
        WireAppend {
            vote: Some(self.vote.to_wire()),
            prev: self.prev_log_id.as_ref().map(Coded::to_wire),
            entries: self.entries.iter().map(Coded::to_wire).collect(),
            commit: self.leader_commit.as_ref().map(Coded::to_wire),
        }
    }

    fn from_wire(wire: WireAppend) -> Result<Self, CodecError> {
        Ok(Self {
            vote: Vote::from_wire(Self::need(wire.vote, "the vote")?)?,
            prev_log_id: wire.prev.map(LogId::from_wire).transpose()?,
            entries: wire.entries.into_iter().map(Entry::from_wire).collect::<Result<_, _>>()?,
            leader_commit: wire.commit.map(LogId::from_wire).transpose()?,
        })
    }
}

impl Coded for AppendEntriesResponse<TypeConfig> {
    const WHAT: &'static str = "append answer";
    type Wire = WireAppended;

    fn to_wire(&self) -> WireAppended {
        let (kind, upto, vote) = match self {
            Self::Success => (1, None, None),
            Self::PartialSuccess(upto) => (2, upto.as_ref().map(Coded::to_wire), None),
            Self::Conflict => (3, None, None),
            Self::HigherVote(vote) => (4, None, Some(vote.to_wire())),
        };
        WireAppended { kind, upto, vote }
    }

    fn from_wire(wire: WireAppended) -> Result<Self, CodecError> {
        match wire.kind {
            1 => Ok(Self::Success),
            2 => Ok(Self::PartialSuccess(wire.upto.map(LogId::from_wire).transpose()?)),
            3 => Ok(Self::Conflict),
            4 => Ok(Self::HigherVote(Vote::from_wire(Self::need(wire.vote, "the vote")?)?)),
            other => Err(Self::malformed(format!("unknown kind {other}"))),
        }
    }
}

impl Coded for VoteRequest<TypeConfig> {
    const WHAT: &'static str = "vote request";
    type Wire = WireVoteAsked;

    fn to_wire(&self) -> WireVoteAsked {
        WireVoteAsked {
            vote: Some(self.vote.to_wire()),
            last: self.last_log_id.as_ref().map(Coded::to_wire),
            transfer: self.leadership_transfer,
        }
    }

    fn from_wire(wire: WireVoteAsked) -> Result<Self, CodecError> {
        let vote = Vote::from_wire(Self::need(wire.vote, "the vote")?)?;
        let mut request = VoteRequest::new(vote, wire.last.map(LogId::from_wire).transpose()?);
        request.leadership_transfer = wire.transfer;
        Ok(request)
    }
}

impl Coded for VoteResponse<TypeConfig> {
    const WHAT: &'static str = "vote answer";
    type Wire = WireVoted;

    fn to_wire(&self) -> WireVoted {
        WireVoted {
            vote: Some(self.vote.to_wire()),
            granted: self.vote_granted,
            last: self.last_log_id.as_ref().map(Coded::to_wire),
        }
    }

    fn from_wire(wire: WireVoted) -> Result<Self, CodecError> {
        let vote = Vote::from_wire(Self::need(wire.vote, "the vote")?)?;
        Ok(VoteResponse::new(vote, wire.last.map(LogId::from_wire).transpose()?, wire.granted))
    }
}

impl Coded for TransferLeaderRequest<TypeConfig> {
    const WHAT: &'static str = "transfer request";
    type Wire = WireTransfer;

    fn to_wire(&self) -> WireTransfer {
        WireTransfer {
            from: Some(self.from_leader().to_wire()),
            to: *self.to_node_id(),
            last: self.last_log_id().map(Coded::to_wire),
        }
    }

    fn from_wire(wire: WireTransfer) -> Result<Self, CodecError> {
        let from = Vote::from_wire(Self::need(wire.from, "the vote")?)?;
        Ok(TransferLeaderRequest::new(from, wire.to, wire.last.map(LogId::from_wire).transpose()?))
    }
}

impl Coded for TransferLeaderResponse<TypeConfig> {
    const WHAT: &'static str = "transfer answer";
    type Wire = WireTransferred;

    fn to_wire(&self) -> WireTransferred {
        match self {
            Ok(()) => WireTransferred { kind: 1, ..WireTransferred::default() },
            Err(TransferLeaderError::VoteChanged { expected, actual }) => WireTransferred {
                kind: 2,
                expected_vote: Some(expected.to_wire()),
                actual_vote: Some(actual.to_wire()),
                ..WireTransferred::default()
            },
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => WireTransferred {
                kind: 3,
                expected_log: expected.as_ref().map(Coded::to_wire),
                actual_log: actual.as_ref().map(Coded::to_wire),
                ..WireTransferred::default()
            },
        }
    }

    fn from_wire(wire: WireTransferred) -> Result<Self, CodecError> {
        match wire.kind {
            1 => Ok(Ok(())),
            2 => Ok(Err(TransferLeaderError::VoteChanged {
                expected: Vote::from_wire(Self::need(wire.expected_vote, "the expected vote")?)?,
                actual: Vote::from_wire(Self::need(wire.actual_vote, "the actual vote")?)?,
            })),
            3 => Ok(Err(TransferLeaderError::LogNotFlushed {
                expected: wire.expected_log.map(LogId::from_wire).transpose()?,
                actual: wire.actual_log.map(LogId::from_wire).transpose()?,
            })),
            other => Err(Self::malformed(format!("unknown kind {other}"))),
        }
    }
}

impl Coded for SnapshotResponse<TypeConfig> {
    const WHAT: &'static str = "snapshot answer";
    type Wire = WireVoted;

    fn to_wire(&self) -> WireVoted {
        WireVoted { vote: Some(self.vote.to_wire()), ..WireVoted::default() }
    }

    fn from_wire(wire: WireVoted) -> Result<Self, CodecError> {
        Ok(SnapshotResponse::new(Vote::from_wire(Self::need(wire.vote, "the vote")?)?))
    }
}

/// What precedes a snapshot's bytes on the wire: the sender's vote, the snapshot's description, and the bytes' size and
/// CRC-32C.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SnapshotOffer {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    pub(super) size: u64,
    pub(super) crc: u32,
}

impl Coded for SnapshotOffer {
    const WHAT: &'static str = "snapshot offer";
    type Wire = WireSnapshotOffer;

    fn to_wire(&self) -> WireSnapshotOffer {
        WireSnapshotOffer {
            vote: Some(self.vote.to_wire()),
            meta: Some(self.meta.to_wire()),
            size: self.size,
            crc: self.crc,
        }
    }

    fn from_wire(wire: WireSnapshotOffer) -> Result<Self, CodecError> {
        Ok(Self {
            vote: Vote::from_wire(Self::need(wire.vote, "the vote")?)?,
            meta: SnapshotMeta::from_wire(Self::need(wire.meta, "the description")?)?,
            size: wire.size,
            crc: wire.crc,
        })
    }
}

#[cfg(test)]
mod tests;
