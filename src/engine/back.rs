//! The installation of a rollback: batches until the old version passes, in whatever room there is. The traffic follows
//! the instances as they pass.
//!
//! Invariants: it never fails, pauses or turns around. An instance that does not come up is tried again with a
//! back-off, as the keeper does. A serving instance is taken down only to make room, and never more of them than may be
//! missing. A lost worker's share is waited for until the worker is counted out, and delays no other worker. Not here:
//! going forward (`install`), choosing among free places (`place`).

use std::collections::BTreeSet;

use super::batch::Running;
use super::drain;
use super::keeper::back_off;
use super::lost;
use super::place::spread;
use super::prelude::*;
use super::room::{self, Room};
use super::weigh;

/// An installation's parameters.
struct Back<'a> {
    turn: &'a Turn<'a>,
    pair: &'a Pair,
    mode: BatchMode,
    routing: Routing,
    size: u32,
    /// Instances that must pass at the end.
    need: u32,
}

pub(super) fn next(turn: &Turn<'_>, pair: &Pair, notes: &mut Notes) -> Option<Command> {
    let StepKind::Install { share, mode, routing, batch, .. } = turn.row.step.kind else { return None };
    let need = share.of_rounded_up(turn.r.desired);
    Back { turn, pair, mode, routing, size: batch, need }.next(notes)
}

