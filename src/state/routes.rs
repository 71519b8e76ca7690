//! Who gets which track: weights, the cut-over, and the way back to stable. The one place that writes routes.

use super::{
    Deployment, EventBody, FencePoint, Rejection, Rollout, RolloutPhase, RolloutStatus, Route, RouteMode, RouteWeights,
    StepRow, Track, TrackName, assign,
    context::{Cx, Done, guard},
    drain, returns, serving, steps,
};
use crate::model::{BasisPoints, InstanceId, Pair, Period, Routing, StepKind, Strategy, WHOLE};

/// Everything on stable.
pub(super) const ALL_STABLE: RouteWeights =
    RouteWeights { stable: WHOLE, candidate: BasisPoints(0), previous: BasisPoints(0) };

/// The mode and TTL that a strategy and a spec ask for.
pub(super) fn shape(cx: &Cx<'_>, d: &Deployment, pair: &Pair, strategy: Strategy) -> (RouteMode, Period) {
    let (mode, ttl) = match strategy {
        Strategy::BlueGreen => (RouteMode::Switch, Period::seconds(1)),
        Strategy::Direct | Strategy::Rolling | Strategy::Canary => (RouteMode::Weighted, Period::seconds(5)),
    };
    (mode, cx.s.spec(&d.id, pair.spec).and_then(|s| s.ttl).unwrap_or(ttl))
}

/// Writes weights (and, for a new route or when given, mode and TTL); a new generation when anything an answer depends on changed.
pub(super) fn write(
    cx: &mut Cx<'_>,
    d: &mut Deployment,
    weights: RouteWeights,
    cap: BasisPoints,
    form: (RouteMode, Period),
    tracks_moved: bool,
) {
    let generation = FencePoint { incarnation: cx.s.incarnation, n: cx.at.index };
    let changed = match &mut d.route {
        Some(r) => {
            r.cap = cap;
            let changed = r.weights != weights || (r.mode, r.ttl) != form || tracks_moved;
            (r.weights, r.mode, r.ttl) = (weights, form.0, form.1);
            if changed {
                r.generation = generation;
            }
            changed
        }
        None => {
            // Odd multiplier: different salts for neighbouring indexes, the same on every node.
            let salt = cx.at.index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            d.route = Some(Route { generation, mode: form.0, weights, cap, ttl: form.1, salt });
            true
        }
    };
    if changed {
        announce(cx, d, weights);
    }
}

fn announce(cx: &mut Cx<'_>, d: &Deployment, weights: RouteWeights) {
    let version = |t: &Option<Track>| t.as_ref().map(|t| t.pair.version.clone());
    cx.emit(EventBody::RouteChanged {
        deployment: d.id.clone(),
        weights,
        stable: version(&d.tracks.stable),
        candidate: version(&d.tracks.candidate),
    });
}

/// Instances that a share of a rollout needs. Failed ones count as done under `failure_action: continue`, but one must pass.
pub(super) fn need(cx: &Cx<'_>, r: &Rollout, share: BasisPoints) -> u32 {
    share.of_rounded_up(r.desired).saturating_sub(steps::counted_failed(&cx.s, r)).max(1)
}

/// The candidate's share, and the rest on what served before it: stable, and what an abort left beside it, each by what passes.
pub(super) fn beside(cx: &Cx<'_>, d: &Deployment, candidate: BasisPoints) -> RouteWeights {
    let rest = WHOLE.0.saturating_sub(candidate.0);
    let left = d.tracks.previous.as_ref().filter(|t| d.shares(t));
    let previous = match (&d.tracks.stable, left) {
        (Some(stable), Some(left)) => {
            let passing = |t: &Track| u64::from(serving::passing(&cx.s, &d.id, &t.pair));
            let (a, b) = (passing(stable), passing(left));
            match d.route.as_ref().map(|x| x.mode) {
                _ if b == 0 => 0,
                Some(RouteMode::Switch) if b > a => rest,
                Some(RouteMode::Switch) => 0,
                Some(RouteMode::Weighted) | None => {
                    let share = BasisPoints::ratio(b, a.saturating_add(b));
                    u32::try_from(u64::from(rest).saturating_mul(u64::from(share.0)) / u64::from(WHOLE.0)).unwrap_or(0)
                }
            }
        }
        (Some(_), None) | (None, _) => 0,
    };
    RouteWeights { stable: BasisPoints(rest.saturating_sub(previous)), candidate, previous: BasisPoints(previous) }
}

