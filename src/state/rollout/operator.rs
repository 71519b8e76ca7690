//! What an operator's verbs on a rollout share. They are guarded by its id and life cycle alone, so that nobody's abort
//! at night is refused as stale.
//!
//! Not here: the verbs themselves (`pause`, `resume`, `abort`, `promote`, `rollback`).

use super::{as_is, back, outbox, steps, turn};
use crate::state::{
    base::{lifecycle, prelude::*},
    catalog::statuses,
    fleet::{assign, serving},
};

/// Stops the clocks of a rollout.
pub(in crate::state) fn hold(cx: &mut Cx<'_>, r: &mut Rollout) -> Done {
    cx.move_rollout(r, RolloutStatus::Paused, "paused")?;
    r.paused_at = Some(cx.now());
    Ok(())
}

/// Lets the clocks of a rollout run on: everything that would have run out is later by the length of the pause.
pub(in crate::state) fn release(cx: &mut Cx<'_>, r: &mut Rollout) {
    let held = r.paused_at.map_or(Period(0), |t| cx.now().since(t));
    let cursor = r.cursor as usize;
    if let Some(row) = r.steps.get_mut(cursor).filter(|s| s.status == StepStatus::Running) {
        let StepRow { until, deadline, batch, .. } = row;
        *until = until.map(|t| t.plus(held));
        *deadline = deadline.map(|t| t.plus(held));
        if let Some(b) = batch {
            b.deadline = b.deadline.plus(held);
            b.next_at = b.next_at.plus(held);
        }
    }
    r.paused_at = None;
}

/// Ends a rollout that goes forward, with the traffic on stable.
pub(in crate::state) fn stop(cx: &mut Cx<'_>, mut r: Rollout) -> Done {
    let was_pending = r.status == RolloutStatus::Pending;
    cancel_running(cx, &mut r)?;
    if !was_pending {
        back::back_to_stable(cx, &mut r, true)?;
    }
    r.reason = Some(Reason::Operator { principal: cx.principal.to_string() });
    cx.move_rollout(&mut r, RolloutStatus::Aborted, "aborted")?;
    turn::end(cx, r.clone())?;
    let keep = cx.now().plus(cx.settings().abort_keep);
    let mut d = cx.deployment(&r.deployment)?;
    if let Some(c) = d.arms.get_mut(Role::Candidate).filter(|c| c.pair == r.to) {
        c.retire_at = Some(keep);
        c.want = serving::wanted(cx.s, &d.id, &r.to);
    }
    cx.put_deployment(d);
    statuses::settle(cx, &r);
    assign::refresh(cx, &r.deployment);
    Ok(())
}

/// `start --replace`: ends whatever is live, so that another rollout can begin in the same entry.
pub(in crate::state) fn replace(cx: &mut Cx<'_>, id: RolloutId) -> Done {
    let r = cx.rollout(id)?;
    match r.status {
        RolloutStatus::Pending | RolloutStatus::Active | RolloutStatus::Paused | RolloutStatus::RollingBack => {}
        RolloutStatus::Promoting => {
            return Err(Rejection::Precondition(format!(
                "{id} is promoting: it completes once the old instances are gone, and cannot be replaced any more; \
                 `slipway rollout rollback {id}` takes it back"
            )));
        }
        RolloutStatus::Completed | RolloutStatus::RolledBack | RolloutStatus::Failed | RolloutStatus::Aborted => {
            return Err(lifecycle::refused(&r, "replaced"));
        }
    }
    if r.is_rollback() { as_is::end_here(cx, r) } else { stop(cx, r) }
}

/// The running step is cancelled; what it had to deliver is forgotten.
pub(in crate::state) fn cancel_running(cx: &mut Cx<'_>, r: &mut Rollout) -> Done {
    if let Some((step, _)) = r.running() {
        steps::move_step(cx, r, step, StepStatus::Cancelled)?;
    }
    outbox::drop_of(cx, r.id);
    Ok(())
}
