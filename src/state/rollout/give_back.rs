//! Going back from a rollout that has completed: a return, which is a rollout of its own.
//!
//! Invariants: only what made the stable version can be gone back from, whatever was tried and ended since; a return is
//! never gone back from, as that would be forward again. Not here: turning a live rollout back (`rollback`).

use super::{back, begin};
use crate::state::{
    base::prelude::*,
    catalog::statuses,
    fleet::{assign, serving},
    traffic::{returns, switches},
};

/// A rollback of what has ended by itself or by somebody's word: what would go back further is another wish, and named.
pub(in crate::state) fn over(cx: &Cx<'_>, r: &Rollout) -> Rejection {
    let d = cx.s.deployments.get(&r.deployment);
    let runs = d.and_then(|d| d.arms.pair(Role::Stable));
    let runs = runs.map_or_else(|| "runs nothing".into(), |pair| format!("runs {}", pair.version));
    let further = d.and_then(|d| cx.s.undoable(d)).filter(|r| !r.is_rollback());
    let further = further.and_then(|r| Some((r.id, r.from.as_ref()?.version.clone())));
    let further = further.map_or_else(String::new, |(id, version)| {
        format!(": `slipway rollout rollback {id}` goes back further, to {version}")
    });
    Rejection::Precondition(format!("{} is {} already, and {} {runs}{further}", r.id, r.status, r.deployment))
}

/// A rollback asked for again: going forward is another wish and has another verb.
pub(in crate::state) fn not_forward_again(r: &Rollout) -> Rejection {
    let back = if r.status.is_terminal() {
        format!("{} is back on {} already, by {}", r.deployment, r.to.version, r.id)
    } else {
        format!("{} is being rolled back to {} already, by {}", r.deployment, r.to.version, r.id)
    };
    let forward = r.from.as_ref().map_or_else(String::new, |from| {
        format!(": `slipway rollout start {} --to {}` goes forward again", r.deployment, from.version)
    });
    Rejection::Precondition(format!("{back}{forward}"))
}

/// Starts a return. When everything it returns to runs and passes, this entry moves the traffic.
pub(in crate::state) fn begin(cx: &mut Cx<'_>, done: &Rollout) -> Done {
    let mut d = cx.unstopped(&done.deployment)?;
    if let Some(rollout) = d.live {
        return Err(Rejection::Busy { rollout });
    }
    switches::not_switching(cx, &d.id)?;
    if let Some(by) = done.undone_by
        && cx.s.rollouts.get(&by).is_some_and(|r| r.status == RolloutStatus::Completed)
    {
        return Err(Rejection::Precondition(format!("{} is undone already, by {by}", done.id)));
    }
    if cx.s.undoable(&d).map(|r| r.id) != Some(done.id) {
        let newest = cx.s.rollouts.of(&d.id).rfind(|r| r.status == RolloutStatus::Completed && r.id != done.id);
        let newest = newest.map_or_else(String::new, |r| format!(": the newest that completed is {}", r.id));
        return Err(Rejection::Precondition(format!("{} did not make what {} runs now{newest}", done.id, d.id)));
    }
    let Some(to) = done.from.clone() else {
        return Err(Rejection::Precondition(format!(
            "{} was the first rollout of {}: there is nothing to return to",
            done.id, d.id
        )));
    };
    if d.arms.pair(Role::Stable) == Some(&to) {
        return Err(Rejection::Precondition(format!("{} is back on {} already", d.id, to.version)));
    }
    let known = cx.s.releases.get(&(d.id.service.clone(), to.version.clone()));
    if known.is_none_or(|r| r.digest != to.digest || r.status == ReleaseStatus::Retired)
        || cx.s.spec(&d.id, to.spec).is_none()
    {
        return Err(Rejection::Precondition(format!("{} {to} is not kept any more: start a rollout", d.id.service)));
    }
    let kind = RolloutKind::Return { undoes: done.id };
    let from = d.arms.pair(Role::Stable).cloned();
    let mut r = begin::new_rollout(cx, &d, kind, from, to, done.params.clone(), done.strategy.clone());
    let id = r.id;
    r.desired = d.desired;
    r.reason = Some(Reason::Operator { principal: cx.principal.to_string() });
    d.live = Some(id);
    begin::announce(cx, &r);
    if d.desired > 0 && serving::passing(cx.s, &d.id, &r.to) >= d.desired {
        back::advance(cx, &mut d, &r);
        r.switched = true;
        r.traffic_back_at = Some(cx.now());
        if let Some(from) = &r.from {
            returns::began(cx, &d, id, &from.version);
        }
    }
    cx.put_deployment(d);
    statuses::settle(cx, &r);
    let mut undone = done.clone();
    undone.undone_by = Some(id);
    cx.put_rollout(undone);
    cx.put_rollout(r.clone());
    assign::refresh(cx, &r.deployment);
    Ok(())
}
