//! The forms in which openraft's types are written. Their order is their encoding.

use super::*;

#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct WireLogId {
    #[prost(uint64, tag = "1")]
    pub(in crate::raft) term: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::raft) index: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct WireVote {
    #[prost(uint64, tag = "1")]
    pub(in crate::raft) term: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::raft) node: u64,
    #[prost(bool, tag = "3")]
    pub(in crate::raft) committed: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct WireVoters {
    #[prost(uint64, repeated, tag = "1")]
    pub(in crate::raft) ids: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct WireMembership {
    #[prost(message, repeated, tag = "1")]
    pub(in crate::raft) configs: Vec<WireVoters>,
    #[prost(btree_map = "uint64, string", tag = "2")]
    pub(in crate::raft) nodes: BTreeMap<u64, String>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(in crate::raft) enum WirePayload {
    #[prost(bool, tag = "2")]
    Blank(bool),
    #[prost(bytes = "bytes", tag = "3")]
    Command(Bytes),
    #[prost(message, tag = "4")]
    Membership(WireMembership),
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct WireEntry {
    #[prost(message, optional, tag = "1")]
    pub(in crate::raft) id: Option<WireLogId>,
    #[prost(oneof = "WirePayload", tags = "2, 3, 4")]
    pub(in crate::raft) payload: Option<WirePayload>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct WireSnapshotMeta {
    #[prost(message, optional, tag = "1")]
    pub(in crate::raft) last: Option<WireLogId>,
    #[prost(message, optional, tag = "2")]
    pub(in crate::raft) membership_at: Option<WireLogId>,
    #[prost(message, optional, tag = "3")]
    pub(in crate::raft) membership: Option<WireMembership>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct WireAppend {
    #[prost(message, optional, tag = "1")]
    pub(in crate::raft) vote: Option<WireVote>,
    #[prost(message, optional, tag = "2")]
    pub(in crate::raft) prev: Option<WireLogId>,
    #[prost(message, repeated, tag = "3")]
    pub(in crate::raft) entries: Vec<WireEntry>,
    #[prost(message, optional, tag = "4")]
    pub(in crate::raft) commit: Option<WireLogId>,
}

/// `kind`: 1 all stored, 2 stored up to `upto`, 3 conflict, 4 a higher vote was seen.
#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct WireAppended {
    #[prost(uint32, tag = "1")]
    pub(in crate::raft) kind: u32,
    #[prost(message, optional, tag = "2")]
    pub(in crate::raft) upto: Option<WireLogId>,
    #[prost(message, optional, tag = "3")]
    pub(in crate::raft) vote: Option<WireVote>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct WireVoteAsked {
    #[prost(message, optional, tag = "1")]
    pub(in crate::raft) vote: Option<WireVote>,
    #[prost(message, optional, tag = "2")]
    pub(in crate::raft) last: Option<WireLogId>,
    #[prost(bool, tag = "3")]
    pub(in crate::raft) transfer: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct WireVoted {
    #[prost(message, optional, tag = "1")]
    pub(in crate::raft) vote: Option<WireVote>,
    #[prost(bool, tag = "2")]
    pub(in crate::raft) granted: bool,
    #[prost(message, optional, tag = "3")]
    pub(in crate::raft) last: Option<WireLogId>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct WireTransfer {
    #[prost(message, optional, tag = "1")]
    pub(in crate::raft) from: Option<WireVote>,
    #[prost(uint64, tag = "2")]
    pub(in crate::raft) to: u64,
    #[prost(message, optional, tag = "3")]
    pub(in crate::raft) last: Option<WireLogId>,
}

/// `kind`: 1 accepted, 2 the vote changed, 3 the log is not there yet.
#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct WireTransferred {
    #[prost(uint32, tag = "1")]
    pub(in crate::raft) kind: u32,
    #[prost(message, optional, tag = "2")]
    pub(in crate::raft) expected_vote: Option<WireVote>,
    #[prost(message, optional, tag = "3")]
    pub(in crate::raft) actual_vote: Option<WireVote>,
    #[prost(message, optional, tag = "4")]
    pub(in crate::raft) expected_log: Option<WireLogId>,
    #[prost(message, optional, tag = "5")]
    pub(in crate::raft) actual_log: Option<WireLogId>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::raft) struct WireSnapshotOffer {
    #[prost(message, optional, tag = "1")]
    pub(in crate::raft) vote: Option<WireVote>,
    #[prost(message, optional, tag = "2")]
    pub(in crate::raft) meta: Option<WireSnapshotMeta>,
    #[prost(uint64, tag = "3")]
    pub(in crate::raft) size: u64,
    #[prost(fixed32, tag = "4")]
    pub(in crate::raft) crc: u32,
}
