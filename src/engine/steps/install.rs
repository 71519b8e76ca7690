//! `install`, going forward: batches until the share of instances passes, checked while they run.
//!
//! Invariants: with surge, processes that may exist never exceed desired + max_surge; in place, what passes never falls
//! below desired - max_unavailable but by failures; a batch that fails follows the policy at once. Choosing workers is
//! `place`'s, a rollback is `back`'s.

use super::{Runner, begin};
use crate::engine::{
    analysis::{Finding, health},
    back,
    batch::Running,
    drain,
    place::spread,
    prelude::*,
    room::{self, Room},
    weigh,
};

pub(super) const RUNNER: Runner = Runner { start: begin, next };

/// An installation's parameters and what it has.
struct Install<'a> {
    turn: &'a Turn<'a>,
    pair: &'a Pair,
    mode: BatchMode,
    routing: Routing,
    size: u32,
    /// Instances that must pass at the end.
    need: u32,
    /// Failed instances that are tolerated.
    tolerated: u32,
}

fn next(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
    let pair = turn.r.target()?;
    if turn.r.is_rollback() {
        return back::next(turn, pair, notes);
    }
    let StepKind::Install { share, mode, routing, batch, .. } = turn.row.step.kind else { return None };
    let need = share.of_rounded_up(turn.r.desired);
    let tolerated = counted_failed(turn.view.state, turn.r);
    Install { turn, pair, mode, routing, size: batch, need, tolerated }.next(notes)
}

