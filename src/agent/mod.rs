//! The worker agent: holds one session to any node, keeps releases on disk, runs instances, probes and counts.
//!
//! Invariants: it journals before it acts; it obeys only an assignment that is not older than what it has seen; instances outlive it
//! and are found again by lock and pidfd, never doubled. Not here: what should run (State), who may be an agent (`rpc`).

mod files;
pub mod journal;
pub mod layout;
pub mod process;
pub mod shim;
pub mod unpack;

pub use shim::shim_main;
