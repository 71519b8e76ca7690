//! One line of the log for each event in State, on every node.
//!
//! Invariant: an event that is applied while this process runs makes one line; what was there before it started makes none. Batches
//! and instances are told at `debug`, as they would drown the rest.

use std::ops::Bound;

use crate::{
    raft::Consensus,
    state::{EventBody, EventKey, State},
};

/// Follows State for ever.
pub(super) async fn run(consensus: Consensus) {
    let mut views = consensus.view_changes();
    let newest = |s: &State| s.events.get_max().map(|(key, _)| *key).unwrap_or_default();
    let mut seen: Option<EventKey> = None;
    loop {
        views.borrow_and_update();
        let state = consensus.view();
        // Before there is a cluster nothing has happened, so its making is told.
        if let Some(from) = seen {
            tell(&state, from);
        }
        if state.applied.index > 0 || seen.is_none() {
            seen = Some(newest(&state));
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}

fn tell(state: &State, from: EventKey) {
    let term = state.applied.term;
    for (key, event) in state.events.range((Bound::Excluded(from), Bound::Unbounded)) {
        let index = key.index;
        match &event.body {
            EventBody::ClusterCreated { name } => {
                tracing::info!(event = "cluster_created", term, index, name, "cluster")
            }
            EventBody::NodeChanged { node, name, role } => {
                tracing::info!(event = "node_changed", term, index, node, name, role, "membership");
            }
            EventBody::NodeSilence { node, silent } => {
                tracing::info!(event = "node_silence", term, index, node, silent, "membership");
            }
            EventBody::RolloutChanged { rollout, deployment, status, reason } => {
                let reason = reason.as_ref().map(ToString::to_string).unwrap_or_default();
                tracing::info!(event = "rollout_changed", term, index, %rollout, %deployment, %status, reason, "rollout");
            }
            EventBody::WorkerChanged { worker, what } => {
                tracing::info!(event = "worker_changed", term, index, %worker, what, "worker");
            }
            EventBody::ReplicaDiverged { node, index: at, tables } => {
                tracing::error!(
                    event = "replica_diverged",
                    term,
                    index,
                    node,
                    at,
                    tables = tables.join(","),
                    "replicas"
                );
            }
            EventBody::ReplicaAgrees { node, index: at } => {
                tracing::info!(event = "replica_agrees", term, index, node, at, "replicas");
            }
            EventBody::ReplicasSplit { index: at, tables } => {
                tracing::error!(event = "replicas_split", term, index, at, tables = tables.join(","), "replicas");
            }
            EventBody::SwitchChanged { switch, deployment, what } => {
                tracing::info!(event = "switch_changed", term, index, switch, %deployment, what, "traffic");
            }
            EventBody::TrafficBack { rollout, deployment, what } => {
                tracing::info!(event = "traffic_back", term, index, %rollout, %deployment, what, "traffic");
            }
            EventBody::CountedOut { deployment, worker, instances } => {
                tracing::warn!(event = "counted_out", term, index, %deployment, %worker, instances, "fleet");
            }
            EventBody::SpecChanged { deployment, revision } => {
                tracing::info!(event = "spec_changed", term, index, %deployment, revision, "catalog");
            }
            EventBody::ReleaseAdded { service, version, digest } => {
                tracing::info!(event = "release_added", term, index, %service, %version, %digest, "catalog");
            }
            EventBody::StepChanged { rollout, deployment, step, group: _, kind, status } => {
                tracing::info!(event = "step_changed", term, index, %rollout, %deployment, step, kind, status, "rollout");
            }
            EventBody::BatchChanged { rollout, deployment, step, batch, passed } => {
                tracing::debug!(event = "batch_changed", term, index, %rollout, %deployment, step, batch, passed, "rollout");
            }
            EventBody::RouteChanged { deployment, weights, stable: _, candidate: _ } => {
                let (stable, candidate) = (weights.stable.0, weights.candidate.0);
                tracing::info!(event = "route_changed", term, index, %deployment, stable, candidate, "traffic");
            }
            EventBody::InstanceChanged { instance, deployment, worker, life, health } => {
                tracing::debug!(event = "instance_changed", term, index, %instance, %deployment, %worker, %life, %health, "worker");
            }
            EventBody::HookSettled { rollout, deployment, ok, detail } => {
                tracing::info!(event = "hook_settled", term, index, %rollout, %deployment, ok, detail, "rollout");
            }
        }
    }
}
