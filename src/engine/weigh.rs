//! Weights by capacity: each version's share of the passing instances.
//!
//! Invariants: where the others' shares fall they keep their parts; where they rise, they rise as far as the passing
//! instances of each carry, and what nobody carries stays with the candidate; in a rollback only the version gone back
//! to gets more. Not here: whether the law takes them (`state::rollout`).

use super::prelude::*;

/// Shares are rounded down; the law allows for what that leaves over.
const ROUNDING: u32 = 2;

/// The weights as they stand; before a route there is nothing but stable.
pub(super) fn present(view: &View<'_>) -> Weights {
    let d = view.deployment;
    if d.route.is_some() { d.arms.weights() } else { Weights::all(Role::Stable) }
}

/// Adds a share to these, in the proportion of their numbers; what rounding leaves over is the last one's.
fn share_out(weights: &mut Weights, share: u32, among: &[(Role, u32)]) {
    let all = among.iter().map(|(_, n)| u64::from(*n)).fold(0, u64::saturating_add);
    let mut left = share;
    for (at, (role, n)) in among.iter().enumerate() {
        let part = u64::from(share).saturating_mul(u64::from(*n)).checked_div(all).unwrap_or(0);
        let part = if at + 1 == among.len() { left } else { u32::try_from(part).unwrap_or(0) };
        left = left.saturating_sub(part);
        weights.set(*role, BasisPoints(weights.get(*role).0.saturating_add(part)));
    }
}

/// The candidate's share; the others keep their parts of the rest.
pub(super) fn with_candidate(view: &View<'_>, candidate: BasisPoints) -> Weights {
    let mut others: Vec<(Role, u32)> =
        present(view).iter().filter(|(role, _)| *role != Role::Candidate).map(|(role, w)| (role, w.0)).collect();
    if others.is_empty() {
        others.push((Role::Stable, 1));
    }
    let mut weights = Weights::default().with(Role::Candidate, candidate);
    let rest = weights.rest();
    share_out(&mut weights, rest.0, &others);
    weights
}

/// The candidate's share by what passes of each version without `leaving`.
pub(super) fn by_capacity(view: &View<'_>, r: &Rollout, candidate: BasisPoints, leaving: &[InstanceId]) -> Weights {
    let mut weights = present(view).with(Role::Candidate, candidate);
    let extra = weights.rest();
    if extra.0 == 0 {
        return with_candidate(view, candidate);
    }
    let arms = &view.deployment.arms;
    let passing = |a: &Arm| {
        let mine = |i: &&&Instance| i.pair == a.pair && view.passes(i) && !leaving.contains(&i.id);
        count(view.instances.iter().filter(mine))
    };
    let all = arms.iter().map(passing).fold(0, u32::saturating_add);
    // How much more a version may get.
    let room = |a: &Arm| {
        let passes = passing(a);
        let of = |all: u32| BasisPoints::ratio(u64::from(passes), u64::from(all.max(1))).0;
        let carries = if passes == 0 { 0 } else { of(all).saturating_add(ROUNDING).max(of(r.desired)) };
        (a.role, carries.saturating_sub(weights.get(a.role).0))
    };
    let rooms: Vec<(Role, u32)> = arms.iter().filter(|a| a.role != Role::Candidate).map(room).collect();
    let given = rooms.iter().fold(0, |sum: u32, (_, room)| sum.saturating_add(*room)).min(extra.0);
    share_out(&mut weights, given, &rooms);
    let rest = weights.rest().0.saturating_add(candidate.0);
    weights.with(Role::Candidate, BasisPoints(rest))
}

/// Weights with which the traffic follows the version gone back to; `None`: it has what it carries.
pub(super) fn back(view: &View<'_>, r: &Rollout, pair: &Pair) -> Option<Weights> {
    let route = view.deployment.route.as_ref()?;
    let had = view.deployment.arms.weight(Role::Candidate);
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
            let others = present(view).with(Role::Candidate, candidate).with(Role::Stable, BasisPoints(0));
            let rest = others.rest();
            (candidate < had).then(|| others.with(Role::Stable, rest))
        }
        RolloutPhase::Forward => (!r.switched && share > had).then(|| with_candidate(view, share)),
    }
}
