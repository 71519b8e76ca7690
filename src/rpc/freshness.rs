//! How fresh an answer is: whether the asker takes an older one, and the applied index that every answer carries.
//!
//! Invariants: a read is confirmed by the leader unless its request says [`STALE`]; an answer's [`APPLIED`] is the index of the State
//! it was made from, or an earlier one, never a later one that it does not show.
//!
//! Deliberately not here: the confirmation itself (`raft::read`).

use axum::{
    extract::{Request, State},
    http::HeaderValue,
    middleware::Next,
    response::Response,
};

use super::Shared;
use crate::wire::{APPLIED, STALE};

tokio::task_local! {
    static TAKES_STALE: bool;
}

/// Whether the request that is being answered takes an older answer.
pub(super) fn takes_stale() -> bool {
    TAKES_STALE.try_with(|stale| *stale).unwrap_or(false)
}

/// Around every call of a client.
pub(super) async fn around(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let stale = request.headers().contains_key(STALE);
    let applied = || shared.consensus.get().map(|c| c.view().applied.index);
    let before = applied();
    let mut response = TAKES_STALE.scope(stale, next.run(request)).await;
    // A read has said from which State it answers; of other calls only this much is sure.
    if let (Some(index), false) = (before, response.headers().contains_key(APPLIED)) {
        response.headers_mut().insert(APPLIED, HeaderValue::from(index));
    }
    response
}
