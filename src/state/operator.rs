//! An operator's verbs on a rollout. Guarded by its id and life cycle alone, so that nobody's abort at night is refused as stale.

use super::{
    Reason, Rejection, Rollout, RolloutStatus, StepRow, StepStatus, as_is, assign, catalog,
    context::{Cx, Done},
    give_back, outbox, rollback, routes, serving, steps,
};
use crate::model::{Millis, Period, RolloutId, StepKind};

pub(super) fn lifecycle(r: &Rollout, verb: &str) -> Rejection {
    Rejection::Lifecycle { rollout: r.id, status: r.status.to_string(), verb: verb.into() }
}

/// `Pause`.
pub(super) fn pause(cx: &mut Cx<'_>, id: RolloutId) -> Done {
    let mut r = cx.rollout(id)?;
    if r.status != RolloutStatus::Active {
        return Err(lifecycle(&r, "paused"));
    }
    r.reason = Some(Reason::Operator { principal: cx.principal.to_string() });
    hold(cx, &mut r)?;
    cx.put_rollout(r);
    Ok(())
}

/// Stops the clocks of a rollout.
pub(super) fn hold(cx: &mut Cx<'_>, r: &mut Rollout) -> Done {
    cx.move_rollout(r, RolloutStatus::Paused, "paused")?;
    let now = cx.now();
    let rest = |t: Option<Millis>| t.map(|t| t.since(now));
    let running = r.running().map(|(_, s)| (rest(s.until), rest(s.deadline)));
    (r.remainder, r.deadline_remainder) = running.unwrap_or((None, None));
    r.paused_at = Some(now);
    Ok(())
}

/// Lets the clocks of a rollout run on: everything that would have run out is later by the length of the pause.
pub(super) fn release(cx: &mut Cx<'_>, r: &mut Rollout) {
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
    (r.remainder, r.deadline_remainder, r.paused_at) = (None, None, None);
}

/// `Resume`.
pub(super) fn resume(cx: &mut Cx<'_>, id: RolloutId) -> Done {
    let mut r = cx.rollout(id)?;
    if r.status != RolloutStatus::Paused {
        return Err(lifecycle(&r, "resumed"));
    }
    release(cx, &mut r);
    r.reason = None;
    cx.move_rollout(&mut r, RolloutStatus::Active, "resumed")?;
    cx.put_rollout(r);
    Ok(())
}

/// `Abort`: traffic on stable; candidates stay for a while, to look at. It never moves traffic to a version that was left.
pub(super) fn abort(cx: &mut Cx<'_>, id: RolloutId) -> Done {
    let r = cx.rollout(id)?;
    match r.status {
        RolloutStatus::Pending | RolloutStatus::Active | RolloutStatus::Paused => {}
        RolloutStatus::RollingBack => return Err(use_as_is(&r)),
        RolloutStatus::Promoting
        | RolloutStatus::Completed
        | RolloutStatus::RolledBack
        | RolloutStatus::Failed
        | RolloutStatus::Aborted => return Err(lifecycle(&r, "aborted")),
    }
    let moved = r.switched || cx.deployment(&r.deployment)?.route.is_some_and(|x| x.weights.candidate.0 > 0);
    if r.is_way_back() && moved {
        return Err(use_as_is(&r));
    }
    stop(cx, r)
}

fn use_as_is(r: &Rollout) -> Rejection {
    let id = r.id;
    Rejection::Precondition(format!(
        "{id} takes the traffic back, and aborting it would move traffic to the version that was left: `slipway rollout abort {id} \
         --as-is` ends it where it stands, `slipway rollout start {} --to VERSION --replace` starts another one instead",
        r.deployment
    ))
}

/// Ends a rollout that goes forward, with the traffic on stable.
fn stop(cx: &mut Cx<'_>, mut r: Rollout) -> Done {
    let was_pending = r.status == RolloutStatus::Pending;
    cancel_running(cx, &mut r)?;
    if !was_pending {
        routes::back_to_stable(cx, &mut r, true)?;
    }
    r.reason = Some(Reason::Operator { principal: cx.principal.to_string() });
    cx.move_rollout(&mut r, RolloutStatus::Aborted, "aborted")?;
    rollback::end(cx, r.clone())?;
    let keep = cx.now().plus(cx.settings().abort_keep);
    let mut d = cx.deployment(&r.deployment)?;
    if let Some(c) = d.tracks.candidate.as_mut().filter(|c| c.pair == r.to) {
        c.retire_at = Some(keep);
        c.want = serving::wanted(&cx.s, &d.id, &r.to);
    }
    cx.put_deployment(d);
    catalog::settle(cx, &r);
    assign::refresh(cx, &r.deployment);
    Ok(())
}

/// `start --replace`: ends whatever is live, so that another rollout can begin in the same entry.
pub(super) fn replace(cx: &mut Cx<'_>, id: RolloutId) -> Done {
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
            return Err(lifecycle(&r, "replaced"));
        }
    }
    if r.is_way_back() { as_is::end_here(cx, r) } else { stop(cx, r) }
}

