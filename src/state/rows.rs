//! The tables' rows. Every noun carries [`Meta`]. Rollouts have a file of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::model::{
    BuildInfo, ClusterId, DeploymentId, Digest, Health, InstanceId, Life, Millis, Name, NodeId, OnNoData, Pair, Period,
    RolloutId, StepId, Strategy, Version, WorkerName,
};

/// What every noun carries from the first day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Grows by one at each change of the row; commands name the one they saw.
    pub revision: u64,
    /// Log index of the entry that made the row.
    pub created_index: u64,
    /// Log index of the entry that changed it last.
    pub updated_index: u64,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
}

/// A fence: restored backups take the next incarnation, so `(incarnation, n)` never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FencePoint {
    /// The cluster's incarnation when it was set.
    pub incarnation: u64,
    /// Log index or counter within it.
    pub n: u64,
}

/// The one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Row data.
    pub meta: Meta,
    /// Its id, made by `init`.
    pub id: ClusterId,
    /// Its name for people.
    pub name: String,
    /// DNS zone, absolute, lower case, without the final dot: `slipway.internal`.
    pub zone: String,
    /// The next node id to give out.
    pub next_node_id: NodeId,
    /// Replicated settings.
    pub settings: Settings,
}

/// Replicated times and bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How long a new leader waits for observations before it reads Unknown as Silent.
    pub term_grace: Period,
    /// Silence at every node after which a worker is lost.
    pub lost_after: Period,
    /// Time after its last report at which a lost worker's instances leave DNS.
    pub dns_out_after: Period,
    /// Silence after which a DNS server counts as silent in a drain.
    pub node_silent_after: Period,
    /// How long an aborted rollout's candidates are kept to look at.
    pub abort_keep: Period,
    /// Silence after which a DNS server holds back no freed address any more.
    pub silent_for_good: Period,
    /// Counts per kind of object.
    pub limits: Limits,
}

/// Bounds on what State holds. They leave room above what one cluster is measured at (1,000 services, 10,000 workers, 100,000
/// instances, and a minute of over a thousand client requests a second), and keep State from growing without end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Services.
    pub services: u32,
    /// Environments.
    pub environments: u32,
    /// Deployments.
    pub deployments: u32,
    /// Releases of one service.
    pub releases_per_service: u32,
    /// Workers.
    pub workers: u32,
    /// Instances of one deployment.
    pub instances_per_deployment: u32,
    /// Terminal rollouts kept per deployment.
    pub history_per_deployment: u32,
    /// Requests remembered for retries; a tenth of them for verbs that stop or turn something.
    pub requests: u32,
    /// Undelivered outbox rows.
    pub outbox: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            term_grace: Period::seconds(5),
            lost_after: Period::seconds(10),
            dns_out_after: Period::seconds(15),
            node_silent_after: Period::seconds(10),
            abort_keep: Period::minutes(60),
            silent_for_good: Period::minutes(10),
            limits: Limits {
                services: 10_000,
                environments: 100,
                deployments: 20_000,
                releases_per_service: 500,
                workers: 20_000,
                instances_per_deployment: 5000,
                history_per_deployment: 50,
                requests: 100_000,
                outbox: 10_000,
            },
        }
    }
}

/// A node's place in the cluster. Only moves as the table in `state::lifecycle` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeRole {
    /// Admitted, not yet in the membership.
    Joining,
    /// Receives the log, does not vote.
    Learner,
    /// Votes.
    Voter,
    /// Being removed.
    Leaving,
    /// Gone for ever; its id is never used again.
    Removed,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Row data.
    pub meta: Meta,
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where peers reach it, `host:port`.
    pub peer_addr: String,
    /// Where clients and agents reach it, `host:port`.
    pub client_addr: String,
    /// Where its DNS listens, `ip:port`.
    pub dns_addr: String,
    /// Highest feature level its program supports.
    pub level: u32,
    /// Its role.
    pub role: NodeRole,
    /// Cluster time since when its DNS view has not been heard of; `None` while heard.
    pub silent_since: Option<Millis>,
    /// Highest index its DNS view was committed to have served (by `DrainSettled`); frees addresses for other deployments.
    pub served: u64,
    /// Version of its program; empty until it says so itself.
    pub version: String,
    /// Lowest feature level its program supports; 1 until it says so itself.
    pub min_level: u32,
    /// Whether an operator takes it out for maintenance: it does not lead.
    pub drained: bool,
}

