//! What a node does for those who ask it from outside: every operation once, over the consensus handle and the
//! published State.
//!
//! Invariants: each operation has a row in [`OPERATIONS`] and a [`Caller`] that a door made; every change is a checked,
//! typed command, proposed with its caller's principal and its request id, here or at the leader; without a leader the
//! answer is "unavailable", at once; nothing that came from outside is used before it was bounded and checked.
//!
//! Requests and replies are the messages of `wire`: they are plain structs, and rows of our own beside them would only
//! be their doubles. Deliberately not here: transports (`rpc`), what commands mean (`state`), what the node does about
//! init, join and relayed words (`node`, through [`Backend`]).

mod artifacts;
mod backend;
mod caller;
mod catalog;
mod changes;
mod cluster;
mod digest;
mod error;
mod events;
mod fetch;
mod handle;
mod logs;
mod maintenance;
mod membership;
mod operations;
mod page;
mod propose;
mod rollouts;
mod sessions;
mod starting;
mod traffic;
mod transfer;
mod upkeep;

pub use backend::{Backend, Flow, Realised, Remote};
pub use caller::{Caller, local_operator};
pub use error::{ApiError, Kind};
pub use fetch::fetch_blob;
pub use handle::{Answer, Api, Counts, Many, Reply};
pub use operations::{Access, MESSAGE, Operation};
pub use sessions::{Report, Sessions};
