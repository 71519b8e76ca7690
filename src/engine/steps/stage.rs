//! `stage`: wait until the release is unpacked on every worker of the order, and each has said that its machine has
//! what the spec asks for. `StepStarted` has put both into their assignments. A worker that was lost meanwhile fetches
//! when it is told to run something.
//!
//! Invariant: nothing that runs is touched here, so a worker that could not run the release costs no instance. Not
//! here: what is looked at (`agent::launch`).

use std::collections::BTreeMap;

use super::{Runner, begin};
use crate::engine::{analysis::health, prelude::*};

pub(super) const RUNNER: Runner = Runner { start: begin, next };

/// How long a worker may lack something before the step fails: a machine that is just being set up gets its user or
/// file a moment later, and nobody waits long for one that does not.
const MENDED_WITHIN: Period = Period::seconds(10);

fn next(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
    let pair = turn.r.target()?;
    let ready = || turn.r.order.iter().filter(|w| turn.view.worker_ready(w));
    let behind: Vec<WorkerName> = ready().filter(|w| !turn.view.staged(w, &pair.digest)).cloned().collect();
    let unfit: Vec<Unfit> = ready().filter_map(|w| Unfit::of(turn, w)).collect();
    let is_unfit = |w: &WorkerName| unfit.iter().any(|u| &u.worker == w);
    let silent = |w: &WorkerName| behind.contains(w) || (!turn.view.fits(w) && !is_unfit(w));
    let missing: Vec<WorkerName> = ready().filter(|w| silent(w)).cloned().collect();
    if missing.is_empty() && unfit.is_empty() {
        return Some(turn.end(Verdict::Unjudged, String::new()));
    }
    if let Some(turned) =
        health::refused(turn.view, pair, |w| behind.contains(w)).and_then(|reason| turn.fail(reason, Verdict::Unjudged))
    {
        return Some(turned);
    }
    if let Some(due) = unfit.iter().find(|u| turn.view.now >= u.until)
        && let Some(turned) = turn.fail(due.reason(unfit.len()), Verdict::Unjudged)
    {
        return Some(turned);
    }
    explain(unfit, notes);
    if !missing.is_empty() {
        notes.wait(Wait::Staging { workers: missing });
    }
    turn.overdue(notes)
}

/// A worker that said what it lacks.
struct Unfit {
    worker: WorkerName,
    /// When the step fails of it.
    until: Millis,
    why: String,
}

impl Unfit {
    fn of(turn: &Turn<'_>, worker: &WorkerName) -> Option<Self> {
        let assignment = turn.view.assignment(worker).filter(|a| a.content.next.is_some())?;
        let look = assignment.looked()?;
        let Fit::Lacks(why) = &look.fit else { return None };
        // A new attempt begins its wait anew, and none is longer than the step.
        let since = turn.row.started_at.unwrap_or_default().max(look.since);
        let until = since.plus(MENDED_WITHIN).min(turn.row.deadline.unwrap_or(Millis(u64::MAX)));
        Some(Self { worker: worker.clone(), until, why: why.clone() })
    }

    /// The failure, of so many workers.
    fn reason(&self, all: usize) -> Reason {
        let others = match all.saturating_sub(1) {
            0 => String::new(),
            1 => "; another worker cannot run it either".into(),
            n => format!("; {n} other workers cannot run it either"),
        };
        Reason::Worker { worker: self.worker.clone(), detail: format!("{}{others}", self.why) }
    }
}

/// Notes who lacks what; those who lack the same are named together.
fn explain(unfit: Vec<Unfit>, notes: &mut Notes) {
    let mut alike: BTreeMap<String, (Millis, Vec<WorkerName>)> = BTreeMap::new();
    for Unfit { worker, until, why } in unfit {
        notes.wake_at(until);
        let (first, workers) = alike.entry(why).or_insert_with(|| (until, Vec::new()));
        *first = until.min(*first);
        workers.push(worker);
    }
    for (why, (until, workers)) in alike {
        notes.wait(Wait::Unfit { workers, until, why });
    }
}