/// A stage and DNS namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Row data.
    pub meta: Meta,
    /// Its name.
    pub name: Name,
    /// Strategy of rollouts that name none.
    pub default_strategy: Strategy,
    /// Place in the order of promotion, from 0.
    pub order: u32,
    /// What the end of a bake without data does in rollouts that do not say.
    pub on_no_data: OnNoData,
}

/// What is versioned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Row data.
    pub meta: Meta,
    /// Its name.
    pub name: Name,
}

/// A package: which nodes hold it durably.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Row data.
    pub meta: Meta,
    /// Size in bytes.
    pub size: u64,
    /// Nodes that have it fsynced, ascending.
    pub holders: Vec<NodeId>,
}

/// A release's status (FEATURES V1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseStatus {
    /// Registered, nothing runs it.
    Loading,
    /// Stable somewhere.
    Active,
    /// Candidate somewhere.
    Canary,
    /// Was stable; superseded.
    Deprecated,
    /// A rollout of it failed.
    Failed,
    /// Taken out of use.
    Retired,
}

/// A release of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Row data.
    pub meta: Meta,
    /// Whose release.
    pub service: Name,
    /// Its version.
    pub version: Version,
    /// Digest of its archive.
    pub digest: Digest,
    /// Size of its archive in bytes.
    pub size: u64,
    /// What the builder said.
    pub build: BuildInfo,
    /// Where it stands.
    pub status: ReleaseStatus,
}

/// Where a drain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainState {
    /// Index of the entry that began it: every DNS server must have served a view at or past it.
    pub index: u64,
    /// Cluster time of that entry.
    pub since: Millis,
    /// Cluster time from which it may be stopped; `None` until settled.
    pub clear_at: Option<Millis>,
}

/// One running copy of a pair on a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Row data.
    pub meta: Meta,
    /// Its id.
    pub id: InstanceId,
    /// Whose instance.
    pub deployment: DeploymentId,
    /// What it runs.
    pub pair: Pair,
    /// Where.
    pub worker: WorkerName,
    /// IP address, as text.
    pub address: String,
    /// Ports by name; shared by what was made alike.
    pub ports: Arc<BTreeMap<String, u16>>,
    /// The rollout that made it; `None`: the keeper.
    pub made_by: Option<RolloutId>,
    /// The one it replaced at its address (in place).
    pub replaces: Option<InstanceId>,
    /// Its drain, while draining or stopping.
    pub drain: Option<DrainState>,
    /// When it failed; `None` until it does. A pause before the next try is measured from here.
    pub failed_at: Option<Millis>,
    /// Restarts its agent counted.
    pub restarts: u32,
    /// Exit status or signal text of its last end, as its agent said.
    pub exit: Option<String>,
    /// Its life.
    pub life: Life,
    /// Its committed health.
    pub health: Health,
    /// Failed checks in a row.
    pub failures: u32,
    /// Whether it ever passed.
    pub passed_once: bool,
    /// Index of the entry that set `health`, for readers that wait on it.
    pub health_index: u64,
    /// When it was counted out, as its worker is lost for good: it is neither capacity nor there, and DNS names it only when nothing
    /// else is left. `None` again when the worker returns.
    pub counted_out: Option<Millis>,
}

impl Instance {
    /// Healthy, undrained, on a worker that is not counted out: what DNS may name.
    pub fn serves(&self) -> bool {
        self.life == Life::Running && self.health == Health::Passing
    }
}

/// Whether a worker is heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// Some node holds its session, or lost it less than `lost_after` ago.
    Ready,
    /// Silent at every node.
    Lost,
}

/// A pool address's use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolSlot {
    /// In use by an instance.
    Used(InstanceId),
    /// Free. The deployment that had it last may take it at once; another one only when every DNS server has served `since`.
    Free {
        /// Index of the entry that freed it; 0 when never used.
        since: u64,
        /// Who had it last.
        last: Option<DeploymentId>,
    },
}

