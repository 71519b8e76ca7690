//! The rows of a deployment: its tracks, its route, and what a person left of a way back. What may happen to them stands in `routes`,
//! `steps` and `keeper`.

use serde::{Deserialize, Serialize};

use super::{FencePoint, Meta, RolloutPhase, State};
use crate::model::{BasisPoints, DeploymentId, Millis, Pair, Period, RolloutId};

/// The three tracks of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TrackName {
    /// What everyone gets between rollouts.
    Stable,
    /// What is being rolled out.
    Candidate,
    /// What was stable before.
    Previous,
}

/// One track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// What it runs.
    pub pair: Pair,
    /// Instances wanted on it now.
    pub want: u32,
    /// Cluster time at which the keeper retires it.
    pub retire_at: Option<Millis>,
}

/// All tracks of a deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracks {
    /// Stable.
    pub stable: Option<Track>,
    /// Candidate.
    pub candidate: Option<Track>,
    /// Previous.
    pub previous: Option<Track>,
}

impl Tracks {
    /// A track by name.
    pub fn get(&self, name: TrackName) -> Option<&Track> {
        match name {
            TrackName::Stable => self.stable.as_ref(),
            TrackName::Candidate => self.candidate.as_ref(),
            TrackName::Previous => self.previous.as_ref(),
        }
    }

    /// The tracks that exist.
    pub fn iter(&self) -> impl Iterator<Item = (TrackName, &Track)> {
        [TrackName::Stable, TrackName::Candidate, TrackName::Previous]
            .into_iter()
            .filter_map(|n| Some((n, self.get(n)?)))
    }
}

/// Whether weights are drawn or one version is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteMode {
    /// By weights: direct, rolling, canary.
    Weighted,
    /// Blue-green: `active.` and `preview.` name the tracks, TTL is short.
    Switch,
}

/// Weights by track; they sum to exactly 10,000 (invariant 2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteWeights {
    /// Stable's share.
    pub stable: BasisPoints,
    /// Candidate's share.
    pub candidate: BasisPoints,
    /// Previous's share (only while it shares traffic; normally 0).
    pub previous: BasisPoints,
}

impl RouteWeights {
    /// A track's share.
    pub fn get(&self, name: TrackName) -> BasisPoints {
        match name {
            TrackName::Stable => self.stable,
            TrackName::Candidate => self.candidate,
            TrackName::Previous => self.previous,
        }
    }

    /// The sum, 10,000 in every applied state.
    pub fn sum(&self) -> u32 {
        self.stable.0.saturating_add(self.candidate.0).saturating_add(self.previous.0)
    }
}

/// Who gets which track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// (incarnation, index of the entry that set it): strictly rises (invariant 17).
    pub generation: FencePoint,
    /// Weighted or switch.
    pub mode: RouteMode,
    /// Weights by track.
    pub weights: RouteWeights,
    /// Largest weight the candidate may have in the present step (invariant 10).
    pub cap: BasisPoints,
    /// TTL of answers.
    pub ttl: Period,
    /// Salt of sticky assignments; from the entry that made the route.
    pub salt: u64,
}

/// A service in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Row data.
    pub meta: Meta,
    /// Its id.
    pub id: DeploymentId,
    /// Newest spec revision, from 1.
    pub spec: u64,
    /// Its tracks.
    pub tracks: Tracks,
    /// Its route; `None` until a version serves.
    pub route: Option<Route>,
    /// Desired instances of stable: chosen workers times `per_worker`, as committed with the last compiled steps.
    pub desired: u32,
    /// The rollout that owns it.
    pub live: Option<RolloutId>,
    /// The newest rollout that ended.
    pub last: Option<RolloutId>,
    /// Set while `abort --as-is` left two versions serving: until a later rollout has replaced both.
    pub as_is: Option<AsIs>,
}

impl Deployment {
    /// Whether a previous track serves beside stable, as an abort left it: with a share of the traffic, or with one to come back to.
    pub fn shares(&self, previous: &Track) -> bool {
        let weight = self.route.as_ref().map_or(BasisPoints(0), |r| r.weights.previous);
        weight.0 > 0 || self.as_is.is_some() && previous.retire_at.is_none()
    }

    /// Instances that must go on serving while what an abort left makes room for stable: one may be missing, or what stable's spec allows.
    pub fn floor(&self, s: &State, desired: u32) -> u32 {
        let spec = self.tracks.stable.as_ref().and_then(|t| s.spec(&self.id, t.pair.spec));
        desired.saturating_sub(spec.map_or(1, |x| x.rollout.max_unavailable.max(1)))
    }

    /// Whether a `Retire` leaves instances of a pair alone: what serves, going forward the candidate, and on an undo a previous version that
    /// waits for its time.
    pub fn stays(&self, phase: RolloutPhase, pair: &Pair) -> bool {
        let is = |t: &Option<Track>| t.as_ref().is_some_and(|t| &t.pair == pair);
        let previous =
            |f: &dyn Fn(&Track) -> bool| self.tracks.previous.as_ref().is_some_and(|t| &t.pair == pair && f(t));
        is(&self.tracks.stable)
            || match phase {
                RolloutPhase::Forward => is(&self.tracks.candidate) || previous(&|t| self.shares(t)),
                RolloutPhase::Undo => previous(&|t| t.retire_at.is_some()),
            }
    }
}

/// A way back that a person ended where it stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsIs {
    /// The rollout that was ended.
    pub rollout: RolloutId,
    /// The pair that it was going back to: the keeper adds none of it.
    pub given_up: Pair,
}