/// Whether a rising weight is covered by healthy capacity. By capacity, the share of all that pass counts too.
pub(super) fn check_rise(
    cx: &Cx<'_>,
    d: &Deployment,
    r: &Rollout,
    weights: RouteWeights,
    leaving: &[InstanceId],
    by_capacity: bool,
) -> Done {
    if weights.sum() != WHOLE.0 {
        return Err(Rejection::Invalid(format!("weights sum to {} and not to 10000", weights.sum())));
    }
    let old = d.route.as_ref().map(|r| r.weights).unwrap_or_default();
    let passing = |pair: &Pair| {
        let leave = leaving.iter().filter_map(|id| cx.s.instances.get(id));
        let leave = leave.filter(|i| &i.pair == pair && i.serves() && serving::ready(&cx.s, i)).count();
        serving::passing(&cx.s, &d.id, pair).saturating_sub(u32::try_from(leave).unwrap_or(u32::MAX))
    };
    let total: u32 = d.tracks.iter().map(|(_, t)| passing(&t.pair)).fold(0, u32::saturating_add);
    for name in [TrackName::Stable, TrackName::Candidate, TrackName::Previous] {
        let want = weights.get(name);
        let Some(track) = d.tracks.get(name) else {
            if want.0 > 0 {
                return guard(format!("there is no {name:?} track to give {want} to"));
            }
            continue;
        };
        if want <= old.get(name) {
            continue;
        }
        let have = passing(&track.pair);
        if have >= need(cx, r, want) {
            continue;
        }
        // Each share is rounded down, so what is left over may lift one track by a basis point or two.
        let by_share = BasisPoints(BasisPoints::ratio(u64::from(have), u64::from(total)).0.saturating_add(2));
        if !by_capacity || want > by_share {
            return guard(format!(
                "{have} of {} instances of {} pass: {want} is more than they carry",
                r.desired, track.pair
            ));
        }
    }
    Ok(())
}

/// `RouteSet`.
pub(super) fn route_set(
    cx: &mut Cx<'_>,
    id: crate::model::RolloutId,
    seen: u64,
    step: u32,
    weights: RouteWeights,
) -> Done {
    let mut r = cx.rollout_seen(id, seen)?;
    let row = steps::running(&r, step)?.clone();
    let undo = r.status == RolloutStatus::RollingBack && r.phase == RolloutPhase::Undo;
    if r.status != RolloutStatus::Active && !undo {
        return guard(format!("{id} is {}", r.status));
    }
    let mut d = cx.deployment(&r.deployment)?;
    let had = d.route.as_ref().map(|x| x.weights).unwrap_or_default();
    let (weight, by_capacity) = match row.step.kind {
        StepKind::Route { weight } => (weight, false),
        // On a way back the traffic follows the instances as they pass, and does not wait for a batch; going forward what ran already
        // needs none.
        StepKind::Install { routing: Routing::ByCapacity, share, .. } => {
            (if undo { had.candidate } else { share }, true)
        }
        StepKind::Install { .. }
        | StepKind::Stage
        | StepKind::Switch
        | StepKind::Bake { .. }
        | StepKind::Smoke { .. }
        | StepKind::Promote
        | StepKind::Retire { .. } => return guard("the running step sets no route"),
    };
    // What had more already, as an abort left it, is not made to give it back.
    let weight = weight.max(had.candidate);
    if weights.candidate > weight {
        return guard(format!("{} is above the step's {weight}", weights.candidate));
    }
    if undo {
        // Capacity binds rising weights in forward steps only; on the way back nothing rises but what served before.
        check_undo(&d, weights)?;
        if weights.candidate.0 == 0 && r.traffic_back_at.is_none() {
            r.traffic_back_at = Some(cx.now());
            returns::began(cx, &d, r.id, &r.to.version);
        }
    } else {
        if r.is_way_back() {
            check_return(cx, &d, &r, weights, &[])?;
            returned(cx, &d, &mut r, weights);
        } else {
            check_rise(cx, &d, &r, weights, &[], by_capacity)?;
        }
    }
    let form = match &d.route {
        Some(route) => (route.mode, route.ttl),
        None => shape(cx, &d, &r.to, r.strategy),
    };
    let cap = if undo { weights.candidate } else { weight };
    write(cx, &mut d, weights, cap, form, false);
    set_index(cx, &mut r, step);
    cx.put_deployment(d);
    cx.put_rollout(r);
    Ok(())
}

