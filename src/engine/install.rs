//! `install`: batches until the share of instances passes, checked while they run.
//!
//! Invariants: with surge, processes that may exist never exceed desired + max_surge; in place, what passes never falls below
//! desired - max_unavailable but by failures; a batch that fails follows the policy at once. Choosing workers is `place`'s.

use super::analysis::ceiling::{self, Finding};
use super::analysis::health;
use super::drain;
use super::executor::Turn;
use super::place::spread;
use super::view::{Notes, View, count, target};
use crate::model::{
    BasisPoints, BatchMode, FailureAction, InstanceId, Life, Millis, Pair, Routing, StepKind, Strategy, WHOLE, Wait,
    WorkerName,
};
use crate::state::{Batch, Command, Instance, Reason, Rollout, RouteWeights, Verdict};

/// New instances of a rollout that failed.
fn failed(view: &View<'_>, r: &Rollout) -> u32 {
    count(view.instances.iter().filter(|i| i.pair == r.to && i.made_by == Some(r.id) && i.life == Life::Failed))
}

/// Instances of the new pair that a share needs: under `continue` the failed ones count as done, but one must pass.
pub(super) fn needed(view: &View<'_>, r: &Rollout, share: BasisPoints) -> u32 {
    let tolerated = match r.params.failure_action {
        FailureAction::Continue => failed(view, r),
        FailureAction::Pause | FailureAction::Rollback => 0,
    };
    share.of_rounded_up(r.desired).saturating_sub(tolerated).max(1)
}

/// An installation's parameters and what it has.
struct Install<'a> {
    turn: &'a Turn<'a>,
    pair: &'a Pair,
    mode: BatchMode,
    routing: Routing,
    size: u32,
    /// Instances that must pass at the end.
    need: u32,
}

pub(super) fn next(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
    let StepKind::Install { share, mode, routing, batch, delay: _ } = turn.row.step.kind else { return None };
    let pair = target(turn.r)?;
    let need = share.of_rounded_up(turn.r.desired);
    let install = Install { turn, pair, mode, routing, size: batch, need };
    install.next(notes)
}

