//! Weights by capacity: each version's share of the passing instances.
//!
//! Invariants: where the others' shares fall they keep their parts; where they rise, they rise as far as the passing
//! instances of each carry, and what nobody carries stays with the candidate; in a rollback only the version gone back
//! to gets more. Not here: whether the law takes them (`state::rollout`).

use super::prelude::*;

/// Shares are rounded down; the law allows for what that leaves over.
const ROUNDING: u32 = 2;

/// The weights as they stand.
pub(super) fn present(view: &View<'_>) -> RouteWeights {
    view.deployment.route.as_ref().map_or(RouteWeights { stable: WHOLE, ..RouteWeights::default() }, |r| r.weights)
}

/// The candidate's share; the others keep their parts of the rest.
pub(super) fn with_candidate(view: &View<'_>, candidate: BasisPoints) -> RouteWeights {
    let had = present(view);
    let rest = WHOLE.0.saturating_sub(candidate.0);
    let base = u64::from(had.stable.0.saturating_add(had.previous.0));
    let stable = match u64::from(rest).saturating_mul(u64::from(had.stable.0)).checked_div(base) {
        Some(part) => u32::try_from(part).unwrap_or(rest).min(rest),
        None => rest,
    };
    RouteWeights { stable: BasisPoints(stable), candidate, previous: BasisPoints(rest - stable) }
}

/// The candidate's share by what passes of each version without `leaving`.
pub(super) fn by_capacity(
    view: &View<'_>,
    r: &Rollout,
    candidate: BasisPoints,
    leaving: &[InstanceId],
) -> RouteWeights {
    let had = present(view);
    let rest = WHOLE.0.saturating_sub(candidate.0);
    let extra = rest.saturating_sub(had.stable.0.saturating_add(had.previous.0));
    if extra == 0 {
        return with_candidate(view, candidate);
    }
    let passing = |name| {
        let pair = view.deployment.tracks.get(name).map(|t| &t.pair);
        let mine = |i: &&&crate::state::Instance| Some(&i.pair) == pair && view.passes(i) && !leaving.contains(&i.id);
        count(view.instances.iter().filter(mine))
    };
    let (stable, previous) = (passing(TrackName::Stable), passing(TrackName::Previous));
    let all = passing(TrackName::Candidate).saturating_add(stable).saturating_add(previous);
    // How much more a version may get.
    let room = |passes: u32, had: BasisPoints| {
        let of = |all: u32| BasisPoints::ratio(u64::from(passes), u64::from(all.max(1))).0;
        let carries = if passes == 0 { 0 } else { (of(all).saturating_add(ROUNDING)).max(of(r.desired)) };
        carries.saturating_sub(had.0)
    };
    let (of_stable, of_previous) = (room(stable, had.stable), room(previous, had.previous));
    let both = of_stable.saturating_add(of_previous);
    let given = u64::from(extra.min(both));
    let part = given.saturating_mul(u64::from(of_stable)).checked_div(u64::from(both)).unwrap_or(0);
    let more = |had: BasisPoints, n: u64| BasisPoints(had.0.saturating_add(u32::try_from(n).unwrap_or(0)));
    let (stable, previous) = (more(had.stable, part), more(had.previous, given.saturating_sub(part)));
    let candidate = WHOLE.0.saturating_sub(stable.0).saturating_sub(previous.0);
    RouteWeights { stable, candidate: BasisPoints(candidate), previous }
}

/// Weights with which the traffic follows the version gone back to; `None`: it has what it carries.
pub(super) fn back(view: &View<'_>, r: &Rollout, pair: &Pair) -> Option<RouteWeights> {
    let route = view.deployment.route.as_ref()?;
    let had = route.weights.candidate;
    let here = view.passing(pair);
    let there = count(view.instances.iter().filter(|i| &i.pair != pair && i.life.is_wanted() && view.passes(i)));
    let desired = r.desired.max(1);
    let all = here >= desired || there == 0 && here > 0;
    // The share that the version gone back to carries.
    let share = match route.mode {
        _ if all => WHOLE,
        RouteMode::Switch if here.saturating_mul(2) >= desired => WHOLE,
        RouteMode::Switch => BasisPoints(0),
        RouteMode::Weighted => {
            let by_share = BasisPoints::ratio(u64::from(here), u64::from(here.saturating_add(there)));
            by_share.max(BasisPoints::ratio(u64::from(here), u64::from(desired)))
        }
    };
    match r.phase {
        RolloutPhase::Undo => {
            let candidate = BasisPoints(WHOLE.0.saturating_sub(share.0));
            let previous = route.weights.previous;
            let stable = BasisPoints(WHOLE.0.saturating_sub(candidate.0).saturating_sub(previous.0));
            (candidate < had).then_some(RouteWeights { stable, candidate, previous })
        }
        RolloutPhase::Forward => (!r.switched && share > had).then(|| with_candidate(view, share)),
    }
}
