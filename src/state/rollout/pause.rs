//! `Pause`: an operator holds a rollout.

use super::operator;
use crate::state::base::{lifecycle, prelude::*};

fields! {
    /// Holds a rollout.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Pause {
        1 [required] pub rollout: RolloutId,
    }
}

impl Apply for Pause {
    fn steers(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { rollout: id } = self;
        let mut r = cx.rollout(id)?;
        if r.status != RolloutStatus::Active {
            return Err(lifecycle::refused(&r, "paused"));
        }
        r.reason = Some(Reason::Operator { principal: cx.principal.to_string() });
        operator::hold(cx, &mut r)?;
        cx.put_rollout(r);
        Ok(())
    }
}
