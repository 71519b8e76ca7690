//! `Promote`: ends the step that waits; with `full` everything but the last installation and route is passed over.

use super::{operator, outbox, steps};
use crate::state::{base::prelude::*, fleet::assign};

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

fields! {
    /// Ends the present step, or with `full` skips all that is not the last install and route.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Promote {
        /// Which.
        1 [required] pub rollout: RolloutId,
        /// `--full`.
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
            | RolloutStatus::Aborted => return Err(operator::lifecycle(&r, "promoted")),
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