/// On an undo no weight rises but those of what served before.
pub(super) fn check_undo(d: &Deployment, weights: RouteWeights) -> Done {
    let had = d.route.as_ref().map(|x| x.weights).unwrap_or_default();
    if weights.sum() != WHOLE.0 || weights.candidate > had.candidate {
        return guard("on the way back the candidate's weight does not rise, and weights sum to 10000");
    }
    let absent = |name| weights.get(name).0 > 0 && d.tracks.get(name).is_none();
    if [TrackName::Stable, TrackName::Candidate, TrackName::Previous].into_iter().any(absent) {
        return guard("a track that gets weight does not exist");
    }
    Ok(())
}

/// On a return the weights follow capacity; where one version is active, half of the desired instances are enough for all of the traffic,
/// as they are in a rollback's own entry.
pub(super) fn check_return(
    cx: &Cx<'_>,
    d: &Deployment,
    r: &Rollout,
    weights: RouteWeights,
    leaving: &[InstanceId],
) -> Done {
    let switches = d.route.as_ref().is_some_and(|x| x.mode == RouteMode::Switch);
    let half = serving::passing(&cx.s, &d.id, &r.to).saturating_mul(2) >= r.desired;
    if switches && half && weights.candidate == WHOLE && weights.sum() == WHOLE.0 && d.tracks.candidate.is_some() {
        return Ok(());
    }
    check_rise(cx, d, r, weights, leaving, true)
}

/// Notes when a return has all the traffic.
pub(super) fn returned(cx: &mut Cx<'_>, d: &Deployment, r: &mut Rollout, weights: RouteWeights) {
    if weights.candidate == WHOLE && r.traffic_back_at.is_none() {
        r.traffic_back_at = Some(cx.now());
        if let Some(from) = &r.from {
            returns::began(cx, d, r.id, &from.version);
        }
    }
}

fn set_index(cx: &Cx<'_>, r: &mut Rollout, step: u32) {
    if let Some(row) = r.steps.get_mut(step as usize) {
        let StepRow { routed, .. } = row;
        *routed = Some((cx.at.index, cx.now()));
    }
}

/// `Switched`: tracks and weights in one entry.
pub(super) fn switched(cx: &mut Cx<'_>, id: crate::model::RolloutId, seen: u64, step: u32) -> Done {
    let mut r = cx.rollout_seen(id, seen)?;
    let row = steps::running(&r, step)?;
    if row.step.kind != StepKind::Switch || r.status != RolloutStatus::Active {
        return guard("the running step is no switch");
    }
    if r.switched {
        return guard(format!("{id} has switched already"));
    }
    let have = serving::passing(&cx.s, &r.deployment, &r.to);
    let need = need(cx, &r, WHOLE);
    if have < need {
        return guard(format!("{have} of {need} candidates pass"));
    }
    let mut d = cx.deployment(&r.deployment)?;
    advance(cx, &mut d, &r);
    r.switched = true;
    set_index(cx, &mut r, step);
    cx.put_deployment(d);
    cx.put_rollout(r.clone());
    assign::refresh(cx, &r.deployment);
    Ok(())
}

