//! The law: what is replicated, and what one committed command does to it.
//!
//! `apply` is pure and total: the same entries give the same State on every node, in any chunking, and it never panics (a panic
//! here kills all nodes). A command either changes State and yields events, or is refused with a [`Rejection`] and changes
//! nothing but `applied`, `now` and the table of requests. Deciding what to propose is `engine`'s; agreeing on order is `raft`'s.

mod alloc;
mod apply;
mod assign;
mod batches;
mod catalog;
mod cluster;
pub mod codec;
mod collect;
mod command;
mod context;
pub mod digest;
mod drain;
mod event;
mod fleet;
pub mod invariants;
mod keeper;
pub mod lifecycle;
mod observed;
mod operator;
mod outbox;
mod rejection;
mod replicas;
mod requests;
mod restore;
mod rollback;
mod rollout;
mod routes;
mod rows;
mod serving;
pub mod snapshot;
mod start;
mod steps;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub use alloc::free_addresses;
pub use apply::{Applied, apply, apply_blank};
pub use command::{Command, Fence, InstanceFact, LogId, NewNode, ReachedFact, Stamped, StartRollout, WorkerFacts};
pub use digest::{StateDigest, digest};
pub use event::{EVENT_RING, Event, EventBody, EventKey};
pub use observed::{NodeSeen, Observations, Seen, StepCounts};
pub use rejection::Rejection;
pub use replicas::{DigestReport, Divergence, Replicas};
pub use restore::{Restoration, restored};
pub use rollout::{
    Batch, Evidence, PairCounts, Reason, ResumeTo, Rollout, RolloutKind, RolloutPhase, RolloutStatus, StepRow,
    StepStatus, Verdict,
};
pub use rows::{
    Assignment, AssignmentContent, Blob, Cluster, Delivery, DeliveryKey, Deployment, DrainState, Entry, Environment,
    FencePoint, Instance, Limits, Meta, NodeRole, NodeRow, Permit, PoolSlot, Presence, Reached, Release, ReleaseStatus,
    Request, Route, RouteMode, RouteWeights, Service, Settings, Track, TrackName, Tracks, Worker,
};
pub use serving::{passing, serving, serving_among, wanted};

use crate::model::{
    ClusterId, DeploymentId, Digest, InstanceId, Millis, Name, NodeId, Principal, RequestId, RolloutId, Spec, Version,
    WorkerName,
};

/// Everything the nodes agree on. Cloning is cheap: the maps are persistent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Cluster time: the largest stamp applied.
    pub now: Millis,
    /// Wall-clock milliseconds since the Unix epoch of the newest stamp; for display only.
    pub wall: u64,
    /// Log id of the last entry applied.
    pub applied: LogId,
    /// Raised by restoring a backup; orders every fence before `n`.
    pub incarnation: u64,
    /// Active feature level; writing uses the newest row format it allows.
    pub level: u32,
    /// The cluster row; `None` before `ClusterInit`.
    pub cluster: Option<Cluster>,
    /// Nodes by id, removed ones included (ids are never reused).
    pub nodes: OrdMap<NodeId, NodeRow>,
    /// Environments by name.
    pub environments: OrdMap<Name, Environment>,
    /// Services by name.
    pub services: OrdMap<Name, Service>,
    /// Specs by deployment and revision; kept while a track, rollout or instance names them, or newest.
    pub specs: OrdMap<(DeploymentId, u64), Arc<Spec>>,
    /// Packages by digest.
    pub blobs: OrdMap<Digest, Blob>,
    /// Releases by service and version.
    pub releases: OrdMap<(Name, Version), Release>,
    /// Deployments.
    pub deployments: OrdMap<DeploymentId, Deployment>,
    /// Rollouts, terminal ones included up to the retention limit.
    pub rollouts: OrdMap<RolloutId, Rollout>,
    /// Instances; gone and failed ones are dropped once no rollout or assignment names them.
    pub instances: OrdMap<InstanceId, Instance>,
    /// Workers by name.
    pub workers: OrdMap<WorkerName, Worker>,
    /// What each worker is to run and hold, by deployment.
    pub assignments: OrdMap<(WorkerName, DeploymentId), Assignment>,
    /// Deliveries the leader owes.
    pub outbox: OrdMap<DeliveryKey, Delivery>,
    /// First results of client requests, until their `not_after`.
    pub requests: OrdMap<(Principal, RequestId), Request>,
    /// Index of `requests` by expiry.
    pub requests_by_expiry: OrdMap<(Millis, Principal, RequestId), ()>,
    /// Ring of the newest events; part of State so that every node answers alike.
    pub events: OrdMap<EventKey, Event>,
    /// Whether the replicas agree.
    pub replicas: Replicas,
    /// Clusters that this one was restored from, oldest first: their agents go on with this one.
    pub lineage: Vec<ClusterId>,
}

impl State {
    /// The deployment's spec of a revision.
    pub fn spec(&self, deployment: &DeploymentId, revision: u64) -> Option<&Arc<Spec>> {
        self.specs.get(&(deployment.clone(), revision))
    }

    /// The rollout that owns the deployment, if one is live.
    pub fn live_rollout(&self, deployment: &DeploymentId) -> Option<&Rollout> {
        self.rollouts.get(&self.deployments.get(deployment)?.live?)
    }

    /// Instances of one deployment, in id order.
    pub fn instances_of<'a>(&'a self, deployment: &'a DeploymentId) -> impl Iterator<Item = &'a Instance> + 'a {
        self.instances.values().filter(move |i| &i.deployment == deployment)
    }
}
