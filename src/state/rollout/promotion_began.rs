//! `PromotionBegan`: the step `promote` passes, roles move unless a switch moved them, and all traffic is the new
//! stable's.

use super::{back, steps, weights};
use crate::state::{
    base::prelude::*,
    catalog::statuses,
    fleet::{assign, serving},
};

fields! {
    /// All gates passed: roles move unless a switch moved them.
    #[derive(Debug, Clone, PartialEq)]
    pub struct PromotionBegan {
        1 [required] pub rollout: RolloutId,
        /// Its revision seen.
        2 pub seen: u64,
    }
}

impl Apply for PromotionBegan {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { rollout: id, seen } = self;
        let mut r = cx.rollout_seen(id, seen)?;
        match r.steps.get(r.cursor as usize) {
            Some(row) if row.step.kind == StepKind::Promote => {}
            Some(row) => return guard(format!("{} comes before the promotion", row.step.kind)),
            None => return guard("no promotion is planned"),
        }
        let mut d = cx.deployment(&r.deployment)?;
        if !r.switched {
            let have = serving::passing(cx.s, &r.deployment, &r.to);
            let need = weights::need(cx.s, &r, WHOLE);
            // Once it carries all the traffic nothing rises any more; what failed since is refilled after the
            // promotion.
            let carries = d.arms.weight(Role::Candidate) == WHOLE;
            if have < need && !carries {
                return guard(format!("{have} of {need} instances of {} pass", r.to));
            }
            back::advance(cx, &mut d, &r);
        }
        d.as_is = None;
        cx.put_deployment(d);
        let step = r.cursor;
        cx.move_rollout(&mut r, RolloutStatus::Promoting, "promoted")?;
        steps::move_step(cx, &mut r, step, StepStatus::Passed)?;
        if let Some(row) = r.steps.get_mut(step as usize) {
            row.started_at = row.started_at.or(Some(cx.now()));
        }
        steps::advance_cursor(&mut r);
        cx.put_rollout(r.clone());
        statuses::settle(cx, &r);
        assign::refresh(cx, &r.deployment);
        let workers = assign::workers_of(cx.s, &r.deployment);
        assign::commit(cx, &r.deployment, &workers);
        Ok(())
    }
}
