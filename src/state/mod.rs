//! The law: what is replicated, and what one committed command does to it.
//!
//! `apply` is pure and total: the same entries give the same State on every node, in any chunking, and it never panics (a panic
//! here kills all nodes). A command either changes State and yields events, or is refused with a [`Rejection`] and changes
//! nothing but `applied`, `now` and the table of requests. Deciding what to propose is `engine`'s; agreeing on order is `raft`'s.

mod alloc;
mod apply;
mod as_is;
mod assign;
mod batches;
mod catalog;
mod cluster;
pub mod codec;
mod collect;
mod command;
mod command_name;
mod context;
mod cookies;
mod copies;
mod deployment;
pub mod digest;
mod drain;
mod event;
mod fences;
mod fleet;
mod give_back;
mod indexed;
pub mod invariants;
mod keeper;
mod nodes;
pub mod lifecycle;
mod leases;
mod lost;
mod observed;
mod opening;
mod operator;
mod outbox;
mod rejection;
mod replicas;
mod report;
mod requests;
mod restore;
mod returns;
mod rollback;
mod rollout;
mod routes;
mod rows;
mod serving;
mod shares;
mod slots;
pub mod snapshot;
mod stamp;
mod start;
mod steps;
mod switches;
mod table;

use imbl::OrdMap;
use std::sync::Arc;

pub use alloc::{free_addresses, free_when};
pub use apply::{Applied, apply, apply_blank, rehearse};
pub use cluster::NewNode;
pub use cluster::check_init;
pub use command::{Command, StartRollout};
pub use cookies::{CookieSecrets, Secret, cookie_due};
pub use copies::{Copies, copies, copies_of, last_copies, would_lose};
pub use deployment::{AsIs, Deployment, Route, RouteMode, RouteWeights, Track, TrackName, Tracks};
pub use digest::{StateDigest, digest};
pub use drain::MARGIN as DRAIN_MARGIN;
pub use event::{EVENT_RING, Event, EventBody, EventKey};
pub use fences::{
    Arm, ArmOwner, Fences, LeaseMode, OnExpiry, ServerEnd, Switch, SwitchAsk, SwitchEnd, SwitchTarget, SwitchTo,
    Unfenced, WaitLevel, bound, fence_set,
};
pub use give_back::undoable;
pub use indexed::{Assignments, Instances, Rollouts, Workers};
pub use lost::{counts_out_at, lost_for_good_at};
pub use nodes::{switching, too_new};
pub use observed::{NodeSeen, Observations, Seen, StepCounts};
pub use opening::tracks_at_start;
pub use rejection::Rejection;
pub use replicas::{DigestReport, Divergence, Replicas, differs};
pub use report::{InstanceFact, ReachedFact, WorkerFacts};
pub use restore::{Restoration, restored};
pub use returns::TrafficBack;
pub use rollout::{
    Batch, Evidence, PairCounts, Reason, Rollout, RolloutKind, RolloutPhase, RolloutStatus, StepRow, StepStatus,
    Verdict,
};
pub use rows::{
    Assignment, AssignmentContent, Blob, Cluster, Delivery, DeliveryKey, DrainState, Entry, Environment, FencePoint,
    Instance, Limits, Meta, NodeRole, NodeRow, Permit, PoolSlot, Presence, Reached, Release, ReleaseStatus, Request,
    Service, Settings, Worker,
};
pub use serving::{leave_at, passing, serving, serving_among, there, wanted};
pub use slots::{KeySlots, slots_of};
pub use stamp::{Fence, LogId, Stamped};
pub use start::chosen;
pub use switches::{due as leases_due, obstacle as switch_obstacle};
pub use table::Table;

use crate::model::{
    ClusterId, DeploymentId, Digest, Millis, Name, NodeId, Principal, RequestId, RolloutId, Spec, Version,
};

/// Everything the nodes agree on. Cloning is cheap: the maps are persistent, and rows are shared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Cluster time: the largest stamp applied.
    pub now: Millis,
    /// Wall-clock milliseconds since the Unix epoch of the newest stamp; for display only.
    pub wall: u64,
    /// Log id of the last entry applied.
    pub applied: LogId,
    /// Raised by restoring a backup; orders every fence before `n`.
    pub incarnation: u64,
    /// Active feature level: what every node is able to read.
    pub level: u32,
    /// The cluster row; `None` before `ClusterInit`.
    pub cluster: Option<Arc<Cluster>>,
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
    pub deployments: Table<DeploymentId, Deployment>,
    /// Rollouts, terminal ones included up to the retention limit.
    pub rollouts: Rollouts,
    /// Instances; gone and failed ones are dropped once no rollout or assignment names them.
    pub instances: Instances,
    /// Workers by name.
    pub workers: Workers,
    /// What each worker is to run and hold, by deployment.
    pub assignments: Assignments,
    /// Deliveries the leader owes.
    pub outbox: OrdMap<DeliveryKey, Delivery>,
    /// First results of client requests, until their `not_after`.
    pub requests: Table<(Principal, RequestId), Request>,
    /// Index of `requests` by expiry.
    pub requests_by_expiry: OrdMap<(Millis, Principal, RequestId), ()>,
    /// Ring of the newest events; part of State so that every node answers alike.
    pub events: Table<EventKey, Event>,
    /// Whether the replicas agree.
    pub replicas: Arc<Replicas>,
    /// Clusters that this one was restored from, oldest first: their agents go on with this one.
    pub lineage: Vec<ClusterId>,
    /// The fenced switch: settings of leases, what is armed, what is being switched.
    pub fences: Arc<Fences>,
    /// Slots of keys by version, of deployments whose traffic several versions share.
    pub slots: Table<DeploymentId, KeySlots>,
    /// What is known of the servers after traffic was taken back, by the rollout that did it.
    pub backs: Table<RolloutId, TrafficBack>,
    /// The secret of DNS cookies.
    pub cookies: Arc<CookieSecrets>,
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
    pub fn instances_of<'a>(&'a self, deployment: &DeploymentId) -> impl Iterator<Item = &'a Instance> + use<'a> {
        self.instances.of(deployment)
    }

    /// Specs of one deployment by revision.
    pub fn specs_of<'a>(&'a self, deployment: &DeploymentId) -> impl Iterator<Item = (u64, &'a Arc<Spec>)> + use<'a> {
        let range = (deployment.clone(), 0)..=(deployment.clone(), u64::MAX);
        self.specs.range(range).map(|((_, revision), spec)| (*revision, spec))
    }
}
