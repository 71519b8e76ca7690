//! `retire`: without a delay, wait until nothing is left of what `StepStarted` drained; with one, the track's time is set and the
//! keeper does the rest.
//!
//! A lost worker's instances are not waited for: its assignment no longer names them, so they stop when it comes back.

use super::drain;
use super::executor::Turn;
use super::view::Notes;
use crate::model::{Pair, Period};
use crate::state::{Command, Instance, RolloutStatus, Verdict};

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

/// Pairs the step leaves alone: both sides while the rollout is forward, the side that stays afterwards.
fn kept(turn: &Turn<'_>, pair: &Pair) -> bool {
    let (to, from) = (pair == &turn.r.to, turn.r.from.as_ref() == Some(pair));
    match turn.r.status {
        RolloutStatus::RollingBack => from,
        RolloutStatus::Promoting => to,
        RolloutStatus::Pending
        | RolloutStatus::Active
        | RolloutStatus::Paused
        | RolloutStatus::Completed
        | RolloutStatus::RolledBack
        | RolloutStatus::Failed
        | RolloutStatus::Aborted => to || from,
    }
}
