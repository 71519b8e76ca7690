//! Moving roles and traffic together: forward when a candidate becomes stable, and back to stable in the entry that
//! asks for it.

use super::weights;
use crate::state::{
    base::prelude::*,
    fleet::{drain, serving},
    traffic::{returns, routes},
};

/// The candidate becomes stable, stable becomes previous, and all traffic goes to the new stable.
pub(in crate::state) fn advance(cx: &mut Cx<'_>, d: &mut Deployment, r: &Rollout) {
    let form = d.route.as_ref().map_or(r.form, Route::form);
    let to = d.arms.take(Role::Candidate).filter(|a| a.pair == r.to);
    let to = to.or_else(|| d.arms.take_if(Role::Previous, |a| a.pair == r.to));
    let to = to.unwrap_or_else(|| Arm::new(Role::Stable, r.to.clone()));
    routes::become_stable(cx, d, to, r.desired, None);
    routes::write(cx, d, &Weights::all(Role::Stable), form);
}

/// The rollback, in the entry that asked for it: roles go back if they had moved, draining stable instances come back,
/// and traffic goes to stable; by capacity while fewer than half of the desired stable instances pass. `keep` leaves
/// the candidates running.
pub(in crate::state) fn back_to_stable(cx: &mut Cx<'_>, r: &mut Rollout, keep: bool) -> Done {
    let mut d = cx.deployment(&r.deployment)?;
    let moved = r.switched || r.status == RolloutStatus::Promoting;
    if moved {
        let was = d.arms.take_if(Role::Previous, |a| Some(&a.pair) == r.from.as_ref());
        d.arms.take(Role::Candidate);
        if let Some(left) = d.arms.take(Role::Stable) {
            d.arms.put(Arm { role: Role::Candidate, ..left });
        }
        if let Some(pair) = r.from.clone() {
            d.arms.put(Arm { role: Role::Stable, ..was.unwrap_or_else(|| Arm::new(Role::Stable, pair)) });
        }
    }
    r.switched = false;
    let Some(stable) = d.arms.get_mut(Role::Stable) else {
        // Nothing to return to.
        routes::close(cx, &mut d);
        cx.put_deployment(d);
        if !keep {
            drain_left(cx, r, false);
        }
        return Ok(());
    };
    stable.retire_at = None;
    stable.want = d.desired.max(stable.want);
    let pair = stable.pair.clone();
    drain::cancel_pending(cx, &r.deployment, &r.to);
    drain::revive(cx, &r.deployment, &pair);
    let have = serving::passing(cx.s, &r.deployment, &pair);
    let others = d.arms.pair(Role::Candidate).map_or(0, |pair| serving::passing(cx.s, &r.deployment, pair));
    let form = d.route.as_ref().map_or(r.form, Route::form);
    let had = if moved { WHOLE } else { d.arms.weight(Role::Candidate) };
    let now_on_candidate = d.route.is_some() && had.0 > 0;
    let enough = have.saturating_mul(2) >= d.desired || others == 0 || !now_on_candidate;
    let candidate = match form.mode {
        _ if enough => BasisPoints(0),
        // One version is active at any time: the new one until the old one can carry it.
        RouteMode::Switch if have < others => WHOLE,
        RouteMode::Switch => BasisPoints(0),
        // Never more than it had: a rollback gives nothing to the version it leaves.
        RouteMode::Weighted => BasisPoints::ratio(u64::from(others), u64::from(have.saturating_add(others))).min(had),
    };
    if d.route.is_some() {
        let weights = weights::beside(cx, &d, candidate);
        routes::write(cx, &mut d, &weights, form);
    }
    if candidate.0 == 0 {
        r.traffic_back_at = Some(cx.now());
        if now_on_candidate {
            returns::began(cx, &d, r.id, &r.to.version);
        }
    }
    cx.put_deployment(d);
    if !keep {
        drain_left(cx, r, candidate.0 > 0);
    }
    Ok(())
}

/// Drains what runs the pair that is left; while it has traffic only what does not serve, whose places are of more use
/// to the other.
fn drain_left(cx: &mut Cx<'_>, r: &Rollout, has_traffic: bool) {
    let stays = |i: &Instance| has_traffic && i.serves() && serving::ready(cx.s, i);
    let mine = cx.s.instances_of(&r.deployment).filter(|i| i.pair == r.to && !stays(i));
    let ids: Vec<InstanceId> = mine.map(|i| i.id).collect();
    drain::begin(cx, &ids);
}

/// What an abort left elsewhere follows the instances back to stable as they pass; all of it once half of the desired
/// ones do.
pub(in crate::state) fn follow_back(cx: &mut Cx<'_>, d: &mut Deployment) {
    let (Some(stable), Some(route)) = (d.arms.pair(Role::Stable), &d.route) else { return };
    let passing = |pair: &Pair| serving::passing(cx.s, &d.id, pair);
    let have = passing(stable);
    if have.saturating_mul(2) >= d.desired {
        return all_on_stable(cx, d);
    }
    let form = route.form();
    if form.mode == RouteMode::Switch {
        return;
    }
    // What was stable before and has no traffic gets none.
    let counts = |a: &&Arm| a.role != Role::Stable && (a.role.on_trial() || a.weight.0 > 0);
    let others = d.arms.iter().filter(counts).map(|a| passing(&a.pair)).fold(0, u32::saturating_add);
    let share = BasisPoints::ratio(u64::from(others), u64::from(have.saturating_add(others)));
    let elsewhere = WHOLE.0.saturating_sub(d.arms.weight(Role::Stable).0);
    if have == 0 || share.0 >= elsewhere {
        return;
    }
    let part = |w: BasisPoints| {
        let part = u64::from(w.0).saturating_mul(u64::from(share.0)) / u64::from(elsewhere);
        BasisPoints(u32::try_from(part).unwrap_or(0))
    };
    let less = d.arms.iter().filter(|a| a.role != Role::Stable).map(|a| (a.role, part(a.weight)));
    let less: Weights = less.collect();
    let rest = less.rest();
    routes::write(cx, d, &less.with(Role::Stable, rest), form);
}

/// Puts what is left on the candidate back on stable: an undo's last act, and the keeper's once stable carries it.
pub(in crate::state) fn all_on_stable(cx: &mut Cx<'_>, d: &mut Deployment) {
    let all = Weights::all(Role::Stable);
    if d.arms.get(Role::Stable).is_none() || d.arms.weights() == all {
        return;
    }
    let Some(form) = d.route.as_ref().map(Route::form) else { return };
    if let (Some(id), Some(left)) = (d.live.or(d.last), d.arms.pair(Role::Candidate).map(|p| p.version.clone())) {
        returns::began(cx, d, id, &left);
    }
    routes::write(cx, d, &all, form);
}