/// The running step is cancelled; what it had to deliver is forgotten.
pub(super) fn cancel_running(cx: &mut Cx<'_>, r: &mut Rollout) -> Done {
    if let Some((step, _)) = r.running() {
        steps::move_step(cx, r, step, StepStatus::Cancelled)?;
    }
    outbox::drop_of(cx, r.id);
    Ok(())
}

/// Steps that `promote` may pass over one by one: they only wait.
fn only_waits(kind: &StepKind) -> bool {
    match kind {
        StepKind::Bake { .. } | StepKind::Smoke { .. } => true,
        StepKind::Stage
        | StepKind::Install { .. }
        | StepKind::Route { .. }
        | StepKind::Switch
        | StepKind::Promote
        | StepKind::Retire { .. } => false,
    }
}

/// `Promote`: ends the step that waits; with `full` everything but the last installation and route is passed over.
pub(super) fn promote(cx: &mut Cx<'_>, id: RolloutId, full: bool) -> Done {
    let mut r = cx.rollout(id)?;
    match r.status {
        RolloutStatus::Active | RolloutStatus::Paused => {}
        RolloutStatus::Pending
        | RolloutStatus::Promoting
        | RolloutStatus::RollingBack
        | RolloutStatus::Completed
        | RolloutStatus::RolledBack
        | RolloutStatus::Failed
        | RolloutStatus::Aborted => return Err(lifecycle(&r, "promoted")),
    }
    let skip: Vec<u32> = if full { to_skip(&r) } else { vec![r.cursor] };
    if !full {
        match r.steps.get(r.cursor as usize) {
            Some(row) if only_waits(&row.step.kind) => {}
            Some(row) => {
                return Err(Rejection::Precondition(format!(
                    "{id} is at {} ({}), which cannot be passed over: wait for it, or `promote --full` to skip the waits that follow",
                    row.step.kind, row.step.group
                )));
            }
            None => return Err(Rejection::Precondition(format!("{id} has no step left"))),
        }
    }
    if skip.is_empty() {
        return Err(Rejection::Precondition(format!("{id} has nothing left to skip: it completes by itself")));
    }
    for step in skip {
        steps::move_step(cx, &mut r, step, StepStatus::Skipped)?;
    }
    outbox::drop_of(cx, id);
    steps::advance_cursor(&mut r);
    if r.status == RolloutStatus::Paused {
        release(cx, &mut r);
        r.reason = None;
        cx.move_rollout(&mut r, RolloutStatus::Active, "promoted")?;
    }
    cx.put_rollout(r.clone());
    assign::refresh(cx, &r.deployment);
    Ok(())
}

fn to_skip(r: &Rollout) -> Vec<u32> {
    let last = |f: fn(&StepKind) -> bool| r.steps.iter().rposition(|s| f(&s.step.kind));
    let install = last(|k| matches!(k, StepKind::Install { .. }));
    let route = last(|k| matches!(k, StepKind::Route { .. }));
    let passes = |n: usize, s: &StepRow| match &s.step.kind {
        StepKind::Bake { .. } | StepKind::Smoke { .. } => true,
        StepKind::Install { .. } => Some(n) != install,
        StepKind::Route { .. } => Some(n) != route,
        StepKind::Stage | StepKind::Switch | StepKind::Promote | StepKind::Retire { .. } => false,
    };
    let open = |s: &StepRow| match s.status {
        StepStatus::Waiting | StepStatus::Running | StepStatus::Failed => true,
        StepStatus::Passed | StepStatus::Skipped | StepStatus::Cancelled | StepStatus::Undone => false,
    };
    let chosen = r.steps.iter().enumerate().filter(|(n, s)| open(s) && passes(*n, s));
    chosen.filter_map(|(n, _)| u32::try_from(n).ok()).collect()
}

/// `Rollback`: unwinds a live rollout, or starts a return from the newest one that completed.
pub(super) fn rollback(cx: &mut Cx<'_>, id: RolloutId) -> Done {
    let mut r = cx.rollout(id)?;
    match r.status {
        RolloutStatus::Pending
        | RolloutStatus::Active
        | RolloutStatus::Paused
        | RolloutStatus::Promoting
        | RolloutStatus::Completed
            if r.is_way_back() =>
        {
            Err(give_back::not_forward_again(&r))
        }
        RolloutStatus::Active | RolloutStatus::Paused | RolloutStatus::Promoting => {
            if r.from.is_none() {
                return Err(Rejection::Precondition(format!(
                    "{id} is the first rollout of {}: there is nothing to return to; `slipway rollout abort` stops it",
                    r.deployment
                )));
            }
            cancel_running(cx, &mut r)?;
            let reason = Reason::Operator { principal: cx.principal.to_string() };
            rollback::turn_back(cx, r, reason)
        }
        RolloutStatus::Completed => give_back::begin(cx, &r),
        RolloutStatus::RolledBack | RolloutStatus::Failed | RolloutStatus::Aborted => Err(give_back::over(cx, &r)),
        RolloutStatus::Pending | RolloutStatus::RollingBack => Err(lifecycle(&r, "rolled back")),
    }
}
