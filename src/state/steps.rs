//! Steps: compiled, started, ended. The condition of each kind's end is recomputed from committed rows.

use super::{
    Batch, EventBody, Evidence, Permit, Rejection, Rollout, RolloutPhase, RolloutStatus, State, StepRow, StepStatus,
    Verdict, assign,
    assign::Allow,
    batches, catalog, codec,
    context::{Cx, Done, guard},
    drain, lifecycle, opening, outbox, routes, serving, switches,
};
use crate::model::{
    BatchMode, FailureAction, InstanceId, Life, Millis, OnNoData, Pair, Period, RolloutId, Routing, Step, StepId,
    StepKind, WHOLE, WorkerName,
};

/// Most steps of one phase.
const MAX_STEPS: usize = 500;
/// Most names of workers that a rollout went without which are kept.
const MAX_WITHOUT: usize = 100;
/// Largest evidence, in bytes as encoded.
const MAX_EVIDENCE: usize = 16 * 1024;

/// The pair that the present phase installs.
pub(super) fn target(r: &Rollout) -> Option<&Pair> {
    match r.phase {
        RolloutPhase::Forward => Some(&r.to),
        RolloutPhase::Undo => r.from.as_ref(),
    }
}

/// Failed instances of the new pair that `failure_action: continue` counts as done.
pub(super) fn counted_failed(s: &State, r: &Rollout) -> u32 {
    match r.params.failure_action {
        FailureAction::Pause | FailureAction::Rollback => 0,
        FailureAction::Continue if r.is_way_back() => 0,
        FailureAction::Continue => {
            let failed = s
                .instances_of(&r.deployment)
                .filter(|i| i.made_by == Some(r.id) && i.pair == r.to && i.life == Life::Failed);
            u32::try_from(failed.count()).unwrap_or(u32::MAX)
        }
    }
}

/// The running step at a place, or a refused guard.
pub(super) fn running(r: &Rollout, step: u32) -> Result<&StepRow, Rejection> {
    match r.running() {
        Some((at, row)) if at == step => Ok(row),
        Some((at, _)) => guard(format!("step {at} is running, not {step}")),
        None => guard(format!("step {step} is not running")),
    }
}

/// The cursor moves over everything that has ended.
pub(super) fn advance_cursor(r: &mut Rollout) {
    let open = |s: &StepRow| match s.status {
        StepStatus::Waiting | StepStatus::Running | StepStatus::Failed => true,
        StepStatus::Passed | StepStatus::Skipped | StepStatus::Cancelled | StepStatus::Undone => false,
    };
    let next = r.steps.iter().position(open).unwrap_or(r.steps.len());
    r.cursor = u32::try_from(next).unwrap_or(u32::MAX);
}

/// Moves a step along the table, with its event.
pub(super) fn move_step(cx: &mut Cx<'_>, r: &mut Rollout, step: u32, to: StepStatus) -> Done {
    let now = cx.now();
    let Some(row) = r.steps.get_mut(step as usize) else { return guard(format!("there is no step {step}")) };
    if !lifecycle::step(row.status, to) {
        return guard(format!("step {step} is {} and cannot become {}", word(row.status), word(to)));
    }
    row.status = to;
    match to {
        StepStatus::Waiting | StepStatus::Running | StepStatus::Undone => {}
        StepStatus::Passed | StepStatus::Failed | StepStatus::Skipped | StepStatus::Cancelled => {
            row.ended_at = Some(now);
        }
    }
    cx.emit(EventBody::StepChanged {
        rollout: r.id,
        deployment: r.deployment.clone(),
        step,
        group: row.step.group.clone(),
        kind: row.step.kind.name().into(),
        status: word(to).into(),
    });
    Ok(())
}

/// A status as people read it.
pub(super) fn word(s: StepStatus) -> &'static str {
    match s {
        StepStatus::Waiting => "waiting",
        StepStatus::Running => "running",
        StepStatus::Passed => "passed",
        StepStatus::Failed => "failed",
        StepStatus::Skipped => "skipped",
        StepStatus::Cancelled => "cancelled",
        StepStatus::Undone => "undone",
    }
}

