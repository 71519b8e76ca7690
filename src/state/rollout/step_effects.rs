//! What a step does to State when it starts and ends, and when it may end: by its facts (`model::step`), so that the
//! law knows no kinds.
//!
//! Invariant: whether a step may end is computed anew from committed rows. Not here: the step's clock and place
//! (`step_started`, `step_ended`), what happens while it runs (`batch_started`, `route_set`, `switched`, ...).

use super::{back, batches, outbox, steps, weights};
use crate::state::{
    base::prelude::*,
    fleet::{
        assign::{self, Allow},
        drain, serving,
    },
    traffic::switches,
};

/// What the step that has just started does at once.
pub(super) fn start(cx: &mut Cx<'_>, r: &Rollout, step: u32) -> Done {
    let Some(row) = r.steps.get(step as usize) else { return guard(format!("there is no step {step}")) };
    let facts = row.step.kind.facts();
    if facts.stages {
        for w in &r.order {
            assign::edit(cx, w, &r.deployment, Allow::Keep, true, |_| ());
        }
    }
    if let Some((most, _)) = facts.raises {
        raise_cap(cx, r, most)?;
    }
    if facts.installs.is_some_and(|(_, mode)| mode == BatchMode::Replace) {
        batches::make_room(cx, r);
    }
    if let Some(path) = facts.asks {
        outbox::queue_smoke(cx, r, step, path)?;
    }
    if facts.switches {
        switches::arm_step(cx, r.id, step, &r.deployment);
    }
    if facts.retires == Some(Period(0)) {
        begin_retire(cx, r)?;
    }
    Ok(())
}

/// Raises the candidate's cap for a step of the forward phase.
fn raise_cap(cx: &mut Cx<'_>, r: &Rollout, cap: BasisPoints) -> Done {
    if r.phase == RolloutPhase::Undo {
        return Ok(());
    }
    let mut d = cx.deployment(&r.deployment)?;
    if d.route.is_some() {
        let has = d.arms.weight(Role::Candidate);
        d.arms.set_cap(Some(cap.max(has).min(WHOLE)));
    }
    cx.put_deployment(d);
    Ok(())
}

fn begin_retire(cx: &mut Cx<'_>, r: &Rollout) -> Done {
    let mut d = cx.deployment(&r.deployment)?;
    if r.phase == RolloutPhase::Undo {
        d.as_is = None;
        back::all_on_stable(cx, &mut d);
        cx.put_deployment(d);
        let mut row = cx.rollout(r.id)?;
        if row.traffic_back_at.is_none() && r.from.is_some() {
            row.traffic_back_at = Some(cx.now());
            cx.put_rollout(row);
        }
    }
    let ids: Vec<InstanceId> = steps::retiring(cx, r).iter().map(|i| i.id).collect();
    drain::begin(cx, &ids);
    Ok(())
}

/// Whether the running step may end with this evidence.
pub(super) fn may_end(cx: &Cx<'_>, r: &Rollout, row: &StepRow, evidence: &Evidence) -> Done {
    let facts = row.step.kind.facts();
    if facts.stages {
        staged(cx, r)?;
    }
    if let Some((share, mode)) = facts.installs {
        installed(cx, r, row, share, mode)?;
    }
    if facts.raises.is_some_and(|(_, by)| by == Routing::Explicit) {
        let n = cx.s.deployments.get(&r.deployment).and_then(|d| d.route.as_ref()).map(|x| x.generation.n);
        // Nothing changed when the weights stood already: then the generation is older than the step's entry.
        if row.routed.is_none_or(|(at, _)| n.is_none_or(|n| n > at)) {
            return guard("its weights are not set");
        }
    }
    if facts.switches && !r.switched {
        return guard("it has not switched");
    }
    if facts.held {
        return guard("only a person ends it");
    }
    if facts.hold.is_some() && row.until.is_none_or(|u| cx.now() < u) {
        return guard("its time is not over");
    }
    if facts.judges {
        bake_verdict(r, facts.checks, evidence)?;
    }
    if facts.asks.is_some() {
        match &row.hook {
            Some((true, _)) => {}
            Some((false, said)) => return guard(format!("the smoke test failed: {said}")),
            None => return guard("the smoke test has not answered"),
        }
    }
    if facts.promotes {
        return guard("it ends with PromotionBegan");
    }
    if facts.retires == Some(Period(0)) {
        let left = steps::retiring(cx, r);
        let late = row.deadline.is_some_and(|t| cx.now() >= t) && left.iter().all(|i| !i.life.is_wanted());
        match left.iter().filter(|i| drain::holds_up(cx.s, i)).count() {
            0 => {}
            _ if late => {}
            n => return guard(format!("{n} instances are not gone yet")),
        }
    }
    Ok(())
}

