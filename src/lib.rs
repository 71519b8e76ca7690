//! Slipway: a clustered rollout coordinator.
//!
//! The map. Four verbs: *observe* (`observe`), *decide* (`engine`, pure), *agree* (`state`, pure and replicated by `raft`),
//! *act* (`act`; everything else is level-triggered from State). `ARCHITECTURE.md` walks one rollout through the files.
//!
//! Pure layers: no clock, no randomness, no async, ordered maps only (`tests/tidy` holds this and the import table).

/// The outbox: hooks, called at least once with a stable key.
mod act;
/// Every operation once: the table of them, callers, refusals.
mod api;
/// The worker agent: session, releases on disk, processes, probes.
pub mod agent;
/// The one reader of packages, for who pushes and who unpacks them.
pub mod archive;
/// One HTTP request to an instance: checks, scrapes, smoke tests.
mod ask;
/// Verbs, tables, live view, JSON; over `client` only.
pub mod cli;
/// Finds a node, retries with request ids, watches.
pub mod client;
/// The only reader of time.
pub mod clock;
/// The only reader of configuration files and environment.
pub mod config;
/// The only writer of standard output and standard error, and where the log goes.
pub mod console;
/// Names, answers, listeners.
pub mod dns;
/// The judgement: `plan()`, `facts()`, strategies, analysis.
pub mod engine;
/// Health, readiness, metrics over HTTP.
pub mod http;
/// The leader's loop: starts and stops with the term.
mod lead;
/// The nouns and their invariants; ids, versions, time, weights, specs.
pub mod model;
/// The daemon: wiring, readiness, membership.
pub mod node;
/// What the leader hears: reports, counts, what DNS has served; freshness.
mod observe;
/// The only module that names openraft.
pub mod raft;
/// gRPC services for operators, workers and peers.
mod rpc;
/// The law: State, Command, Event, Rejection, `apply`; lifecycle tables; invariants; codec; digest.
pub mod state;
/// What a panic said, and how often something happened lately.
mod supervise;
/// RocksDB log, snapshot files, blob store; knows no Raft rules.
pub mod storage;
/// Who gets which version: decks, bucket tables, routes.
pub mod traffic;
/// Generated protobuf and conversions.
pub mod wire;
