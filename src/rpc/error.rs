//! Refusals as statuses and back: a standard code, the text as message, and the machine-readable word in metadata.
//!
//! Invariant: this file alone knows which code a kind of failure has; what another node refused keeps its kind, word
//! and text.

use std::time::Duration;

use tonic::{Code, Status, metadata::MetadataValue};

use crate::{
    api::{ApiError, Kind},
    wire::REASON,
};

/// Metadata key of the milliseconds after which another try makes sense.
const RETRY_AFTER: &str = "slipway-retry-after-ms";

impl From<ApiError> for Status {
    fn from(e: ApiError) -> Self {
        let code = match e.kind {
            Kind::Invalid => Code::InvalidArgument,
            Kind::NotFound => Code::NotFound,
            Kind::Exists => Code::AlreadyExists,
            Kind::Precondition => Code::FailedPrecondition,
            Kind::Aborted => Code::Aborted,
            Kind::Expired => Code::DeadlineExceeded,
            Kind::Exhausted => Code::ResourceExhausted,
            Kind::OutOfRange => Code::OutOfRange,
            Kind::Unavailable => Code::Unavailable,
            Kind::Cancelled => Code::Cancelled,
            Kind::Denied => Code::PermissionDenied,
            Kind::Unknown => Code::Unimplemented,
            Kind::Internal => Code::Internal,
        };
        let mut status = Self::new(code, e.text);
        let mut say = |key, text: &str| {
            if let Ok(value) = MetadataValue::try_from(text) {
                status.metadata_mut().insert(key, value);
            }
        };
        if !e.reason.is_empty() {
            say(REASON, &e.reason);
        }
        if let Some(after) = e.retry_after {
            say(RETRY_AFTER, &after.as_millis().to_string());
        }
        status
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        let kind = match status.code() {
            Code::InvalidArgument => Kind::Invalid,
            Code::NotFound => Kind::NotFound,
            Code::AlreadyExists => Kind::Exists,
            Code::FailedPrecondition => Kind::Precondition,
            Code::Aborted => Kind::Aborted,
            Code::DeadlineExceeded => Kind::Expired,
            Code::ResourceExhausted => Kind::Exhausted,
            Code::OutOfRange => Kind::OutOfRange,
            Code::Unavailable => Kind::Unavailable,
            Code::Cancelled => Kind::Cancelled,
            Code::PermissionDenied | Code::Unauthenticated => Kind::Denied,
            Code::Unimplemented => Kind::Unknown,
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Kind::Internal,
        };
        let said = |key| status.metadata().get(key).and_then(|v| v.to_str().ok());
        let retry_after = said(RETRY_AFTER).and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
        let reason = said(REASON).unwrap_or_default().to_string();
        Self { retry_after, ..Self::new(kind, reason, status.message()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Rejection;

    #[test]
    fn what_another_node_refused_reaches_the_caller_as_it_was_said() {
        let all = [
            ApiError::no_leader(),
            ApiError::no_cluster(),
            ApiError::bad("no such track"),
            ApiError::unconfirmed(true, "alone"),
            Rejection::Stale { seen: 3, now: 4 }.into(),
            Rejection::Exhausted { what: "specs".into(), limit: 1, fix: "remove one".into() }.into(),
        ];
        for e in all {
            assert_eq!(ApiError::from(Status::from(e.clone())), e);
        }
        let status = Status::from(ApiError::no_leader());
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "no leader, retry"));
        assert_eq!(status.metadata().get(REASON).unwrap(), "no_leader");
        assert_eq!(status.metadata().get(RETRY_AFTER).unwrap(), "500");
    }
}
