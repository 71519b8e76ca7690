//! `Promote`: ends the step that waits; with `full` everything but the last installation and route is passed over.

use super::{operator, outbox, steps};
use crate::state::{
    base::{lifecycle, prelude::*},
    fleet::assign,
};

fields! {
    /// Ends the present step, or with `full` skips all that is not the last install and route.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Promote {
        1 [required] pub rollout: RolloutId,
        2 pub full: bool,
    }
}

impl Apply for Promote {
    fn steers(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { rollout: id, full } = self;
        let mut r = cx.rollout(id)?;
        match r.status {
            RolloutStatus::Active | RolloutStatus::Paused => {}
            RolloutStatus::Pending
            | RolloutStatus::Promoting
            | RolloutStatus::RollingBack
            | RolloutStatus::Completed
            | RolloutStatus::RolledBack
            | RolloutStatus::Failed
            | RolloutStatus::Aborted => return Err(lifecycle::refused(&r, "promoted")),
        }
        let skip: Vec<u32> = if full { to_skip(&r) } else { vec![r.cursor] };
        if !full {
            match r.steps.get(r.cursor as usize) {
                Some(row) if row.step.kind.facts().skip == Skip::Alone => {}
                Some(row) => {
                    return Err(Rejection::Precondition(format!(
                        "{id} is at {}, which cannot be passed over: wait for it, or `slipway rollout promote {id} --full` skips the \
                         waits that follow",
                        row.step
                    )));
                }
                None => return Err(Rejection::Precondition(format!("{id} has no step left"))),
            }
        }
        if skip.is_empty() {
            return Err(Rejection::Precondition(format!(
                "{id} has nothing left to skip: it completes by itself, `slipway rollout watch {id}` shows how"
            )));
        }
        for step in skip {
            steps::move_step(cx, &mut r, step, StepStatus::Skipped)?;
        }
        outbox::drop_of(cx, id);
        steps::advance_cursor(&mut r);
        if r.status == RolloutStatus::Paused {
            operator::release(cx, &mut r);
            r.reason = None;
            cx.move_rollout(&mut r, RolloutStatus::Active, "promoted")?;
        }
        cx.put_rollout(r.clone());
        assign::refresh(cx, &r.deployment);
        Ok(())
    }
}

fn to_skip(r: &Rollout) -> Vec<u32> {
    let kind = |s: &StepRow| std::mem::discriminant(&s.step.kind);
    let last = |n: usize, s: &StepRow| !r.steps.iter().skip(n.saturating_add(1)).any(|x| kind(x) == kind(s));
    let passes = |n: usize, s: &StepRow| match s.step.kind.facts().skip {
        Skip::Alone => true,
        Skip::ButTheLast => !last(n, s),
        Skip::Never => false,
    };
    let open = |s: &StepRow| match s.status {
        StepStatus::Waiting | StepStatus::Running | StepStatus::Failed => true,
        StepStatus::Passed | StepStatus::Skipped | StepStatus::Cancelled | StepStatus::Undone => false,
    };
    let chosen = r.steps.iter().enumerate().filter(|(n, s)| open(s) && passes(*n, s));
    chosen.filter_map(|(n, _)| u32::try_from(n).ok()).collect()
}
