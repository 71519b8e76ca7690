//! Moving tracks and traffic together: forward when a candidate becomes stable, and back to stable in the entry that asks for it.

use super::weights;
use crate::state::{
    base::prelude::*,
    fleet::{drain, serving},
    traffic::{
        returns,
        routes::{self, ALL_STABLE},
    },
};

/// The candidate becomes stable, stable becomes previous, and all traffic goes to the new stable.
pub(in crate::state) fn advance(cx: &mut Cx<'_>, d: &mut Deployment, r: &Rollout) {
    let form = d.route.as_ref().map_or(r.form, Route::form);
    let to = d.tracks.candidate.take().filter(|t| t.pair == r.to);
    let to = to.or_else(|| d.tracks.previous.take_if(|t| t.pair == r.to));
    let mut stable = to.unwrap_or(Track { pair: r.to.clone(), want: 0, retire_at: None });
    stable.want = r.desired.max(1);
    stable.retire_at = None;
    let old = d.tracks.stable.replace(stable);
    if let Some(mut old) = old {
        old.want = serving::wanted(&cx.s, &d.id, &old.pair);
        d.tracks.previous = Some(old);
    }
    routes::write(cx, d, ALL_STABLE, BasisPoints(0), form, true);
}

/// The way back, in the entry that asked for it: tracks go back if they had moved, draining stable instances come back, and traffic
/// goes to stable; by capacity while fewer than half of the desired stable instances pass. `keep` leaves the candidates running.
pub(in crate::state) fn back_to_stable(cx: &mut Cx<'_>, r: &mut Rollout, keep: bool) -> Done {
    let mut d = cx.deployment(&r.deployment)?;
    let moved = r.switched || r.status == RolloutStatus::Promoting;
    if moved {
        let was = d.tracks.previous.take_if(|t| Some(&t.pair) == r.from.as_ref());
        let from = r.from.clone().map(|pair| was.unwrap_or(Track { pair, want: 0, retire_at: None }));
        d.tracks.candidate = d.tracks.stable.take();
        d.tracks.stable = from;
    }
    r.switched = false;
    let Some(stable) = d.tracks.stable.as_mut() else {
        // Nothing to return to: nothing may be named.
        d.route = None;
        routes::announce(cx, &d, RouteWeights::default());
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
    let have = serving::passing(&cx.s, &r.deployment, &pair);
    let others = d.tracks.candidate.as_ref().map_or(0, |t| serving::passing(&cx.s, &r.deployment, &t.pair));
    let form = d.route.as_ref().map_or(r.form, Route::form);
    let now_on_candidate = d.route.as_ref().is_some_and(|route| route.weights.candidate.0 > 0 || moved);
    let enough = have.saturating_mul(2) >= d.desired || others == 0 || !now_on_candidate;
    let weights = if enough {
        weights::beside(cx, &d, BasisPoints(0))
    } else {
        match form.mode {
            // One version is active at any time: the new one until the old one can carry it.
            RouteMode::Switch if have < others => weights::beside(cx, &d, WHOLE),
            RouteMode::Switch => weights::beside(cx, &d, BasisPoints(0)),
            RouteMode::Weighted => {
                let share = BasisPoints::ratio(u64::from(others), u64::from(have.saturating_add(others)));
                // Never more than it had: a way back gives nothing to the version it leaves.
                let had = if moved { WHOLE } else { d.route.as_ref().map_or(share, |x| x.weights.candidate) };
                weights::beside(cx, &d, share.min(had))
            }
        }
    };
    if d.route.is_some() {
        routes::write(cx, &mut d, weights, weights.candidate, form, moved);
    }
    if weights.candidate.0 == 0 {
        r.traffic_back_at = Some(cx.now());
        if now_on_candidate {
            returns::began(cx, &d, r.id, &r.to.version);
        }
    }
    cx.put_deployment(d);
    if !keep {
        drain_left(cx, r, weights.candidate.0 > 0);
    }
    Ok(())
}

/// Drains what runs the pair that is left; while it has traffic only what does not serve, whose places are of more use to the other.
fn drain_left(cx: &mut Cx<'_>, r: &Rollout, has_traffic: bool) {
    let stays = |i: &Instance| has_traffic && i.serves() && serving::ready(&cx.s, i);
    let mine = cx.s.instances_of(&r.deployment).filter(|i| i.pair == r.to && !stays(i));
    let ids: Vec<InstanceId> = mine.map(|i| i.id).collect();
    drain::begin(cx, &ids);
}

/// What an abort left elsewhere follows the instances back to stable as they pass; all of it once half of the desired ones do.
pub(in crate::state) fn follow_back(cx: &mut Cx<'_>, d: &mut Deployment) {
    let (Some(stable), Some(route)) = (&d.tracks.stable, &d.route) else { return };
    let have = serving::passing(&cx.s, &d.id, &stable.pair);
    if have.saturating_mul(2) >= d.desired {
        return all_on_stable(cx, d);
    }
    let (form, had) = (route.form(), route.weights);
    if form.mode == RouteMode::Switch {
        return;
    }
    let passing = |t: &Option<Track>| t.as_ref().map_or(0, |t| serving::passing(&cx.s, &d.id, &t.pair));
    let others = passing(&d.tracks.candidate).saturating_add(passing(&d.tracks.previous).min(had.previous.0));
    let share = BasisPoints::ratio(u64::from(others), u64::from(have.saturating_add(others)));
    let elsewhere = had.candidate.0.saturating_add(had.previous.0);
    if have == 0 || share.0 >= elsewhere {
        return;
    }
    let part = |w: BasisPoints| {
        let part = u64::from(w.0).saturating_mul(u64::from(share.0)) / u64::from(elsewhere);
        BasisPoints(u32::try_from(part).unwrap_or(0))
    };
    let (candidate, previous) = (part(had.candidate), part(had.previous));
    let stable = BasisPoints(WHOLE.0.saturating_sub(candidate.0).saturating_sub(previous.0));
    routes::write(cx, d, RouteWeights { stable, candidate, previous }, candidate, form, false);
}

/// Puts what is left on the candidate back on stable: an undo's last act, and the keeper's once stable carries it.
pub(in crate::state) fn all_on_stable(cx: &mut Cx<'_>, d: &mut Deployment) {
    if d.tracks.stable.is_none() {
        return;
    }
    let Some(form) = d.route.as_ref().filter(|r| r.weights != ALL_STABLE).map(Route::form) else { return };
    if let (Some(id), Some(left)) = (d.live.or(d.last), d.tracks.candidate.as_ref().map(|t| t.pair.version.clone())) {
        returns::began(cx, d, id, &left);
    }
    routes::write(cx, d, ALL_STABLE, BasisPoints(0), form, false);
}
