//! Real processes on loopback: clusters of `slipwayd node`, workers, and what must hold when they are killed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod forming;
mod refusals;
