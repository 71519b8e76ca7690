//! What the leader hears: reports of workers and of the nodes' DNS. Every node relays them, the leader too.
//!
//! Invariants: observations belong to one term and are forgotten at the next, so a new leader begins with "unknown"; a
//! report never replaces a newer one (epoch, sequence), as a worker may have changed its node; silence is counted from
//! the newest report through any node.
//!
//! Not here: which connection brings a report (`rpc`), what follows from it (`engine`).

mod collector;

pub use collector::{Collector, ObserveError, WorkerWord};
