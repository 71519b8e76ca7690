//! Refusals as statuses: a standard code, the message as text, and the machine-readable word in metadata.

use tonic::{Code, Status, metadata::MetadataValue};

use crate::{model::ModelError, raft::ProposeError, state::Rejection, storage::StorageError, wire::REASON};

/// Metadata key of a warning on an answer that is not as fresh as it could be.
pub(super) const WARNING: &str = "slipway-warning";

/// Metadata key of the milliseconds after which another try makes sense: an election takes about that.
const RETRY_AFTER: &str = "slipway-retry-after-ms";

pub(super) fn status(code: Code, reason: &'static str, text: impl Into<String>) -> Status {
    let mut status = Status::new(code, text);
    status.metadata_mut().insert(REASON, MetadataValue::from_static(reason));
    if code == Code::Unavailable {
        status.metadata_mut().insert(RETRY_AFTER, MetadataValue::from_static("500"));
    }
    status
}

/// A refused command as a status.
pub fn refusal(r: &Rejection) -> Status {
    let code = match r {
        Rejection::NotFound { .. } => Code::NotFound,
        Rejection::Conflict { .. } | Rejection::AlreadyInitialised => Code::AlreadyExists,
        Rejection::Invalid(_) | Rejection::TooFarAhead | Rejection::RequestReused { .. } => Code::InvalidArgument,
        Rejection::NoCluster
        | Rejection::Precondition(_)
        | Rejection::Busy { .. }
        | Rejection::Lifecycle { .. }
        | Rejection::Guard(_) => Code::FailedPrecondition,
        Rejection::Stale { .. } | Rejection::WrongTerm { .. } => Code::Aborted,
        Rejection::Expired { .. } => Code::DeadlineExceeded,
        Rejection::Exhausted { .. } => Code::ResourceExhausted,
    };
    status(code, r.code(), r.to_string())
}

pub(super) fn invalid(e: &ModelError) -> Status {
    status(Code::InvalidArgument, "invalid", e.to_string())
}

pub(super) fn bad(text: impl Into<String>) -> Status {
    status(Code::InvalidArgument, "invalid", text)
}

pub(super) fn not_found(text: impl Into<String>) -> Status {
    status(Code::NotFound, "not_found", text)
}

pub(super) fn no_leader() -> Status {
    status(Code::Unavailable, "no_leader", "no leader, retry")
}

/// A read that no leader confirmed.
pub(super) fn unconfirmed(no_quorum: bool, why: &str) -> Status {
    let reason = if no_quorum { "no_quorum" } else { "no_leader" };
    let text = format!("no leader confirms this read ({why}): retry, or take what this node knows with --stale");
    status(Code::Unavailable, reason, text)
}

pub(super) fn no_cluster() -> Status {
    refusal(&Rejection::NoCluster)
}

pub(super) fn unproposed(e: &ProposeError) -> Status {
    let text = e.to_string();
    match e {
        ProposeError::NotLeader { .. } => no_leader(),
        ProposeError::NoQuorum => status(Code::Unavailable, "no_quorum", text),
        ProposeError::Refusing { .. } => status(Code::Unavailable, "disk_low", text),
        ProposeError::Unknown { .. } => status(Code::Unavailable, "unknown_outcome", text),
        ProposeError::TooLarge { .. } => status(Code::InvalidArgument, "too_large", text),
        ProposeError::Encoding { .. } => status(Code::Internal, "encoding", text),
        ProposeError::Stopped { .. } => status(Code::Unavailable, "stopped", text),
    }
}

pub(super) fn stored(e: &StorageError) -> Status {
    let text = e.to_string();
    if matches!(e, StorageError::NoBlob { .. }) {
        status(Code::NotFound, "not_found", text)
    } else if matches!(e, StorageError::BlobBusy { .. }) {
        status(Code::Unavailable, "busy", text)
    } else if matches!(
        e,
        StorageError::BlobMismatch { .. } | StorageError::BlobShort { .. } | StorageError::Invalid { .. }
    ) {
        status(Code::InvalidArgument, "digest", text)
    } else if matches!(e, StorageError::BlobOffset { .. }) {
        status(Code::OutOfRange, "offset", text)
    } else if matches!(e, StorageError::BlobTooLarge { .. }) {
        status(Code::ResourceExhausted, "too_large", text)
    } else {
        tracing::error!(error = %e, "storage");
        status(Code::Internal, "storage", text)
    }
}
