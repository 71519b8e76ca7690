//! Rows of the fenced switch: the lease's settings, which deployments are armed, and switches of several deployments at
//! once.
//!
//! Invariants: a deployment is armed only while a live switch or a running `switch` step owns its arming; a server that
//! left stays in the fence set until a later entry has outlived its last possible lease; earlier, longer terms are
//! waited for in the same way. Deliberately not here: the commands and what they share (`switches`), the law of one
//! lease (`traffic::lease`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::rows::RouteMode;
use crate::{
    model::{DeploymentId, Millis, NodeId, Pair, Period, RolloutId, Version, fields},
    traffic::lease::Terms,
};

/// Ended switches that are kept to be looked at.
pub(in crate::state) const KEPT: usize = 32;

/// What is added to a lease's end before a switch that was made gives up: commits and reports take time too.
const PATIENCE: Period = Period(2000);

/// How long a service that serves stale answers does so by default.
const STALE: Period = Period::minutes(60);

/// When leases bind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::EnumString, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum LeaseMode {
    /// Only what is being switched, from an arming that servers confirm until the switch is over.
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
pub enum ArmedBy {
    /// The mode `always`.
    Cluster,
    Switch(u64),
    /// A rollout's step.
    Step(RolloutId, u32),
}

fields! {
    /// An entry from which on a lease binds, and the servers that are known to know it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Arming {
        /// Index of the entry.
        1 pub index: u64,
        /// Cluster time of the entry.
        2 pub since: Millis,
        /// Who made it, and ends it.
        3 [required] pub owner: ArmedBy,
        /// Servers that have served it. They know for ever: after a restart a server answers only when it has caught
        /// up.
        4 pub confirmed: BTreeSet<NodeId>,
    }
}

/// What an acknowledgement of a switch means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::EnumString, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum WaitLevel {
    /// It is committed.
    Quorum,
    /// No server answers with the old version.
    Fenced,
    /// Nor does any cache that keeps to TTLs: they are lowered first, and waited for.
    Caches,
}

/// What happens when a server does not confirm the arming.
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

fields! {
    /// `traffic switch`, as it was asked for.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SwitchAsk {
        /// Which; empty with `Back`.
        1 pub deployments: Vec<DeploymentId>,
        2 [required] pub to: SwitchTo,
        3 [required] pub wait: WaitLevel,
        /// What to do about a server that does not confirm.
        4 [required] pub unfenced: Unfenced,
        /// How long to wait for servers to confirm that they know of the switch.
        5 pub within: Period,
    }
}

fields! {
    /// One deployment of a switch.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SwitchTarget {
        1 [required] pub deployment: DeploymentId,
        /// Its stable pair before.
        2 [required] pub from: Pair,
        /// And after.
        3 [required] pub to: Pair,
    }
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

fields! {
    /// How a switch ended.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SwitchEnd {
        /// Cluster time.
        1 pub at: Millis,
        /// Whether the traffic moved; otherwise it was taken back.
        2 pub switched: bool,
        /// Cluster time from which no server answers with the old version; `None`: that cannot be said.
        3 pub fenced_at: Option<Millis>,
        /// Each server, with what it is called.
        4 pub servers: Vec<(NodeId, String, ServerEnd)>,
        /// Cluster time from which no cache that keeps to TTLs has an old answer; `None`: that cannot be said.
        5 pub clear_at: Option<Millis>,
        /// Why it was taken back, or what could not be guaranteed.
        6 pub note: String,
    }
}

fields! {
    /// A switch of several deployments in one entry.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Switch {
        /// Index of the entry that asked for it.
        1 pub id: u64,
        /// Grows with every change.
        2 pub revision: u64,
        /// What moves.
        3 pub targets: Vec<SwitchTarget>,
        4 [required] pub wait: WaitLevel,
        /// What to do about a server that does not confirm.
        5 [required] pub unfenced: Unfenced,
        /// How long to wait for the servers' confirmation.
        6 pub within: Period,
        /// Cluster time at which it was asked for.
        7 pub asked_at: Millis,
        /// The switch that it takes back.
        8 pub undoes: Option<u64>,
        /// Largest TTL that caches may have held when it was asked for.
        9 pub ttl: Period,
        /// Cluster time at which every server was known to know of it.
        10 pub ready: Option<Millis>,
        /// The entry that moved the traffic, and its cluster time.
        11 pub moved: Option<(u64, Millis)>,
        12 pub end: Option<SwitchEnd>,
    }
}

fields! {
    /// Everything of the fenced switch that is agreed on.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct Fences {
        /// Grows with every change.
        1 pub revision: u64,
        /// When leases bind.
        2 [required] pub mode: LeaseMode,
        /// How long leases are.
        3 [required] pub terms: Terms,
        /// Earlier terms under which a lease may still be held, and the cluster time after which no new one was
        /// granted, once a later entry has fixed it.
        4 pub floor: Option<(Terms, Option<Millis>)>,
        /// Since when everything is bound, in mode `always`.
        5 pub always: Option<Arming>,
        6 pub armed: BTreeMap<DeploymentId, Arming>,
        /// What bound services do when a lease is over, where it is not the default.
        7 pub on_expiry: BTreeMap<DeploymentId, OnExpiry>,
        /// Servers that left and may hold a lease; the time as with `floor`.
        8 pub left: BTreeMap<NodeId, Option<Millis>>,
        /// Switches: those under way, and the newest that ended.
        9 pub switches: BTreeMap<u64, Switch>,
    }
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
        (self.mode == LeaseMode::Always || self.armed.contains_key(deployment)).then(|| self.policy(deployment, mode))
    }

    /// The switch under way that a deployment is part of.
    pub fn switching(&self, deployment: &DeploymentId) -> Option<&Switch> {
        self.open().find(|s| s.targets.iter().any(|t| &t.deployment == deployment))
    }

    /// Switches under way.
    pub fn open(&self) -> impl Iterator<Item = &Switch> {
        self.switches.values().filter(|s| s.end.is_none())
    }

    /// When a moved switch gives up waiting for leases: after one of this leader, and one that another presumes who
    /// takes over.
    pub fn gives_up(&self, moved: Millis) -> Millis {
        let bound = self.waited().bound();
        moved.plus(bound).plus(bound).plus(bound).plus(PATIENCE)
    }

    /// Something a later entry has to settle.
    pub fn unsettled(&self) -> bool {
        self.floor.is_some() || !self.left.is_empty()
    }
}
