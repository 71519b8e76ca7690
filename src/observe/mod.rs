//! What the leader hears: workers' reports and the nodes' word on their DNS, as relayed by every node; the leader's own included.
//!
//! Invariants: it belongs to one term and forgets everything at the next, so a new leader begins with "unknown"; a report never
//! replaces a newer one (epoch, sequence), as a worker may have changed its node; silence is counted from the last word of any node.
//!
//! Deliberately not here: what is heard over which connection (`rpc`), and what follows from it (`engine`).

mod collector;

pub use collector::{Collector, ObserveError, WorkerWord};
