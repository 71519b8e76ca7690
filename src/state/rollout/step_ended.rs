//! `StepEnded`: the running step is done. Whether it may end is computed anew from committed rows (`step_effects`).

use super::{outbox, step_effects, steps};
use crate::state::{base::prelude::*, fleet::assign};

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
        step_effects::may_end(cx, &r, &row, evidence)?;
        steps::move_step(cx, &mut r, step, StepStatus::Passed)?;
        if let Some(row) = r.steps.get_mut(step as usize) {
            row.evidence = Some(evidence.clone());
        }
        steps::advance_cursor(&mut r);
        cx.put_rollout(r.clone());
        step_effects::end(cx, &r, &row)?;
        outbox::drop_of(cx, id);
        assign::refresh(cx, &r.deployment);
        Ok(())
    }
}
