//! `Switched`: roles and weights in one entry.

use super::{back, steps, weights};
use crate::state::{
    base::prelude::*,
    fleet::{assign, serving},
};

fields! {
    /// Cuts over: roles and weights in one entry.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Switched {
        /// Which step of which rollout.
        1 [required] pub at: StepRef,
    }
}

impl Apply for Switched {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { at: StepRef { rollout: id, seen, step } } = self;
        let mut r = cx.rollout_seen(id, seen)?;
        let row = steps::running(&r, step)?;
        if row.step.kind != StepKind::Switch || r.status != RolloutStatus::Active {
            return guard("the running step is no switch");
        }
        if r.switched {
            return guard(format!("{id} has switched already"));
        }
        let have = serving::passing(cx.s, &r.deployment, &r.to);
        let need = weights::need(cx.s, &r, WHOLE);
        if have < need {
            return guard(format!("{have} of {need} candidates pass"));
        }
        let mut d = cx.deployment(&r.deployment)?;
        back::advance(cx, &mut d, &r);
        r.switched = true;
        weights::set_index(cx, &mut r, step);
        cx.put_deployment(d);
        cx.put_rollout(r.clone());
        assign::refresh(cx, &r.deployment);
        Ok(())
    }
}
