//! Events: what a command changed, for watchers. A bounded ring in State; `watch(from)` reads it by (index, ordinal).
//!
//! Invariant: what an event is called, what it is about and how it reads stand once, in [`EventBody::describe`]: the log, the wire and
//! whoever else tells of it read that. A new event is one variant with its lines there.

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        DeploymentId, Digest, Health, InstanceId, Life, Millis, Name, NodeId, Principal, RolloutId, Step, Version,
        WorkerName, fields,
    },
    state::{
        rollout::rows::{Reason, RolloutStatus, StepStatus},
        traffic::rows::RouteWeights,
    },
};

/// Events kept; older ones are out of range for a watcher.
pub const EVENT_RING: usize = 8192;

/// Position of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventKey {
    /// Log index of its entry.
    pub index: u64,
    /// Place among that entry's events, from 0.
    pub ordinal: u32,
}

fields! {
    /// One event.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Event {
        /// Its position.
        1 pub key: EventKey,
        /// Cluster time of its entry.
        2 pub at: Millis,
        /// Wall-clock milliseconds of its entry; display only.
        3 pub wall: u64,
        /// What happened.
        4 [required] pub body: EventBody,
        /// Who caused it: the principal of its entry.
        5 [required] pub by: Principal,
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum EventBody {
    /// A cluster was made.
    ClusterCreated { name: String },
    /// A node's role changed.
    NodeChanged { node: NodeId, name: String, role: String },
    /// A node's DNS fell silent or was heard again.
    NodeSilence { node: NodeId, silent: bool },
    /// A spec was applied.
    SpecChanged { deployment: DeploymentId, revision: u64 },
    /// A release was registered.
    ReleaseAdded { service: Name, version: Version, digest: Digest },
    /// A worker registered, was lost or came back.
    WorkerChanged { worker: WorkerName, what: String },
    /// An instance's life or health changed.
    InstanceChanged { instance: InstanceId, deployment: DeploymentId, worker: WorkerName, life: Life, health: Health },
    /// A rollout's status changed.
    RolloutChanged { rollout: RolloutId, deployment: DeploymentId, status: RolloutStatus, reason: Option<Reason> },
    /// A step, at this place of its list, began or ended.
    StepChanged { rollout: RolloutId, deployment: DeploymentId, place: u32, step: Step, status: StepStatus },
    /// A batch began or passed.
    BatchChanged { rollout: RolloutId, deployment: DeploymentId, step: u32, batch: u32, passed: bool },
    /// Weights changed; versions by track for display.
    RouteChanged {
        deployment: DeploymentId,
        weights: RouteWeights,
        stable: Option<Version>,
        candidate: Option<Version>,
    },
    /// A smoke test was settled.
    HookSettled { rollout: RolloutId, deployment: DeploymentId, ok: bool, detail: String },
    /// A node's State differs from the majority's.
    ReplicaDiverged { node: NodeId, index: u64, tables: Vec<String> },
    /// A node that differed agrees again.
    ReplicaAgrees { node: NodeId, index: u64 },
    /// No State has a majority (rollouts freeze), or one has again when no table is named.
    ReplicasSplit { index: u64, tables: Vec<String> },
    /// A switch of several deployments went on.
    SwitchChanged { switch: u64, deployment: DeploymentId, what: String },
    /// A worker is lost for good: this many instances of the deployment on it do not count any more.
    CountedOut { deployment: DeploymentId, worker: WorkerName, instances: u32 },
    /// What is known of the DNS servers after traffic was taken back.
    TrafficBack { rollout: RolloutId, deployment: DeploymentId, what: String },
    /// A release was retired or removed.
    ReleaseGone { service: Name, version: Version, removed: bool },
}

/// How much an event asks of whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// There are so many that they would drown the rest.
    Detail,
    /// Something went on as it should, or as somebody asked.
    Normal,
    /// It may ask for somebody.
    Warning,
    /// It asks for somebody now.
    Alarm,
}

/// An event as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What kind of event it is, such as `rollout_changed`.
    pub kind: &'static str,
    /// How much it asks for.
    pub severity: Severity,
    /// The deployment it is about.
    pub deployment: Option<DeploymentId>,
    /// The rollout it is about.
    pub rollout: Option<RolloutId>,
    /// The rest, for programs.
    pub fields: Vec<(&'static str, String)>,
    /// A line for people.
    pub text: String,
}

