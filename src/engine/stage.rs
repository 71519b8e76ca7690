//! `stage`: wait until the release is unpacked on every worker of the order. `StepStarted` has put it into their assignments. A worker
//! that was lost meanwhile fetches when it is told to run something.

use super::analysis::health;
use super::executor::Turn;
use super::view::Notes;
use crate::model::{Wait, WorkerName};
use crate::state::{Command, Verdict};

pub(super) fn next(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
    let pair = turn.r.target()?;
    let order = &turn.r.order;
    let missing: Vec<WorkerName> =
        order.iter().filter(|w| turn.view.worker_ready(w) && !turn.view.staged(w, &pair.digest)).cloned().collect();
    if missing.is_empty() {
        return Some(turn.end(Verdict::Unjudged, String::new()));
    }
    if let Some(turned) = health::refused(turn.view, pair, |w| missing.contains(w))
        .and_then(|reason| turn.fail(reason, Verdict::Unjudged))
    {
        return Some(turned);
    }
    notes.wait(Wait::Staging { workers: missing });
    turn.overdue(notes)
}
