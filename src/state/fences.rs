//! Rows of the fenced switch: the lease's settings, which deployments are armed, and switches of several deployments at once.
//!
//! Invariants: a deployment is armed only while a live switch or a running `switch` step owns its arm; a server that left stays in the
//! fence set until a later entry has outlived its last possible lease; earlier, longer terms are waited for in the same way.
//! Deliberately not here: commands (`switches`), the law of one lease (`traffic::lease`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{NodeRole, RouteMode, State, differs};
use crate::{
    model::{DeploymentId, Millis, NodeId, Pair, Period, RolloutId, Version},
    traffic::lease::Terms,
};

/// Ended switches that are kept to be looked at.
pub(super) const KEPT: usize = 32;
/// What is added to a lease's end before a switch that was made gives up: commits and reports take time too.
const PATIENCE: Period = Period(2000);
/// How long a service that serves stale answers does so by default.
const STALE: Period = Period::minutes(60);

/// When leases bind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseMode {
    /// Only what is being switched, from an arm that servers confirm until the switch is over.
    #[default]
    Armed,
    /// Every service, at all times.
    Always,
}

/// What a server answers for a bound service when its lease is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnExpiry {
    /// SERVFAIL at once.
    Fail,
    /// The last view, marked as stale, for so long; then SERVFAIL.
    Stale {
        /// For how long.
        max: Period,
    },
}

impl OnExpiry {
    /// What a service does that says nothing: a switched one fails, a weighted one goes on for an hour.
    pub fn default_of(mode: RouteMode) -> Self {
        match mode {
            RouteMode::Switch => Self::Fail,
            RouteMode::Weighted => Self::Stale { max: STALE },
        }
    }

    /// How long after a lease's end old answers may still be given.
    pub fn stale(self) -> Period {
        match self {
            Self::Fail => Period(0),
            Self::Stale { max } => max,
        }
    }
}

/// Who armed a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArmOwner {
    /// The mode `always`.
    Cluster,
    /// A switch.
    Switch(u64),
    /// A rollout's step.
    Step(RolloutId, u32),
}

/// An entry from which on a lease binds, and the servers that are known to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// Index of the entry.
    pub index: u64,
    /// Cluster time of the entry.
    pub since: Millis,
    /// Who made it, and ends it.
    pub owner: ArmOwner,
    /// Servers that have served it. They know for ever: after a restart a server answers only when it has caught up.
    pub confirmed: BTreeSet<NodeId>,
}

/// What an acknowledgement of a switch means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitLevel {
    /// It is committed.
    Quorum,
    /// No server answers with the old version.
    Fenced,
    /// Nor does any cache that keeps to TTLs: they are lowered first, and waited for.
    Caches,
}

/// What happens when a server does not confirm the arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unfenced {
    /// The switch is made all the same, and says so.
    Proceed,
    /// Nothing is switched.
    TakeBack,
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwitchTo {
    /// This version, which each deployment has beside the stable one.
    Version(Version),
    /// What was stable before.
    Previous,
    /// Where an earlier switch came from.
    Back(u64),
}

/// `traffic switch`, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchAsk {
    /// Which; empty with `Back`.
    pub deployments: Vec<DeploymentId>,
    /// Where to.
    pub to: SwitchTo,
    /// What is waited for.
    pub wait: WaitLevel,
    /// What to do about a server that does not confirm.
    pub unfenced: Unfenced,
    /// How long to wait for servers to confirm that they know of the switch.
    pub within: Period,
}

/// One deployment of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchTarget {
    /// Which.
    pub deployment: DeploymentId,
    /// Its stable pair before.
    pub from: Pair,
    /// And after.
    pub to: Pair,
}

/// How one server stood to a switch at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerEnd {
    /// It serves the new state; cluster time of its word.
    Served(Millis),
    /// Its last possible lease was over.
    Expired,
    /// It may answer with the old version until its lease is over, which nobody waited for.
    Holds,
    /// It may answer with the old version: it is not known to know of the switch.
    Unbound,
}

/// How a switch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchEnd {
    /// Cluster time.
    pub at: Millis,
    /// Whether the traffic moved; otherwise it was taken back.
    pub switched: bool,
    /// Cluster time from which no server answers with the old version; `None`: that cannot be said.
    pub fenced_at: Option<Millis>,
    /// Each server, with what it is called.
    pub servers: Vec<(NodeId, String, ServerEnd)>,
    /// Cluster time from which no cache that keeps to TTLs has an old answer; `None`: that cannot be said.
    pub clear_at: Option<Millis>,
    /// Why it was taken back, or what could not be guaranteed.
    pub note: String,
}