/// A machine running the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Row data; labels are the worker's own and are what selectors read.
    pub meta: Meta,
    /// Its name.
    pub name: WorkerName,
    /// Its ed25519 public key, 64 hexadecimal digits.
    pub key: String,
    /// Instances it takes at most.
    pub capacity: u32,
    /// The agent's version.
    pub build: String,
    /// The machine's own address, for mode `host`.
    pub host: String,
    /// Addresses of mode `pool`, with their use, in allocation order by (since, address).
    pub pool: Arc<BTreeMap<String, PoolSlot>>,
    /// Addresses of its configuration that its machine does not have: not offered, so not in the pool unless one is still in use.
    pub absent: Vec<String>,
    /// Addresses in `pool` that its agent no longer offers: each goes with the instance that uses it.
    pub withdrawn: BTreeSet<String>,
    /// How the processes of an instance are kept together there, as its agent says.
    pub keeping: String,
    /// Heard of or lost.
    pub presence: Presence,
    /// Cluster time at which it registered last: a sign of life, before its first report.
    pub registered_at: Millis,
    /// Cluster time of its last report when it was declared lost.
    pub lost_at: Option<Millis>,
    /// Generation of the whole set of assignments: absence means remove.
    pub set_generation: u64,
    /// Digests its agent says are unpacked.
    pub staged: Vec<Digest>,
    /// Newest report applied: (agent epoch, sequence).
    pub report: (u64, u64),
}

/// How far an assignment may go. Only rises within a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Permit {
    /// Fetch, verify, unpack.
    Stage,
    /// Run the entries, new ones on probation.
    Activate,
    /// Probation is over.
    Commit,
}

/// How far an agent got with a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reached {
    /// Journalled.
    Accepted,
    /// Everything in `hold` is unpacked.
    Staged,
    /// Entries run as wanted.
    Active,
    /// Probation is over.
    Committed,
    /// An instance could not run; why.
    Failed(String),
    /// Packages of `hold` cannot be had.
    Refused {
        /// Which.
        packages: Vec<Digest>,
        /// Why not the first of them.
        detail: String,
    },
}

/// One instance entry of an assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The instance.
    pub id: InstanceId,
    /// What it runs.
    pub pair: Pair,
    /// Its address.
    pub address: String,
    /// Its ports.
    pub ports: Arc<BTreeMap<String, u16>>,
    /// The instance it takes the place of (in place only).
    pub replaces: Option<InstanceId>,
}

/// What a worker is to hold and run for a deployment; its digest is what the agent compares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentContent {
    /// Digests to have unpacked, ascending.
    pub hold: Vec<Digest>,
    /// Instances to run, by id.
    pub instances: Vec<Entry>,
    /// For people and backups: what `current` names.
    pub current: Option<Pair>,
    /// For people and backups: what `previous` names.
    pub previous: Option<Pair>,
}

/// What one worker is to do for one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Row data.
    pub meta: Meta,
    /// Rises with every change of the content.
    pub generation: u64,
    /// crc32c of the encoded content, as the agent is told: the same generation with another digest is refused.
    pub content_digest: u32,
    /// How far it may go.
    pub permit: Permit,
    /// Generation the agent reported last, and how far it got.
    pub reached: Option<(u64, Reached)>,
    /// The content.
    pub content: AssignmentContent,
    /// Running step whose counts are wanted, with the deployment's pairs.
    pub mark: Option<StepId>,
}

/// (log index, ordinal): the idempotency key of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeliveryKey {
    /// Index of the entry that made it.
    pub index: u64,
    /// Place in that entry.
    pub ordinal: u32,
}

/// A delivery the leader owes: at least once, keyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Row data.
    pub meta: Meta,
    /// GET this path on every one of these targets; all must answer 2xx.
    pub path: String,
    /// `ip:port` of each candidate instance.
    pub targets: Vec<String>,
    /// The step that owns it.
    pub rollout: RolloutId,
    /// Place of the step in its list.
    pub step: u32,
    /// Which attempt of the step.
    pub attempt: u32,
    /// Cluster time after which it counts as failed.
    pub expires: Millis,
}

/// A client request that took effect or was refused: the first result answers every repeat (invariant 4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// crc32c of the encoded body: the same id with another body is refused.
    pub body_digest: u32,
    /// Index of the entry that settled it.
    pub index: u64,
    /// The refusal, if it was refused.
    pub rejection: Option<super::Rejection>,
    /// Cluster time until which it is remembered.
    pub not_after: Millis,
}
