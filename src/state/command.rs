//! Commands: everything that can be agreed on. Operator and node commands carry a request id; engine commands carry the revision
//! they saw and come from the leader alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    DeliveryKey, DigestReport, Evidence, FencePoint, LeaseMode, NewNode, NodeRole, OnExpiry, Reason, RolloutPhase,
    RolloutStatus, RouteWeights, Secret, SwitchAsk, SwitchEnd, WorkerFacts,
};
use crate::model::{
    BuildInfo, ClusterId, DeploymentId, Digest, InstanceId, Millis, Name, NodeId, RolloutId, RolloutParams, Spec, Step,
    Version, WorkerName,
};
use crate::traffic::lease::Terms;

/// `rollout start`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRollout {
    /// What to move.
    pub deployment: DeploymentId,
    /// To which release.
    pub version: Version,
    /// Complete parameters; `strategy: None` takes the environment's default, and a first rollout is direct.
    pub params: RolloutParams,
    /// Whether the running pair may be rolled out again (`rollout restart`).
    pub restart: bool,
    /// Whether a live rollout is ended first, in this entry: a way back where it stands, one that goes forward with the traffic on stable.
    pub replace: bool,
    /// Deployment revision the caller saw, if it asks for that.
    pub expected: Option<u64>,
}

/// Everything that can be agreed on. Guards and effects stand in this module's command files.
// A box would save nothing: one command is alive at a time, and nobody keeps a list of them.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Makes the cluster; refused when there is one.
    ClusterInit {
        /// Its id.
        id: ClusterId,
        /// Its name.
        name: String,
        /// Its DNS zone.
        zone: String,
        /// The first node, id 1.
        node: NewNode,
    },
    /// Gives a joining node its id.
    NodeAdmitted(NewNode),
    /// Moves a node's role one step.
    NodeRoleSet {
        /// Which node.
        node: NodeId,
        /// To which role.
        role: NodeRole,
        /// Role seen.
        seen: NodeRole,
        /// Whether it may leave although it holds the last copy of a package.
        lose_packages: bool,
    },
    /// Creates or replaces a deployment's spec; makes the service and the deployment when needed.
    SpecApplied {
        /// The whole spec.
        spec: Spec,
        /// Spec revision the caller saw; `None`: whatever it is.
        expected: Option<u64>,
    },
    /// A node has a package fsynced.
    BlobHeld {
        /// Which package.
        digest: Digest,
        /// Its size.
        size: u64,
        /// Which node.
        node: NodeId,
    },
    /// A node no longer has it.
    BlobDropped {
        /// Which package.
        digest: Digest,
        /// Which node.
        node: NodeId,
    },
    /// Registers a release whose package a majority of voters holds.
    ReleaseRegistered {
        /// Of which service (made when unknown).
        service: Name,
        /// Its version.
        version: Version,
        /// Its package.
        digest: Digest,
        /// What the builder said.
        build: BuildInfo,
        /// Free labels.
        labels: BTreeMap<String, String>,
    },
    /// A worker is new, or its registration changed.
    WorkerRegistered {
        /// Its name.
        name: WorkerName,
        /// Its public key.
        key: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// Instances at most.
        capacity: u32,
        /// Agent's version.
        build: String,
        /// Machine's own address.
        host: String,
        /// Pool addresses that its machine has.
        pool: Vec<String>,
        /// Addresses of its configuration that its machine does not have.
        absent: Vec<String>,
        /// How the processes of an instance are kept together there.
        keeping: String,
    },
    /// Starts a rollout.
    StartRollout(StartRollout),
    /// Holds a rollout.
    Pause {
        /// Which.
        rollout: RolloutId,
    },
    /// Lets a paused one go on.
    Resume {
        /// Which.
        rollout: RolloutId,
    },
    /// Puts traffic on stable and stops; candidates are kept to look at.
    Abort {
        /// Which.
        rollout: RolloutId,
        /// Ends a way back where it stands instead: both versions keep their instances and weights.
        as_is: bool,
    },
    /// Ends the present step, or with `full` skips all that is not the last install and route.
    Promote {
        /// Which.
        rollout: RolloutId,
        /// `--full`.
        full: bool,
    },
    /// Unwinds a live rollout, or starts a return from the last completed one.
    Rollback {
        /// Which.
        rollout: RolloutId,
    },

    /// Raises `now`; drops requests past their time.
    Tick,
    /// What agents reported, batched.
    FactsRecorded {
        /// By worker, each once.
        workers: Vec<WorkerFacts>,
    },
    /// A worker is silent at every node.
    WorkerLost {
        /// Which.
        worker: WorkerName,
        /// Cluster time of its last report.
        last_heard: Millis,
    },
    /// A lost worker reported again.
    WorkerReturned {
        /// Which.
        worker: WorkerName,
    },
    /// A node's DNS view has not been heard of.
    NodeSilent {
        /// Which.
        node: NodeId,
    },
    /// It is heard again.
    NodeHeard {
        /// Which.
        node: NodeId,
    },
    /// A rollout's steps (or its undo's).
    StepsCompiled {
        /// Which.
        rollout: RolloutId,
        /// Its revision seen.
        seen: u64,
        /// For which phase.
        phase: RolloutPhase,
        /// Desired instances of the new stable.
        desired: u32,
        /// Order of workers.
        order: Vec<WorkerName>,
        /// The steps.
        steps: Vec<Step>,
    },
    /// Starts a step.
    StepStarted {
        /// Which rollout.
        rollout: RolloutId,
        /// Its revision seen.
        seen: u64,
        /// Place of the step.
        step: u32,
        /// Attempt, one more than the row's.
        attempt: u32,
    },
    /// Starts a batch of the running installation.
    BatchStarted {
        /// Which rollout.
        rollout: RolloutId,
        /// Its revision seen.
        seen: u64,
        /// Place of the step.
        step: u32,
        /// Batch number, one more than the row's.
        batch: u32,
        /// New instances by worker.
        add: Vec<(WorkerName, u32)>,
        /// Instances they take the place of (in place: drained first; replace: drained when the batch passes).
        replace: Vec<InstanceId>,
        /// Whether the new ones wait for those they replace, at their addresses. A way back does so wherever room is short.
        in_place: bool,
    },
    /// The batch passes: probation over; by capacity: weights and drains.
    BatchPassed {
        /// Which rollout.
        rollout: RolloutId,
        /// Its revision seen.
        seen: u64,
        /// Place of the step.
        step: u32,
        /// Batch number.
        batch: u32,
        /// Old instances that drain now.
        drain: Vec<InstanceId>,
        /// Weights after the batch, when the step routes by capacity.
        weights: Option<RouteWeights>,
    },
    /// Sets weights.
    RouteSet {
        /// Which rollout.
        rollout: RolloutId,
        /// Its revision seen.
        seen: u64,
        /// Place of the step.
        step: u32,
        /// The weights.
        weights: RouteWeights,
    },
    /// Cuts over: tracks and weights in one entry.
    Switched {
        /// Which rollout.
        rollout: RolloutId,
        /// Its revision seen.
        seen: u64,
        /// Place of the step.
        step: u32,
    },
    /// Every DNS server has served the removal (or is silent): caches decide from here.
    DrainSettled {
        /// Which deployment.
        deployment: DeploymentId,
        /// Drain index settled.
        index: u64,
        /// Nodes that served it, with the index each has served.
        confirmed: Vec<(NodeId, u64)>,
        /// Nodes counted as silent.
        silent: Vec<NodeId>,
        /// Nodes that were heard to answer nobody.
        unready: Vec<NodeId>,
        /// Largest TTL that may be in caches, milliseconds.
        ttl_ms: u64,
    },
    /// What every DNS server has served, when only freed addresses wait for it.
    ViewsServed {
        /// Servers with the index each has served.
        served: Vec<(NodeId, u64)>,
    },
    /// A worker that is lost for good: its instances of a deployment are counted out, of capacity and of a live rollout's desired count.
    CountedOut {
        /// Which deployment; how long it waits is its spec's.
        deployment: DeploymentId,
        /// Which worker.
        worker: WorkerName,
    },
    /// A way back that lacks workers takes up those that came since its steps were compiled.
    OrderExtended {
        /// Which rollout.
        rollout: RolloutId,
        /// Its revision seen.
        seen: u64,
        /// Ready workers that the placement chooses and that its order has not.
        workers: Vec<WorkerName>,
    },
    /// Drained instances may be stopped.
    StopPermitted {
        /// Which deployment.
        deployment: DeploymentId,
        /// Which instances.
        instances: Vec<InstanceId>,
    },
    /// The running step is done.
    StepEnded {
        /// Which rollout.
        rollout: RolloutId,
        /// Its revision seen.
        seen: u64,
        /// Place of the step.
        step: u32,
        /// What was seen.
        evidence: Evidence,
    },
    /// A verdict turned the rollout back: fails the step and moves the traffic in one entry.
    RollbackBegan {
        /// Which rollout.
        rollout: RolloutId,
        /// Its revision seen.
        seen: u64,
        /// Why.
        reason: Reason,
        /// What was seen.
        evidence: Option<Evidence>,
    },
    /// A policy holds the rollout.
    RolloutPaused {
        /// Which rollout.
        rollout: RolloutId,
        /// Its revision seen.
        seen: u64,
        /// Why.
        reason: Reason,
        /// What was seen.
        evidence: Option<Evidence>,
    },
    /// All gates passed: tracks move unless a switch moved them.
    PromotionBegan {
        /// Which rollout.
        rollout: RolloutId,
        /// Its revision seen.
        seen: u64,
    },
    /// The rollout ends.
    RolloutFinished {
        /// Which rollout.
        rollout: RolloutId,
        /// Its revision seen.
        seen: u64,
        /// How: `Completed`, `RolledBack` or `Failed`.
        status: RolloutStatus,
        /// Why, when it failed.
        reason: Option<Reason>,
    },
    /// The keeper's change of an idle deployment: new instances on a track, or drains.
    TrackAdjusted {
        /// Which deployment.
        deployment: DeploymentId,
        /// Its revision seen.
        seen: u64,
        /// New instances: pair's track, worker, how many.
        add: Vec<(super::TrackName, WorkerName, u32)>,
        /// Instances to drain.
        drain: Vec<InstanceId>,
        /// Desired count of stable from now on.
        desired: u32,
        /// Tracks whose time is over and that have no live instance left: forgotten.
        drop: Vec<super::TrackName>,
    },
    /// A delivery came to its end.
    DeliverySettled {
        /// Which.
        key: DeliveryKey,
        /// Attempt of the owning step.
        attempt: u32,
        /// Whether every target answered well.
        ok: bool,
        /// What it answered, 1 KiB at most.
        detail: String,
    },
    /// Forgets terminal rollouts, unnamed specs and ended instances beyond retention.
    Collected {
        /// Fence: the incarnation seen.
        at: FencePoint,
    },
    /// Asks every node to hash its State as of this entry.
    DigestProbe,
    /// A node's hashes of its State at a probe.
    DigestReported {
        /// Which node.
        node: NodeId,
        /// The probe's entry.
        index: u64,
        /// The hashes.
        report: DigestReport,
    },
    /// A node says at its start what its program is.
    NodeAnnounced {
        /// The node.
        node: NodeId,
        /// Its program's version.
        version: String,
        /// Lowest feature level supported.
        min: u32,
        /// Highest feature level supported.
        max: u32,
        /// Where clients and agents reach it.
        client_addr: String,
        /// Where its DNS listens.
        dns_addr: String,
    },
    /// Takes a node out for maintenance, or back.
    NodeDrained {
        /// The node.
        node: NodeId,
        /// Whether it is to be drained.
        on: bool,
    },
    /// Raises the feature level, once every node supports it.
    LevelRaised {
        /// The next level.
        to: u32,
        /// Fence: the level seen.
        seen: u32,
    },
    /// Settings of leases, each kept when absent.
    LeaseSet {
        /// When leases bind.
        mode: Option<LeaseMode>,
        /// How long they are.
        terms: Option<Terms>,
    },
    /// What a bound service does when a lease is over.
    ExpirySet {
        /// Which.
        deployment: DeploymentId,
        /// `None`: the default.
        on_expiry: Option<OnExpiry>,
    },
    /// Switches deployments together.
    SwitchAsked(SwitchAsk),
    /// Servers have served the entries from which on their leases bind.
    ArmsConfirmed {
        /// Servers, with the index each has served.
        served: Vec<(NodeId, u64)>,
    },
    /// A switch moves its traffic.
    SwitchMoved {
        /// Which.
        switch: u64,
        /// Its revision seen.
        seen: u64,
        /// Servers, with the index each has served.
        served: Vec<(NodeId, u64)>,
    },
    /// A switch is over.
    SwitchEnded {
        /// Which.
        switch: u64,
        /// Its revision seen.
        seen: u64,
        /// How.
        end: SwitchEnd,
    },
    /// What earlier leases may still hold is settled.
    LeasesSettled {
        /// Revision of the fences seen.
        seen: u64,
    },
    /// What is known of the DNS servers after traffic was taken back.
    TrafficBackSettled {
        /// The rollout that took it back.
        rollout: RolloutId,
        /// Index of the entry that moved it.
        index: u64,
        /// What was seen.
        end: SwitchEnd,
    },
    /// An operator wants another secret of DNS cookies.
    CookieAsked,
    /// Another secret of DNS cookies, from the leader.
    CookieRotated {
        /// The secret.
        secret: Secret,
        /// Index of the entry that brought the one seen; 0: none.
        seen: u64,
    },
    /// Changes nothing: what a later feature level would bring. In debug builds only, for tests of levels.
    #[cfg(debug_assertions)]
    LevelProbe,
}
