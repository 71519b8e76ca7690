//! `retire`: without a delay, wait until nothing is left of what `StepStarted` drained; with one, the arm's time is set
//! and the keeper does the rest.
//!
//! A lost worker's instances are not waited for: its assignment no longer names them, so they stop when it comes back.

use super::{Runner, begin};
use crate::engine::{drain, prelude::*};

pub(super) const RUNNER: Runner = Runner { start: begin, next };

fn next(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
    let StepKind::Retire { delay } = turn.row.step.kind else { return None };
    if delay > Period(0) {
        return Some(turn.end(Verdict::Unjudged, String::new()));
    }
    let left: Vec<&Instance> =
        turn.view.live().filter(|i| !kept(turn, &i.pair) && turn.view.worker_ready(&i.worker)).collect();
    if left.is_empty() {
        return Some(turn.end(Verdict::Unjudged, String::new()));
    }
    drain::explain(turn.view, &left, notes);
    let until = turn.row.deadline?;
    if turn.view.now >= until && left.iter().all(|i| !i.life.is_wanted()) {
        let note = format!("{} instances have not stopped in time and are left to the keeper", left.len());
        return Some(turn.end(Verdict::Unjudged, note));
    }
    notes.wake_at(until);
    None
}

/// Pairs that the step leaves alone.
fn kept(turn: &Turn<'_>, pair: &Pair) -> bool {
    turn.view.deployment.stays(turn.r.phase, pair)
}
