//! `promote`: all gates passed; roles move as soon as everything that is to be stable passes. It is one entry, which
//! starts and ends the step.

use super::Runner;
use crate::engine::prelude::*;

pub(super) const RUNNER: Runner = Runner { start: next, next };

fn next(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
    let (view, r) = (turn.view, turn.r);
    let (have, need) = (view.passing(&r.to), need(view.state, r, WHOLE));
    // Once it carries all the traffic nothing rises any more; what failed since is refilled after the promotion.
    let carries = view.deployment.arms.weight(Role::Candidate) == WHOLE;
    if !r.switched && !carries && have < need {
        notes.wait(Wait::Healthy { have, need });
        return None;
    }
    Some(Command::PromotionBegan(PromotionBegan { rollout: r.id, seen: r.meta.revision }))
}
