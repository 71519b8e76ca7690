//! The rows of the fleet: workers, instances, what each worker is to hold and run, and what workers report of
//! themselves.
//!
//! Not here: who edits them (`assign`, `drain`, and the commands' own files).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        DeploymentId, Digest, Health, InstanceId, Life, Millis, Pair, Permit, RolloutId, StepId, WorkerName, fields,
    },
    state::base::rows::Meta,
};

/// Whether a worker is heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[strum(serialize_all = "snake_case")]
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
    /// Free. The deployment that had it last may take it at once; another one only when every DNS server has served
    /// `since`.
    Free {
        /// Index of the entry that freed it; 0 when never used.
        since: u64,
        last: Option<DeploymentId>,
    },
}

fields! {
    /// A machine running the agent.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Worker {
        /// Row data; labels are the worker's own and are what selectors read.
        1 pub meta: Meta,
        2 [required] pub name: WorkerName,
        /// Its ed25519 public key, 64 hexadecimal digits.
        3 pub key: String,
        /// Instances it takes at most.
        4 pub capacity: u32,
        /// The agent's version.
        5 pub build: String,
        /// The machine's own address, for mode `host`.
        6 pub host: String,
        /// Addresses of mode `pool`, with their use, in allocation order by (since, address).
        7 [required] pub pool: Arc<BTreeMap<String, PoolSlot>>,
        /// Addresses of its configuration that its machine does not have: not offered, so not in the pool unless one is
        /// still in use.
        8 pub absent: Vec<String>,
        /// Addresses in `pool` that its agent no longer offers: each goes with the instance that uses it.
        9 pub withdrawn: BTreeSet<String>,
        /// How the processes of an instance are kept together there, as its agent says.
        10 pub keeping: String,
        /// Heard of or lost.
        11 [required] pub presence: Presence,
        /// Cluster time at which it registered last: a sign of life, before its first report.
        12 pub registered_at: Millis,
        /// Cluster time of its last report when it was declared lost.
        13 pub lost_at: Option<Millis>,
        /// Generation of the whole set of assignments: absence means remove.
        14 pub set_generation: u64,
        /// Digests its agent says are unpacked.
        15 pub staged: Vec<Digest>,
        /// Newest report applied: (agent epoch, sequence).
        16 [required] pub report: (u64, u64),
        /// Until when a registration may bring another key, while it is lost.
        17 pub rekey_until: Option<Millis>,
    }
}

fields! {
    /// Where a drain stands.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct DrainState {
        /// Index of the entry that began it: every DNS server must have served a view at or past it.
        1 pub index: u64,
        /// Cluster time of that entry.
        2 pub since: Millis,
        /// Cluster time from which it may be stopped; `None` until settled.
        3 pub clear_at: Option<Millis>,
    }
}

fields! {
    /// One running copy of a pair on a worker.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Instance {
        1 pub meta: Meta,
        2 [required] pub id: InstanceId,
        /// Whose instance.
        3 [required] pub deployment: DeploymentId,
        /// What it runs.
        4 [required] pub pair: Pair,
        5 [required] pub worker: WorkerName,
        /// IP address, as text.
        6 pub address: String,
        /// Ports by name; shared by what was made alike.
        7 [required] pub ports: Arc<BTreeMap<String, u16>>,
        /// The rollout that made it; `None`: the keeper.
        8 pub made_by: Option<RolloutId>,
        /// The one it replaced at its address (in place).
        9 pub replaces: Option<InstanceId>,
        /// Its drain, while draining or stopping.
        10 pub drain: Option<DrainState>,
        /// When it failed; `None` until it does. A pause before the next try is measured from here.
        11 pub failed_at: Option<Millis>,
        /// Restarts its agent counted.
        12 pub restarts: u32,
        /// Exit status or signal text of its last end, as its agent said.
        13 pub exit: Option<String>,
        14 [required] pub life: Life,
        /// Its committed health.
        15 [required] pub health: Health,
        /// Failed checks in a row.
        16 pub failures: u32,
        /// Whether it ever passed.
        17 pub passed_once: bool,
        /// When it was counted out, as its worker is lost for good: it is neither capacity nor there, and DNS names it
        /// only when nothing else is left. `None` again when the worker returns.
        18 pub counted_out: Option<Millis>,
    }
}

