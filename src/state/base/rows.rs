//! What the rows of every room are made of: row data, fences, positions in the log.
//!
//! Not here: the nouns themselves, which stand in the `rows` of their rooms.

use crate::model::fields;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rejection::Rejection;
use crate::model::Millis;

fields! {
    /// What every noun carries from the first day.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct Meta {
        /// Grows by one at each change of the row; commands name the one they saw.
        1 pub revision: u64,
        /// Log index of the entry that made the row.
        2 pub created_index: u64,
        /// Log index of the entry that changed it last.
        3 pub updated_index: u64,
        /// Free labels.
        4 pub labels: BTreeMap<String, String>,
    }
}

/// A fence: restored backups take the next incarnation, so `(incarnation, n)` never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FencePoint {
    /// The cluster's incarnation when it was set.
    pub incarnation: u64,
    /// Log index or counter within it.
    pub n: u64,
}

/// Position and term of a log entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogId {
    /// Raft term of the leader that made the entry.
    pub term: u64,
    /// Position in the log.
    pub index: u64,
}

fields! {
    /// A client request that took effect or was refused: the first result answers every repeat (invariant 4).
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Request {
        /// crc32c of the encoded body: the same id with another body is refused.
        1 pub body_digest: u32,
        /// Index of the entry that settled it.
        2 pub index: u64,
        /// The refusal, if it was refused.
        3 pub rejection: Option<Rejection>,
        /// Cluster time until which it is remembered.
        4 pub not_after: Millis,
    }
}
