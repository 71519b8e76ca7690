//! `Abort`: traffic on stable, candidates stay for a while to look at; with `as_is` a rollback is ended where it
//! stands.

use super::{as_is, operator};
use crate::state::base::{lifecycle, prelude::*};

fields! {
    /// Puts traffic on stable and stops; candidates are kept to look at.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Abort {
        1 [required] pub rollout: RolloutId,
        /// Ends a rollback where it stands instead: both versions keep their instances and weights.
        2 pub as_is: bool,
    }
}

impl Apply for Abort {
    fn steers(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        if self.as_is { as_is::abort(cx, self.rollout) } else { forward(cx, self.rollout) }
    }
}

/// `Abort`: traffic on stable; candidates stay for a while, to look at. It never moves traffic to a version that was
/// left.
fn forward(cx: &mut Cx<'_>, id: RolloutId) -> Done {
    let r = cx.rollout(id)?;
    match r.status {
        RolloutStatus::Pending | RolloutStatus::Active | RolloutStatus::Paused => {}
        RolloutStatus::RollingBack => return Err(use_as_is(&r)),
        RolloutStatus::Promoting
        | RolloutStatus::Completed
        | RolloutStatus::RolledBack
        | RolloutStatus::Failed
        | RolloutStatus::Aborted => return Err(lifecycle::refused(&r, "aborted")),
    }
    let moved = r.switched || cx.deployment(&r.deployment)?.arms.weight(Role::Candidate).0 > 0;
    if r.is_rollback() && moved {
        return Err(use_as_is(&r));
    }
    operator::stop(cx, r)
}

fn use_as_is(r: &Rollout) -> Rejection {
    let id = r.id;
    Rejection::Precondition(format!(
        "{id} takes the traffic back, and aborting it would move traffic to the version that was left: `slipway rollout abort {id} \
         --as-is` ends it where it stands, `slipway rollout start {} --to VERSION --replace` starts another one instead",
        r.deployment
    ))
}
