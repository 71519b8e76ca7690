//! A rollout that fails its step, turns back, or ends: what the commands of its life have in common.

use super::{back, collect, outbox, steps};
use crate::state::{base::prelude::*, fleet::assign};

/// The running step fails with what was seen; without one, nothing happens.
pub(in crate::state) fn fail_running(cx: &mut Cx<'_>, r: &mut Rollout, evidence: Option<&Evidence>) -> Done {
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

/// Traffic first; the steps of the rollback are compiled next.
pub(in crate::state) fn turn_back(cx: &mut Cx<'_>, mut r: Rollout, reason: Reason) -> Done {
    back::back_to_stable(cx, &mut r, false)?;
    r.reason = Some(reason);
    cx.move_rollout(&mut r, RolloutStatus::RollingBack, "rolled back")?;
    r.phase = RolloutPhase::Undo;
    r.undo_compiled = false;
    r.paused_at = None;
    cx.put_rollout(r.clone());
    assign::refresh(cx, &r.deployment);
    Ok(())
}

/// What every end has in common.
pub(in crate::state) fn end(cx: &mut Cx<'_>, mut r: Rollout) -> Done {
    let (id, deployment) = (r.id, r.deployment.clone());
    r.ended_at = Some(cx.now());
    r.ended_wall = cx.s.wall;
    r.paused_at = None;
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
