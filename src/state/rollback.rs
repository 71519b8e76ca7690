//! Turning back, holding, promoting and ending a rollout: the engine's side of the life cycle.

use super::{
    Evidence, Reason, Rollout, RolloutPhase, RolloutStatus, StepStatus, assign, catalog, collect,
    context::{Cx, Done, guard},
    operator, outbox, routes, serving, steps,
};
use crate::model::{RolloutId, StepKind, WHOLE};

/// The running step fails with what was seen; without one, nothing happens.
fn fail_running(cx: &mut Cx<'_>, r: &mut Rollout, evidence: Option<&Evidence>) -> Done {
    if let Some(e) = evidence {
        steps::check_evidence(e)?;
    }
    if let Some((step, _)) = r.running() {
        steps::move_step(cx, r, step, StepStatus::Failed)?;
        if let Some(row) = r.steps.get_mut(step as usize) {
            row.evidence = evidence.cloned();
        }
    }
    outbox::drop_of(cx, r.id);
    Ok(())
}

/// `RollbackBegan`: fails the step and moves the traffic in one entry.
pub(super) fn began(cx: &mut Cx<'_>, id: RolloutId, seen: u64, reason: &Reason, evidence: Option<&Evidence>) -> Done {
    let mut r = cx.rollout_seen(id, seen)?;
    if r.is_way_back() {
        return guard(format!("{id} is on its way back already"));
    }
    fail_running(cx, &mut r, evidence)?;
    turn_back(cx, r, reason.clone())
}

/// Traffic first; the steps of the way back are compiled next.
pub(super) fn turn_back(cx: &mut Cx<'_>, mut r: Rollout, reason: Reason) -> Done {
    routes::back_to_stable(cx, &mut r, false)?;
    r.reason = Some(reason);
    cx.move_rollout(&mut r, RolloutStatus::RollingBack, "rolled back")?;
    r.phase = RolloutPhase::Undo;
    r.undo_compiled = false;
    (r.remainder, r.deadline_remainder, r.paused_at) = (None, None, None);
    cx.put_rollout(r.clone());
    assign::refresh(cx, &r.deployment);
    Ok(())
}

/// `RolloutPaused`: a policy holds it; the running step failed and may be tried again.
pub(super) fn paused(cx: &mut Cx<'_>, id: RolloutId, seen: u64, reason: &Reason, evidence: Option<&Evidence>) -> Done {
    let mut r = cx.rollout_seen(id, seen)?;
    if r.is_way_back() {
        return guard(format!("{id} is on its way back, which no policy holds"));
    }
    fail_running(cx, &mut r, evidence)?;
    r.reason = Some(reason.clone());
    operator::hold(cx, &mut r)?;
    cx.put_rollout(r.clone());
    assign::refresh(cx, &r.deployment);
    Ok(())
}

/// `PromotionBegan`: the step `promote` passes, tracks move unless a switch moved them, and all traffic is the new stable's.
pub(super) fn promotion_began(cx: &mut Cx<'_>, id: RolloutId, seen: u64) -> Done {
    let mut r = cx.rollout_seen(id, seen)?;
    match r.steps.get(r.cursor as usize) {
        Some(row) if row.step.kind == StepKind::Promote => {}
        Some(row) => return guard(format!("{} comes before the promotion", row.step.kind)),
        None => return guard("no promotion is planned"),
    }
    let mut d = cx.deployment(&r.deployment)?;
    if !r.switched {
        let have = serving::passing(&cx.s, &r.deployment, &r.to);
        let need = routes::need(cx, &r, WHOLE);
        // Once it carries all the traffic nothing rises any more; what failed since is refilled after the promotion.
        let carries = d.route.as_ref().is_some_and(|x| x.weights.candidate == WHOLE);
        if have < need && !carries {
            return guard(format!("{have} of {need} instances of {} pass", r.to));
        }
        routes::advance(cx, &mut d, &r);
    }
    d.as_is = None;
    cx.put_deployment(d);
    let step = r.cursor;
    cx.move_rollout(&mut r, RolloutStatus::Promoting, "promoted")?;
    steps::move_step(cx, &mut r, step, StepStatus::Passed)?;
    if let Some(row) = r.steps.get_mut(step as usize) {
        row.started_at = row.started_at.or(Some(cx.now()));
    }
    steps::advance_cursor(&mut r);
    cx.put_rollout(r.clone());
    catalog::settle(cx, &r);
    assign::refresh(cx, &r.deployment);
    let workers = assign::workers_of(&cx.s, &r.deployment);
    assign::commit(cx, &r.deployment, &workers);
    Ok(())
}

