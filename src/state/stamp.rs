//! What a command carries beside its body: its place in the log, the leader's stamp, a client's fence against repeats.
//!
//! Not here: the commands (`command`), remembering requests (`requests`).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Command;
use crate::model::{Millis, Principal, RequestId};

/// Position and term of a log entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogId {
    /// Raft term of the leader that made the entry.
    pub term: u64,
    /// Position in the log.
    pub index: u64,
}

/// Client's part of a command that may be retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The request's own id.
    pub id: RequestId,
    /// Cluster time after which it must not take effect.
    pub not_after: Millis,
}

/// A command with the leader's stamp ("time is an argument").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Cluster time: the term's anchor plus what has elapsed since.
    pub at: Millis,
    /// Wall-clock milliseconds since the Unix epoch; display only.
    pub wall: u64,
    /// The stamping leader's term: refused when it is not its entry's.
    pub term: u64,
    /// Who asked.
    pub principal: Principal,
    /// For retries; `None` in engine commands.
    pub request: Option<Fence>,
    /// What to do.
    pub body: Command,
}

impl fmt::Display for Stamped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} by {}", self.body.name(), self.at, self.principal)
    }
}