/// Refuses evidence that is too large to keep.
pub(super) fn check_evidence(e: &Evidence) -> Done {
    let size = codec::encode_plain(e).map(|b| b.len()).unwrap_or(usize::MAX);
    if size > MAX_EVIDENCE { guard(format!("the evidence takes {size} bytes, over {MAX_EVIDENCE}")) } else { Ok(()) }
}

/// `StepsCompiled`.
pub(super) fn compiled(
    cx: &mut Cx<'_>,
    id: RolloutId,
    seen: u64,
    phase: RolloutPhase,
    desired: u32,
    order: &[WorkerName],
    steps: &[Step],
) -> Done {
    let mut r = cx.rollout_seen(id, seen)?;
    let limit = cx.settings().limits.instances_per_deployment;
    if steps.len() > MAX_STEPS || desired > limit {
        return guard(format!(
            "{} steps and {desired} instances are over the limits {MAX_STEPS}, {limit}",
            steps.len()
        ));
    }
    if let Some(w) = order.iter().find(|w| !cx.s.workers.contains_key(*w)) {
        return guard(format!("{w} is no worker"));
    }
    let rows = steps.iter().map(|s| fresh(s.clone())).collect();
    match phase {
        RolloutPhase::Forward => {
            if r.status != RolloutStatus::Pending {
                return guard(format!("{id} is {}", r.status));
            }
            if desired == 0 || steps.is_empty() {
                return guard("nothing to do: no instance is desired");
            }
            cx.move_rollout(&mut r, RolloutStatus::Active, "started")?;
            opening::tracks(cx, &r, desired)?;
            catalog::settle(cx, &r);
        }
        RolloutPhase::Undo => {
            if r.status != RolloutStatus::RollingBack || r.undo_compiled {
                return guard(format!("{id} is {} and its way back is compiled: {}", r.status, r.undo_compiled));
            }
            r.forward_steps = std::mem::take(&mut r.steps);
            for row in &mut r.forward_steps {
                if row.status == StepStatus::Passed {
                    row.status = StepStatus::Undone;
                }
            }
            r.undo_compiled = true;
        }
    }
    r.desired = desired;
    r.order = order.to_vec();
    r.without = without(cx, &r, order);
    r.steps = rows;
    r.cursor = 0;
    cx.put_rollout(r.clone());
    assign::refresh(cx, &r.deployment);
    Ok(())
}

/// Lost workers that the placement chooses and that are not in the order.
fn without(cx: &Cx<'_>, r: &Rollout, order: &[WorkerName]) -> Vec<WorkerName> {
    let Some(spec) = target(r).and_then(|pair| cx.s.spec(&r.deployment, pair.spec)) else { return Vec::new() };
    let all = cx.s.workers.carrying(&spec.placement.workers);
    let lost = all.filter(|w| w.presence == super::Presence::Lost && !order.contains(&w.name));
    lost.map(|w| w.name.clone()).take(MAX_WITHOUT).collect()
}

fn fresh(step: Step) -> StepRow {
    StepRow {
        step,
        status: StepStatus::Waiting,
        attempt: 0,
        step_id: None,
        started_at: None,
        until: None,
        deadline: None,
        batch: None,
        hook: None,
        routed: None,
        evidence: None,
        ended_at: None,
    }
}

