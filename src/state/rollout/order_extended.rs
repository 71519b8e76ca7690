//! `OrderExtended`: a rollback that lacks workers takes up those that came since its steps were compiled.

use super::begin::chosen;
use crate::state::base::prelude::*;

fields! {
    /// A rollback that lacks workers takes up those that came since its steps were compiled.
    #[derive(Debug, Clone, PartialEq)]
    pub struct OrderExtended {
        1 [required] pub rollout: RolloutId,
        /// Its revision seen.
        2 pub seen: u64,
        /// Ready workers that the placement chooses and that its order has not.
        3 pub workers: Vec<WorkerName>,
    }
}

impl Apply for OrderExtended {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { rollout: id, seen, ref workers } = self;
        let mut r = cx.rollout_seen(id, seen)?;
        let goes = r.status == RolloutStatus::Active || r.status == RolloutStatus::RollingBack;
        if !goes || !r.is_rollback() {
            return guard(format!("{id} is {} and no rollback that goes on", r.status));
        }
        let Some(spec) = r.target().and_then(|pair| cx.s.spec(&r.deployment, pair.spec)).cloned() else {
            return guard("there is nothing to go back to");
        };
        for worker in workers {
            if r.order.contains(worker) || !chosen(cx.s, &spec).any(|w| &w.name == worker) {
                return guard(format!("{worker} is in the order, not ready, or not chosen"));
            }
            r.order.push(worker.clone());
            r.without.retain(|w| w != worker);
            r.desired = r.desired.saturating_add(spec.placement.per_worker);
        }
        let limit = cx.settings().limits.instances_per_deployment;
        if workers.is_empty() || r.desired > limit {
            return guard(format!("{} workers, {} instances of {limit} at most", workers.len(), r.desired));
        }
        if r.phase == RolloutPhase::Forward {
            let mut d = cx.deployment(&r.deployment)?;
            d.desired = r.desired;
            cx.put_deployment(d);
        }
        cx.put_rollout(r);
        Ok(())
    }
}
