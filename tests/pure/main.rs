//! Everything that needs no process, no disk of a node and no socket: the law, the planner, traffic, codecs, whole
//! rollouts on simulated fleets.
//!
//! A suite is a module; what several suites stand on is one too (`sim_fleet`, `walk`), or lies in `tests/helpers` when
//! another binary needs it. Not here: files and Raft (`tests/store`), DNS over sockets (`tests/dns`), real processes
//! (`tests/cluster`).

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

use slipway::{
    model::{Check, MetricName, Sample, Samples},
    state::{CheckRecord, Verdict},
};

/// Requests and errors, as a worker counts them.
fn counted(requests: u64, errors: u64) -> Samples {
    let all = [(MetricName::REQUESTS, requests), (MetricName::ERRORS, errors)];
    all.into_iter().map(|(name, n)| (name, Sample::Counter(n))).collect()
}

/// That neither of them can be counted.
fn uncounted(why: &str) -> std::collections::BTreeMap<MetricName, String> {
    [MetricName::REQUESTS, MetricName::ERRORS].into_iter().map(|name| (name, why.into())).collect()
}

/// Records of a step's checks, all with the same verdict.
fn records(checks: &[Check], verdict: Verdict) -> Vec<CheckRecord> {
    checks.iter().map(|check| CheckRecord { check: check.clone(), verdict }).collect()
}