/// `RolloutFinished`.
pub(super) fn finished(
    cx: &mut Cx<'_>,
    id: RolloutId,
    seen: u64,
    status: RolloutStatus,
    reason: Option<&Reason>,
) -> Done {
    let mut r = cx.rollout_seen(id, seen)?;
    let all_done = r.cursor as usize >= r.steps.len();
    let ok = match (r.status, status) {
        (RolloutStatus::Promoting, RolloutStatus::Completed) => all_done,
        (RolloutStatus::RollingBack, RolloutStatus::RolledBack) => r.undo_compiled && all_done && r.from.is_some(),
        (RolloutStatus::RollingBack, RolloutStatus::Failed) => r.from.is_none() && (!r.undo_compiled || all_done),
        (RolloutStatus::Pending, RolloutStatus::Failed) => true,
        (
            RolloutStatus::Pending
            | RolloutStatus::Active
            | RolloutStatus::Paused
            | RolloutStatus::Promoting
            | RolloutStatus::RollingBack
            | RolloutStatus::Completed
            | RolloutStatus::RolledBack
            | RolloutStatus::Failed
            | RolloutStatus::Aborted,
            _,
        ) => false,
    };
    if !ok {
        return guard(format!(
            "{id} is {} at step {} of {} and cannot end as {status}",
            r.status,
            r.cursor,
            r.steps.len()
        ));
    }
    if let Some(reason) = reason {
        r.reason = Some(reason.clone());
    }
    if r.status == RolloutStatus::Pending && r.switched {
        // A return that moved the traffic at once and could not be compiled: what it moved to is stable now, and stays.
        r.switched = false;
    }
    cx.move_rollout(&mut r, status, "ended")?;
    let to = r.to.clone();
    let mut d = cx.deployment(&r.deployment)?;
    match status {
        RolloutStatus::Completed => {
            let now = cx.now();
            if let Some(t) = d.tracks.previous.as_mut().filter(|t| t.retire_at.is_none()) {
                // What is left of it stands on lost workers, or came back from one: the keeper's.
                t.retire_at = Some(now);
            }
        }
        RolloutStatus::RolledBack | RolloutStatus::Failed => {
            d.as_is = None;
            d.tracks.previous.take_if(|t| t.retire_at.is_none());
            routes::all_on_stable(cx, &mut d);
            if d.tracks.candidate.as_ref().is_some_and(|t| t.pair == to) && r.phase == RolloutPhase::Undo {
                d.tracks.candidate = None;
            }
        }
        RolloutStatus::Pending
        | RolloutStatus::Active
        | RolloutStatus::Paused
        | RolloutStatus::Promoting
        | RolloutStatus::RollingBack
        | RolloutStatus::Aborted => {}
    }
    cx.put_deployment(d);
    end(cx, r.clone())?;
    catalog::settle(cx, &r);
    Ok(())
}

/// What every end has in common.
pub(super) fn end(cx: &mut Cx<'_>, mut r: Rollout) -> Done {
    let (id, deployment) = (r.id, r.deployment.clone());
    r.ended_at = Some(cx.now());
    r.ended_wall = cx.s.wall;
    (r.remainder, r.deadline_remainder, r.paused_at) = (None, None, None);
    cx.put_rollout(r);
    let mut d = cx.deployment(&deployment)?;
    d.live = None;
    d.last = Some(id);
    cx.put_deployment(d);
    outbox::drop_of(cx, id);
    collect::deployment(cx, &deployment);
    assign::refresh(cx, &deployment);
    Ok(())
}
