//! `smoke`: wait for the outcome of the delivery that `StepStarted` put into the outbox.

use super::prelude::*;

pub(super) fn next(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
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
