//! `StepsCompiled`: a rollout's steps, or its undo's. Going forward the candidate's arm appears.

use super::opening;
use crate::state::{base::prelude::*, catalog::statuses, fleet::assign};

/// Most steps of one phase.
const MAX_STEPS: usize = 500;

/// Most checks of one step.
const MAX_CHECKS: usize = 20;

/// Most names of workers that a rollout went without which are kept.
const MAX_WITHOUT: usize = 100;

fields! {
    /// A rollout's steps (or its undo's).
    #[derive(Debug, Clone, PartialEq)]
    pub struct StepsCompiled {
        1 [required] pub rollout: RolloutId,
        /// Its revision seen.
        2 pub seen: u64,
        3 [required] pub phase: RolloutPhase,
        /// Desired instances of the new stable.
        4 pub desired: u32,
        5 pub order: Vec<WorkerName>,
        6 pub steps: Vec<Step>,
        /// How the versions share the traffic; a rollback keeps what its rollout had.
        7 pub form: RouteForm,
        /// What bounds its instances going forward.
        8 pub budget: Option<Budget>,
    }
}

impl Apply for StepsCompiled {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { rollout: id, seen, phase, desired, ref order, ref steps, form, budget } = self;
        let mut r = cx.rollout_seen(id, seen)?;
        let limit = cx.settings().limits.instances_per_deployment;
        if steps.len() > MAX_STEPS || desired > limit {
            return guard(format!(
                "{} steps and {desired} instances are over the limits {MAX_STEPS}, {limit}",
                steps.len()
            ));
        }
        if let Some(many) = steps.iter().find(|s| s.kind.checks().len() > MAX_CHECKS) {
            return guard(format!("{} has {} checks, over {MAX_CHECKS}", many.kind, many.kind.checks().len()));
        }
        if let Some(w) = order.iter().find(|w| !cx.s.workers.contains_key(*w)) {
            return guard(format!("{w} is no worker"));
        }
        let wide = |b: &Budget| b.surge > r.params.surge(desired) || b.unavailable > r.params.unavailable(desired);
        if budget.as_ref().is_some_and(wide) {
            return guard(format!("{budget:?} is wider than what {id} may use"));
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
                (r.form, r.budget) = (form, budget);
                opening::arms(cx, &r, desired)?;
                statuses::settle(cx, &r);
            }
            RolloutPhase::Undo => {
                if r.status != RolloutStatus::RollingBack || r.undo_compiled {
                    return guard(format!("{id} is {} and its rollback is compiled: {}", r.status, r.undo_compiled));
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
}

/// Lost workers that the placement chooses and that are not in the order.
fn without(cx: &Cx<'_>, r: &Rollout, order: &[WorkerName]) -> Vec<WorkerName> {
    let Some(spec) = r.target().and_then(|pair| cx.s.spec(&r.deployment, pair.spec)) else { return Vec::new() };
    let all = cx.s.workers.carrying(&spec.placement.workers);
    let lost = all.filter(|w| w.presence == Presence::Lost && !order.contains(&w.name));
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
