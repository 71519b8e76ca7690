//! Refusals: what was wrong, and what to do. A refusal is a result like any other and is remembered for retries.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::{Millis, RolloutId};

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Rejection {
    /// No cluster yet.
    #[error("there is no cluster yet: run `slipway cluster init` first")]
    NoCluster,
    /// There is one already.
    #[error("this is already a cluster: `slipway cluster join` adds a node to it")]
    AlreadyInitialised,
    /// Something named does not exist.
    #[error("{kind} {name} does not exist{hint}")]
    NotFound {
        /// `service`, `release`, ...
        kind: String,
        /// What was named.
        name: String,
        /// Beginning with `; ` or `: `, what to do or the nearest known name; may be empty.
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
    /// A live rollout owns the deployment.
    #[error("{rollout} is still running on it: `slipway rollout explain` says what it waits for and what ends it")]
    Busy {
        /// The owner.
        rollout: RolloutId,
    },
    /// The life cycle forbids the verb.
    #[error("{rollout} is {status}: it cannot be {verb}")]
    Lifecycle {
        /// Which rollout.
        rollout: RolloutId,
        /// Its status.
        status: String,
        /// Past participle of what was asked.
        verb: String,
    },
    /// An engine command saw an older revision. Counted; the leader plans again.
    #[error("stale: it saw revision {seen}, the row is at {now}")]
    Stale {
        /// Seen.
        seen: u64,
        /// Actual.
        now: u64,
    },
    /// The stamping leader's term is not the entry's.
    #[error("stamped in term {stamped}, committed in term {entry}")]
    WrongTerm {
        /// Stamped.
        stamped: u64,
        /// Entry's.
        entry: u64,
    },
    /// The request is past its `not_after`.
    #[error("the request was to take effect by {not_after} and it is {now}: send it again as a new request")]
    Expired {
        /// Limit.
        not_after: Millis,
        /// Cluster time.
        now: Millis,
    },
    /// `not_after` lies more than 10 minutes ahead.
    #[error("not_after lies more than 10 minutes ahead")]
    TooFarAhead,
    /// The same request id came with another body.
    #[error("request id {id} was used for another command: use a new one")]
    RequestReused {
        /// The id.
        id: String,
    },
    /// A bound of State.
    #[error("too many {what} (limit {limit}): {fix}")]
    Exhausted {
        /// Of what.
        what: String,
        /// The bound.
        limit: u64,
        /// What to do.
        fix: String,
    },
    /// A guard on committed facts does not hold (any more). Counted; the leader plans again.
    #[error("guard: {0}")]
    Guard(String),
}

impl Rejection {
    /// A machine-readable word for errors and metrics.
    pub fn code(&self) -> &'static str {
        self.into()
    }

    /// Shorthand for [`Rejection::NotFound`].
    pub fn not_found(kind: &str, name: impl ToString, hint: impl Into<String>) -> Self {
        Self::NotFound { kind: kind.into(), name: name.to_string(), hint: hint.into() }
    }
}
