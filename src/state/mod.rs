//! The law: what is replicated, and what one committed command does to it.
//!
//! `apply` is pure and total: the same entries give the same State on every node, in any chunking, and it never panics
//! (a panic here kills all nodes). A command either changes State and yields events, or is refused with a [`Rejection`]
//! and changes nothing but `applied`, `now` and the table of requests. Deciding what to propose is `engine`'s; agreeing
//! on order is `raft`'s.

mod base;
mod catalog;
mod cluster;
mod fleet;
mod log;
mod rollout;
mod store;
mod tables;
mod traffic;

use imbl::OrdMap;
use std::sync::Arc;

pub use base::event::{Event, EventBody, EventDescription, EventKey, Severity};
pub use base::lifecycle;
pub use base::observed::{NodeSeen, Observations, Reported, Seen, StepCounts};
pub use base::rejection::Rejection;
pub use base::rows::{FencePoint, LogId, Meta, Request};
pub use base::servers::differs;
pub use catalog::copies::{Copies, copies, copies_of, last_copies, would_lose};
pub use catalog::defaults::rollout_defaults;
pub use catalog::rows::{Blob, Environment, Release, ReleaseStatus, Service};
pub use catalog::statuses::failed_in;
pub use cluster::cluster_init::check_init;
pub use cluster::cookies::cookie_due;
pub use cluster::levels::too_new;
pub use cluster::members::switching;
pub use cluster::rows::{
    Cluster, CookieSecrets, DigestReport, Divergence, Limits, NewNode, NodeRole, NodeRow, Parted, Replicas, Secret,
    Settings, SettingsChange,
};
pub use cluster::settings::{ROLLOUT as ROLLOUT_PREFIX, declared as declared_settings};
pub use fleet::alloc::{free_addresses, free_when, port_user};
pub use fleet::drain::MARGIN as DRAIN_MARGIN;
pub use fleet::facts_recorded::clipped;
pub use fleet::rows::{
    Assignment, AssignmentContent, DrainState, Entry, Fit, Instance, InstanceFact, Look, PoolSlot, Presence, Reached,
    ReachedFact, Worker, WorkerFacts,
};
pub use fleet::serving::{
    complete, hears, leave_at, passes, passing, serving, serving_among, staged, there, unstaged, wanted,
};
pub use fleet::workers::cut as cut_text;
pub use log::apply::{Applied, apply, apply_blank, rehearse};
pub use log::command::{Command, StartRollout};
pub use log::digest::{StateDigest, digest};
pub use log::restore::{Restoration, restored};
pub use log::stamp::{Fence, Stamped};
pub use log::{codec, command, digest, invariants, snapshot};
pub use rollout::begin::chosen;
pub use rollout::collect::collectable;
pub use rollout::lost::{counts_out_at, lost_for_good_at};
pub use rollout::opening::arms_at_start;
pub use rollout::rows::{
    Batch, Budget, CheckRecord, Delivery, DeliveryKey, Evidence, PairSeen, Reason, Rollout, RolloutKind, RolloutPhase,
    RolloutStatus, StepRef, StepRow, StepStatus, Verdict,
};
pub use rollout::start_rollout::strategy_of;
pub use rollout::steps::counted_failed;
pub use rollout::weights::need;
pub use store::table::Table;
pub use tables::indexed::{Assignments, Instances, Rollouts, Workers};
pub use traffic::arms::{Arm, Arms, ByRole, Role, Weights};
pub use traffic::bound::{bound, fence_set};
pub use traffic::fences::{
    ArmedBy, Arming, Fences, LeaseMode, OnExpiry, ServerEnd, Switch, SwitchAsk, SwitchEnd, SwitchTarget, SwitchTo,
    Unfenced, WaitLevel,
};
pub use traffic::key_slots::KeySlots;
pub use traffic::leases_settled::due as leases_due;
pub use traffic::rows::{AsIs, Deployment, Route, RouteForm, RouteMode, Stop, TrafficBack};
pub use traffic::slots::slots_of;
pub use traffic::switches::obstacle as switch_obstacle;

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
    pub nodes: Table<NodeId, NodeRow>,
    pub environments: Table<Name, Environment>,
    pub services: Table<Name, Service>,
    /// Specs by deployment and revision; kept while an arm, rollout or instance names them, or newest.
    pub specs: Table<(DeploymentId, u64), Spec>,
    /// Packages by digest.
    pub blobs: Table<Digest, Blob>,
    /// Releases by service and version.
    pub releases: Table<(Name, Version), Release>,
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
    pub outbox: Table<DeliveryKey, Delivery>,
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
    /// Releases that ran and were removed, with their package's digest: other bytes never come under their names.
    pub tombstones: Table<(Name, Version), Digest>,
    /// The secret of DNS cookies.
    pub cookies: Arc<CookieSecrets>,
}

