//! Weights of a rollout: what a share needs, what may rise, and what goes back.

use super::steps;
use crate::state::{base::prelude::*, fleet::serving, traffic::returns};

/// Instances that a share of a rollout needs. Failed ones count as done under `failure_action: continue`, but one must
/// pass.
pub fn need(s: &State, r: &Rollout, share: BasisPoints) -> u32 {
    share.of_rounded_up(r.desired).saturating_sub(steps::counted_failed(s, r)).max(1)
}

/// The candidate's share, and the rest on what served before it: stable, and what an abort left beside it, each by what
/// passes.
pub(in crate::state) fn beside(cx: &Cx<'_>, d: &Deployment, candidate: BasisPoints) -> Weights {
    let mut weights = Weights::default().with(Role::Candidate, candidate);
    let rest = weights.rest();
    let passing = |a: &Arm| u64::from(serving::passing(cx.s, &d.id, &a.pair));
    let stable = d.arms.get(Role::Stable).map_or(0, passing);
    let all = d.arms.iter().filter(|a| d.shares(a)).map(passing).fold(stable, u64::saturating_add);
    for arm in d.arms.iter().filter(|a| d.shares(a)) {
        let share = match d.route.as_ref().map(|x| x.mode) {
            Some(RouteMode::Switch) if passing(arm) > stable => weights.rest(),
            Some(RouteMode::Switch) => BasisPoints(0),
            Some(RouteMode::Weighted) | None => {
                let share = u64::from(BasisPoints::ratio(passing(arm), all).0);
                let part = u64::from(rest.0).saturating_mul(share) / u64::from(WHOLE.0);
                BasisPoints(u32::try_from(part).unwrap_or(0))
            }
        };
        weights.set(arm.role, share);
    }
    let rest = weights.rest();
    weights.with(Role::Stable, rest)
}

/// Whether a rising weight is covered by healthy capacity. By capacity, the share of all that pass counts too.
pub(in crate::state) fn check_rise(
    cx: &Cx<'_>,
    d: &Deployment,
    r: &Rollout,
    weights: &Weights,
    leaving: &[InstanceId],
    by_capacity: bool,
) -> Done {
    check_whole(d, weights)?;
    let passing = |pair: &Pair| {
        let leave = leaving.iter().filter_map(|id| cx.s.instances.get(id));
        let leave = leave.filter(|i| &i.pair == pair && serving::passes(cx.s, i)).count();
        serving::passing(cx.s, &d.id, pair).saturating_sub(u32::try_from(leave).unwrap_or(u32::MAX))
    };
    let total: u32 = d.arms.iter().map(|a| passing(&a.pair)).fold(0, u32::saturating_add);
    for arm in d.arms.iter() {
        let (want, have) = (weights.get(arm.role), passing(&arm.pair));
        if want <= arm.weight || have >= need(cx.s, r, want) {
            continue;
        }
        // Each share is rounded down, so what is left over may lift one arm by a basis point or two.
        let by_share = BasisPoints(BasisPoints::ratio(u64::from(have), u64::from(total)).0.saturating_add(2));
        if !by_capacity || want > by_share {
            return guard(format!(
                "{have} of {} instances of {} pass: {want} is more than they carry",
                r.desired, arm.pair
            ));
        }
    }
    Ok(())
}

/// Weights are whole, only arms that exist have some, and in a deployment that switches one has all.
fn check_whole(d: &Deployment, weights: &Weights) -> Done {
    let switches = d.route.as_ref().is_some_and(|r| r.mode == RouteMode::Switch);
    if switches && weights.iter().count() > 1 {
        return guard(format!("{} switches: one version has all of the traffic", d.id));
    }
    if weights.sum() != WHOLE.0 {
        return Err(Rejection::Invalid(format!("weights sum to {} and not to 10000", weights.sum())));
    }
    match weights.iter().find(|(role, _)| d.arms.get(*role).is_none()) {
        Some((role, share)) => guard(format!("there is no {role} arm to give {share} to")),
        None => Ok(()),
    }
}

/// On an undo no weight rises but those of what served before.
pub(in crate::state) fn check_undo(d: &Deployment, weights: &Weights) -> Done {
    check_whole(d, weights)?;
    match weights.iter().find(|(role, share)| role.on_trial() && *share > d.arms.weight(*role)) {
        Some((role, _)) => guard(format!("in a rollback the {role}'s weight does not rise")),
        None => Ok(()),
    }
}

/// Notes when an undo has left the candidate without traffic.
pub(in crate::state) fn left(cx: &mut Cx<'_>, d: &Deployment, r: &mut Rollout, weights: &Weights) {
    if weights.get(Role::Candidate).0 == 0 && r.traffic_back_at.is_none() {
        r.traffic_back_at = Some(cx.now());
        returns::began(cx, d, r.id, &r.to.version);
    }
}

/// On a return the weights follow capacity; where one version is active, half of the desired instances are enough for
/// all of the traffic, as they are in a rollback's own entry.
pub(in crate::state) fn check_return(
    cx: &Cx<'_>,
    d: &Deployment,
    r: &Rollout,
    weights: &Weights,
    leaving: &[InstanceId],
) -> Done {
    let switches = d.route.as_ref().is_some_and(|x| x.mode == RouteMode::Switch);
    let half = serving::passing(cx.s, &d.id, &r.to).saturating_mul(2) >= r.desired;
    if switches && half && *weights == Weights::all(Role::Candidate) && d.arms.get(Role::Candidate).is_some() {
        return Ok(());
    }
    check_rise(cx, d, r, weights, leaving, true)
}

/// Notes when a return has all the traffic.
pub(in crate::state) fn returned(cx: &mut Cx<'_>, d: &Deployment, r: &mut Rollout, weights: &Weights) {
    if weights.get(Role::Candidate) == WHOLE && r.traffic_back_at.is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, Pair, Period};

    #[test]
    fn in_a_deployment_that_switches_no_two_versions_share_the_traffic() {
        let pair =
            |v: &str| Pair { version: v.parse().unwrap(), digest: Digest::new(&"a".repeat(64)).unwrap(), spec: 1 };
        let mut d = Deployment {
            meta: Meta::default(),
            id: "production/shop".parse().unwrap(),
            spec: 1,
            arms: [Arm::new(Role::Stable, pair("1.0.0")), Arm::new(Role::Candidate, pair("2.0.0"))]
                .into_iter()
                .collect(),
            route: None,
            desired: 4,
            live: None,
            last: None,
            as_is: None,
            removing: None,
            stop: None,
        };
        let shared =
            Weights::all(Role::Stable).with(Role::Stable, BasisPoints(7500)).with(Role::Candidate, BasisPoints(2500));
        let route =
            |mode| Route { generation: FencePoint { incarnation: 1, n: 1 }, mode, ttl: Period::seconds(1), salt: 0 };
        d.route = Some(route(RouteMode::Weighted));
        assert_eq!(check_whole(&d, &shared), Ok(()));
        d.route = Some(route(RouteMode::Switch));
        assert!(check_whole(&d, &shared).is_err());
        assert_eq!(check_whole(&d, &Weights::all(Role::Candidate)), Ok(()));
    }
}
