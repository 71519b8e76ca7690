//! DNS over real sockets: what the answers say, and what the server does with anything that is sent to it.
//!
//! The state is made by hand (`fixture`); the clients are our own socket, hickory's resolver and `dig`. glibc's resolver is asked in
//! `tests/dns_glibc.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod citizen;
mod fast;
mod fixture;
mod fuzz;
mod more_names;
mod leases;
mod names;
mod odd;
mod policy;
mod resolvers;
#[path = "../support/skip.rs"]
mod skip;
mod tls;
mod wire;