impl Instance {
    /// Healthy, undrained, on a worker that is not counted out: what DNS may name.
    pub fn serves(&self) -> bool {
        self.life == Life::Running && self.health == Health::Passing
    }
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
        packages: Vec<Digest>,
        /// Why not the first of them.
        detail: String,
    },
}

/// What an agent found when it looked whether its machine has what a pair asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fit {
    Fits,
    /// It lacks something; what, in the words that a start would fail with.
    Lacks(String),
}

fields! {
    /// What a worker said of the next pair.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Look {
        1 pub generation: u64,
        2 [required] pub fit: Fit,
        /// Cluster time since when it lacks something, or fits.
        3 pub since: Millis,
    }
}

fields! {
    /// One instance entry of an assignment.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Entry {
        1 [required] pub id: InstanceId,
        /// What it runs.
        2 [required] pub pair: Pair,
        3 pub address: String,
        4 [required] pub ports: Arc<BTreeMap<String, u16>>,
        /// The instance it takes the place of (in place only).
        5 pub replaces: Option<InstanceId>,
    }
}

fields! {
    /// What a worker is to hold and run for a deployment; its digest is what the agent compares.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct AssignmentContent {
        /// Digests to have unpacked, ascending.
        1 pub hold: Vec<Digest>,
        /// Instances to run, by id.
        2 pub instances: Vec<Entry>,
        /// For people and backups: what `current` names.
        3 pub current: Option<Pair>,
        /// For people and backups: what `previous` names.
        4 pub previous: Option<Pair>,
        /// Pair that a rollout is to run here and that has no instance here yet: the agent looks whether the machine
        /// has what it asks for.
        5 pub next: Option<Pair>,
    }
}

fields! {
    /// What one worker is to do for one deployment.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Assignment {
        1 pub meta: Meta,
        /// Rises with every change of the content.
        2 pub generation: u64,
        /// crc32c of the encoded content, as the agent is told: the same generation with another digest is refused.
        3 pub content_digest: u32,
        /// How far it may go.
        4 [required] pub permit: Permit,
        /// Generation the agent reported last, and how far it got.
        5 pub reached: Option<(u64, Reached)>,
        6 [required] pub content: AssignmentContent,
        /// Running step whose counts are wanted, with the deployment's pairs.
        7 pub mark: Option<StepId>,
        /// What the agent said of the next pair last.
        8 pub look: Option<Look>,
    }
}

impl Assignment {
    /// What is known of the next pair in the present generation; `None`: the agent has not said.
    pub fn looked(&self) -> Option<&Look> {
        self.look.as_ref().filter(|l| l.generation == self.generation)
    }

    /// Whether the machine is known to have what the next pair asks for, if there is one.
    pub fn fits(&self) -> bool {
        self.content.next.is_none() || self.looked().is_some_and(|l| l.fit == Fit::Fits)
    }
}

fields! {
    /// What a worker's agent says of one instance.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct InstanceFact {
        1 [required] pub id: InstanceId,
        /// `Starting`, `Running`, `Gone` or `Failed`; the others are State's own and are never reported.
        2 [required] pub life: Life,
        /// After the agent's hysteresis.
        3 [required] pub health: Health,
        /// Failed checks in a row.
        4 pub failures: u32,
        /// Restarts so far.
        5 pub restarts: u32,
        /// How it ended, if it did.
        6 pub exit: Option<String>,
    }
}

fields! {
    /// How far a worker's agent got with one deployment.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ReachedFact {
        1 [required] pub deployment: DeploymentId,
        2 pub generation: u64,
        /// How far.
        3 [required] pub reached: Reached,
        /// What it found of the generation's next pair; `None`: there is none, or it has not looked yet.
        4 pub fit: Option<Fit>,
    }
}

fields! {
    /// Committed part of one worker's report.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct WorkerFacts {
        1 [required] pub worker: WorkerName,
        /// Agent's epoch: one more at each of its starts.
        2 pub epoch: u64,
        /// Report's number within the epoch.
        3 pub seq: u64,
        /// Only what differs from State.
        4 pub instances: Vec<InstanceFact>,
        /// Only what differs from State.
        5 pub reached: Vec<ReachedFact>,
        /// Digests unpacked on the worker, ascending, when they differ from State.
        6 pub staged: Option<Vec<Digest>>,
    }
}
