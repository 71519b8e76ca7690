//! What a command carries beside its body: its place in the log, the leader's stamp, a client's fence against repeats.
//!
//! Not here: the commands (`command`), remembering requests (`requests`).

use serde::{Deserialize, Serialize};

use super::command::Command;
use crate::state::base::prelude::*;

/// Client's part of a command that may be retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The request's own id.
    pub id: RequestId,
    /// Cluster time after which it must not take effect.
    pub not_after: Millis,
}

fields! {
    /// A command with the leader's stamp ("time is an argument").
    #[derive(Debug, Clone, PartialEq, derive_more::Display)]
    #[display("{} at {at} by {principal}", body.name())]
    pub struct Stamped {
        /// Cluster time: the term's anchor plus what has elapsed since.
        1 pub at: Millis,
        /// Wall-clock milliseconds since the Unix epoch; display only.
        2 pub wall: u64,
        /// The stamping leader's term: refused when it is not its entry's.
        3 pub term: u64,
        4 [required] pub principal: Principal,
        /// For retries; `None` in engine commands.
        5 pub request: Option<Fence>,
        /// What to do.
        6 [required] pub body: Command,
    }
}
