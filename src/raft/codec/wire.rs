//! The forms in which openraft's types are written. Their order is their encoding.

use super::*;

/// Messages by their fields: how each is written, its name and its type.
macro_rules! messages {
    ($($(#[$doc:meta])* $message:ident { $([$($how:tt)+] $field:ident: $ty:ty,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Message)]
        pub(in crate::raft) struct $message {
            $(#[prost($($how)+)] pub(in crate::raft) $field: $ty,)+
        }
    )+};
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

messages! {
    WireLogId {
        [uint64, tag = "1"] term: u64,
        [uint64, tag = "2"] index: u64,
    }
    WireVote {
        [uint64, tag = "1"] term: u64,
        [uint64, tag = "2"] node: u64,
        [bool, tag = "3"] committed: bool,
    }
    WireVoters {
        [uint64, repeated, tag = "1"] ids: Vec<u64>,
    }
    WireMembership {
        [message, repeated, tag = "1"] configs: Vec<WireVoters>,
        [btree_map = "uint64, string", tag = "2"] nodes: BTreeMap<u64, String>,
    }
    WireEntry {
        [message, optional, tag = "1"] id: Option<WireLogId>,
        [oneof = "WirePayload", tags = "2, 3, 4"] payload: Option<WirePayload>,
    }
    WireSnapshotMeta {
        [message, optional, tag = "1"] last: Option<WireLogId>,
        [message, optional, tag = "2"] membership_at: Option<WireLogId>,
        [message, optional, tag = "3"] membership: Option<WireMembership>,
    }
    WireAppend {
        [message, optional, tag = "1"] vote: Option<WireVote>,
        [message, optional, tag = "2"] prev: Option<WireLogId>,
        [message, repeated, tag = "3"] entries: Vec<WireEntry>,
        [message, optional, tag = "4"] commit: Option<WireLogId>,
    }
    /// `kind`: 1 all stored, 2 stored up to `upto`, 3 conflict, 4 a higher vote was seen.
    WireAppended {
        [uint32, tag = "1"] kind: u32,
        [message, optional, tag = "2"] upto: Option<WireLogId>,
        [message, optional, tag = "3"] vote: Option<WireVote>,
    }
    WireVoteAsked {
        [message, optional, tag = "1"] vote: Option<WireVote>,
        [message, optional, tag = "2"] last: Option<WireLogId>,
        [bool, tag = "3"] transfer: bool,
    }
    WireVoted {
        [message, optional, tag = "1"] vote: Option<WireVote>,
        [bool, tag = "2"] granted: bool,
        [message, optional, tag = "3"] last: Option<WireLogId>,
    }
    WireTransfer {
        [message, optional, tag = "1"] from: Option<WireVote>,
        [uint64, tag = "2"] to: u64,
        [message, optional, tag = "3"] last: Option<WireLogId>,
    }
    /// `kind`: 1 accepted, 2 the vote changed, 3 the log is not there yet.
    WireTransferred {
        [uint32, tag = "1"] kind: u32,
        [message, optional, tag = "2"] expected_vote: Option<WireVote>,
        [message, optional, tag = "3"] actual_vote: Option<WireVote>,
        [message, optional, tag = "4"] expected_log: Option<WireLogId>,
        [message, optional, tag = "5"] actual_log: Option<WireLogId>,
    }
    WireSnapshotOffer {
        [message, optional, tag = "1"] vote: Option<WireVote>,
        [message, optional, tag = "2"] meta: Option<WireSnapshotMeta>,
        [uint64, tag = "3"] size: u64,
        [fixed32, tag = "4"] crc: u32,
    }
}