impl Install<'_> {
    fn next(&self, notes: &mut Notes) -> Option<Command> {
        let finding = self.turn.judged(self.pair);
        if let Finding::Worse(reason) = finding {
            return self.turn.fail(reason, Verdict::Worse);
        }
        match self.turn.batch() {
            Some(batch) if !batch.passed => self.batch_runs(batch, notes),
            batch => self.between(batch, &finding, notes),
        }
    }

    /// Whether failed instances are counted instead of turning the rollout.
    fn tolerant(&self) -> bool {
        self.turn.r.params.failure_action == FailureAction::Continue
    }

    fn batch_runs(&self, batch: &Batch, notes: &mut Notes) -> Option<Command> {
        let view = self.turn.view;
        let running = Running::of(view, batch);
        let added = &running.added;
        let workers: Vec<&WorkerName> = added.iter().map(|i| &i.worker).collect();
        if !self.tolerant()
            && let Some(reason) = health::refused(view, self.pair, |w| workers.contains(&w))
        {
            return self.turn.fail(reason, Verdict::Worse);
        }
        let late = view.now >= batch.deadline;
        let done = |i: &Instance| view.passes(i) || (self.tolerant() && i.life == Life::Failed);
        if running.making_room.is_empty() && !added.is_empty() && added.iter().all(|i| done(i)) {
            if view.passing(self.pair) == 0 && view.deployment.arms.get(Role::Stable).is_none() {
                // Nothing serves, so there is nothing that could go on beside what failed.
                let detail = format!("all {} failed", self.tolerated);
                return self.turn.fail(Reason::NobodyLeft { detail }, Verdict::Worse);
            }
            return Some(self.pass(batch));
        }
        if late {
            let reason = added.iter().find(|i| !done(i)).map_or(Reason::Deadline, |i| Reason::HealthCheck {
                instance: i.id,
                detail: format!("on {} did not pass its checks in time", i.worker),
            });
            return self.turn.fail(reason, Verdict::Worse);
        }
        running.explain(notes);
        self.turn.overdue(notes)
    }

    /// No batch runs: the next one, or the end.
    fn between(&self, batch: Option<&Batch>, finding: &Finding, notes: &mut Notes) -> Option<Command> {
        let view = self.turn.view;
        let (have, passing) = (view.there(self.pair), view.passing(self.pair));
        if have + self.tolerated < self.need {
            if let Some(at) = batch.map(|b| b.next_at).filter(|at| *at > view.now) {
                return self.pause_between(at, notes);
            }
            return self.start_batch(self.need - have - self.tolerated, notes).or_else(|| self.turn.overdue(notes));
        }
        if have == 0 && self.tolerated > 0 {
            // Under `continue` those that failed count as done, but nothing is done by none.
            let detail = format!("all {} failed", self.tolerated);
            return self.turn.fail(Reason::NobodyLeft { detail }, Verdict::Worse);
        }
        if passing + self.tolerated < self.need || passing == 0 {
            notes.wait(Wait::Healthy { have: passing, need: self.need.saturating_sub(self.tolerated).max(1) });
            return self.turn.overdue(notes);
        }
        let leaving: Vec<&Instance> =
            view.leaving().filter(|i| &i.pair != self.pair && self.mode != BatchMode::Beside).collect();
        if !leaving.is_empty() {
            drain::explain(view, &leaving, notes);
            return self.turn.overdue(notes);
        }
        // What ran already needed no batch, and has no traffic yet.
        let weights = self.by_capacity(&[]);
        if self.routing == Routing::ByCapacity
            && weights.get(Role::Candidate) > weigh::present(view).get(Role::Candidate)
        {
            return Some(self.turn.route(weights));
        }
        Some(self.turn.end(finding.verdict(), String::new()))
    }

    fn pause_between(&self, at: Millis, notes: &mut Notes) -> Option<Command> {
        notes.wait(Wait::Delay { until: at });
        notes.wake_at(at);
        None
    }

    fn start_batch(&self, missing: u32, notes: &mut Notes) -> Option<Command> {
        let (view, r) = (self.turn.view, self.turn.r);
        let room = Room::of(view, r, self.pair, self.mode, self.size);
        let limit = missing.min(self.size);
        let in_place = || room.in_place(&r.order, limit);
        let (add, replace, takes_over) = match self.mode {
            BatchMode::Beside => (self.place(limit, notes), Vec::new(), false),
            BatchMode::Replace => {
                let (add, replace) = self.with_surge(limit.min(room.surge()), notes);
                if add.is_empty() && view.leaving().next().is_none() {
                    // The surge is filled by what a worker brought that came back, or its address is not free: places
                    // are taken over.
                    let (add, replace) = in_place();
                    (add, replace, true)
                } else {
                    (add, replace, false)
                }
            }
            BatchMode::InPlace => match in_place() {
                // Nothing to take the place of: a first rollout, workers that are new, or places that something left by
                // itself.
                (_, replace) if replace.is_empty() => {
                    (room.within(self.place_in(&room.open(&r.order), limit, notes)), Vec::new(), false)
                }
                (add, replace) => (add, replace, true),
            },
        };
        if add.is_empty() {
            notes.wait(Wait::Capacity { have: view.passing(self.pair), need: self.need });
            return drain::views(view, self.pair, &r.order);
        }
        Some(self.turn.start_batch(add, replace, takes_over))
    }

    fn place(&self, n: u32, notes: &mut Notes) -> Vec<(WorkerName, u32)> {
        self.place_in(&self.turn.r.order, n, notes)
    }

    fn place_in(&self, order: &[WorkerName], n: u32, notes: &mut Notes) -> Vec<(WorkerName, u32)> {
        let (add, short) = spread(self.turn.view, self.pair, order, n);
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
    fn with_surge(&self, n: u32, notes: &mut Notes) -> (Vec<(WorkerName, u32)>, Vec<InstanceId>) {
        let view = self.turn.view;
        if n == 0 {
            drain::explain(view, &view.leaving().collect::<Vec<_>>(), notes);
            return (Vec::new(), Vec::new());
        }
        let add = self.place(n, notes);
        let placed: u32 = add.iter().map(|(_, n)| n).sum();
        let old = room::old_ones(view, self.pair, |i| !add.iter().any(|(w, _)| w == &i.worker));
        let replace = old.into_iter().take(placed as usize).map(|i| i.id).collect();
        (add, replace)
    }

    /// The batch is through: probation over, old ones go, weights follow.
    fn pass(&self, batch: &Batch) -> Command {
        let drain = match self.mode {
            BatchMode::Beside | BatchMode::InPlace => Vec::new(),
            BatchMode::Replace => self.to_drain(batch),
        };
        let weights = (self.routing == Routing::ByCapacity).then(|| self.by_capacity(&drain));
        self.turn.pass_batch(batch, drain, weights)
    }

    /// Weights by what passes, without those that drain.
    fn by_capacity(&self, drain: &[InstanceId]) -> Weights {
        let (view, r) = (self.turn.view, self.turn.r);
        let serves = |i: &&&Instance| {
            let has_arm = view.deployment.arms.of(&i.pair).is_some();
            &i.pair != self.pair && has_arm && i.life.is_wanted() && view.passes(i) && !drain.contains(&i.id)
        };
        let (new, old) = (view.passing(self.pair), count(view.instances.iter().filter(serves)));
        let all = match self.mode {
            // Beside, the old ones stay at their full number until the new ones are there.
            BatchMode::Beside => r.desired.max(1),
            BatchMode::Replace | BatchMode::InPlace => new.saturating_add(old),
        };
        let candidate = match (new, old) {
            // Nothing serves that the traffic could move to.
            (0, 0) => weigh::present(view).get(Role::Candidate),
            (_, 0) => WHOLE,
            (_, _) => BasisPoints::ratio(u64::from(new), u64::from(all)),
        };
        weigh::by_capacity(view, r, candidate, drain)
    }

    /// As many old ones as leave at least desired - max_unavailable passing, and enough for what is still to come.
    fn to_drain(&self, batch: &Batch) -> Vec<InstanceId> {
        let (view, r) = (self.turn.view, self.turn.r);
        let new = view.passing(self.pair);
        let old = room::old_ones(view, self.pair, |i| !batch.replaced.contains(&i.id));
        let mut passing = new + count(old.iter().filter(|i| view.passes(i)));
        let floor =
            if new >= self.need { self.need } else { r.desired.saturating_sub(r.params.unavailable(r.desired)) };
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
