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
        /// Never stored, as it always equals its default.
        5 pub draft: Draft,
    }
}

/// How often a row was put back so far: a copy that was taken before somebody else put the row back is told by it
/// (`Cx`). It is no part of the row: all drafts are equal.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Draft(u32);

impl Draft {
    /// Whether both copies were taken after the same change.
    pub fn is(self, other: Self) -> bool {
        self.0 == other.0
    }

    /// After one more.
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl PartialEq for Draft {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Draft {}

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
