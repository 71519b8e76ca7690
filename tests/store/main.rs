//! What is on a disk and what Raft makes of it: openraft's suite on the real store, power cuts and flipped bytes, nodes
//! in one process.
//!
//! Not here: nodes as processes of their own, which are killed and paused (`tests/cluster`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, unused_imports, reason = "each binary needs a part of it")]
#[path = "../helpers/mod.rs"]
mod helpers;

mod crash_images;
mod openraft_suite;
mod raft;
