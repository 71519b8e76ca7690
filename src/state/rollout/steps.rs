//! What the commands about steps share: the running step, moves along the table, evidence.

use crate::state::{
    base::{lifecycle, prelude::*},
    fleet::assign::Allow,
    store::frame,
};

/// Largest evidence, in bytes as encoded.
const MAX_EVIDENCE: usize = 16 * 1024;

/// Failed instances of the new pair that `failure_action: continue` counts as done.
pub fn counted_failed(s: &State, r: &Rollout) -> u32 {
    match r.params.failure_action {
        FailureAction::Pause | FailureAction::Rollback => 0,
        FailureAction::Continue if r.is_rollback() => 0,
        FailureAction::Continue => {
            let failed = s
                .instances_of(&r.deployment)
                .filter(|i| i.made_by == Some(r.id) && i.pair == r.to && i.life == Life::Failed);
            u32::try_from(failed.count()).unwrap_or(u32::MAX)
        }
    }
}

/// The running step at a place, or a refused guard.
pub(in crate::state) fn running(r: &Rollout, step: u32) -> Result<&StepRow, Rejection> {
    match r.running() {
        Some((at, row)) if at == step => Ok(row),
        Some((at, _)) => guard(format!("step {at} is running, not {step}")),
        None => guard(format!("step {step} is not running")),
    }
}

/// The cursor moves over everything that has ended.
pub(in crate::state) fn advance_cursor(r: &mut Rollout) {
    let open = |s: &StepRow| match s.status {
        StepStatus::Waiting | StepStatus::Running | StepStatus::Failed => true,
        StepStatus::Passed | StepStatus::Skipped | StepStatus::Cancelled | StepStatus::Undone => false,
    };
    let next = r.steps.iter().position(open).unwrap_or(r.steps.len());
    r.cursor = u32::try_from(next).unwrap_or(u32::MAX);
}

/// Moves a step along the table, with its event.
pub(in crate::state) fn move_step(cx: &mut Cx<'_>, r: &mut Rollout, step: u32, to: StepStatus) -> Done {
    let now = cx.now();
    let Some(row) = r.steps.get_mut(step as usize) else { return guard(format!("there is no step {step}")) };
    if !lifecycle::step(row.status, to) {
        return guard(format!("step {step} is {} and cannot become {}", row.status, to));
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
        place: step,
        step: row.step.clone(),
        status: to,
    });
    Ok(())
}

/// Refuses evidence that is too large to keep.
pub(in crate::state) fn check_evidence(e: &Evidence) -> Done {
    let size = frame::encode_plain(e).map(|b| b.len()).unwrap_or(usize::MAX);
    if size > MAX_EVIDENCE { guard(format!("the evidence takes {size} bytes, over {MAX_EVIDENCE}")) } else { Ok(()) }
}

/// The permit of entries that an installation makes.
pub(in crate::state) const PROBATION: Allow = Allow::Set(Permit::Activate);

/// What a `Retire` concerns.
pub(in crate::state) fn retiring(cx: &Cx<'_>, r: &Rollout) -> Vec<Instance> {
    let Some(d) = cx.s.deployments.get(&r.deployment) else { return Vec::new() };
    cx.s.instances_of(&r.deployment).filter(|i| i.life.is_live() && !d.stays(r.phase, &i.pair)).cloned().collect()
}
