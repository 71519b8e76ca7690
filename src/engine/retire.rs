//! `retire`: without a delay, wait until nothing is left of what `StepStarted` drained; with one, the track's time is set and the
//! keeper does the rest.
//!
//! A lost worker's instances are not waited for: its assignment no longer names them, so they stop when it comes back.

use super::drain;
use super::executor::Turn;
use super::view::Notes;
use crate::model::{Pair, Period};
use crate::state::{Command, Instance, RolloutPhase, TrackName, Verdict};

pub(super) fn next(turn: &Turn<'_>, delay: Period, notes: &mut Notes) -> Option<Command> {
    if delay > Period(0) {
        return Some(turn.end(Verdict::Unjudged, String::new()));
    }
    let left: Vec<&Instance> =
        turn.view.live().filter(|i| !kept(turn, &i.pair) && turn.view.worker_ready(&i.worker)).collect();
    if left.is_empty() {
        return Some(turn.end(Verdict::Unjudged, String::new()));
    }
    drain::explain(turn.view, &left, notes);
    turn.overdue(notes)
}

/// Pairs the step leaves alone: stable and, going forward, the candidate; an undo keeps a previous one that waits for its time.
fn kept(turn: &Turn<'_>, pair: &Pair) -> bool {
    let is = |name| turn.view.deployment.tracks.get(name).is_some_and(|t| &t.pair == pair);
    is(TrackName::Stable)
        || match turn.r.phase {
            RolloutPhase::Forward => is(TrackName::Candidate),
            RolloutPhase::Undo => is(TrackName::Previous),
        }
}