/// Whether every worker of the order has unpacked the release and has what it asks for.
fn staged(cx: &Cx<'_>, r: &Rollout) -> Done {
    let fits = |w: &WorkerName| cx.s.assignments.get(&(w.clone(), r.deployment.clone())).is_none_or(Assignment::fits);
    let has = |w: &WorkerName| serving::staged(cx.s, w, &r.to.digest) && fits(w);
    match r.order.iter().filter(|w| serving::hears(cx.s, w) && !has(w)).count() {
        0 => Ok(()),
        n => guard(format!("{n} workers have not unpacked {}, or do not have what it asks for", r.to.version)),
    }
}

/// Whether the share passes and what was replaced is gone.
fn installed(cx: &Cx<'_>, r: &Rollout, row: &StepRow, share: BasisPoints, mode: BatchMode) -> Done {
    let Some(pair) = r.target() else { return guard("there is nothing to install") };
    if row.batch.as_ref().is_some_and(|b| !b.passed) {
        return guard("a batch is under way");
    }
    let need = match r.phase {
        RolloutPhase::Forward => weights::need(cx.s, r, share),
        RolloutPhase::Undo => share.of_rounded_up(r.desired),
    };
    let have = serving::passing(cx.s, &r.deployment, pair);
    if have < need {
        return guard(format!("{have} of {need} instances pass"));
    }
    let leaving = |i: &&Instance| &i.pair != pair && !i.life.is_wanted() && drain::holds_up(cx.s, i);
    match mode {
        BatchMode::Beside => Ok(()),
        BatchMode::Replace | BatchMode::InPlace => match cx.s.instances_of(&r.deployment).filter(leaving).count() {
            0 => Ok(()),
            n => guard(format!("{n} replaced instances are not gone yet")),
        },
    }
}

/// The verdict must allow it, and the record must be of the step's checks and carry the verdict.
fn bake_verdict(r: &Rollout, checks: &[Check], e: &Evidence) -> Done {
    let pass = match (e.verdict, checks.iter().any(Check::needs_traffic)) {
        (Verdict::Worse, _) => false,
        (Verdict::NotWorse, _) => true,
        (Verdict::Undecided | Verdict::Unjudged, false) => true,
        (Verdict::Undecided | Verdict::Unjudged, true) => r.params.no_data() == OnNoData::Pass,
    };
    if !pass {
        return guard(format!("the verdict is {:?}", e.verdict));
    }
    if !e.checks.iter().map(|c| &c.check).eq(checks) {
        return guard("its record is not of the step's checks");
    }
    if let Some(worse) = e.checks.iter().find(|c| c.verdict == Verdict::Worse) {
        return guard(format!("the verdict on {} is Worse", worse.check.metric));
    }
    let total = e.seen.iter().filter(|p| p.pair == r.to).fold(Samples::default(), |mut sum, p| {
        sum.add(&p.total());
        sum
    });
    for check in checks {
        let Some(over) = &check.over else { continue };
        let (seen, of) = (total.count(&check.metric).unwrap_or(0), total.count(over).unwrap_or(0));
        if check.exceeded(seen, of) {
            let (metric, limit) = (&check.metric, check.limit);
            return guard(format!("{seen} {metric} of {of} {over} are above the ceiling of {limit} basis points"));
        }
    }
    Ok(())
}

/// What the step that has just ended leaves.
pub(super) fn end(cx: &mut Cx<'_>, r: &Rollout, row: &StepRow) -> Done {
    match row.step.kind.facts().retires {
        Some(delay) => end_retire(cx, r, delay),
        None => Ok(()),
    }
}

fn end_retire(cx: &mut Cx<'_>, r: &Rollout, delay: Period) -> Done {
    let mut d = cx.deployment(&r.deployment)?;
    let at = cx.now().plus(delay);
    if delay.0 > 0 {
        if let Some(previous) = d.arms.get_mut(Role::Previous) {
            previous.retire_at = Some(at);
        }
    } else {
        // What has not stopped by the step's deadline is left to the keeper.
        let gone = steps::retiring(cx, r).iter().all(|i| !drain::holds_up(cx.s, i));
        let role = match r.phase {
            RolloutPhase::Forward => Role::Previous,
            RolloutPhase::Undo => Role::Candidate,
        };
        let over = d.arms.get(role).is_some_and(|a| !d.shares(a));
        match d.arms.get_mut(role).filter(|_| over) {
            Some(_) if gone => drop(d.arms.take(role)),
            Some(arm) => arm.retire_at = Some(at),
            None => {}
        }
    }
    cx.put_deployment(d);
    Ok(())
}
