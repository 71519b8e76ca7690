//! Events: what a command changed, for watchers. A bounded ring in State; `watch(from)` reads it by (index, ordinal).

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        DeploymentId, Digest, Health, InstanceId, Life, Millis, Name, NodeId, RolloutId, Version, WorkerName, fields,
    },
    state::{
        rollout::rows::{Reason, RolloutStatus},
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
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "fields are named as the rows they come from")]
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
    /// A step began or ended.
    StepChanged { rollout: RolloutId, deployment: DeploymentId, step: u32, group: String, kind: String, status: String },
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
}

impl EventBody {
    /// The deployment it is about, if any.
    pub fn deployment(&self) -> Option<&DeploymentId> {
        match self {
            Self::ClusterCreated { .. } | Self::NodeChanged { .. } | Self::NodeSilence { .. } => None,
            Self::ReleaseAdded { .. } | Self::WorkerChanged { .. } => None,
            Self::ReplicaDiverged { .. } | Self::ReplicaAgrees { .. } | Self::ReplicasSplit { .. } => None,
            Self::SpecChanged { deployment, .. }
            | Self::InstanceChanged { deployment, .. }
            | Self::RolloutChanged { deployment, .. }
            | Self::StepChanged { deployment, .. }
            | Self::BatchChanged { deployment, .. }
            | Self::RouteChanged { deployment, .. }
            | Self::HookSettled { deployment, .. }
            | Self::SwitchChanged { deployment, .. }
            | Self::CountedOut { deployment, .. }
            | Self::TrafficBack { deployment, .. } => Some(deployment),
        }
    }
}