impl Told {
    fn at(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    fn of(mut self, deployment: &DeploymentId) -> Self {
        self.text = format!("{deployment}: {}", self.text);
        self.deployment = Some(deployment.clone());
        self
    }

    fn in_(mut self, rollout: RolloutId, deployment: &DeploymentId) -> Self {
        self.text = format!("{rollout} {}", self.text);
        self.rollout = Some(rollout);
        self.of(deployment)
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }
}

impl EventBody {
    /// Its name, what it is about, its weight, and how it reads.
    pub fn describe(&self) -> Told {
        let told = |text: String| Told {
            kind: self.into(),
            severity: Severity::Normal,
            deployment: None,
            rollout: None,
            fields: Vec::new(),
            text,
        };
        match self {
            Self::ClusterCreated { name } => told(format!("cluster {name} was made")).with("name", name),
            Self::NodeChanged { node, name, role } => {
                told(format!("node {node} ({name}) is {role}")).with("node", node).with("name", name).with("role", role)
            }
            Self::NodeSilence { node, silent } => {
                let heard = if *silent { "silent" } else { "heard again" };
                let severity = if *silent { Severity::Warning } else { Severity::Normal };
                told(format!("DNS of node {node} is {heard}")).at(severity).with("node", node).with("silent", silent)
            }
            Self::SpecChanged { deployment, revision } => {
                told(format!("spec {revision}")).of(deployment).with("spec", revision)
            }
            Self::ReleaseAdded { service, version, digest } => told(format!("release {service} {version}"))
                .with("service", service)
                .with("version", version)
                .with("digest", digest),
            Self::ReleaseGone { service, version, removed } => {
                told(format!("release {service} {version} is {}", if *removed { "removed" } else { "retired" }))
                    .with("service", service)
                    .with("version", version)
                    .with("removed", removed)
            }
            Self::WorkerChanged { worker, what } => {
                told(format!("worker {worker}: {what}")).with("worker", worker).with("what", what)
            }
            Self::InstanceChanged { instance, deployment, worker, life, health } => {
                told(format!("instance {instance} on {worker} is {life}, {health}"))
                    .of(deployment)
                    .at(Severity::Detail)
                    .with("instance", instance)
                    .with("worker", worker)
                    .with("life", life)
                    .with("health", health)
            }
            Self::RolloutChanged { rollout, deployment, status, reason } => {
                let why = reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
                let asked = matches!(reason, Some(Reason::Operator { .. }));
                let severity = match status {
                    RolloutStatus::Paused | RolloutStatus::Failed | RolloutStatus::RolledBack if !asked => {
                        Severity::Warning
                    }
                    _ => Severity::Normal,
                };
                let told =
                    told(format!("is {status}{why}")).in_(*rollout, deployment).at(severity).with("status", status);
                reason.iter().fold(told, |told, r| told.with("reason", r).with("reason_label", r.label()))
            }
            Self::StepChanged { rollout, deployment, place, step, status } => {
                told(format!("{}: {} {status}", step.group, step.kind.name()))
                    .in_(*rollout, deployment)
                    .with("step", place)
                    .with("group", &step.group)
                    .with("kind", step.kind.name())
                    .with("status", status)
            }
            Self::BatchChanged { rollout, deployment, step, batch, passed } => {
                told(format!("batch {batch} {}", if *passed { "passed" } else { "started" }))
                    .in_(*rollout, deployment)
                    .at(Severity::Detail)
                    .with("step", step)
                    .with("batch", batch)
                    .with("passed", passed)
            }
            Self::RouteChanged { deployment, weights, stable, candidate } => {
                let parts = [(candidate, weights.candidate), (stable, weights.stable)];
                let shares = parts.iter().filter_map(|(v, w)| Some(format!("{} {w}", v.as_ref()?)));
                let told = told(format!("traffic {}", shares.collect::<Vec<_>>().join(", ")))
                    .of(deployment)
                    .with("stable_bp", weights.stable.0)
                    .with("candidate_bp", weights.candidate.0);
                let told = stable.iter().fold(told, |told, v| told.with("stable", v));
                candidate.iter().fold(told, |told, v| told.with("candidate", v))
            }
            Self::HookSettled { rollout, deployment, ok, detail } => {
                told(format!("smoke test {}: {detail}", if *ok { "passed" } else { "failed" }))
                    .in_(*rollout, deployment)
                    .with("ok", ok)
                    .with("detail", detail)
            }
            Self::SwitchChanged { switch, deployment, what } => told(format!("switch s-{switch}: {what}"))
                .of(deployment)
                .with("switch", format!("s-{switch}"))
                .with("what", what),
            Self::TrafficBack { rollout, deployment, what } => {
                told(format!("traffic back, {what}")).in_(*rollout, deployment).with("what", what)
            }
            Self::CountedOut { deployment, worker, instances } => {
                told(format!("worker {worker} is lost for good, {instances} instances on it are counted out"))
                    .of(deployment)
                    .at(Severity::Warning)
                    .with("worker", worker)
                    .with("instances", instances)
            }
            Self::ReplicaDiverged { node, index, tables } => {
                let tables = tables.join(", ");
                told(format!("ALARM: node {node} differs from the majority at index {index}, table {tables}"))
                    .at(Severity::Alarm)
                    .with("node", node)
                    .with("at", index)
                    .with("tables", tables)
            }
            Self::ReplicaAgrees { node, index } => {
                told(format!("node {node} agrees with the majority again at index {index}"))
                    .with("node", node)
                    .with("at", index)
            }
            Self::ReplicasSplit { index, tables } if tables.is_empty() => {
                told(format!("a majority of the nodes agrees again at index {index}")).with("at", index)
            }
            Self::ReplicasSplit { index, tables } => {
                let tables = tables.join(", ");
                told(format!("ALARM: no majority of the nodes agrees at index {index}, table {tables}"))
                    .at(Severity::Alarm)
                    .with("at", index)
                    .with("tables", tables)
            }
        }
    }
}
