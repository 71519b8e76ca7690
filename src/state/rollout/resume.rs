//! `Resume`: a held rollout goes on.

use super::operator;
use crate::state::base::{lifecycle, prelude::*};

fields! {
    /// Lets a paused one go on.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Resume {
        1 [required] pub rollout: RolloutId,
    }
}

impl Apply for Resume {
    fn steers(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { rollout: id } = self;
        let mut r = cx.rollout(id)?;
        if r.status != RolloutStatus::Paused {
            return Err(lifecycle::refused(&r, "resumed"));
        }
        operator::release(cx, &mut r);
        r.reason = None;
        cx.move_rollout(&mut r, RolloutStatus::Active, "resumed")?;
        cx.put_rollout(r);
        Ok(())
    }
}
