//! Everything that needs no process, no disk of a node and no socket: the law, the planner, traffic, codecs, whole rollouts on simulated
//! fleets.
//!
//! A suite is a module; what several suites stand on is one too (`sim_fleet`, `walk`), or lies in `tests/helpers` when another binary
//! needs it. Not here: files and Raft (`tests/store`), DNS over sockets (`tests/dns`), real processes (`tests/cluster`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each binary needs a part of it")]
#[path = "../helpers/mod.rs"]
mod helpers;

mod codec;
mod guards;
mod history;
mod lease_model;
mod properties;
mod rest;
mod sim_fleet;
mod switches;
mod transcripts;
mod walk;
