//! The rows of a deployment: its route, and what a person left of a rollback. What may happen to them stands in
//! `routes` and in the commands of `rollout`; its versions and their shares are `arms`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use strum::Display;

use super::{
    arms::{Arm, Arms, Role},
    fences::SwitchEnd,
};
use crate::{
    model::{DeploymentId, Millis, NodeId, Pair, Period, RolloutId, Version, fields},
    state::{
        base::rows::{FencePoint, Meta},
        rollout::rows::RolloutPhase,
    },
};

/// Whether weights are drawn or one version is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
#[strum(serialize_all = "snake_case")]
pub enum RouteMode {
    /// By weights: direct, rolling, canary.
    Weighted,
    /// Blue-green: `active.` and `preview.` name the versions, TTL is short.
    Switch,
}

/// How versions share a deployment's traffic, apart from how much each has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteForm {
    /// Weighted or switch.
    pub mode: RouteMode,
    /// TTL of answers.
    pub ttl: Period,
}

impl RouteForm {
    /// By weights, with a TTL of five seconds.
    pub const WEIGHTED: Self = Self { mode: RouteMode::Weighted, ttl: Period::seconds(5) };
    /// One version at a time, with a TTL of one second.
    pub const SWITCH: Self = Self { mode: RouteMode::Switch, ttl: Period::seconds(1) };
}

/// What a rollout has before its plan says otherwise.
impl Default for RouteForm {
    fn default() -> Self {
        Self::WEIGHTED
    }
}

impl Route {
    /// Its mode and TTL.
    pub fn form(&self) -> RouteForm {
        RouteForm { mode: self.mode, ttl: self.ttl }
    }
}

fields! {
    /// How a deployment's arms share its traffic, apart from how much each has.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Route {
        /// (incarnation, index of the entry that set it): strictly rises (invariant 17).
        1 pub generation: FencePoint,
        /// Weighted or switch.
        2 [required] pub mode: RouteMode,
        /// TTL of answers.
        3 pub ttl: Period,
        /// Salt of sticky assignments; from the entry that made the route.
        4 pub salt: u64,
    }
}

fields! {
    /// A service in an environment.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Deployment {
        1 pub meta: Meta,
        2 [required] pub id: DeploymentId,
        /// Newest spec revision, from 1.
        3 pub spec: u64,
        4 pub arms: Arms,
        /// Its route; `None` until a version serves.
        5 pub route: Option<Route>,
        /// Desired instances of stable: chosen workers times `per_worker`, as committed with the last compiled steps.
        6 pub desired: u32,
        /// The rollout that owns it.
        7 pub live: Option<RolloutId>,
        /// The newest rollout that ended.
        8 pub last: Option<RolloutId>,
        /// Set while `abort --as-is` left two versions serving: until a later rollout has replaced both.
        9 pub as_is: Option<AsIs>,
        /// Cluster time since when it is being removed: everything of it drains and stops, then the row goes.
        10 pub removing: Option<Millis>,
        /// Set while it is stopped, and until a start has brought it back.
        11 pub stop: Option<Stop>,
    }
}

fields! {
    /// That a deployment is stopped, or was and is coming back.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Stop {
        /// Index of the entry that stopped it: addresses that it freed since then are kept for it.
        1 pub index: u64,
        /// Cluster time of that entry.
        2 pub since: Millis,
        /// Wall-clock milliseconds since the Unix epoch of that entry; for display only.
        3 pub wall: u64,
        /// The principal who asked for it.
        4 pub by: String,
        /// Whether it is being started again: the keeper brings back what it had.
        5 pub starting: bool,
    }
}

impl Deployment {
    /// Whether nothing of it is to run until somebody starts it.
    pub fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|s| !s.starting)
    }

    /// Whether it was stopped and is being started.
    pub fn is_starting(&self) -> bool {
        self.stop.as_ref().is_some_and(|s| s.starting)
    }

    /// Whether the keeper keeps up an arm's instances, outside of rollouts.
    pub fn holds(&self, arm: &Arm, now: Millis) -> bool {
        match arm.role {
            Role::Stable => true,
            Role::Candidate => false,
            Role::Previous => arm.retire_at.is_none_or(|at| at > now),
        }
    }

    /// Whether an arm serves beside stable, as an abort left it: with a share of the traffic, or with one to come back
    /// to.
    pub fn shares(&self, arm: &Arm) -> bool {
        match arm.role {
            Role::Previous => arm.weight.0 > 0 || self.as_is.is_some() && arm.retire_at.is_none(),
            Role::Stable | Role::Candidate => false,
        }
    }

    /// Whether a `Retire` leaves instances of a pair alone: what serves, going forward the candidate, and on an undo a
    /// previous version that waits for its time.
    pub fn stays(&self, phase: RolloutPhase, pair: &Pair) -> bool {
        self.arms.of(pair).is_some_and(|arm| match (arm.role, phase) {
            (Role::Stable, _) | (Role::Candidate, RolloutPhase::Forward) => true,
            (Role::Candidate, RolloutPhase::Undo) => false,
            (Role::Previous, RolloutPhase::Forward) => self.shares(arm),
            (Role::Previous, RolloutPhase::Undo) => arm.retire_at.is_some(),
        })
    }
}

fields! {
    /// A rollback that a person ended where it stood.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AsIs {
        /// The rollout that was ended.
        1 [required] pub rollout: RolloutId,
        /// The pair that it was going back to: the keeper adds none of it.
        2 [required] pub given_up: Pair,
    }
}

fields! {
    /// One rollback.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TrafficBack {
        /// The rollout that was turned back, or that is the return.
        1 [required] pub rollout: RolloutId,
        /// Whose traffic.
        2 [required] pub deployment: DeploymentId,
        3 [required] pub left: Version,
        /// Index of the entry that moved all of it.
        4 pub index: u64,
        /// Cluster time of that entry.
        5 pub at: Millis,
        /// TTL of answers that caches may hold.
        6 pub ttl: Period,
        /// Servers that a lease bound already: without their word, its end will do.
        7 pub bound: BTreeSet<NodeId>,
        /// For how long after a lease's end stale answers are given.
        8 pub stale: Period,
        /// What was seen, once there is something to say.
        9 pub end: Option<SwitchEnd>,
    }
}
