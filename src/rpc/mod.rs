//! gRPC: services for operators, workers and peers, over the consensus handle and the published State.
//!
//! Invariants: every change is a checked, typed command, proposed with its principal and its request id, here or at the leader;
//! without a leader the answer is "unavailable", at once; nothing that came from outside is used before it was bounded and checked.
//!
//! Deliberately not here: what the node does with relayed words, init and join (`node`, through [`Backend`]); what commands mean
//! (`state`).

mod artifacts;
mod catalog;
mod changes;
mod cluster;
mod digest;
mod error;
mod events;
mod fetch;
mod freshness;
mod logs;
mod maintenance;
mod membership;
mod page;
mod peer;
mod propose;
mod rollouts;
mod serve;
mod sessions;
mod shared;
mod starting;
mod traffic;
mod transfer;
mod workers;

pub use error::refusal;
pub use fetch::fetch_blob;
pub use serve::{client_routes, peer_routes, serve};
pub use sessions::{Report, Sessions};
pub use shared::{Backend, Counts, Shared};
