//! The keeper: between rollouts every deployment has its desired instances on every chosen worker, and tracks whose time is over go.
//!
//! Invariants: it acts only without a live rollout; a crash loop is slowed down, so it does not commit endlessly; it never moves
//! traffic. A lost worker's instances are left as they are: nobody can reach them, and they count again when it returns.

use std::collections::BTreeMap;

use super::drain;
use super::place::free_places;
use super::view::{Notes, View, count};
use crate::model::{BasisPoints, InstanceId, Life, Millis, Pair, Period, WHOLE, Wait, WorkerName};
use crate::state::{Command, Instance, TrackName, chosen};

/// Wait before the first replacement of a failed instance; doubled with each further one.
const BACK_OFF: Period = Period::seconds(10);
/// The longest such wait.
const BACK_OFF_MAX: Period = Period::minutes(5);

/// What an idle deployment needs, in one command.
#[derive(Default)]
struct Wanted {
    add: Vec<(TrackName, WorkerName, u32)>,
    drain: Vec<InstanceId>,
    drop: Vec<TrackName>,
}

/// The next command of a deployment without a live rollout.
pub(super) fn next(view: &View<'_>, notes: &mut Notes) -> Option<Command> {
    let tracks = &view.deployment.tracks;
    let mut wanted = Wanted::default();
    let mut desired = view.deployment.desired;
    let mut workers = Vec::new();
    if let Some(stable) = &tracks.stable {
        let spec = view.spec(&stable.pair)?;
        workers = chosen(view.state, spec).map(|w| w.name.clone()).collect();
        if view.observing(view.state.workers.keys(), notes) {
            return None;
        }
        // With no worker left the count stays: it says what is missing.
        if !workers.is_empty() {
            desired = count(workers.iter()).saturating_mul(spec.placement.per_worker);
        }
        wanted.hold(view, TrackName::Stable, &stable.pair, &workers, u32::MAX, notes);
        wanted.spare(view, &stable.pair, &workers, desired);
    }
    for (name, track) in tracks.iter().filter(|(name, _)| *name != TrackName::Stable) {
        let shared = tracks.stable.as_ref().is_some_and(|s| s.pair == track.pair);
        let weight = view.deployment.route.as_ref().map_or(BasisPoints(0), |r| r.weights.get(name));
        match track.retire_at {
            Some(at) if at > view.now => {
                notes.wake_at(at);
                let short = track.want.saturating_sub(count(view.wanted(&track.pair)));
                if name == TrackName::Previous && !shared && short > 0 {
                    wanted.hold(view, name, &track.pair, &workers, short, notes);
                }
            }
            // What still has traffic stays until stable carries it.
            Some(_) if weight.0 > 0 => {}
            Some(_) => wanted.retire(view, name, &track.pair, shared, notes),
            None => {}
        }
    }
    wanted.orphans(view);
    let changed = (desired != view.deployment.desired && tracks.stable.is_some()) || takes_all(view, desired);
    if wanted.add.is_empty() && wanted.drain.is_empty() && wanted.drop.is_empty() && !changed {
        return None;
    }
    Some(Command::TrackAdjusted {
        deployment: view.id().clone(),
        seen: view.deployment.meta.revision,
        add: wanted.add,
        drain: wanted.drain,
        desired,
        drop: wanted.drop,
    })
}

/// Whether an abort left traffic on the candidate that stable can carry by now; the adjustment gives it back.
fn takes_all(view: &View<'_>, desired: u32) -> bool {
    let Some(stable) = &view.deployment.tracks.stable else { return false };
    let rest = view.deployment.route.as_ref().is_some_and(|r| r.weights.stable != WHOLE);
    rest && view.passing(&stable.pair).saturating_mul(2) >= desired
}

