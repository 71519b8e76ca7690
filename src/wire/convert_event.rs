//! Events as messages: a kind, what it is about, a line for people, and the fields for programs.

use std::collections::BTreeMap;

use super::v1;
use crate::{
    model::BasisPoints,
    state::{Event, EventBody},
};

/// An event as watchers get it.
pub fn event(e: &Event) -> v1::Event {
    let (kind, rollout, text, fields) = body(&e.body);
    v1::Event {
        index: e.key.index,
        ordinal: e.key.ordinal,
        at_ms: e.at.0,
        wall_ms: e.wall,
        kind: kind.into(),
        deployment: e.body.deployment().map(ToString::to_string).unwrap_or_default(),
        rollout,
        text,
        fields: fields.into_iter().map(|(k, v)| (k.to_string(), v)).collect::<BTreeMap<_, _>>(),
    }
}

type Told = (&'static str, String, String, Vec<(&'static str, String)>);

fn body(b: &EventBody) -> Told {
    let none = String::new;
    match b {
        EventBody::ClusterCreated { name } => {
            ("cluster_created", none(), format!("cluster {name} was made"), vec![("name", name.clone())])
        }
        EventBody::NodeChanged { node, name, role } => (
            "node_changed",
            none(),
            format!("node {node} ({name}) is {role}"),
            vec![("node", node.to_string()), ("name", name.clone()), ("role", role.clone())],
        ),
        EventBody::NodeSilence { node, silent } => (
            "node_silence",
            none(),
            format!("DNS of node {node} is {}", if *silent { "silent" } else { "heard again" }),
            vec![("node", node.to_string()), ("silent", silent.to_string())],
        ),
        EventBody::SpecChanged { deployment, revision } => {
            ("spec_changed", none(), format!("{deployment}: spec {revision}"), vec![("spec", revision.to_string())])
        }
        EventBody::ReleaseAdded { service, version, digest } => (
            "release_added",
            none(),
            format!("release {service} {version}"),
            vec![("service", service.to_string()), ("version", version.to_string()), ("digest", digest.to_string())],
        ),
        EventBody::WorkerChanged { worker, what } => (
            "worker_changed",
            none(),
            format!("worker {worker}: {what}"),
            vec![("worker", worker.to_string()), ("what", what.clone())],
        ),
        EventBody::InstanceChanged { instance, deployment, worker, life, health } => (
            "instance_changed",
            none(),
            format!("{deployment}: instance {instance} on {worker} is {life}, {health}"),
            vec![
                ("instance", instance.to_string()),
                ("worker", worker.to_string()),
                ("life", life.to_string()),
                ("health", health.to_string()),
            ],
        ),
        EventBody::RolloutChanged { rollout, deployment, status, reason } => {
            let why = reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
            let mut fields = vec![("status", status.to_string())];
            if let Some(r) = reason {
                fields.push(("reason", r.to_string()));
                fields.push(("reason_label", r.label().to_string()));
            }
            ("rollout_changed", rollout.to_string(), format!("{deployment}: {rollout} is {status}{why}"), fields)
        }
        EventBody::StepChanged { rollout, deployment, step, group, kind, status } => (
            "step_changed",
            rollout.to_string(),
            format!("{deployment}: {rollout} {group}: {kind} {status}"),
            vec![
                ("step", step.to_string()),
                ("group", group.clone()),
                ("kind", kind.clone()),
                ("status", status.clone()),
            ],
        ),
        EventBody::BatchChanged { rollout, deployment, step, batch, passed } => (
            "batch_changed",
            rollout.to_string(),
            format!("{deployment}: {rollout} batch {batch} {}", if *passed { "passed" } else { "started" }),
            vec![("step", step.to_string()), ("batch", batch.to_string()), ("passed", passed.to_string())],
        ),
        EventBody::RouteChanged { deployment, weights, stable, candidate } => {
            let share = |v: &Option<crate::model::Version>, w: BasisPoints| v.as_ref().map(|v| format!("{v} {w}"));
            let shares: Vec<String> =
                [share(candidate, weights.candidate), share(stable, weights.stable)].into_iter().flatten().collect();
            let mut fields =
                vec![("stable_bp", weights.stable.0.to_string()), ("candidate_bp", weights.candidate.0.to_string())];
            fields.extend(stable.as_ref().map(|v| ("stable", v.to_string())));
            fields.extend(candidate.as_ref().map(|v| ("candidate", v.to_string())));
            ("route_changed", none(), format!("{deployment}: traffic {}", shares.join(", ")), fields)
        }
        EventBody::HookSettled { rollout, deployment, ok, detail } => (
            "hook_settled",
            rollout.to_string(),
            format!("{deployment}: {rollout} smoke test {}: {detail}", if *ok { "passed" } else { "failed" }),
            vec![("ok", ok.to_string()), ("detail", detail.clone())],
        ),
        EventBody::SwitchChanged { switch, deployment, what } => (
            "switch_changed",
            none(),
            format!("{deployment}: switch s-{switch}: {what}"),
            vec![("switch", format!("s-{switch}")), ("what", what.clone())],
        ),
        EventBody::TrafficBack { rollout, deployment, what } => (
            "traffic_back",
            rollout.to_string(),
            format!("{deployment}: traffic back, {what}"),
            vec![("what", what.clone())],
        ),
        EventBody::CountedOut { deployment, worker, instances } => (
            "counted_out",
            none(),
            format!("{deployment}: worker {worker} is lost for good, {instances} instances on it are counted out"),
            vec![("worker", worker.to_string()), ("instances", instances.to_string())],
        ),
        EventBody::ReplicaDiverged { node, index, tables } => (
            "replica_diverged",
            none(),
            format!("ALARM: node {node} differs from the majority at index {index}, table {}", tables.join(", ")),
            vec![("node", node.to_string()), ("index", index.to_string()), ("tables", tables.join(","))],
        ),
        EventBody::ReplicaAgrees { node, index } => (
            "replica_agrees",
            none(),
            format!("node {node} agrees with the majority again at index {index}"),
            vec![("node", node.to_string()), ("index", index.to_string())],
        ),
        EventBody::ReplicasSplit { index, tables } => (
            "replicas_split",
            none(),
            if tables.is_empty() {
                format!("a majority of the nodes agrees again at index {index}")
            } else {
                format!("ALARM: no majority of the nodes agrees at index {index}, table {}", tables.join(", "))
            },
            vec![("index", index.to_string()), ("tables", tables.join(","))],
        ),
    }
}
