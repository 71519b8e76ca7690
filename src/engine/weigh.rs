//! Weights by capacity: each version's share of what passes.
//!
//! Invariants: what is not the candidate's is shared by the others as before; on a way back only the version gone back to gets more.
//! Not here: whether the law takes them (`state::routes`).

use super::view::{View, count};
use crate::model::{BasisPoints, Pair, WHOLE};
use crate::state::{Rollout, RolloutPhase, RouteMode, RouteWeights};

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
            (candidate < had).then(|| with_candidate(view, candidate))
        }
        RolloutPhase::Forward => (!r.switched && share > had).then(|| with_candidate(view, share)),
    }
}
