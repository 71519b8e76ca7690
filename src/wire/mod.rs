//! The public contract in Rust: generated protobuf, and conversions from State's rows.
//!
//! Not here: who may call what (`rpc`), and Raft's own encoding (`raft`).

/// Generated from `proto/slipway/v1`; documented there.
#[allow(missing_docs, clippy::all, reason = "generated code; its documentation stands in the .proto files")]
pub mod v1 {
    tonic::include_proto!("slipway.v1");

    /// Encoded file descriptors, for gRPC reflection.
    pub const DESCRIPTOR: &[u8] = tonic::include_file_descriptor_set!("slipway_descriptor");
}
