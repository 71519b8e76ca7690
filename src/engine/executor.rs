//! The executor: given a rollout's row, the one command that comes next. It knows neither strategies nor what is done
//! about a kind of step (`steps`).
//!
//! Invariants: no forward step starts unless the pair to return to is still staged and everyone has been heard of in
//! this term; a failure follows the policy; a rollback neither turns nor pauses by itself, it tries until it is there
//! or a person ends it.

use super::analysis::{Case, Finding, health};
use super::place::Freed;
use super::prelude::*;
use super::strategy::{self, Subject};
use super::{drain, evidence, steps};

/// A running step, as the files of each kind get it.
pub(super) struct Turn<'a> {
    pub view: &'a View<'a>,
    pub r: &'a Rollout,
    pub step: u32,
    pub row: &'a StepRow,
}

/// The next command of a live rollout, if anything can be done now.
pub(super) fn next(view: &View<'_>, r: &Rollout, notes: &mut Notes) -> Option<Command> {
    match r.status {
        RolloutStatus::Pending => compile(view, r, RolloutPhase::Forward, notes),
        RolloutStatus::Paused => {
            notes.wait(Wait::Operator);
            None
        }
        RolloutStatus::Active | RolloutStatus::Promoting => run(view, r, notes),
        RolloutStatus::RollingBack if r.undo_compiled => run(view, r, notes),
        RolloutStatus::RollingBack => compile(view, r, RolloutPhase::Undo, notes),
        RolloutStatus::Completed | RolloutStatus::RolledBack | RolloutStatus::Failed | RolloutStatus::Aborted => None,
    }
}

fn compile(view: &View<'_>, r: &Rollout, phase: RolloutPhase, notes: &mut Notes) -> Option<Command> {
    let subject = Subject::of(r);
    let mut workers: Vec<WorkerName> = Vec::new();
    if phase == RolloutPhase::Forward {
        workers.extend(chosen(view.state, view.spec(&r.to)?).map(|w| w.name.clone()));
        if view.observing(workers.iter(), notes) {
            return None;
        }
        if r.is_rollback() && workers.is_empty() {
            notes.wait(Wait::Workers);
            return None;
        }
    }
    let compiled = strategy::compile(view.state, &subject, phase, Freed::Now);
    if !r.is_rollback() && compiled.is_err() {
        // What is refused for want of addresses that are free already, as far as they were heard of.
        if let Some(command) = drain::views(view, &r.to, &workers) {
            return Some(command);
        }
        // Those that servers may still name are free soon.
        if strategy::compile(view.state, &subject, phase, Freed::Soon).is_ok() {
            workers.into_iter().for_each(|worker| notes.wait(Wait::Addresses { worker }));
            return None;
        }
    }
    Some(match compiled {
        Ok(c) if phase == RolloutPhase::Undo && r.from.is_some() && c.order.is_empty() => {
            notes.wait(Wait::Workers);
            return None;
        }
        Ok(c) => Command::StepsCompiled(StepsCompiled {
            rollout: r.id,
            seen: r.meta.revision,
            phase,
            desired: c.desired,
            order: c.order,
            steps: c.steps,
            form: c.form,
            budget: c.budget,
        }),
        Err(detail) => Command::RolloutFinished(RolloutFinished {
            rollout: r.id,
            seen: r.meta.revision,
            status: RolloutStatus::Failed,
            reason: Some(Reason::Compile { detail }),
        }),
    })
}

fn run(view: &View<'_>, r: &Rollout, notes: &mut Notes) -> Option<Command> {
    let Some(row) = r.steps.get(r.cursor as usize) else { return Some(finish(r)) };
    let turn = Turn { view, r, step: r.cursor, row };
    match row.status {
        StepStatus::Waiting | StepStatus::Failed => turn.start(notes),
        StepStatus::Running => (steps::runner(&row.step.kind).next)(&turn, notes),
        // The cursor never rests on a step that has ended.
        StepStatus::Passed | StepStatus::Skipped | StepStatus::Cancelled | StepStatus::Undone => None,
    }
}

fn finish(r: &Rollout) -> Command {
    let (status, reason) = match (r.status, &r.from) {
        (RolloutStatus::RollingBack, Some(_)) => (RolloutStatus::RolledBack, None),
        (RolloutStatus::RollingBack, None) => (RolloutStatus::Failed, r.reason.clone()),
        (_, Some(_) | None) => (RolloutStatus::Completed, None),
    };
    Command::RolloutFinished(RolloutFinished { rollout: r.id, seen: r.meta.revision, status, reason })
}

