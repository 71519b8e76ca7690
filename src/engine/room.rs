//! Room for new instances: how many more processes an installation may have, and which old ones the new ones can
//! replace in place.
//!
//! Invariants: a rollback has the room that its rollout was made in; the number of passing instances never falls below
//! what must be available, and an instance that does not pass costs nothing. Not here: free addresses and capacity of a
//! worker (`place`).

use super::prelude::*;

/// Instances of a pair on each worker, at most.
pub(super) fn per_worker(view: &View<'_>, pair: &Pair) -> u32 {
    view.spec(pair).map_or(1, |s| s.placement.per_worker)
}

/// Desired instances of a pair on the workers of the order that are heard of.
pub(super) fn on_ready(view: &View<'_>, r: &Rollout, pair: &Pair) -> u32 {
    count(r.order.iter().filter(|w| view.worker_ready(w))).saturating_mul(per_worker(view, pair))
}

/// Old instances still meant to serve, in the order in which they go: first what does not pass, then by `key`, then by
/// id.
pub(super) fn old_ones<'a, K: Ord>(view: &View<'a>, pair: &Pair, key: impl Fn(&Instance) -> K) -> Vec<&'a Instance> {
    let mut old: Vec<&Instance> =
        view.instances.iter().copied().filter(|i| i.life.is_wanted() && &i.pair != pair).collect();
    old.sort_by_key(|i| (view.passes(i), key(i), i.id));
    old
}

/// What an installation may use.
pub(super) struct Room<'a> {
    view: &'a View<'a>,
    r: &'a Rollout,
    pair: &'a Pair,
    mode: BatchMode,
    /// Instances of one batch at most, as the plan says.
    batch: u32,
}

impl<'a> Room<'a> {
    pub fn of(view: &'a View<'a>, r: &'a Rollout, pair: &'a Pair, mode: BatchMode, batch: u32) -> Self {
        Self { view, r, pair, mode, batch }
    }

    /// Going forward with surge: how many processes may be added. Those on workers that came back or joined in its
    /// midst are on nobody's bill.
    pub fn surge(&self) -> u32 {
        let live = self.view.live().filter(|i| self.view.worker_ready(&i.worker) && self.r.order.contains(&i.worker));
        self.r.desired.saturating_add(self.r.params.surge(self.r.desired)).saturating_sub(count(live))
    }

    /// How many processes one worker may get, on a rollback and in place. By worker and not in sum, as a sum that
    /// surplus on one worker fills would keep an empty one from ever being filled.
    fn free_on(&self, worker: &WorkerName) -> u32 {
        let most = per_worker(self.view, self.pair);
        let roof = match self.mode {
            BatchMode::Beside => return u32::MAX,
            BatchMode::Replace => most.saturating_add(self.r.params.surge(self.r.desired)),
            BatchMode::InPlace => most,
        };
        roof.saturating_sub(count(self.view.live().filter(|i| &i.worker == worker)))
    }

    /// Those of the order that may get a process.
    pub fn open(&self, order: &[WorkerName]) -> Vec<WorkerName> {
        order.iter().filter(|w| self.free_on(w) > 0).cloned().collect()
    }

    /// What is to be added, as far as each worker may get it.
    pub fn within(&self, add: Vec<(WorkerName, u32)>) -> Vec<(WorkerName, u32)> {
        let most = |(w, n): (WorkerName, u32)| {
            let n = self.free_on(&w).min(n);
            (w, n)
        };
        add.into_iter().map(most).collect()
    }

    /// Passing instances that must be left.
    fn floor(&self) -> u32 {
        let missing = self.r.params.unavailable(self.r.desired);
        if self.r.is_rollback() {
            return on_ready(self.view, self.r, self.pair).saturating_sub(missing.max(1));
        }
        match self.mode {
            BatchMode::Replace => self.r.desired.saturating_sub(missing),
            BatchMode::Beside | BatchMode::InPlace => self.r.desired.saturating_sub(missing.max(1)),
        }
    }

    /// At most `limit` old instances that give their place up now, with what is added where.
    pub fn in_place(&self, order: &[WorkerName], limit: u32) -> (Vec<(WorkerName, u32)>, Vec<InstanceId>) {
        let (view, r) = (self.view, self.r);
        let passing = count(view.instances.iter().filter(|i| i.life.is_wanted() && view.passes(i)));
        // A batch of all is what it says: nothing need be left.
        let at_once = self.mode == BatchMode::InPlace && self.batch >= r.desired && !r.is_rollback();
        let mut slack = if at_once { u32::MAX } else { passing.saturating_sub(self.floor()) };
        let most = per_worker(view, self.pair);
        // One worker after another in the order, those with the fewest new ones first: whole workers where each runs
        // one.
        let new_on = |w: &WorkerName| count(view.wanted(self.pair).filter(|i| &i.worker == w));
        let place = |w: &WorkerName| order.iter().position(|o| o == w).unwrap_or(usize::MAX);
        let old = old_ones(view, self.pair, |i| (new_on(&i.worker), place(&i.worker)));
        let (mut add, mut replace): (Vec<(WorkerName, u32)>, Vec<InstanceId>) = (Vec::new(), Vec::new());
        for i in old {
            let free = !view.passes(i);
            let taken: u32 = add.iter().filter(|(w, _)| w == &i.worker).map(|(_, n)| *n).sum();
            if replace.len() >= limit as usize || (!free && slack == 0) || !order.contains(&i.worker) {
                continue;
            }
            if new_on(&i.worker) + taken >= most || !view.worker_ready(&i.worker) {
                continue;
            }
            slack = if free { slack } else { slack.saturating_sub(1) };
            replace.push(i.id);
            match add.iter_mut().find(|(w, _)| w == &i.worker) {
                Some((_, n)) => *n += 1,
                None => add.push((i.worker.clone(), 1)),
            }
        }
        (add, replace)
    }
}
