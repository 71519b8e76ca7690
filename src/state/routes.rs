//! Who gets which track: weights, the cut-over, and the way back to stable. The one place that writes routes.

use super::{
    Deployment, EventBody, FencePoint, Rejection, Rollout, RolloutPhase, RolloutStatus, Route, RouteMode, RouteWeights,
    StepRow, Track, TrackName, assign,
    context::{Cx, Done, guard},
    drain, returns, serving, steps,
};
use crate::model::{BasisPoints, InstanceId, Pair, Period, StepKind, Strategy, WHOLE};

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
        let by_desired = BasisPoints::ratio(u64::from(have), u64::from(r.desired));
        // Each share is rounded down, so what is left over may lift one track by a basis point or two.
        let by_share = BasisPoints(BasisPoints::ratio(u64::from(have), u64::from(total)).0.saturating_add(2));
        let limit = if have >= need(cx, r, WHOLE) {
            WHOLE
        } else if by_capacity {
            by_desired.max(by_share)
        } else {
            by_desired
        };
        if want > limit {
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
    let row = steps::running(&r, step)?;
    let StepKind::Route { weight } = row.step.kind else { return guard("the running step sets no route") };
    let undo = r.status == RolloutStatus::RollingBack && r.phase == RolloutPhase::Undo;
    if r.status != RolloutStatus::Active && !undo {
        return guard(format!("{id} is {}", r.status));
    }
    let mut d = cx.deployment(&r.deployment)?;
    if weights.candidate > weight {
        return guard(format!("{} is above the step's {weight}", weights.candidate));
    }
    if undo {
        // Capacity binds rising weights in forward steps only; on the way back nothing rises but stable.
        let had = d.route.as_ref().map(|x| x.weights).unwrap_or_default();
        if weights.sum() != WHOLE.0 || weights.candidate > had.candidate || weights.previous > had.previous {
            return guard("on the way back only stable's weight rises, and weights sum to 10000");
        }
        if d.tracks.stable.is_none() {
            return guard("there is no stable track to go back to");
        }
        if weights == ALL_STABLE && r.traffic_back_at.is_none() {
            r.traffic_back_at = Some(cx.now());
            returns::began(cx, &d, r.id, &r.to.version);
        }
    } else {
        check_rise(cx, &d, &r, weights, &[], false)?;
    }
    let form = match &d.route {
        Some(route) => (route.mode, route.ttl),
        None => shape(cx, &d, &r.to, r.strategy),
    };
    write(cx, &mut d, weights, weight, form, false);
    set_index(cx, &mut r, step);
    cx.put_deployment(d);
    cx.put_rollout(r);
    Ok(())
}

fn set_index(cx: &Cx<'_>, r: &mut Rollout, step: u32) {
    if let Some(row) = r.steps.get_mut(step as usize) {
        let StepRow { route_index, .. } = row;
        *route_index = Some(cx.at.index);
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
            drain_pair(cx, r);
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
        ALL_STABLE
    } else {
        match mode {
            // One version is active at any time: the new one until the old one can carry it.
            RouteMode::Switch if have < others => {
                RouteWeights { stable: BasisPoints(0), candidate: WHOLE, previous: BasisPoints(0) }
            }
            RouteMode::Switch => ALL_STABLE,
            RouteMode::Weighted => {
                let share = BasisPoints::ratio(u64::from(others), u64::from(have.saturating_add(others)));
                // Never more than it had: a way back gives nothing to the version it leaves.
                let had = if moved { WHOLE } else { d.route.as_ref().map_or(share, |x| x.weights.candidate) };
                let candidate = share.min(had);
                RouteWeights {
                    stable: BasisPoints(WHOLE.0.saturating_sub(candidate.0)),
                    candidate,
                    previous: BasisPoints(0),
                }
            }
        }
    };
    if d.route.is_some() {
        write(cx, &mut d, weights, weights.candidate, (mode, ttl), moved);
    }
    if weights == ALL_STABLE {
        r.traffic_back_at = Some(cx.now());
        if now_on_candidate {
            returns::began(cx, &d, r.id, &r.to.version);
        }
    }
    cx.put_deployment(d);
    if !keep && weights.candidate.0 == 0 {
        drain_pair(cx, r);
    }
    Ok(())
}

/// Drains what runs the pair that is left.
fn drain_pair(cx: &mut Cx<'_>, r: &Rollout) {
    let ids: Vec<InstanceId> = cx.s.instances_of(&r.deployment).filter(|i| i.pair == r.to).map(|i| i.id).collect();
    drain::begin(cx, &ids);
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
