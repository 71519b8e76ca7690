//! The door of the gRPC listener for clients: who asks, for which operation, and how fresh the answer is.
//!
//! Invariants: each request of a method in the table of operations gets its caller here, and nowhere else in `rpc`; an
//! answer's [`APPLIED`] is the index of the State it was made from, or an earlier one, never a later one that it does
//! not show.
//!
//! Deliberately not here: the confirmation of reads (`raft::read`), and what a caller may do.

use axum::{
    extract::{Request, State},
    http::HeaderValue,
    middleware::Next,
    response::Response,
};
use tonic::Status;

use crate::{
    api::{Api, ApiError, Caller, Operation},
    wire::{APPLIED, STALE},
};

/// Marks a request of another node, which is not passed on again.
pub(super) const HOP: &str = "slipway-hop";

/// Around every call of a client.
pub(super) async fn around(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    if let Some(operation) = Operation::of_grpc(request.uri().path()) {
        // There are no tokens yet: whoever reaches the port is the local operator.
        let caller = Caller::local(operation, request.headers().contains_key(STALE));
        request.extensions_mut().insert(caller);
    }
    let applied = || api.consensus.get().map(|c| c.view().applied.index);
    let before = applied();
    let mut response = next.run(request).await;
    // A read has said from which State it answers; of other calls only this much is sure.
    if let (Some(index), false) = (before, response.headers().contains_key(APPLIED)) {
        response.headers_mut().insert(APPLIED, HeaderValue::from(index));
    }
    response
}

/// The caller that the door gave a request.
pub(super) fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, Status> {
    let known = request.extensions().get::<Caller>().cloned();
    known.ok_or_else(|| ApiError::internal("this method has no operation").into())
}
