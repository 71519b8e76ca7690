//! The arms with which a rollout begins: its candidate appears beside stable and what an earlier one left.
//!
//! Invariants: a version that has traffic keeps it, and its arm; where three share it already and a fourth comes, the
//! one with the least gives its share to those that pass. What has no arm here is what the leading `Retire` drains. Not
//! here: compiled steps (`steps_compiled`), how the traffic moves later (`routes`).

use crate::state::{base::prelude::*, fleet::serving, traffic::routes};

/// The arms of a deployment once a rollout to `to` has begun, before its mode and its TTL.
pub fn arms_at_start(s: &State, d: &Deployment, to: &Pair) -> Arms {
    let mut arms = d.arms.clone();
    let mine = |a: &Arm| &a.pair == to;
    let same = arms.take_if(Role::Previous, mine).or_else(|| arms.take_if(Role::Candidate, mine));
    // What was the candidate and has traffic takes the place of what has less.
    if let Some(left) = arms.take(Role::Candidate).filter(|a| a.weight.0 > 0) {
        let less = if left.weight < arms.weight(Role::Previous) {
            left.weight
        } else {
            arms.put(Arm { role: Role::Previous, ..left }).map_or(BasisPoints(0), |a| a.weight)
        };
        share_out(s, &d.id, &mut arms, less);
    }
    let candidate = same.unwrap_or_else(|| Arm::new(Role::Candidate, to.clone()));
    arms.put(Arm { role: Role::Candidate, retire_at: None, ..candidate });
    arms
}

/// Gives a share to stable and what is beside it by what passes; where nothing does, to stable.
pub(in crate::state) fn share_out(s: &State, id: &DeploymentId, arms: &mut Arms, share: BasisPoints) {
    let passing = |a: &Arm| u64::from(serving::passing(s, id, &a.pair));
    let all = arms.iter().map(passing).fold(0, u64::saturating_add);
    let mut rest = share.0;
    for arm in arms.iter_mut().filter(|a| a.role != Role::Stable) {
        let part = u64::from(share.0).saturating_mul(passing(arm)).checked_div(all).unwrap_or(0);
        let part = u32::try_from(part).unwrap_or(0);
        arm.weight.0 = arm.weight.0.saturating_add(part);
        rest = rest.saturating_sub(part);
    }
    if let Some(stable) = arms.get_mut(Role::Stable) {
        stable.weight.0 = stable.weight.0.saturating_add(rest);
    }
}

/// The arms appear; mode and TTL are the plan's.
pub(in crate::state) fn arms(cx: &mut Cx<'_>, r: &Rollout, desired: u32) -> Done {
    let mut d = cx.deployment(&r.deployment)?;
    d.desired = desired;
    if r.switched {
        if let Some(stable) = d.arms.get_mut(Role::Stable) {
            stable.want = desired;
        }
    } else {
        d.arms = arms_at_start(cx.s, &d, &r.to);
        if let Some(candidate) = d.arms.get_mut(Role::Candidate) {
            candidate.want = serving::wanted(cx.s, &r.deployment, &r.to);
        }
    }
    if d.route.is_some() {
        let weights = match r.form.mode {
            RouteMode::Weighted => d.arms.weights(),
            RouteMode::Switch => one_active(&d.arms),
        };
        routes::write(cx, &mut d, &weights, r.form);
    }
    cx.put_deployment(d);
    Ok(())
}

/// In a deployment that switches one version is active: the one with the largest share, of equal ones the one that
/// served before.
fn one_active(arms: &Arms) -> Weights {
    let most = arms.iter().max_by_key(|a| (a.weight, a.role == Role::Stable, !a.role.on_trial()));
    most.map(|a| Weights::all(a.role)).unwrap_or_default()
}
