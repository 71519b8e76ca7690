//! Why an operation was not done: what kind of failure, a word for programs, a text for people, and when another try
//! makes sense.
//!
//! Invariant: no transport's type is named here; each skin maps a [`Kind`] to a code of its own, in one file.

use std::{borrow::Cow, fmt::Display, time::Duration};

use crate::{
    model::{ModelError, Named},
    raft::ProposeError,
    state::Rejection,
    storage::StorageError,
};

/// After which another try makes sense: an election takes about that.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was asked makes no sense, whatever the state of things.
    Invalid,
    /// Something named does not exist.
    NotFound,
    /// Something else has the name.
    Exists,
    /// The state of things does not allow it.
    Precondition,
    /// Something has changed since the caller looked.
    Aborted,
    /// It was to take effect before now, or the answer came too late.
    Expired,
    /// A bound is reached.
    Exhausted,
    /// A position outside of what there is.
    OutOfRange,
    /// Not now, or not here.
    Unavailable,
    /// Whoever asked has gone.
    Cancelled,
    /// The caller may not.
    Denied,
    /// The node that was asked knows no such operation.
    Unknown,
    /// A fault of ours.
    Internal,
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ApiError {
    pub kind: Kind,
    /// For programs, such as `no_leader`; empty when another node gave none.
    pub reason: Cow<'static, str>,
    /// For people: what was wrong, and what to do.
    pub text: String,
    /// After which another try makes sense.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// With all that is said of it. Whatever is not to be had now may be tried again soon.
    pub fn new(kind: Kind, reason: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        let retry_after = (kind == Kind::Unavailable).then_some(RETRY_AFTER);
        Self { kind, reason: reason.into(), text: text.into(), retry_after }
    }

    /// The request makes no sense.
    pub fn bad(text: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, "invalid", text)
    }

    /// What the caller named is not there.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, "not_found", text)
    }

    /// A name that is not there, beside those of its kind that are.
    pub fn missing(kind: Named, name: &str, known: impl IntoIterator<Item = impl Display>) -> Self {
        Self::not_found(kind.missing(name, known))
    }

    /// Things must change before it can be done.
    pub fn precondition(text: impl Into<String>) -> Self {
        Self::new(Kind::Precondition, "precondition", text)
    }

    /// The node, or one that it needs, cannot do it now.
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, "unavailable", text)
    }

    /// A fault of ours.
    pub fn internal(e: impl ToString) -> Self {
        Self::new(Kind::Internal, "internal", e.to_string())
    }

    /// Nobody leads, as far as this node knows.
    pub fn no_leader() -> Self {
        Self::new(Kind::Unavailable, "no_leader", "no leader, retry")
    }

    /// This node belongs to no cluster yet.
    pub fn no_cluster() -> Self {
        Rejection::NoCluster.into()
    }

    /// A read that no leader confirmed.
    pub fn unconfirmed(no_quorum: bool, why: &str) -> Self {
        let reason = if no_quorum { "no_quorum" } else { "no_leader" };
        let text = format!("no leader confirms this read ({why}): retry, or take what this node knows with --stale");
        Self::new(Kind::Unavailable, reason, text)
    }
}

impl From<Rejection> for ApiError {
    fn from(r: Rejection) -> Self {
        let kind = match r {
            Rejection::NotFound { .. } => Kind::NotFound,
            Rejection::Conflict { .. } | Rejection::AlreadyInitialised => Kind::Exists,
            Rejection::Invalid(_) | Rejection::TooFarAhead | Rejection::RequestReused { .. } => Kind::Invalid,
            Rejection::NoCluster
            | Rejection::Precondition(_)
            | Rejection::Busy { .. }
            | Rejection::Lifecycle { .. }
            | Rejection::Guard(_) => Kind::Precondition,
            Rejection::Stale { .. } | Rejection::WrongTerm { .. } => Kind::Aborted,
            Rejection::Expired { .. } => Kind::Expired,
            Rejection::Exhausted { .. } => Kind::Exhausted,
        };
        let stale = matches!(r, Rejection::Stale { .. });
        let text = if stale { format!("{r}: it has changed since you looked; look again") } else { r.to_string() };
        Self::new(kind, r.code(), text)
    }
}

impl From<ModelError> for ApiError {
    fn from(e: ModelError) -> Self {
        Self::bad(e.to_string())
    }
}

impl From<ProposeError> for ApiError {
    fn from(e: ProposeError) -> Self {
        let (kind, reason) = match e {
            ProposeError::NotLeader { .. } => return Self::no_leader(),
            ProposeError::NoQuorum => (Kind::Unavailable, "no_quorum"),
            ProposeError::Refusing { .. } => (Kind::Unavailable, "disk_low"),
            ProposeError::Unknown { .. } => (Kind::Unavailable, "unknown_outcome"),
            ProposeError::TooLarge { .. } => (Kind::Invalid, "too_large"),
            ProposeError::Encoding { .. } => (Kind::Internal, "encoding"),
            ProposeError::Stopped { .. } => (Kind::Unavailable, "stopped"),
        };
        Self::new(kind, reason, e.to_string())
    }
}

impl From<StorageError> for ApiError {
    fn from(e: StorageError) -> Self {
        let (kind, reason) = if matches!(e, StorageError::NoBlob { .. }) {
            (Kind::NotFound, "not_found")
        } else if matches!(e, StorageError::BlobBusy { .. }) {
            (Kind::Unavailable, "busy")
        } else if matches!(
            e,
            StorageError::BlobMismatch { .. } | StorageError::BlobShort { .. } | StorageError::Invalid { .. }
        ) {
            (Kind::Invalid, "digest")
        } else if matches!(e, StorageError::BlobOffset { .. }) {
            (Kind::OutOfRange, "offset")
        } else if matches!(e, StorageError::BlobTooLarge { .. }) {
            (Kind::Exhausted, "too_large")
        } else {
            tracing::error!(error = %e, "storage");
            (Kind::Internal, "storage")
        };
        Self::new(kind, reason, e.to_string())
    }
}
