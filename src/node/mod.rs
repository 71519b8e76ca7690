//! The daemon: wiring, identity, init and join, readiness, membership, the relay of what this node hears.
//!
//! Invariants: listeners are bound before anything is written; a directory of another cluster or node is refused; DNS
//! answers only once this node's view holds what was committed before it started; when the disk or Raft fails the
//! process ends with the reason.
//!
//! Deliberately not here: what is decided (`engine`), the leader's loop (`lead`).

mod backend;
mod clock_watch;
mod discard;
mod error;
mod fall;
mod figures;
mod follow;
mod gate;
mod lease;
mod life;
mod listeners;
mod log_events;
mod membership;
pub mod offline;
mod readiness;
mod relay;
mod repair;
mod replicas;
mod run;
mod space;
mod start;
mod tasks;
mod trace;

pub use error::NodeError;
pub use run::{Node, NodeEnd};
pub use space::wait_for_room;
