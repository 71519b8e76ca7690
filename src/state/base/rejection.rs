//! Refusals: what was wrong, and what to do. A refusal is a result like any other and is remembered for retries.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::{Millis, Named, RolloutId};

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Rejection {
    #[error("there is no cluster yet: run `slipway cluster init` first")]
    NoCluster,
    #[error("this is already a cluster: `slipway cluster join` adds a node to it")]
    AlreadyInitialised,
    /// Something named does not exist.
    #[error("{kind} {name} does not exist{hint}")]
    NotFound {
        kind: String,
        name: String,
        /// Beginning with `: `, what to do instead.
        hint: String,
    },
    /// The name, version or id is taken by something else.
    #[error("{what}")]
    Conflict {
        /// Who has it, and what to do.
        what: String,
    },
    /// A value is out of its range.
    #[error("{0}")]
    Invalid(String),
    /// The state of things does not allow it.
    #[error("{0}")]
    Precondition(String),
    #[error("{rollout} is still running on it: `slipway rollout explain` says what it waits for and what ends it")]
    Busy { rollout: RolloutId },
    #[error("{rollout} is {status}: it cannot be {verb}; {next}")]
    Lifecycle {
        rollout: RolloutId,
        status: String,
        /// Past participle of what was asked.
        verb: String,
        /// What can be done about it as it is.
        next: String,
    },
    /// An engine command saw an older revision. Counted; the leader plans again.
    #[error("stale: it saw revision {seen}, the row is at {now}")]
    Stale { seen: u64, now: u64 },
    #[error("stamped in term {stamped}, committed in term {entry}")]
    WrongTerm { stamped: u64, entry: u64 },
    #[error("the request was to take effect by {not_after} and it is {now}: send it again as a new request")]
    Expired { not_after: Millis, now: Millis },
    #[error("not_after lies more than 10 minutes ahead")]
    TooFarAhead,
    #[error("request id {id} was used for another command: use a new one")]
    RequestReused { id: String },
    /// A bound of State.
    #[error("too many {what} (limit {limit}): {fix}")]
    Exhausted { what: String, limit: u64, fix: String },
    /// A guard on committed facts does not hold (any more). Counted; the leader plans again.
    #[error("guard: {0}")]
    Guard(String),
}

impl Rejection {
    /// A machine-readable word for errors and metrics.
    pub fn code(&self) -> &'static str {
        self.into()
    }

    /// A name that is not there, of a kind with too many to name.
    pub fn not_there(kind: Named, name: impl Display) -> Self {
        Self::missing(kind, name, std::iter::empty::<&str>())
    }

    /// A name that is not there, beside those of its kind that are.
    pub fn missing(kind: Named, name: impl Display, known: impl IntoIterator<Item = impl Display>) -> Self {
        let name = name.to_string();
        let hint = format!(": {}", kind.instead(&name, known));
        Self::NotFound { kind: kind.to_string(), name, hint }
    }
}
