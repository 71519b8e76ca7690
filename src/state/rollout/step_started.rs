//! `StepStarted`: the next step begins: its clock, and what it does at once (`step_effects`).

use super::{step_effects, steps};
use crate::state::{
    base::prelude::*,
    fleet::{assign, serving},
};

fields! {
    /// Starts a step.
    #[derive(Debug, Clone, PartialEq)]
    pub struct StepStarted {
        /// Which step of which rollout.
        1 [required] pub at: StepRef,
        /// Attempt, one more than the row's.
        2 pub attempt: u32,
    }
}

impl Apply for StepStarted {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { at: StepRef { rollout: id, seen, step }, attempt } = self;
        let mut r = cx.rollout_seen(id, seen)?;
        let allowed = match r.phase {
            RolloutPhase::Forward => r.status == RolloutStatus::Active || r.status == RolloutStatus::Promoting,
            RolloutPhase::Undo => r.status == RolloutStatus::RollingBack && r.undo_compiled,
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
        steps::move_step(cx, &mut r, step, StepStatus::Running)?;
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
        let facts = row.step.kind.facts();
        row.deadline = facts.deadline.then(|| now.plus(deadline));
        row.batch = row.batch.take().and_then(|b| carry_over(cx.s, b, now));
        row.hook = None;
        row.routed = None;
        row.evidence = None;
        row.until = facts.hold.map(|hold| now.plus(hold));
        cx.put_rollout(r.clone());
        step_effects::start(cx, &r, step)?;
        assign::refresh(cx, &r.deployment);
        Ok(())
    }
}

/// What a retry keeps of a batch that had not passed: its instances that are still wanted. Otherwise nothing would ever
/// drain what they were to replace.
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
    match serving::unstaged(cx.s, &r.deployment, from).first() {
        Some(w) => guard(format!("{w} no longer has {} unpacked, which a rollback would need", from.version)),
        None => Ok(()),
    }
}
