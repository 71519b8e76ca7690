//! Health, readiness and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`.
//!
//! Everything shown is read when asked, from functions that `node` wires: State as a value, figures of Raft, DNS and
//! the leader's loop. Counters of rollouts follow the events in State from the moment this process started, as counters
//! do. Not here: the JSON API and the dashboard (later), and what makes a node ready (`node`).

mod counters;
mod gauges;
mod server;

pub use counters::RolloutCounters;
pub use gauges::{Connections, DnsFigures, LeadFigures, ProcessFigures, RaftFigures, RpcFigures};
pub use server::{HttpSources, Pages, serve, serve_waiting};
