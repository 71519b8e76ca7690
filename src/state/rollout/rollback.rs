//! `Rollback`: unwinds a live rollout, or starts a return from the newest one that completed.

use super::{give_back, operator, turn};
use crate::state::base::{lifecycle, prelude::*};

fields! {
    /// Unwinds a live rollout, or starts a return from the last completed one.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Rollback {
        1 [required] pub rollout: RolloutId,
    }
}

impl Apply for Rollback {
    fn steers(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { rollout: id } = self;
        let mut r = cx.rollout(id)?;
        match r.status {
            RolloutStatus::Pending
            | RolloutStatus::Active
            | RolloutStatus::Paused
            | RolloutStatus::Promoting
            | RolloutStatus::Completed
                if r.is_rollback() =>
            {
                Err(give_back::not_forward_again(&r))
            }
            RolloutStatus::Active | RolloutStatus::Paused | RolloutStatus::Promoting => {
                if r.from.is_none() {
                    return Err(Rejection::Precondition(format!(
                        "{id} is the first rollout of {}: there is nothing to return to; `slipway rollout abort` stops it",
                        r.deployment
                    )));
                }
                operator::cancel_running(cx, &mut r)?;
                let reason = Reason::Operator { principal: cx.principal.to_string() };
                turn::turn_back(cx, r, reason)
            }
            RolloutStatus::Completed => give_back::begin(cx, &r),
            RolloutStatus::RolledBack | RolloutStatus::Failed | RolloutStatus::Aborted => Err(give_back::over(cx, &r)),
            RolloutStatus::Pending | RolloutStatus::RollingBack => Err(lifecycle::refused(&r, "rolled back")),
        }
    }
}