impl Back<'_> {
    fn next(&self, notes: &mut Notes) -> Option<Command> {
        let batch = self.turn.batch();
        let running = batch.filter(|b| !b.passed);
        if let Some(b) = running
            && let Some(done) = self.close(b, notes)
        {
            return Some(done);
        }
        if let Some(weights) = self.follow() {
            return Some(self.turn.route(weights));
        }
        if running.is_some() {
            return None;
        }
        self.between(notes)
    }

    /// The present weights moved towards the version to go back to, as far as its instances carry them; `None`: they
    /// stand.
    fn follow(&self) -> Option<Weights> {
        match self.routing {
            Routing::Explicit => None,
            Routing::ByCapacity => weigh::back(self.turn.view, self.turn.r, self.pair),
        }
    }

    /// Ends the running batch once everyone in it passes, has ended, or has had its time.
    fn close(&self, batch: &Batch, notes: &mut Notes) -> Option<Command> {
        let view = self.turn.view;
        let running = Running::of(view, batch);
        let open = |i: &&&Instance| i.life.is_wanted() && !view.passes(i) && view.worker_ready(&i.worker);
        let settled = running.making_room.is_empty() && !running.added.iter().any(|i| open(&i));
        if settled || view.now >= batch.deadline {
            let weights = match self.routing {
                Routing::Explicit => None,
                Routing::ByCapacity => Some(self.follow().unwrap_or_else(|| weigh::present(view))),
            };
            return Some(self.turn.pass_batch(batch, self.spare(batch), weights));
        }
        running.explain(notes);
        None
    }

    /// Old instances that are not needed any more beside what passes now; where new ones came first, they make room for
    /// the next.
    fn spare(&self, batch: &Batch) -> Vec<InstanceId> {
        let (view, r) = (self.turn.view, self.turn.r);
        let on = |w: &WorkerName| count(view.live().filter(|i| &i.worker == w));
        let named = |i: &Instance| batch.replaced.contains(&i.id);
        let most = room::per_worker(view, self.pair);
        // Where the pair is complete its rivals only take room that is needed elsewhere.
        let rival = |i: &Instance| {
            let mine = view.wanted(self.pair).filter(|x| x.worker == i.worker && view.passes(x));
            count(mine) >= most
        };
        let key = |i: &Instance| (!rival(i), !named(i), std::cmp::Reverse(on(&i.worker)));
        let mut old = room::old_ones(view, self.pair, key);
        old.retain(|i| view.worker_ready(&i.worker));
        let keep = match self.mode {
            // The old ones stay beside until all of the others are there, but for those whose place is needed.
            BatchMode::Beside => return Vec::new(),
            BatchMode::Replace | BatchMode::InPlace => room::on_ready(view, r, self.pair),
        };
        let floor = keep.saturating_sub(r.params.unavailable(r.desired).max(1));
        let mut passing = view.passing(self.pair) + count(old.iter().filter(|i| view.passes(i)));
        let mut go = Vec::new();
        for i in old {
            if view.passes(i) {
                if passing <= if rival(i) { floor } else { keep } {
                    continue;
                }
                passing -= 1;
            }
            go.push(i.id);
        }
        go
    }

    /// No batch runs: the next one, or the end.
    fn between(&self, notes: &mut Notes) -> Option<Command> {
        let (view, r) = (self.turn.view, self.turn.r);
        let there = view.there(self.pair);
        if there < self.need
            && let Some(batch) = self.start(self.need - there, notes)
        {
            return Some(batch);
        }
        let passing = view.passing(self.pair);
        if passing < self.need {
            if let Some(more) = self.extend() {
                return Some(more);
            }
            self.lost(notes);
            notes.wait(Wait::Healthy { have: passing, need: self.need });
            return None;
        }
        let leaving: Vec<&Instance> =
            view.leaving().filter(|i| &i.pair != self.pair && self.mode != BatchMode::Beside).collect();
        if !leaving.is_empty() {
            drain::explain(view, &leaving, notes);
            return None;
        }
        let note =
            if r.without.is_empty() { String::new() } else { format!("without {}", super::view::names(&r.without)) };
        Some(self.turn.end(Verdict::Unjudged, note))
    }

    /// Where a worker of the order is lost, those that came since take part.
    fn extend(&self) -> Option<Command> {
        let (view, r) = (self.turn.view, self.turn.r);
        if r.order.iter().all(|w| view.worker_ready(w)) {
            return None;
        }
        let came = chosen(view.state, view.spec(self.pair)?).map(|w| w.name.clone());
        let workers: Vec<WorkerName> = came.filter(|w| !r.order.contains(w)).collect();
        let more = room::per_worker(view, self.pair).saturating_mul(count(workers.iter()));
        let fits = r.desired.saturating_add(more) <= view.settings.limits.instances_per_deployment;
        if !fits || workers.is_empty() {
            return None;
        }
        Some(Command::OrderExtended(OrderExtended { rollout: r.id, seen: r.meta.revision, workers }))
    }

    /// Notes the workers of the order that are lost, and when they are counted out.
    fn lost(&self, notes: &mut Notes) {
        let (view, r) = (self.turn.view, self.turn.r);
        let away: Vec<WorkerName> = r.order.iter().filter(|w| !view.worker_ready(w)).cloned().collect();
        if !away.is_empty() {
            notes.wait(lost::wait(view, away));
        }
    }

    /// The next batch: into free places as far as the room it was made in goes, else in place of what may be missing.
    fn start(&self, missing: u32, notes: &mut Notes) -> Option<Command> {
        let (view, r) = (self.turn.view, self.turn.r);
        let order = self.not_resting(notes);
        let limit = missing.min(self.size);
        let room = Room::of(view, r, self.pair, self.mode, self.size);
        let (add, short) = spread(view, self.pair, &room.open(&order), limit);
        let add = room.within(add);
        if !add.is_empty() {
            return Some(self.turn.start_batch(add, Vec::new(), false));
        }
        let (add, replace) = room.in_place(&order, limit);
        if !add.is_empty() {
            return Some(self.turn.start_batch(add, replace, true));
        }
        let leaving: Vec<&Instance> = view.leaving().collect();
        drain::explain(view, &leaving, notes);
        if leaving.is_empty() {
            if let Some(command) = drain::views(view, self.pair, &order) {
                return Some(command);
            }
            for worker in short {
                notes.wait(Wait::Addresses { worker });
            }
        }
        None
    }

    /// The order without workers where the last try failed only just now.
    fn not_resting(&self, notes: &mut Notes) -> Vec<WorkerName> {
        let view = self.turn.view;
        let mut rests: BTreeSet<&WorkerName> = BTreeSet::new();
        for worker in &self.turn.r.order {
            let missing =
                count(view.wanted(self.pair).filter(|i| &i.worker == worker)) < room::per_worker(view, self.pair);
            let Some((at, last)) = back_off(view, self.pair, worker).filter(|(at, _)| missing && *at > view.now) else {
                continue;
            };
            rests.insert(worker);
            notes.wake_at(at);
            let said = super::analysis::health::describe(last);
            notes.wait(Wait::Again { worker: worker.clone(), until: at, said });
        }
        self.turn.r.order.iter().filter(|w| !rests.contains(w)).cloned().collect()
    }
}
