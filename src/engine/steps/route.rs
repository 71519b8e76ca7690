//! `route`: one entry sets the candidate's weight, the step ends once it is there.
//!
//! Invariant: a weight never rises above the candidate's healthy capacity.

use super::{Runner, begin};
use crate::engine::{analysis::health, prelude::*, weigh};

pub(super) const RUNNER: Runner = Runner { start: begin, next };

fn next(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
    let StepKind::Route { weight } = turn.row.step.kind else { return None };
    let (view, r) = (turn.view, turn.r);
    if turn.row.routed.is_some() {
        return Some(turn.end(Verdict::Unjudged, String::new()));
    }
    let pair = r.target()?;
    let set = || {
        // What had more already, as an abort left it, is not made to give it back.
        let weights = weigh::with_candidate(view, weight.max(weigh::present(view).get(Role::Candidate)));
        Some(turn.route(weights))
    };
    if !turn.forward() {
        return set();
    }
    if let Some(reason) = health::failure(view, r, pair, turn.began()) {
        return turn.fail(reason, Verdict::Worse);
    }
    let (have, need) = (view.passing(pair), need(view.state, r, weight));
    if have >= need {
        return set();
    }
    notes.wait(Wait::Capacity { have, need });
    turn.overdue(notes)
}
