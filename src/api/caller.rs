//! Who asks for an operation, as the door that let the request in knows it.
//!
//! Invariant: doors alone make callers (`rpc/door.rs`; `node`, for what it is asked at its start); an operation
//! believes its caller. For now there is one operator, who is whoever reaches a port.

use super::Operation;
use crate::model::Principal;

/// A principal with the operation that it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub principal: Principal,
    pub operation: &'static Operation,
    /// Takes an answer that no leader confirmed; never when the operation does not allow that.
    pub stale: bool,
}

impl Caller {
    /// The local operator asks.
    pub fn local(operation: &'static Operation, stale: bool) -> Self {
        Self { principal: local_operator(), operation, stale: stale && operation.takes_stale() }
    }
}

/// The principal of whoever reaches this node.
pub fn local_operator() -> Principal {
    Principal::local_operator()
}
