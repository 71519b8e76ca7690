//! gRPC: the services for operators, as a skin over `api`; those for workers and peers; and what this node asks of
//! other nodes.
//!
//! Invariants: the door gives every request of a client its caller; `error` alone knows which code a failure has.
//!
//! Deliberately not here: the operations themselves (`api`), and what the node does with relayed words (`node`).

mod door;
mod error;
mod peer;
mod remote;
mod serve;
mod skin;
mod workers;

pub use remote::Nodes;
pub use serve::{client_routes, peer_routes, serve};