impl Wanted {
    /// `per_worker` instances of a pair on every chosen ready worker, at most `limit` new ones.
    fn hold(
        &mut self,
        view: &View<'_>,
        name: TrackName,
        pair: &Pair,
        workers: &[WorkerName],
        mut limit: u32,
        notes: &mut Notes,
    ) {
        let Some(spec) = view.spec(pair) else { return };
        let per_worker = spec.placement.per_worker;
        let mut there: BTreeMap<&WorkerName, u32> = BTreeMap::new();
        for i in view.wanted(pair) {
            *there.entry(&i.worker).or_default() += 1;
        }
        for worker in workers {
            let have = there.get(worker).copied().unwrap_or(0);
            let missing = per_worker.saturating_sub(have).min(limit);
            if missing == 0 {
                continue;
            }
            if let Some(at) = back_off(view, pair, worker).filter(|at| *at > view.now) {
                notes.wait(Wait::Delay { until: at });
                notes.wake_at(at);
                continue;
            }
            let Some(row) = view.state.workers.get(worker) else { continue };
            let (free, _) = free_places(view.state, view.id(), spec, row);
            let n = missing.min(free);
            limit = limit.saturating_sub(n);
            if n > 0 {
                self.add.push((name, worker.clone(), n));
            } else {
                notes.wait(Wait::Addresses { worker: worker.clone() });
            }
        }
    }

    /// Drains stable instances beyond `per_worker` or where its placement no longer takes them, never below the desired count of
    /// passing ones.
    fn spare(&mut self, view: &View<'_>, pair: &Pair, workers: &[WorkerName], desired: u32) {
        let Some(spec) = view.spec(pair) else { return };
        let here: Vec<&Instance> = view.wanted(pair).filter(|i| view.worker_ready(&i.worker)).collect();
        let mut by_worker: BTreeMap<&WorkerName, Vec<&Instance>> = BTreeMap::new();
        for i in &here {
            by_worker.entry(&i.worker).or_default().push(i);
        }
        let mut surplus: Vec<&Instance> = Vec::new();
        for (worker, mut on) in by_worker {
            // `workers` come by name.
            let keep = workers.binary_search(worker).map_or(0, |_| spec.placement.per_worker as usize);
            if on.len() > keep {
                on.sort_by_key(|i| (view.passes(i), std::cmp::Reverse(i.id)));
                surplus.extend(on.iter().take(on.len().saturating_sub(keep)));
            }
        }
        let mut rows = count(here.iter()).saturating_sub(desired);
        let mut passing = view.passing(pair).saturating_sub(desired);
        for i in surplus {
            if rows == 0 || (view.passes(i) && passing == 0) {
                continue;
            }
            rows -= 1;
            passing = if view.passes(i) { passing - 1 } else { passing };
            self.drain.push(i.id);
        }
    }

    /// Drains a track whose time is over, and forgets it once nothing of it is left.
    fn retire(&mut self, view: &View<'_>, name: TrackName, pair: &Pair, shared: bool, notes: &mut Notes) {
        let left: Vec<&Instance> =
            view.live().filter(|i| !shared && &i.pair == pair && view.worker_ready(&i.worker)).collect();
        if left.is_empty() {
            self.drop.push(name);
            return;
        }
        self.drain.extend(left.iter().filter(|i| i.life.is_wanted()).map(|i| i.id));
        drain::explain(view, &left, notes);
    }

    /// Drains what no track names: a lost worker that came back after its pair was retired.
    fn orphans(&mut self, view: &View<'_>) {
        let tracks = &view.deployment.tracks;
        let orphans = view.instances.iter().filter(|i| {
            i.life.is_wanted() && view.worker_ready(&i.worker) && !tracks.iter().any(|(_, t)| t.pair == i.pair)
        });
        self.drain.extend(orphans.map(|i| i.id));
    }
}

/// When the next instance may be put where earlier ones failed.
fn back_off(view: &View<'_>, pair: &Pair, worker: &WorkerName) -> Option<Millis> {
    let failed: Vec<&&Instance> =
        view.instances.iter().filter(|i| &i.pair == pair && &i.worker == worker && i.life == Life::Failed).collect();
    let last = failed.iter().map(|i| i.meta.updated_index).max()?;
    // Once the ring has let go of its event it failed long ago.
    let at = view.entry_time(last)?;
    let doublings = u32::try_from(failed.len().saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let wait = Period(BACK_OFF.0.saturating_mul(1 << doublings)).min(BACK_OFF_MAX);
    Some(at.plus(wait))
}
