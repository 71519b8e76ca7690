//! A batch under way, as its installation sees it: the instances that it added, and those that still make room for
//! them.
//!
//! Not here: when it has passed and what follows (`install` going forward, `back` in a rollback).

use super::drain;
use super::prelude::*;

/// A batch with the rows of its instances.
pub(super) struct Running<'a> {
    view: &'a View<'a>,
    batch: &'a Batch,
    /// New instances.
    pub added: Vec<&'a Instance>,
    /// Old ones whose places the new ones wait for.
    pub making_room: Vec<&'a Instance>,
}

impl<'a> Running<'a> {
    pub fn of(view: &'a View<'a>, batch: &'a Batch) -> Self {
        let rows = |ids: &'a [InstanceId]| ids.iter().filter_map(|id| view.state.instances.get(id));
        let makes_room = |i: &&Instance| batch.in_place && i.life == Life::Draining && view.worker_ready(&i.worker);
        let (added, making_room) = (rows(&batch.added).collect(), rows(&batch.replaced).filter(makes_room).collect());
        Self { view, batch, added, making_room }
    }

    /// Notes what it waits for, and its deadline.
    pub fn explain(&self, notes: &mut Notes) {
        notes.wake_at(self.batch.deadline);
        drain::explain(self.view, &self.making_room, notes);
        let starting: Vec<InstanceId> = self.added.iter().filter(|i| i.life == Life::Starting).map(|i| i.id).collect();
        if !starting.is_empty() {
            notes.wait(Wait::Starting { instances: starting });
        }
        let replaces = if self.batch.in_place { count(self.batch.replaced.iter()) } else { 0 };
        let have = count(self.added.iter().filter(|i| self.view.passes(i)));
        notes.wait(Wait::Healthy { have, need: count(self.added.iter()).max(replaces) });
    }
}
