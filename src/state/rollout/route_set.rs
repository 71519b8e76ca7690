//! `RouteSet`: the running step's weights.

use super::{steps, weights};
use crate::state::{base::prelude::*, traffic::routes};

fields! {
    /// Sets weights.
    #[derive(Debug, Clone, PartialEq)]
    pub struct RouteSet {
        /// Which step of which rollout.
        1 [required] pub at: StepRef,
        2 [required] pub weights: Weights,
    }
}

impl Apply for RouteSet {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { at: StepRef { rollout: id, seen, step }, ref weights } = self;
        let mut r = cx.rollout_seen(id, seen)?;
        let row = steps::running(&r, step)?.clone();
        let undo = r.status == RolloutStatus::RollingBack && r.phase == RolloutPhase::Undo;
        if r.status != RolloutStatus::Active && !undo {
            return guard(format!("{id} is {}", r.status));
        }
        let mut d = cx.deployment(&r.deployment)?;
        let had = d.arms.weight(Role::Candidate);
        let share = weights.get(Role::Candidate);
        let (weight, by_capacity) = match row.step.kind.facts().raises {
            Some((weight, Routing::Explicit)) => (weight, false),
            // On a rollback the traffic follows the instances as they pass, and does not wait for a batch; going
            // forward what ran already needs none.
            Some((of_all, Routing::ByCapacity)) => (if undo { had } else { of_all }, true),
            None => return guard("the running step sets no route"),
        };
        // What had more already, as an abort left it, is not made to give it back.
        let weight = weight.max(had);
        if share > weight {
            return guard(format!("{share} is above the step's {weight}"));
        }
        if undo {
            // Capacity binds rising weights in forward steps only; on a rollback nothing rises but what served
            // before.
            weights::check_undo(&d, weights)?;
            weights::left(cx, &d, &mut r, weights);
        } else if r.is_rollback() {
            weights::check_return(cx, &d, &r, weights, &[])?;
            weights::returned(cx, &d, &mut r, weights);
        } else {
            weights::check_rise(cx, &d, &r, weights, &[], by_capacity)?;
        }
        let form = d.route.as_ref().map_or(r.form, Route::form);
        routes::write(cx, &mut d, weights, form);
        if !undo {
            d.arms.set_cap(Some(weight));
        }
        weights::set_index(cx, &mut r, step);
        cx.put_deployment(d);
        cx.put_rollout(r);
        Ok(())
    }
}