impl Install<'_> {
    fn next(&self, notes: &mut Notes) -> Option<Command> {
        let finding = if self.turn.forward() { self.judge() } else { Finding::Unjudged };
        if let Finding::Worse { errors, requests, limit } = finding {
            return self.turn.fail(Reason::ErrorRate { errors, requests, limit }, Verdict::Worse);
        }
        if !self.tolerant()
            && let Some(reason) = health::failure(self.turn.view, self.turn.r, self.pair, self.turn.began())
        {
            return self.turn.fail(reason, Verdict::Worse);
        }
        match self.batch() {
            Some(batch) if !batch.passed => self.batch_runs(batch, notes),
            batch => self.between(batch, finding, notes),
        }
    }

    /// The newest batch, unless an earlier attempt of the step made it.
    fn batch(&self) -> Option<&Batch> {
        let began = self.turn.row.started_at.unwrap_or_default();
        self.turn.row.batch.as_ref().filter(|b| b.started_at >= began)
    }

    fn judge(&self) -> Finding {
        // Without traffic of its own there is nothing to judge: until the first weights, and beside in explicit routing.
        let (view, r) = (self.turn.view, self.turn.r);
        ceiling::judge(view, r, self.pair, self.turn.row.step_id)
    }

    /// Whether failed instances are counted instead of turning the rollout.
    fn tolerant(&self) -> bool {
        self.turn.forward() && self.turn.r.params.failure_action == FailureAction::Continue
    }

    /// Failed instances that are tolerated.
    fn tolerated(&self) -> u32 {
        if self.tolerant() { failed(self.turn.view, self.turn.r) } else { 0 }
    }

    fn batch_runs(&self, batch: &Batch, notes: &mut Notes) -> Option<Command> {
        let view = self.turn.view;
        let replaced: Vec<&Instance> = batch.replaced.iter().filter_map(|id| view.state.instances.get(id)).collect();
        let making_room: Vec<&Instance> = replaced
            .iter()
            .copied()
            .filter(|i| self.mode == BatchMode::InPlace && i.life == Life::Draining && view.worker_ready(&i.worker))
            .collect();
        let added: Vec<&Instance> = batch.added.iter().filter_map(|id| view.state.instances.get(id)).collect();
        let workers: Vec<&WorkerName> = added.iter().map(|i| &i.worker).collect();
        if !self.tolerant()
            && let Some(reason) = health::refused(view, |w| workers.contains(&w)).filter(|_| self.turn.forward())
        {
            return self.turn.fail(reason, Verdict::Worse);
        }
        let late = view.now >= batch.deadline;
        let done = |i: &Instance| view.passes(i) || (self.tolerant() && i.life == Life::Failed);
        if making_room.is_empty() && !added.is_empty() && added.iter().all(|i| done(i)) {
            return Some(self.pass(batch));
        }
        if late {
            let reason = added.iter().find(|i| !done(i)).map_or(Reason::Deadline, |i| Reason::HealthCheck {
                instance: i.id,
                detail: format!("on {} did not pass its checks in time", i.worker),
            });
            return self.turn.fail(reason, Verdict::Worse);
        }
        notes.wake_at(batch.deadline);
        drain::explain(view, &making_room, notes);
        let starting: Vec<_> = added.iter().filter(|i| i.life == Life::Starting).map(|i| i.id).collect();
        if !starting.is_empty() {
            notes.wait(Wait::Starting { instances: starting });
        }
        let have = count(added.iter().filter(|i| view.passes(i)));
        notes.wait(Wait::Healthy {
            have,
            need: count(added.iter()).max(count(replaced.iter().filter(|_| self.mode == BatchMode::InPlace))),
        });
        self.turn.overdue(notes)
    }

    /// No batch runs: the next one, or the end.
    fn between(&self, batch: Option<&Batch>, finding: Finding, notes: &mut Notes) -> Option<Command> {
        let view = self.turn.view;
        let have = count(view.wanted(self.pair));
        let tolerated = self.tolerated();
        if have + tolerated < self.need {
            if let Some(at) = batch.map(|b| b.next_at).filter(|at| *at > view.now) {
                return self.pause_between(at, notes);
            }
            return self.start_batch(batch, self.need - have - tolerated, notes).or_else(|| self.turn.overdue(notes));
        }
        let passing = view.passing(self.pair);
        if passing + tolerated < self.need {
            notes.wait(Wait::Healthy { have: passing, need: self.need.saturating_sub(tolerated) });
            return self.turn.overdue(notes);
        }
        let leaving: Vec<&Instance> = view
            .live()
            .filter(|i| &i.pair != self.pair && !i.life.is_wanted() && view.worker_ready(&i.worker))
            .filter(|_| self.mode != BatchMode::Beside)
            .collect();
        if !leaving.is_empty() {
            drain::explain(view, &leaving, notes);
            return self.turn.overdue(notes);
        }
        let verdict = match finding {
            Finding::NotWorse => Verdict::NotWorse,
            Finding::Unjudged => Verdict::Unjudged,
            Finding::Missing(_) | Finding::Data { .. } | Finding::Worse { .. } => Verdict::Undecided,
        };
        Some(self.turn.end(verdict, String::new()))
    }

    fn pause_between(&self, at: Millis, notes: &mut Notes) -> Option<Command> {
        notes.wait(Wait::Delay { until: at });
        notes.wake_at(at);
        None
    }

    fn start_batch(&self, last: Option<&Batch>, missing: u32, notes: &mut Notes) -> Option<Command> {
        let r = self.turn.r;
        let (add, replace) = match self.mode {
            BatchMode::Beside => (self.place(missing.min(self.size), notes), Vec::new()),
            BatchMode::Replace => self.with_surge(missing, notes),
            BatchMode::InPlace => self.in_place(missing, notes),
        };
        if add.is_empty() {
            return None;
        }
        let n = last.or(self.turn.row.batch.as_ref()).map_or(1, |b| b.n.saturating_add(1));
        Some(Command::BatchStarted {
            rollout: r.id,
            seen: r.meta.revision,
            step: self.turn.step,
            batch: n,
            add,
            replace,
        })
    }

    fn place(&self, n: u32, notes: &mut Notes) -> Vec<(WorkerName, u32)> {
        let (add, short) = spread(self.turn.view, self.pair, &self.turn.r.order, n);
        if add.is_empty() {
            for worker in short {
                notes.wait(Wait::Addresses { worker });
            }
            let have = self.turn.view.passing(self.pair);
            notes.wait(Wait::Capacity { have, need: self.need });
        }
        add
    }

    /// New ones first, as far as surge allows; as many old ones are named to go when the batch passes.
    fn with_surge(&self, missing: u32, notes: &mut Notes) -> (Vec<(WorkerName, u32)>, Vec<InstanceId>) {
        let (view, r) = (self.turn.view, self.turn.r);
        let live: Vec<&Instance> = view.live().filter(|i| view.worker_ready(&i.worker)).collect();
        let room = r.desired.saturating_add(r.params.max_surge).saturating_sub(count(live.iter()));
        let n = missing.min(self.size).min(room);
        if n == 0 {
            let leaving: Vec<&Instance> = live.into_iter().filter(|i| !i.life.is_wanted()).collect();
            drain::explain(view, &leaving, notes);
            return (Vec::new(), Vec::new());
        }
        let add = self.place(n, notes);
        let placed: u32 = add.iter().map(|(_, n)| n).sum();
        let old = self.old_ones(&add);
        let replace = old.into_iter().take(placed as usize).map(|i| i.id).collect();
        (add, replace)
    }

    /// Old ones go first; those that do not pass cost nothing.
    fn in_place(&self, missing: u32, notes: &mut Notes) -> (Vec<(WorkerName, u32)>, Vec<InstanceId>) {
        let (view, r) = (self.turn.view, self.turn.r);
        let passing = count(view.instances.iter().filter(|i| i.life.is_wanted() && view.passes(i)));
        let floor = r.desired.saturating_sub(r.params.max_unavailable.max(1));
        let mut slack = if r.strategy == Strategy::Direct { u32::MAX } else { passing.saturating_sub(floor) };
        let (mut add, mut replace): (Vec<(WorkerName, u32)>, Vec<InstanceId>) = (Vec::new(), Vec::new());
        let limit = missing.min(self.size) as usize;
        let per_worker = view.spec(self.pair).map_or(1, |s| s.placement.per_worker);
        let mut old: Vec<&Instance> = self.old_ones(&[]);
        // One worker after another in the order, those with the fewest new ones first: whole workers where each runs one.
        let new_on = |w: &WorkerName| count(view.wanted(self.pair).filter(|i| &i.worker == w));
        let place = |w: &WorkerName| r.order.iter().position(|o| o == w).unwrap_or(usize::MAX);
        old.sort_by_key(|i| (view.passes(i), new_on(&i.worker), place(&i.worker), i.id));
        for i in old {
            let free = !view.passes(i);
            let taken: u32 = add.iter().filter(|(w, _)| w == &i.worker).map(|(_, n)| *n).sum();
            if replace.len() >= limit || (!free && slack == 0) || !r.order.contains(&i.worker) {
                continue;
            }
            if new_on(&i.worker) + taken >= per_worker || !view.worker_ready(&i.worker) {
                continue;
            }
            slack = if free { slack } else { slack.saturating_sub(1) };
            replace.push(i.id);
            match add.iter_mut().find(|(w, _)| w == &i.worker) {
                Some((_, n)) => *n += 1,
                None => add.push((i.worker.clone(), 1)),
            }
        }
        if replace.is_empty() {
            // Nothing to take the place of: a first rollout, or workers that are new.
            return (self.place(missing.min(self.size), notes), Vec::new());
        }
        (add, replace)
    }

    /// Old instances still meant to serve, those to go first in front: not passing, then beside the new ones, then in order.
    fn old_ones(&self, add: &[(WorkerName, u32)]) -> Vec<&Instance> {
        let view = self.turn.view;
        let mut old: Vec<&Instance> =
            view.instances.iter().copied().filter(|i| i.life.is_wanted() && &i.pair != self.pair).collect();
        old.sort_by_key(|i| (view.passes(i), !add.iter().any(|(w, _)| w == &i.worker), i.id));
        old
    }

    /// The batch is through: probation over, old ones go, weights follow.
    fn pass(&self, batch: &Batch) -> Command {
        let (view, r) = (self.turn.view, self.turn.r);
        let drain = match self.mode {
            BatchMode::Beside | BatchMode::InPlace => Vec::new(),
            BatchMode::Replace => self.to_drain(batch),
        };
        let weights = (self.routing == Routing::ByCapacity && self.turn.forward()).then(|| {
            let stays = |i: &&&Instance| {
                r.from.as_ref() == Some(&i.pair) && i.life.is_wanted() && view.passes(i) && !drain.contains(&i.id)
            };
            let (new, old) = (view.passing(self.pair), count(view.instances.iter().filter(stays)));
            let share = match self.mode {
                // Beside, the old ones stay at their full number until the new ones are there.
                BatchMode::Beside => r.desired.max(1),
                BatchMode::Replace | BatchMode::InPlace => new.saturating_add(old),
            };
            let candidate = match old {
                0 => WHOLE,
                _ => BasisPoints::ratio(u64::from(new), u64::from(share)),
            };
            RouteWeights {
                stable: BasisPoints(WHOLE.0 - candidate.0.min(WHOLE.0)),
                candidate,
                previous: BasisPoints(0),
            }
        });
        Command::BatchPassed {
            rollout: r.id,
            seen: r.meta.revision,
            step: self.turn.step,
            batch: batch.n,
            drain,
            weights,
        }
    }

    /// As many old ones as leave at least desired - max_unavailable passing, and enough for what is still to come.
    fn to_drain(&self, batch: &Batch) -> Vec<InstanceId> {
        let (view, r) = (self.turn.view, self.turn.r);
        let new = view.passing(self.pair);
        let mut old = self.old_ones(&[]);
        let named = |i: &&Instance| batch.replaced.contains(&i.id);
        old.sort_by_key(|i| (view.passes(i), !named(i), i.id));
        let mut passing = new + count(old.iter().filter(|i| view.passes(i)));
        let floor = if new >= self.need { self.need } else { r.desired.saturating_sub(r.params.max_unavailable) };
        let mut drain = Vec::new();
        for i in old {
            if view.passes(i) {
                if passing <= floor {
                    break;
                }
                passing -= 1;
            }
            drain.push(i.id);
        }
        drain
    }
}