/// `StepStarted`.
pub(super) fn started(cx: &mut Cx<'_>, id: RolloutId, seen: u64, step: u32, attempt: u32) -> Done {
    let mut r = cx.rollout_seen(id, seen)?;
    let allowed = match (r.status, r.phase) {
        (RolloutStatus::Active | RolloutStatus::Promoting, RolloutPhase::Forward) => true,
        (RolloutStatus::RollingBack, RolloutPhase::Undo) => r.undo_compiled,
        (
            RolloutStatus::Pending
            | RolloutStatus::Paused
            | RolloutStatus::Completed
            | RolloutStatus::RolledBack
            | RolloutStatus::Failed
            | RolloutStatus::Aborted
            | RolloutStatus::Active
            | RolloutStatus::Promoting
            | RolloutStatus::RollingBack,
            _,
        ) => false,
    };
    if !allowed {
        return guard(format!("{id} is {}", r.status));
    }
    if step != r.cursor {
        return guard(format!("step {} is next, not {step}", r.cursor));
    }
    if r.status == RolloutStatus::Active {
        return_is_staged(cx, &r)?;
    }
    move_step(cx, &mut r, step, StepStatus::Running)?;
    let (now, index) = (cx.now(), cx.at.index);
    let deadline = r.params.deadline;
    let Some(row) = r.steps.get_mut(step as usize) else { return guard(format!("there is no step {step}")) };
    if attempt != row.attempt.saturating_add(1) {
        return guard(format!("the next attempt is {}", row.attempt.saturating_add(1)));
    }
    row.attempt = attempt;
    row.step_id = Some(StepId(index));
    row.started_at = Some(now);
    row.ended_at = None;
    row.until = None;
    row.deadline = Some(now.plus(deadline));
    row.batch = row.batch.take().and_then(|b| carry_over(&cx.s, b, now));
    row.hook = None;
    row.routed = None;
    row.evidence = None;
    let kind = row.step.kind.clone();
    if let StepKind::Bake { hold, .. } = &kind {
        row.until = Some(now.plus(*hold));
        row.deadline = None;
    }
    cx.put_rollout(r.clone());
    match &kind {
        StepKind::Stage => {
            for w in r.order.clone() {
                assign::edit(cx, &w, &r.deployment, Allow::Keep, true, |_| ());
            }
        }
        StepKind::Install { share, mode, routing, .. } => {
            if *routing == Routing::ByCapacity {
                raise_cap(cx, &r, *share)?;
            }
            if *mode == BatchMode::Replace {
                batches::make_room(cx, &r);
            }
        }
        StepKind::Route { weight } => raise_cap(cx, &r, *weight)?,
        StepKind::Smoke { path } => outbox::queue_smoke(cx, &r, step, path)?,
        StepKind::Retire { delay } if delay.0 == 0 => begin_retire(cx, &r)?,
        StepKind::Switch => switches::arm_step(cx, r.id, step, &r.deployment),
        StepKind::Bake { .. } | StepKind::Promote | StepKind::Retire { .. } => {}
    }
    assign::refresh(cx, &r.deployment);
    Ok(())
}

/// What a retry keeps of a batch that had not passed: its instances that are still wanted. Otherwise nothing would ever drain what
/// they were to replace.
fn carry_over(s: &State, mut b: Batch, now: Millis) -> Option<Batch> {
    b.added.retain(|id| s.instances.get(id).is_some_and(|i| i.life.is_wanted()));
    if b.passed || b.added.is_empty() {
        return None;
    }
    b.deadline = now.plus(b.deadline.since(b.started_at));
    (b.started_at, b.next_at) = (now, now);
    Some(b)
}

/// Readiness to roll back is an invariant: every worker that runs the release to return to has it unpacked.
fn return_is_staged(cx: &Cx<'_>, r: &Rollout) -> Done {
    let Some(from) = &r.from else { return Ok(()) };
    let runs = |i: &&super::Instance| &i.pair == from && i.life == Life::Running && serving::ready(&cx.s, i);
    for i in cx.s.instances_of(&r.deployment).filter(runs) {
        if cx.s.workers.get(&i.worker).is_some_and(|w| w.staged.binary_search(&from.digest).is_err()) {
            return guard(format!("{} no longer has {} unpacked, which a rollback would need", i.worker, from.version));
        }
    }
    Ok(())
}

/// Raises the candidate's cap for a step of the forward phase.
fn raise_cap(cx: &mut Cx<'_>, r: &Rollout, cap: crate::model::BasisPoints) -> Done {
    if r.phase == RolloutPhase::Undo {
        return Ok(());
    }
    let mut d = cx.deployment(&r.deployment)?;
    if let Some(route) = &mut d.route {
        route.cap = cap.max(route.weights.candidate).min(WHOLE);
    }
    cx.put_deployment(d);
    Ok(())
}

