//! Settings of the serving leases: when they bind, their terms, and what a bound deployment answers after their end.
//!
//! Invariants: terms and policies change only while nothing is armed for a switch, and old terms are waited out first; a change of a
//! policy is confirmed anew by every server. Not here: the law of leases (`traffic::lease`), switches (`switches`).

use std::collections::BTreeSet;

use super::{
    Arm, ArmOwner, LeaseMode, OnExpiry, Rejection,
    context::{Cx, Done},
    switches,
};
use crate::{
    model::{DeploymentId, Period},
    traffic::lease::Terms,
};

/// Longest time of stale answers.
const MAX_STALE: Period = Period::minutes(60 * 24 * 7);

/// `LeaseSet`.
pub(super) fn set(cx: &mut Cx<'_>, mode: Option<LeaseMode>, terms: Option<Terms>) -> Done {
    if let Some(t) = &terms {
        t.check().map_err(Rejection::Invalid)?;
    }
    if cx.s.fences.open().next().is_some() {
        return Err(Rejection::Conflict { what: "a switch is under way: try again when it is over".into() });
    }
    for id in cx.s.fences.arms.keys() {
        not_armed(cx, id)?;
    }
    let arm = Arm { index: cx.at.index, since: cx.now(), owner: ArmOwner::Cluster, confirmed: BTreeSet::new() };
    switches::edit(cx, |f| {
        if let Some(new) = terms.filter(|t| *t != f.terms) {
            f.floor = Some((f.waited(), None));
            f.terms = new;
        }
        if let Some(mode) = mode.filter(|m| *m != f.mode) {
            f.mode = mode;
            f.always = match mode {
                LeaseMode::Always => Some(arm),
                LeaseMode::Armed => None,
            };
        }
    });
    Ok(())
}

/// Refuses while a rollout's step switches the deployment. Servers that confirmed the arm go by the policy that they knew then, and one
/// that is cut off goes on doing so: it must not be judged by a shorter one.
fn not_armed(cx: &Cx<'_>, id: &DeploymentId) -> Done {
    match cx.s.fences.arms.get(id).map(|arm| arm.owner) {
        Some(ArmOwner::Step(rollout, _)) => Err(Rejection::Conflict {
            what: format!("{id} is being switched by its rollout {rollout}: try again when that step is over"),
        }),
        Some(ArmOwner::Cluster | ArmOwner::Switch(_)) | None => Ok(()),
    }
}

/// `ExpirySet`.
pub(super) fn expiry_set(cx: &mut Cx<'_>, id: &DeploymentId, to: Option<OnExpiry>) -> Done {
    cx.deployment(id)?;
    if to.is_some_and(|p| p.stale() > MAX_STALE) {
        return Err(Rejection::Invalid(format!("stale answers for more than {MAX_STALE} make no sense")));
    }
    switches::not_switching(cx, id)?;
    not_armed(cx, id)?;
    let (index, since) = (cx.at.index, cx.now());
    switches::edit(cx, |f| {
        match to {
            Some(policy) => drop(f.on_expiry.insert(id.clone(), policy)),
            None => drop(f.on_expiry.remove(id)),
        }
        // A server that has not served this entry may go on with stale answers for as long as the policy before allowed. So the mode
        // `always` is confirmed anew, and only who knows this policy can be waited out by it.
        if let Some(arm) = &mut f.always {
            (arm.index, arm.since) = (index, since);
            arm.confirmed.clear();
        }
    });
    Ok(())
}
