//! `StepEnded`: the running step is done. The condition of each kind's end is computed anew from committed rows.

use super::{outbox, steps, weights};
use crate::state::{
    base::prelude::*,
    fleet::{assign, drain, serving},
};

fields! {
    /// The running step is done.
    #[derive(Debug, Clone, PartialEq)]
    pub struct StepEnded {
        /// Which step of which rollout.
        1 [required] pub at: StepRef,
        2 [required] pub evidence: Evidence,
    }
}

impl Apply for StepEnded {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { at: StepRef { rollout: id, seen, step }, ref evidence } = self;
        let mut r = cx.rollout_seen(id, seen)?;
        let row = steps::running(&r, step)?.clone();
        match r.status {
            RolloutStatus::Active | RolloutStatus::Promoting | RolloutStatus::RollingBack => {}
            RolloutStatus::Pending
            | RolloutStatus::Paused
            | RolloutStatus::Completed
            | RolloutStatus::RolledBack
            | RolloutStatus::Failed
            | RolloutStatus::Aborted => return guard(format!("{id} is {}", r.status)),
        }
        steps::check_evidence(evidence)?;
        condition(cx, &r, &row, evidence)?;
        steps::move_step(cx, &mut r, step, StepStatus::Passed)?;
        if let Some(row) = r.steps.get_mut(step as usize) {
            row.evidence = Some(evidence.clone());
        }
        steps::advance_cursor(&mut r);
        cx.put_rollout(r.clone());
        if let StepKind::Retire { delay } = &row.step.kind {
            end_retire(cx, &r, *delay)?;
        }
        outbox::drop_of(cx, id);
        assign::refresh(cx, &r.deployment);
        Ok(())
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
        let gone = steps::retiring(cx, r).iter().all(|i| !drain::holds_up(&cx.s, i));
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

/// Whether the step may end.
fn condition(cx: &Cx<'_>, r: &Rollout, row: &StepRow, evidence: &Evidence) -> Done {
    match &row.step.kind {
        StepKind::Stage => {
            let fits =
                |w: &WorkerName| cx.s.assignments.get(&(w.clone(), r.deployment.clone())).is_none_or(Assignment::fits);
            let has = |w: &WorkerName| serving::staged(&cx.s, w, &r.to.digest) && fits(w);
            let behind = r.order.iter().filter(|w| serving::hears(&cx.s, w) && !has(w));
            match behind.count() {
                0 => Ok(()),
                n => guard(format!("{n} workers have not unpacked {}, or do not have what it asks for", r.to.version)),
            }
        }
        StepKind::Install { share, mode, .. } => {
            let Some(pair) = r.target() else { return guard("there is nothing to install") };
            if row.batch.as_ref().is_some_and(|b| !b.passed) {
                return guard("a batch is under way");
            }
            let need = match r.phase {
                RolloutPhase::Forward => weights::need(&cx.s, r, *share),
                RolloutPhase::Undo => share.of_rounded_up(r.desired),
            };
            let have = serving::passing(&cx.s, &r.deployment, pair);
            if have < need {
                return guard(format!("{have} of {need} instances pass"));
            }
            let leaving = |i: &&Instance| &i.pair != pair && !i.life.is_wanted() && drain::holds_up(&cx.s, i);
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
        StepKind::Bake { checks, .. } => {
            if row.until.is_none_or(|u| cx.now() < u) {
                return guard("its time is not over");
            }
            bake_verdict(r, checks, evidence)
        }
        StepKind::Smoke { .. } => match &row.hook {
            Some((true, _)) => Ok(()),
            Some((false, said)) => guard(format!("the smoke test failed: {said}")),
            None => guard("the smoke test has not answered"),
        },
        StepKind::Promote => guard("it ends with PromotionBegan"),
        StepKind::Retire { delay } if delay.0 > 0 => Ok(()),
        StepKind::Retire { .. } => {
            let left = steps::retiring(cx, r);
            let late = row.deadline.is_some_and(|t| cx.now() >= t) && left.iter().all(|i| !i.life.is_wanted());
            match left.iter().filter(|i| drain::holds_up(&cx.s, i)).count() {
                0 => Ok(()),
                _ if late => Ok(()),
                n => guard(format!("{n} instances are not gone yet")),
            }
        }
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