/// What a `Retire` concerns.
fn retiring(cx: &Cx<'_>, r: &Rollout) -> Vec<super::Instance> {
    let Some(d) = cx.s.deployments.get(&r.deployment) else { return Vec::new() };
    cx.s.instances_of(&r.deployment).filter(|i| i.life.is_live() && !d.stays(r.phase, &i.pair)).cloned().collect()
}

fn begin_retire(cx: &mut Cx<'_>, r: &Rollout) -> Done {
    let mut d = cx.deployment(&r.deployment)?;
    if r.phase == RolloutPhase::Undo {
        d.as_is = None;
        routes::all_on_stable(cx, &mut d);
        cx.put_deployment(d);
        let mut row = cx.rollout(r.id)?;
        if row.traffic_back_at.is_none() && r.from.is_some() {
            row.traffic_back_at = Some(cx.now());
            cx.put_rollout(row);
        }
    }
    let ids: Vec<InstanceId> = retiring(cx, r).iter().map(|i| i.id).collect();
    drain::begin(cx, &ids);
    Ok(())
}

/// `StepEnded`.
pub(super) fn ended(cx: &mut Cx<'_>, id: RolloutId, seen: u64, step: u32, evidence: &Evidence) -> Done {
    let mut r = cx.rollout_seen(id, seen)?;
    let row = running(&r, step)?.clone();
    match r.status {
        RolloutStatus::Active | RolloutStatus::Promoting | RolloutStatus::RollingBack => {}
        RolloutStatus::Pending
        | RolloutStatus::Paused
        | RolloutStatus::Completed
        | RolloutStatus::RolledBack
        | RolloutStatus::Failed
        | RolloutStatus::Aborted => return guard(format!("{id} is {}", r.status)),
    }
    check_evidence(evidence)?;
    condition(cx, &r, &row, evidence)?;
    move_step(cx, &mut r, step, StepStatus::Passed)?;
    if let Some(row) = r.steps.get_mut(step as usize) {
        row.evidence = Some(evidence.clone());
    }
    advance_cursor(&mut r);
    cx.put_rollout(r.clone());
    if let StepKind::Retire { delay } = &row.step.kind {
        end_retire(cx, &r, *delay)?;
    }
    outbox::drop_of(cx, id);
    assign::refresh(cx, &r.deployment);
    Ok(())
}

fn end_retire(cx: &mut Cx<'_>, r: &Rollout, delay: Period) -> Done {
    let mut d = cx.deployment(&r.deployment)?;
    let at = cx.now().plus(delay);
    if delay.0 > 0 {
        if let Some(previous) = d.tracks.previous.as_mut() {
            previous.retire_at = Some(at);
        }
    } else {
        // What has not stopped by the step's deadline is left to the keeper.
        let gone = retiring(cx, r).iter().all(|i| !drain::holds_up(&cx.s, i));
        let track = match r.phase {
            RolloutPhase::Forward if d.tracks.previous.as_ref().is_some_and(|t| d.shares(t)) => &mut None,
            RolloutPhase::Forward => &mut d.tracks.previous,
            RolloutPhase::Undo => &mut d.tracks.candidate,
        };
        if gone {
            *track = None;
        } else if let Some(t) = track {
            t.retire_at = Some(at);
        }
    }
    cx.put_deployment(d);
    Ok(())
}