/// The candidate becomes stable, stable becomes previous, and all traffic goes to the new stable.
pub(super) fn advance(cx: &mut Cx<'_>, d: &mut Deployment, r: &Rollout) {
    let form = match &d.route {
        Some(route) => (route.mode, route.ttl),
        None => shape(cx, d, &r.to, r.strategy),
    };
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
    write(cx, d, ALL_STABLE, BasisPoints(0), form, true);
}

/// The way back, in the entry that asked for it: tracks go back if they had moved, draining stable instances come back, and traffic
/// goes to stable; by capacity while fewer than half of the desired stable instances pass. `keep` leaves the candidates running.
pub(super) fn back_to_stable(cx: &mut Cx<'_>, r: &mut Rollout, keep: bool) -> Done {
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
        announce(cx, &d, RouteWeights::default());
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
    let (mode, ttl) = match &d.route {
        Some(route) => (route.mode, route.ttl),
        None => shape(cx, &d, &pair, r.strategy),
    };
    let now_on_candidate = d.route.as_ref().is_some_and(|route| route.weights.candidate.0 > 0 || moved);
    let enough = have.saturating_mul(2) >= d.desired || others == 0 || !now_on_candidate;
    let weights = if enough {
        beside(cx, &d, BasisPoints(0))
    } else {
        match mode {
            // One version is active at any time: the new one until the old one can carry it.
            RouteMode::Switch if have < others => beside(cx, &d, WHOLE),
            RouteMode::Switch => beside(cx, &d, BasisPoints(0)),
            RouteMode::Weighted => {
                let share = BasisPoints::ratio(u64::from(others), u64::from(have.saturating_add(others)));
                // Never more than it had: a way back gives nothing to the version it leaves.
                let had = if moved { WHOLE } else { d.route.as_ref().map_or(share, |x| x.weights.candidate) };
                beside(cx, &d, share.min(had))
            }
        }
    };
    if d.route.is_some() {
        write(cx, &mut d, weights, weights.candidate, (mode, ttl), moved);
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
    let stays = |i: &super::Instance| has_traffic && i.serves() && serving::ready(&cx.s, i);
    let mine = cx.s.instances_of(&r.deployment).filter(|i| i.pair == r.to && !stays(i));
    let ids: Vec<InstanceId> = mine.map(|i| i.id).collect();
    drain::begin(cx, &ids);
}

/// What an abort left elsewhere follows the instances back to stable as they pass; all of it once half of the desired ones do.
pub(super) fn follow_back(cx: &mut Cx<'_>, d: &mut Deployment) {
    let (Some(stable), Some(route)) = (&d.tracks.stable, &d.route) else { return };
    let have = serving::passing(&cx.s, &d.id, &stable.pair);
    if have.saturating_mul(2) >= d.desired {
        return all_on_stable(cx, d);
    }
    let (mode, ttl, had) = (route.mode, route.ttl, route.weights);
    if mode == RouteMode::Switch {
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
    write(cx, d, RouteWeights { stable, candidate, previous }, candidate, (mode, ttl), false);
}

/// Puts what is left on the candidate back on stable: an undo's last act, and the keeper's once stable carries it.
pub(super) fn all_on_stable(cx: &mut Cx<'_>, d: &mut Deployment) {
    if d.tracks.stable.is_none() {
        return;
    }
    let Some((mode, ttl)) = d.route.as_ref().filter(|r| r.weights != ALL_STABLE).map(|r| (r.mode, r.ttl)) else {
        return;
    };
    if let (Some(id), Some(left)) = (d.live.or(d.last), d.tracks.candidate.as_ref().map(|t| t.pair.version.clone())) {
        returns::began(cx, d, id, &left);
    }
    write(cx, d, ALL_STABLE, BasisPoints(0), (mode, ttl), false);
}
