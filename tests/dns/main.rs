//! DNS over real sockets: what the answers say, and what the server does with anything that is sent to it.
//!
//! The state is made by hand (`fixture`); the clients are our own socket, hickory's resolver and `dig`. and glibc's own
//! in a network namespace (`glibc`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, unused_imports, reason = "each binary needs a part of it")]
#[path = "../helpers/mod.rs"]
mod helpers;

mod citizen;
mod fast;
mod fixture;
mod fuzz;
mod glibc;
mod more_names;
mod leases;
mod names;
mod odd;
mod policy;
mod publish;
mod resolvers;
mod siblings;
mod tls;
mod wire;