impl Turn<'_> {
    fn start(&self, notes: &mut Notes) -> Option<Command> {
        if self.r.status == RolloutStatus::Active && self.not_ready(notes) {
            return None;
        }
        if let Some(turned) = self.fell_since() {
            return Some(turned);
        }
        (steps::runner(&self.row.step.kind).start)(self, notes)
    }

    /// A candidate that failed between two steps: none of them would notice.
    fn fell_since(&self) -> Option<Command> {
        let r = self.r;
        if r.status != RolloutStatus::Active || r.is_rollback() {
            return None;
        }
        let before = r.steps.get(..self.step as usize)?;
        let since = before.iter().rev().find_map(|s| s.step_id)?.0;
        let installed = before.iter().any(|s| s.step.kind.mode().is_some());
        if !installed {
            return None;
        }
        if r.params.failure_action == FailureAction::Continue {
            if self.view.there(&r.to) > 0 {
                return None;
            }
            let detail = "they ended, or their workers are lost".into();
            return self.fail(Reason::NobodyLeft { detail }, Verdict::Worse);
        }
        self.fail(health::failure(self.view, r, &r.to, since)?, Verdict::Worse)
    }

    /// The newest batch, unless an earlier attempt of the step made it.
    pub fn batch(&self) -> Option<&Batch> {
        let began = self.row.started_at.unwrap_or_default();
        self.row.batch.as_ref().filter(|b| b.started_at >= began)
    }

    /// New weights while the step runs.
    pub fn route(&self, weights: Weights) -> Command {
        Command::RouteSet(RouteSet {
            at: StepRef { rollout: self.r.id, seen: self.r.meta.revision, step: self.step },
            weights,
        })
    }

    /// The next batch of the step.
    pub fn start_batch(&self, add: Vec<(WorkerName, u32)>, replace: Vec<InstanceId>, in_place: bool) -> Command {
        let (rollout, seen, step) = (self.r.id, self.r.meta.revision, self.step);
        let batch = self.row.batch.as_ref().map_or(1, |b| b.n.saturating_add(1));
        Command::BatchStarted(BatchStarted { at: StepRef { rollout, seen, step }, batch, add, replace, in_place })
    }

    /// Ends a batch.
    pub fn pass_batch(&self, batch: &Batch, drain: Vec<InstanceId>, weights: Option<Weights>) -> Command {
        let (rollout, seen, step) = (self.r.id, self.r.meta.revision, self.step);
        Command::BatchPassed(BatchPassed { at: StepRef { rollout, seen, step }, batch: batch.n, drain, weights })
    }

    /// Whether the rollback is not sure: someone not heard of in a new term, or the old pair not unpacked where it
    /// runs.
    fn not_ready(&self, notes: &mut Notes) -> bool {
        let (view, r) = (self.view, self.r);
        if view.observing(r.order.iter(), notes) {
            return true;
        }
        let Some(from) = r.from.as_ref().filter(|_| !r.is_rollback()) else { return false };
        let gone: Vec<WorkerName> = unstaged(view.state, view.id(), from).into_iter().collect();
        if gone.is_empty() {
            return false;
        }
        notes.wait(Wait::Staging { workers: gone });
        true
    }

    /// Whether the step runs towards the new pair under checks.
    pub fn forward(&self) -> bool {
        self.r.status == RolloutStatus::Active && !self.r.is_rollback()
    }

    /// Index of the entry that began the step's present attempt.
    pub fn began(&self) -> u64 {
        self.row.step_id.map_or(0, |s| s.0)
    }

    /// Ends the step with what was seen.
    pub fn end(&self, verdict: Verdict, note: String) -> Command {
        Command::StepEnded(StepEnded {
            at: StepRef { rollout: self.r.id, seen: self.r.meta.revision, step: self.step },
            evidence: self.evidence(verdict, note),
        })
    }

    /// What was seen so far.
    pub fn evidence(&self, verdict: Verdict, note: String) -> Evidence {
        evidence::of(self.view, self.r, self.row, verdict, note)
    }

    /// What follows from the step's checks so far.
    pub fn judged(&self, pair: &Pair) -> Finding {
        Case { view: self.view, pair, step: self.row.step_id }.worst(self.row.step.kind.checks())
    }

    /// What the policy makes of a failure. `None` when nothing can turn any more: a promotion only cleans up, and a way
    /// back goes on.
    pub fn fail(&self, reason: Reason, verdict: Verdict) -> Option<Command> {
        if self.r.status != RolloutStatus::Active || self.r.is_rollback() {
            return None;
        }
        let (rollout, seen) = (self.r.id, self.r.meta.revision);
        let evidence = Some(self.evidence(verdict, reason.to_string()));
        Some(match self.r.params.failure_action {
            FailureAction::Rollback | FailureAction::Continue => {
                Command::RollbackBegan(RollbackBegan { rollout, seen, reason, evidence })
            }
            FailureAction::Pause => Command::RolloutPaused(RolloutPaused { rollout, seen, reason, evidence }),
        })
    }

    /// The step's deadline: a failure when it is over, else a moment to look again.
    pub fn overdue(&self, notes: &mut Notes) -> Option<Command> {
        let deadline = self.row.deadline.filter(|_| !self.r.is_rollback())?;
        if self.view.now >= deadline {
            return self.fail(Reason::Deadline, Verdict::Unjudged);
        }
        notes.wake_at(deadline);
        None
    }
}
