//! Events: what a command changed, for watchers. A bounded ring in State; `watch(from)` reads it by (index, ordinal).
//!
//! Invariant: what an event is called, what it is about and how it reads stand once, in [`EventBody::describe`]: the
//! log, the wire and whoever else tells of it read that. A new event is one variant with its lines there.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        BasisPoints, DeploymentId, Digest, Health, InstanceId, Life, Millis, Name, NodeId, Principal, RolloutId, Step,
        Version, WorkerName, fields,
    },
    state::{
        rollout::rows::{Reason, RolloutStatus, StepStatus},
        traffic::arms::Role,
    },
};

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
    InstanceChanged {
        instance: InstanceId,
        deployment: DeploymentId,
        worker: WorkerName,
        life: Life,
        health: Health,
        /// How it ended, of one that failed.
        exit: Option<String>,
    },
    /// A rollout's status changed.
    RolloutChanged { rollout: RolloutId, deployment: DeploymentId, status: RolloutStatus, reason: Option<Reason> },
    /// A step, at this place of its list, began or ended.
    StepChanged { rollout: RolloutId, deployment: DeploymentId, place: u32, step: Step, status: StepStatus },
    /// A batch began or passed.
    BatchChanged { rollout: RolloutId, deployment: DeploymentId, step: u32, batch: u32, passed: bool },
    /// Weights changed; with the versions, for display.
    RouteChanged { deployment: DeploymentId, shares: Vec<(Role, Version, BasisPoints)> },
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
    /// Old releases were removed; so many more of them are left to be.
    ReleasesPruned { service: Name, versions: Vec<Version>, left: u64 },
    /// A service was removed.
    ServiceChanged { service: Name, what: String },
    /// An environment was made, changed or removed.
    EnvironmentChanged { environment: Name, what: String },
    /// A deployment is being removed, or was.
    DeploymentChanged { deployment: DeploymentId, what: String },
    /// Settings of the cluster, or the defaults of a service, were changed.
    SettingsChanged { service: Option<Name>, what: String },
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
pub struct EventDescription {
    /// What kind of event it is, such as `rollout_changed`.
    pub kind: &'static str,
    /// How much it asks for.
    pub severity: Severity,
    /// The deployment it is about.
    pub deployment: Option<DeploymentId>,
    /// The rollout it is about.
    pub rollout: Option<RolloutId>,
    /// The rest, for programs.
    pub fields: Vec<(Cow<'static, str>, String)>,
    /// A line for people.
    pub text: String,
}

impl EventDescription {
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

    fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl ToString) -> Self {
        self.fields.push((name.into(), value.to_string()));
        self
    }
}

impl EventBody {
    /// Its name, what it is about, its weight, and how it reads.
    pub fn describe(&self) -> EventDescription {
        let told = |text: String| EventDescription {
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
            Self::ReleasesPruned { service, versions, left } => {
                let versions = versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                told(format!("releases of {service} were removed: {versions}"))
                    .with("service", service)
                    .with("versions", versions)
                    .with("left", left)
            }
            Self::ServiceChanged { service, what } => {
                told(format!("service {service}: {what}")).with("service", service).with("what", what)
            }
            Self::EnvironmentChanged { environment, what } => {
                told(format!("environment {environment}: {what}")).with("environment", environment).with("what", what)
            }
            Self::DeploymentChanged { deployment, what } => told(what.clone()).of(deployment).with("what", what),
            Self::SettingsChanged { service, what } => {
                let whose = service.as_ref().map(|s| format!(" of service {s}")).unwrap_or_default();
                let told = told(format!("settings{whose}: {what}")).with("what", what);
                service.iter().fold(told, |told, s| told.with("service", s))
            }
            Self::WorkerChanged { worker, what } => {
                told(format!("worker {worker}: {what}")).with("worker", worker).with("what", what)
            }
            Self::InstanceChanged { instance, deployment, worker, life, health, exit } => {
                let is = match (life, exit) {
                    (Life::Failed, Some(why)) => format!("failed: {why}"),
                    (Life::Failed, None) => "failed".into(),
                    (Life::Running, _) => format!("is running, {}", health.said()),
                    (Life::Starting | Life::Draining | Life::Stopping | Life::Gone, _) => format!("is {life}"),
                };
                let told = told(format!("instance {instance} on {worker} {is}"))
                    .of(deployment)
                    .at(Severity::Detail)
                    .with("instance", instance)
                    .with("worker", worker)
                    .with("status", life)
                    .with("health", health);
                exit.iter().fold(told, |told, exit| told.with("exit", exit))
            }
            Self::RolloutChanged { rollout, deployment, status, reason } => {
                let why = reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
                let asked = matches!(reason, Some(Reason::Operator { .. }));
                let severity = match status {
                    RolloutStatus::Paused | RolloutStatus::Failed | RolloutStatus::RolledBack if !asked => {
                        Severity::Warning
                    }
                    RolloutStatus::Pending
                    | RolloutStatus::Active
                    | RolloutStatus::Paused
                    | RolloutStatus::Promoting
                    | RolloutStatus::RollingBack
                    | RolloutStatus::Completed
                    | RolloutStatus::RolledBack
                    | RolloutStatus::Failed
                    | RolloutStatus::Aborted => Severity::Normal,
                };
                let told = told(format!("is {status}{why}"))
                    .in_(*rollout, deployment)
                    .at(severity)
                    .with("status", status.code());
                reason.iter().fold(told, |told, r| told.with("reason", r).with("reason_label", r.label()))
            }
            Self::StepChanged { rollout, deployment, place, step, status } => told(format!("{step} {}", status.said()))
                .in_(*rollout, deployment)
                .with("step", place)
                .with("group", &step.group)
                .with("kind", step.kind.name())
                .with("status", status),
            Self::BatchChanged { rollout, deployment, step, batch, passed } => {
                told(format!("batch {batch} {}", if *passed { "passed" } else { "started" }))
                    .in_(*rollout, deployment)
                    .at(Severity::Detail)
                    .with("step", step)
                    .with("batch", batch)
                    .with("passed", passed)
            }
            Self::RouteChanged { deployment, shares } => {
                // What is on trial comes first.
                let (tried, rest): (Vec<_>, Vec<_>) = shares.iter().partition(|(role, _, _)| role.on_trial());
                // A restart has one version on both sides.
                let twice = |v: &Version| shares.iter().filter(|(_, version, _)| version == v).count() > 1;
                let text = tried.iter().chain(&rest).map(|(role, version, share)| {
                    if twice(version) { format!("{version} ({role}) {share}") } else { format!("{version} {share}") }
                });
                let text = text.collect::<Vec<_>>().join(", ");
                let told = told(format!("traffic {}", if text.is_empty() { "none" } else { &text })).of(deployment);
                shares.iter().fold(told, |told, (role, version, share)| {
                    let name: &'static str = role.into();
                    told.with(name, version).with(format!("{name}_bp"), share.0)
                })
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