impl State {
    /// The deployment's spec of a revision.
    pub fn spec(&self, deployment: &DeploymentId, revision: u64) -> Option<&Arc<Spec>> {
        self.specs.get_shared(&(deployment.clone(), revision))
    }

    /// The rollout that owns the deployment, if one is live.
    pub fn live_rollout(&self, deployment: &DeploymentId) -> Option<&Rollout> {
        self.rollouts.get(&self.deployments.get(deployment)?.live?)
    }

    /// The completed rollout that made what a deployment runs now; later ones may have failed, been aborted or rolled
    /// back.
    pub fn undoable(&self, d: &Deployment) -> Option<&Rollout> {
        let stable = d.arms.pair(Role::Stable)?;
        let newest = self.rollouts.of(&d.id).rfind(|r| r.status == RolloutStatus::Completed)?;
        (newest.to == *stable).then_some(newest)
    }

    /// Instances that must go on serving while what an abort left makes room for stable: one may be missing, or what
    /// stable's spec allows.
    pub fn floor(&self, d: &Deployment, desired: u32) -> u32 {
        let spec = d.arms.pair(Role::Stable).and_then(|pair| self.spec(&d.id, pair.spec));
        desired.saturating_sub(spec.map_or(1, |x| x.rollout.unavailable(desired).max(1)))
    }

    /// Deployments of a service, by environment.
    pub fn deployments_of<'a>(&'a self, service: &'a Name) -> impl Iterator<Item = &'a Deployment> + 'a {
        let id = |e: &Name| DeploymentId { environment: e.clone(), service: service.clone() };
        self.environments.keys().filter_map(move |e| self.deployments.get(&id(e)))
    }

    /// Releases of a service, by the text of their versions.
    pub fn releases_of<'a>(&'a self, service: &'a Name) -> impl Iterator<Item = &'a Release> + 'a {
        let from = self.releases.range((service.clone(), Version::least())..);
        from.take_while(move |((s, _), _)| s == service).map(|(_, r)| r)
    }

    /// Where the events begin that are still held, if some after this one no longer are.
    pub fn forgotten(&self, after: EventKey) -> Option<EventKey> {
        let (oldest, event) = self.events.get_min()?;
        // The ring begins with the cluster, until something left it.
        let whole = matches!(event.body, EventBody::ClusterCreated { .. });
        (!whole && after < *oldest).then_some(*oldest)
    }

    /// Instances of one deployment, in id order.
    pub fn instances_of<'a>(&'a self, deployment: &DeploymentId) -> impl Iterator<Item = &'a Instance> + use<'a> {
        self.instances.of(deployment)
    }

    /// Specs of one deployment by revision.
    pub fn specs_of<'a>(&'a self, deployment: &DeploymentId) -> impl Iterator<Item = (u64, &'a Spec)> + use<'a> {
        let range = (deployment.clone(), 0)..=(deployment.clone(), u64::MAX);
        self.specs.range(range).map(|((_, revision), spec)| (*revision, spec))
    }
}
