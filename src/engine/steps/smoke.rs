//! `smoke`: wait for the outcome of the delivery that `StepStarted` put into the outbox.

use super::{Runner, begin};
use crate::engine::prelude::*;

pub(super) const RUNNER: Runner = Runner { start, next };

/// Somebody has to be there that can be asked.
fn start(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
    if turn.view.passing(&turn.r.to) == 0 {
        notes.wait(Wait::Capacity { have: 0, need: turn.r.desired });
        return None;
    }
    begin(turn, notes)
}

fn next(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
    match &turn.row.hook {
        Some((true, detail)) => Some(turn.end(Verdict::Unjudged, detail.clone())),
        Some((false, detail)) => turn.fail(Reason::Hook { detail: detail.clone() }, Verdict::Unjudged),
        None => {
            let until = turn.row.deadline.unwrap_or(turn.view.now);
            notes.wait(Wait::Hook { attempt: turn.row.attempt, until });
            turn.overdue(notes)
        }
    }
}
