//! Weights of a rollout: what a share needs, what may rise, and what goes back.

use super::steps;
use crate::state::{base::prelude::*, fleet::serving, traffic::returns};

/// Instances that a share of a rollout needs. Failed ones count as done under `failure_action: continue`, but one must pass.
pub fn need(s: &State, r: &Rollout, share: BasisPoints) -> u32 {
    share.of_rounded_up(r.desired).saturating_sub(steps::counted_failed(s, r)).max(1)
}

/// The candidate's share, and the rest on what served before it: stable, and what an abort left beside it, each by what passes.
pub(in crate::state) fn beside(cx: &Cx<'_>, d: &Deployment, candidate: BasisPoints) -> RouteWeights {
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
pub(in crate::state) fn check_rise(
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
        let leave = leave.filter(|i| &i.pair == pair && serving::passes(&cx.s, i)).count();
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
        if have >= need(&cx.s, r, want) {
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

/// On an undo no weight rises but those of what served before.
pub(in crate::state) fn check_undo(d: &Deployment, weights: RouteWeights) -> Done {
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
pub(in crate::state) fn check_return(
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
pub(in crate::state) fn returned(cx: &mut Cx<'_>, d: &Deployment, r: &mut Rollout, weights: RouteWeights) {
    if weights.candidate == WHOLE && r.traffic_back_at.is_none() {
        r.traffic_back_at = Some(cx.now());
        if let Some(from) = &r.from {
            returns::began(cx, d, r.id, &from.version);
        }
    }
}

pub(in crate::state) fn set_index(cx: &Cx<'_>, r: &mut Rollout, step: u32) {
    if let Some(row) = r.steps.get_mut(step as usize) {
        let StepRow { routed, .. } = row;
        *routed = Some((cx.at.index, cx.now()));
    }
}