/// Whether the step may end.
fn condition(cx: &Cx<'_>, r: &Rollout, row: &StepRow, evidence: &Evidence) -> Done {
    match &row.step.kind {
        StepKind::Stage => {
            let behind = r.order.iter().filter(|w| {
                cx.s.workers.get(*w).is_some_and(|w| {
                    w.presence == super::Presence::Ready && w.staged.binary_search(&r.to.digest).is_err()
                })
            });
            match behind.count() {
                0 => Ok(()),
                n => guard(format!("{n} workers have not unpacked {}", r.to.version)),
            }
        }
        StepKind::Install { share, mode, .. } => {
            let Some(pair) = target(r) else { return guard("there is nothing to install") };
            if row.batch.as_ref().is_some_and(|b| !b.passed) {
                return guard("a batch is under way");
            }
            let need = match r.phase {
                RolloutPhase::Forward => routes::need(cx, r, *share),
                RolloutPhase::Undo => share.of_rounded_up(r.desired),
            };
            let have = serving::passing(&cx.s, &r.deployment, pair);
            if have < need {
                return guard(format!("{have} of {need} instances pass"));
            }
            let leaving = |i: &&super::Instance| &i.pair != pair && !i.life.is_wanted() && drain::holds_up(&cx.s, i);
            match mode {
                BatchMode::Beside => Ok(()),
                BatchMode::Replace | BatchMode::InPlace => {
                    match cx.s.instances_of(&r.deployment).filter(leaving).count() {
                        0 => Ok(()),
                        n => guard(format!("{n} replaced instances are not gone yet")),
                    }
                }
            }
        }
        StepKind::Route { .. } => {
            let n = cx.s.deployments.get(&r.deployment).and_then(|d| d.route.as_ref()).map(|x| x.generation.n);
            // Nothing changed when the weights stood already: then the generation is older than the step's entry.
            match row.routed {
                Some((at, _)) if n.is_some_and(|n| n <= at) => Ok(()),
                Some(_) | None => guard("its weights are not set"),
            }
        }
        StepKind::Switch => {
            if r.switched {
                Ok(())
            } else {
                guard("it has not switched")
            }
        }
        StepKind::Bake { judged, .. } => {
            if row.until.is_none_or(|u| cx.now() < u) {
                return guard("its time is not over");
            }
            bake_verdict(r, *judged, evidence)
        }
        StepKind::Smoke { .. } => match &row.hook {
            Some((true, _)) => Ok(()),
            Some((false, said)) => guard(format!("the smoke test failed: {said}")),
            None => guard("the smoke test has not answered"),
        },
        StepKind::Promote => guard("it ends with PromotionBegan"),
        StepKind::Retire { delay } if delay.0 > 0 => Ok(()),
        StepKind::Retire { .. } => {
            let left = retiring(cx, r);
            let late = row.deadline.is_some_and(|t| cx.now() >= t) && left.iter().all(|i| !i.life.is_wanted());
            match left.iter().filter(|i| drain::holds_up(&cx.s, i)).count() {
                0 => Ok(()),
                _ if late => Ok(()),
                n => guard(format!("{n} instances are not gone yet")),
            }
        }
    }
}

/// The verdict must allow it, and the record must carry the verdict.
fn bake_verdict(r: &Rollout, judged: bool, e: &Evidence) -> Done {
    let pass = match (e.verdict, judged) {
        (Verdict::Worse, _) => false,
        (Verdict::NotWorse, _) => true,
        (Verdict::Undecided | Verdict::Unjudged, false) => true,
        (Verdict::Undecided | Verdict::Unjudged, true) => r.params.no_data() == OnNoData::Pass,
    };
    if !pass {
        return guard(format!("the verdict is {:?}", e.verdict));
    }
    let Some(limit) = e.limit else { return Ok(()) };
    let of_target = e.counts.values().flatten().filter(|c| c.pair == r.to);
    let (requests, errors) = of_target.fold((0u128, 0u128), |(q, x), c| {
        (q.saturating_add(u128::from(c.requests)), x.saturating_add(u128::from(c.errors)))
    });
    let over = errors.saturating_mul(10_000) > requests.saturating_mul(u128::from(limit));
    if over && requests >= u128::from(r.params.min_requests) {
        return guard(format!("{errors} errors of {requests} requests are above the ceiling of {limit} basis points"));
    }
    Ok(())
}

/// The permit of entries that an installation makes.
pub(super) const PROBATION: Allow = Allow::Set(Permit::Activate);