/// A switch of several deployments in one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Index of the entry that asked for it.
    pub id: u64,
    /// Grows with every change.
    pub revision: u64,
    /// What moves.
    pub targets: Vec<SwitchTarget>,
    /// What is waited for.
    pub wait: WaitLevel,
    /// What to do about a server that does not confirm.
    pub unfenced: Unfenced,
    /// How long to wait for the servers' confirmation.
    pub within: Period,
    /// Cluster time at which it was asked for.
    pub asked_at: Millis,
    /// The switch that it takes back.
    pub undoes: Option<u64>,
    /// Largest TTL that caches may have held when it was asked for.
    pub ttl: Period,
    /// Cluster time at which every server was known to know of it.
    pub ready: Option<Millis>,
    /// The entry that moved the traffic, and its cluster time.
    pub moved: Option<(u64, Millis)>,
    /// Its end.
    pub end: Option<SwitchEnd>,
}

/// Everything of the fenced switch that is agreed on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fences {
    /// Grows with every change.
    pub revision: u64,
    /// When leases bind.
    pub mode: LeaseMode,
    /// How long leases are.
    pub terms: Terms,
    /// Earlier terms under which a lease may still be held, and the cluster time after which no new one was granted, once a later entry
    /// has fixed it.
    pub floor: Option<(Terms, Option<Millis>)>,
    /// Since when everything is bound, in mode `always`.
    pub always: Option<Arm>,
    /// Armed deployments.
    pub arms: BTreeMap<DeploymentId, Arm>,
    /// What bound services do when a lease is over, where it is not the default.
    pub on_expiry: BTreeMap<DeploymentId, OnExpiry>,
    /// Servers that left and may hold a lease; the time as with `floor`.
    pub left: BTreeMap<NodeId, Option<Millis>>,
    /// Switches: those under way, and the newest that ended.
    pub switches: BTreeMap<u64, Switch>,
}

impl Fences {
    /// The terms that a leader waits for: the larger of the present and of earlier ones that may still be in use.
    pub fn waited(&self) -> Terms {
        self.floor.map_or(self.terms, |(earlier, _)| self.terms.larger(earlier))
    }

    /// What a service does when a lease is over.
    pub fn policy(&self, deployment: &DeploymentId, mode: RouteMode) -> OnExpiry {
        self.on_expiry.get(deployment).copied().unwrap_or_else(|| OnExpiry::default_of(mode))
    }

    /// Whether and how a lease binds a deployment now.
    pub fn binds(&self, deployment: &DeploymentId, mode: RouteMode) -> Option<OnExpiry> {
        (self.mode == LeaseMode::Always || self.arms.contains_key(deployment)).then(|| self.policy(deployment, mode))
    }

    /// The switch under way that a deployment is part of.
    pub fn switching(&self, deployment: &DeploymentId) -> Option<&Switch> {
        self.open().find(|s| s.targets.iter().any(|t| &t.deployment == deployment))
    }

    /// Switches under way.
    pub fn open(&self) -> impl Iterator<Item = &Switch> {
        self.switches.values().filter(|s| s.end.is_none())
    }

    /// When a moved switch gives up waiting for leases: after one of this leader, and one that another presumes who takes over.
    pub fn gives_up(&self, moved: Millis) -> Millis {
        let bound = self.waited().bound();
        moved.plus(bound).plus(bound).plus(bound).plus(PATIENCE)
    }

    /// Something a later entry has to settle.
    pub fn unsettled(&self) -> bool {
        self.floor.is_some() || !self.left.is_empty()
    }
}

/// The servers that a fence is about: every node that is not removed, and those that were and may hold a lease.
pub fn fence_set(state: &State) -> Vec<NodeId> {
    let rows = state.nodes.values().filter(|n| n.role != NodeRole::Removed).map(|n| n.id);
    let all: BTreeSet<NodeId> = rows.chain(state.fences.left.keys().copied()).collect();
    all.into_iter().collect()
}

/// Whether a server's view is known to bind it under this arm, with what it was heard to serve. A node admitted after the arm answers
/// only once it has caught up with its own admission. One that was removed answers for nobody any more; only its lease counts.
pub fn knows(state: &State, arm: &Arm, node: NodeId, served: u64) -> bool {
    let removed = state.fences.left.contains_key(&node);
    let later = state.nodes.get(&node).is_some_and(|n| n.meta.created_index > arm.index);
    removed || later || served >= arm.index || arm.confirmed.contains(&node)
}

/// Whether a server is bound for a deployment. Of one whose State differs from the majority's nobody knows what it knows.
pub fn bound(state: &State, deployment: &DeploymentId, node: NodeId, served: u64) -> bool {
    let f = &state.fences;
    let mut arms = f.arms.get(deployment).into_iter().chain(&f.always);
    !differs(state, node) && arms.any(|arm| knows(state, arm, node, served))
}
