//! The public contract in Rust: generated protobuf, and conversions between State's rows and messages.
//!
//! Not here: who may call what (`rpc`), and Raft's own encoding (`raft`).

/// Metadata key of the machine-readable reason of a refusal.
pub const REASON: &str = "slipway-reason";
/// Metadata key of a read that accepts what the node knows, without the leader's confirmation.
pub const STALE: &str = "slipway-stale";
/// Metadata key of the applied index of the State that an answer was made from, or of an earlier one.
pub const APPLIED: &str = "slipway-applied";

/// State's rows as messages of the catalogue, the cluster and traffic.
pub mod convert;
/// Events as messages.
pub mod convert_event;
/// Rollouts, their steps and evidence as messages; a request's parameters into rollout parameters.
pub mod convert_rollout;
/// Switches and leases as messages, and their words read back.
pub mod convert_switch;
/// What a worker is told and what it reports.
pub mod convert_worker;

/// Generated from `proto/slipway/v1`; documented there.
#[allow(clippy::all, reason = "generated code; its documentation stands in the .proto files")]
pub mod v1 {
    tonic::include_proto!("slipway.v1");

    /// Encoded file descriptors, for gRPC reflection.
    pub const DESCRIPTOR: &[u8] = tonic::include_file_descriptor_set!("slipway_descriptor");
}

/// Calls of a service that a test's server does not answer. In the form that `async_trait` gives a method, as it does
/// not look into macros.
#[cfg(test)]
macro_rules! unanswered {
    ($($call:ident($ask:ident) -> $reply:ty;)+) => {$(
        fn $call<'s, 'a>(
            &'s self,
            _: tonic::Request<$crate::wire::v1::$ask>,
        ) -> futures_util::future::BoxFuture<'a, Result<tonic::Response<$reply>, tonic::Status>>
        where
            's: 'a,
            Self: 'a,
        {
            Box::pin(async { Err(tonic::Status::unimplemented("not in this test")) })
        }
    )+};
}
#[cfg(test)]
pub(crate) use unanswered;
