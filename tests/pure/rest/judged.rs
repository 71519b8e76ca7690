//! What must have been seen before a version is promoted, and what is kept after: nothing is promoted that nobody
//! judged or that fails its ceiling; a window of stability ends every installation; the old set is kept for its grace
//! where it ran beside.
//!
//! What a release does is the story's word; only what was asked of the rollout is read from State.

use slipway::model::{AddressMode, BatchMode, OnNoData, Period, StepKind, StrategyName};
use slipway::state::{
    Command, Role, Rollout, RolloutKind, RolloutStatus, State, StepStatus,
    command::{ArmAdjusted, PromotionBegan, RolloutFinished},
};

use super::story::Ill;
use super::watch::{Broken, runs_whole};
use super::world::World;

/// Between the entry that sets its time and the rollout's end.
const SLACK: Period = Period::seconds(30);

/// After an entry that was taken.
pub fn entry(w: &World, before: &State, body: &Command) -> Result<(), Broken> {
    match body {
        Command::PromotionBegan(PromotionBegan { rollout, .. }) => {
            let r = &before.rollouts[rollout];
            let forward = r.kind == RolloutKind::Forward && r.from.is_some();
            if !forward || w.watch.promoted.contains(rollout) {
                return Ok(());
            }
            watched(r)?;
            counted(w, r)
        }
        Command::RolloutFinished(RolloutFinished { rollout, status: RolloutStatus::Completed, .. }) => {
            kept(w, before, &before.rollouts[rollout])
        }
        Command::ArmAdjusted(ArmAdjusted { deployment, drain, .. }) => {
            let d = &before.deployments[deployment];
            let Some(previous) = d.arms.get(Role::Previous) else { return Ok(()) };
            let kept = previous.retire_at.is_some_and(|at| at > w.state.now);
            let whole = d.arms.get(Role::Stable).is_some_and(|t| runs_whole(before, deployment, &t.pair));
            let early = drain.iter().find(|id| before.instances[*id].pair == previous.pair);
            match early.filter(|_| kept && whole) {
                Some(id) => Err(("the old set goes before its grace", format!("{id} {}", previous.pair))),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// A bake, whole, after the last installation.
fn watched(r: &Rollout) -> Result<(), Broken> {
    let last = r.steps.iter().rposition(|s| matches!(s.step.kind, StepKind::Install { .. })).unwrap_or(0);
    let whole = r.steps.iter().skip(last).any(|s| match (&s.step.kind, s.status) {
        (StepKind::Bake { hold, .. }, StepStatus::Passed) => {
            let held = s.ended_at.unwrap_or_default().since(s.started_at.unwrap_or_default());
            held >= *hold && (r.strategy == StrategyName::BLUE_GREEN || *hold >= r.params.bake)
        }
        _ => false,
    });
    if whole {
        return Ok(());
    }
    Err(("promoted without a window of stability", format!("{} to {}", r.id, r.to.version)))
}

/// With metrics: enough requests and few enough errors, unless a policy passes over their absence.
fn counted(w: &World, r: &Rollout) -> Result<(), Broken> {
    let Some(laid) = w.shape.deployments.iter().find(|l| l.id == r.deployment) else { return Ok(()) };
    let Some(limit) = r.params.max_error_rate.0.filter(|_| laid.metrics) else { return Ok(()) };
    if w.catalogue.of(&r.to.version).ill == Ill::Uncounted && laid.rate > 0 {
        return Err(("promoted what nobody judged", format!("{} to {}: no errors counted", r.id, r.to.version)));
    }
    if r.params.no_data() == OnNoData::Pass {
        return Ok(());
    }
    if laid.rate == 0 {
        return Err(("promoted what nobody judged", format!("{} to {}: no requests", r.id, r.to.version)));
    }
    match w.catalogue.of(&r.to.version).ill {
        Ill::Errors(bp) if bp > u64::from(limit.0) * 2 => {
            Err(("promoted what fails", format!("{} to {}: {bp} basis points of errors", r.id, r.to.version)))
        }
        _ => Ok(()),
    }
}

/// Beside, the old set is whole and kept when its rollout completes.
fn kept(w: &World, before: &State, r: &Rollout) -> Result<(), Broken> {
    let Some(from) = r.from.as_ref().filter(|_| r.kind == RolloutKind::Forward) else { return Ok(()) };
    let beside = r.steps.iter().all(|s| match s.step.kind {
        StepKind::Install { mode, .. } => mode == BatchMode::Beside,
        _ => true,
    });
    let pool = before.spec(&r.deployment, r.to.spec).is_some_and(|s| s.address == AddressMode::Pool);
    if r.params.grace == Period(0) || !beside || !pool || r.strategy == StrategyName::ROLLING {
        return Ok(());
    }
    let d = &w.state.deployments[&r.deployment];
    let there = before.instances_of(&r.deployment).any(|i| &i.pair == from && i.life.is_live());
    let arm = d.arms.get(Role::Previous).filter(|t| &t.pair == from);
    let long = arm.and_then(|t| t.retire_at).is_some_and(|at| at.plus(SLACK) >= before.now.plus(r.params.grace));
    if long || !there {
        return Ok(());
    }
    Err((
        "the old set is not kept for its grace",
        format!("{} of {}: {:?}", from.version, r.id, d.arms.get(Role::Previous)),
    ))
}
