//! The keeper: between rollouts every deployment has its desired instances on every chosen worker, and arms whose time
//! is over go.
//!
//! Invariants: it acts only without a live rollout; a crash loop is slowed down, so it does not commit endlessly; what
//! was kept to look at or to go back to gives its place up where stable lacks one, and never more of it at once than
//! may be missing. After `abort --as-is` it only holds what that left, and of a stopped deployment nothing. A lost
//! worker's instances are left as they are: nobody can reach them, and they count again when it returns. Not here:
//! counting them out (`lost`).

use std::collections::{BTreeMap, BTreeSet};

use super::analysis::health::describe;
use super::drain;
use super::place::{Freed, free_places};
use super::prelude::*;

/// Wait before the first replacement of a failed instance; doubled with each further one.
const BACK_OFF: Period = Period::seconds(10);
/// The longest such wait.
const BACK_OFF_MAX: Period = Period::minutes(5);

/// What an idle deployment needs, in one command.
#[derive(Default)]
struct Wanted {
    add: Vec<(Role, WorkerName, u32)>,
    drain: Vec<InstanceId>,
    drop: Vec<Role>,
    /// Workers that have no room for what stable lacks there, and how much it lacks.
    short: Vec<(WorkerName, u32)>,
}

/// Instances that one command adds at most; the law takes no more.
const MOST: u32 = 1000;

/// The next command of a deployment without a live rollout.
pub(super) fn next(view: &View<'_>, notes: &mut Notes) -> Option<Command> {
    if view.deployment.removing.is_some() {
        return gone(view, notes);
    }
    if view.deployment.is_stopped() {
        return stopped(view, notes);
    }
    let starting = view.deployment.is_starting();
    let stopping: Vec<&Instance> = view.leaving().filter(|i| i.life == Life::Stopping).collect();
    if starting && !stopping.is_empty() {
        // Their addresses are what it comes back with.
        drain::explain(view, &stopping, notes);
        return None;
    }
    let arms = &view.deployment.arms;
    let mut wanted = Wanted::default();
    let mut desired = view.deployment.desired;
    let mut workers = Vec::new();
    if let Some(stable) = arms.get(Role::Stable) {
        let spec = view.spec(&stable.pair)?;
        workers = chosen(view.state, spec).map(|w| w.name.clone()).collect();
        if view.observing(view.state.workers.keys(), notes) {
            return None;
        }
        // With no worker left the count stays: it says what is missing.
        if !workers.is_empty() {
            desired = count(workers.iter()).saturating_mul(spec.placement.per_worker);
        }
        // More than a deployment may have is never asked for.
        desired = desired.min(view.settings.limits.instances_per_deployment);
        match &view.deployment.as_is {
            Some(left) => {
                desired = view.deployment.desired;
                wanted.keep_as_is(view, left, &workers, notes);
            }
            None => {
                wanted.hold(view, stable, &workers, u32::MAX, notes);
                wanted.spare(view, &stable.pair, &workers, desired);
                wanted.make_way(view, &stable.pair, desired);
            }
        }
    }
    for arm in arms.iter().filter(|a| a.role != Role::Stable) {
        match arm.retire_at {
            Some(at) if at > view.now => {
                notes.wake_at(at);
                let short = arm.want.saturating_sub(count(view.wanted(&arm.pair)));
                if arm.role == Role::Previous && short > 0 && wanted.short.is_empty() && wanted.add.is_empty() {
                    wanted.hold(view, arm, &workers, short, &mut Notes::default());
                }
            }
            // What still has traffic stays until stable carries it, but for the places that stable needs.
            Some(_) if arm.weight.0 > 0 => {}
            Some(_) => wanted.retire(view, arm, notes),
            None => {}
        }
    }
    wanted.orphans(view);
    wanted.drain.sort();
    wanted.drain.dedup();
    wanted.cut();
    let changed = (desired != view.deployment.desired && arms.get(Role::Stable).is_some()) || takes_all(view, desired);
    let changed = changed || starting && complete(view.state, view.deployment, view.now);
    if wanted.add.is_empty() && wanted.drain.is_empty() && wanted.drop.is_empty() && !changed {
        let short: Vec<WorkerName> = wanted.short.iter().map(|(w, _)| w.clone()).collect();
        let stable = arms.pair(Role::Stable)?;
        let have = view.passing(stable);
        if have < desired && view.deployment.as_is.is_none() {
            notes.wait(Wait::Healthy { have, need: desired });
        }
        return drain::views(view, stable, &short);
    }
    Some(wanted.adjusted(view, desired))
}

/// A deployment that is being removed: the law began the drains, and the row goes when nothing is left.
fn gone(view: &View<'_>, notes: &mut Notes) -> Option<Command> {
    let deployment = view.id().clone();
    all_gone(view, notes).then(|| DeploymentRemoved { deployment, stop: false }.into())
}

/// A stopped deployment: the law began the drains; arms whose time is over are forgotten.
fn stopped(view: &View<'_>, notes: &mut Notes) -> Option<Command> {
    all_gone(view, notes);
    let mut wanted = Wanted::default();
    for arm in view.deployment.arms.iter().filter(|a| a.role != Role::Stable && a.weight.0 == 0) {
        match arm.retire_at {
            Some(at) if at > view.now => notes.wake_at(at),
            Some(_) => wanted.retire(view, arm, &mut Notes::default()),
            None => {}
        }
    }
    (!wanted.drop.is_empty()).then(|| wanted.adjusted(view, view.deployment.desired))
}

/// Whether nothing of a deployment is left; notes what it still waits for.
fn all_gone(view: &View<'_>, notes: &mut Notes) -> bool {
    let left: Vec<&Instance> = view.live().collect();
    drain::explain(view, &left, notes);
    let lost = left.iter().map(|i| &i.worker).filter(|w| !view.worker_ready(w)).cloned();
    let lost: Vec<WorkerName> = lost.collect::<BTreeSet<_>>().into_iter().collect();
    if !lost.is_empty() {
        notes.wait(super::lost::wait(view, lost));
    }
    left.is_empty()
}

/// Whether an abort left traffic on the candidate that stable can carry by now; the adjustment gives it back.
fn takes_all(view: &View<'_>, desired: u32) -> bool {
    let d = view.deployment;
    let Some(stable) = d.arms.get(Role::Stable).filter(|_| d.route.is_some() && d.as_is.is_none()) else {
        return false;
    };
    stable.weight != WHOLE && view.passing(&stable.pair).saturating_mul(2) >= desired
}

impl Wanted {
    /// The one command of the pass.
    fn adjusted(self, view: &View<'_>, desired: u32) -> Command {
        let Self { add, drain, drop, short: _ } = self;
        let (deployment, seen) = (view.id().clone(), view.deployment.meta.revision);
        ArmAdjusted { deployment, seen, add, drain, desired, drop }.into()
    }

    /// `per_worker` instances of an arm on every chosen ready worker, at most `limit` new ones.
    fn hold(&mut self, view: &View<'_>, arm: &Arm, workers: &[WorkerName], mut limit: u32, notes: &mut Notes) {
        let pair = &arm.pair;
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
            if let Some((at, last)) = back_off(view, pair, worker).filter(|(at, _)| *at > view.now) {
                notes.wait(Wait::Again { worker: worker.clone(), until: at, said: describe(last) });
                notes.wake_at(at);
                continue;
            }
            let Some(row) = view.state.workers.get(worker) else { continue };
            let (free, _) = free_places(view.state, view.id(), spec, row, 0, Freed::Now);
            let n = missing.min(free);
            limit = limit.saturating_sub(n);
            if n > 0 {
                self.add.push((arm.role, worker.clone(), n));
            } else {
                notes.wait(Wait::Addresses { worker: worker.clone() });
            }
            if n < missing && arm.role == Role::Stable {
                self.short.push((worker.clone(), missing - n));
            }
        }
    }

    /// After `abort --as-is`: what serves keeps its number, on the workers where it is; of what was given up nothing is
    /// added, but by a start, which brings back what was stopped.
    fn keep_as_is(&mut self, view: &View<'_>, left: &AsIs, workers: &[WorkerName], notes: &mut Notes) {
        let starting = view.deployment.is_starting();
        let held = |a: &&Arm| (starting || a.pair != left.given_up) && a.retire_at.is_none();
        for arm in view.deployment.arms.iter().filter(held) {
            if !self.add.is_empty() {
                // Room is counted as it was before this pass: the other one's comes with the next.
                break;
            }
            let short = arm.want.saturating_sub(count(view.wanted(&arm.pair)));
            if short > 0 {
                self.hold(view, arm, workers, short, notes);
            }
        }
    }

    /// Where stable lacks room, what was kept beside it makes way: first what does not serve, then what has no traffic,
    /// then as much as may be missing.
    fn make_way(&mut self, view: &View<'_>, stable: &Pair, desired: u32) {
        let share = |i: &Instance| view.deployment.arms.of(&i.pair).map_or(BasisPoints(0), |a| a.weight);
        // What has no traffic serves nobody.
        let useful = |i: &Instance| &i.pair == stable || share(i).0 > 0;
        let serves = |i: &&&Instance| i.life.is_wanted() && view.passes(i) && useful(i) && !self.drain.contains(&i.id);
        let passing = count(view.instances.iter().filter(serves));
        let mut slack = passing.saturating_sub(view.state.floor(view.deployment, desired));
        for (worker, missing) in self.short.clone() {
            // Whoever leaves already makes way.
            let leaving = count(view.live().filter(|i| i.worker == worker && !i.life.is_wanted()));
            let mut others: Vec<&Instance> = view
                .instances
                .iter()
                .copied()
                .filter(|i| i.worker == worker && i.life.is_wanted() && &i.pair != stable)
                .collect();
            others.sort_by_key(|i| (view.passes(i), share(i), i.id));
            for i in others.into_iter().take(missing.saturating_sub(leaving) as usize) {
                let costs = view.passes(i) && share(i).0 > 0;
                if costs && slack == 0 {
                    continue;
                }
                slack = if costs { slack - 1 } else { slack };
                self.drain.push(i.id);
            }
        }
    }

    /// No more than one command may add; the next pass adds the rest.
    fn cut(&mut self) {
        let mut left = MOST;
        for (_, _, n) in &mut self.add {
            *n = (*n).min(left);
            left -= *n;
        }
        self.add.retain(|(_, _, n)| *n > 0);
    }

    /// Drains stable instances beyond `per_worker` or where its placement no longer takes them, never below the desired
    /// count of passing ones.
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

    /// Drains an arm whose time is over, and forgets it once nothing of it is left.
    fn retire(&mut self, view: &View<'_>, arm: &Arm, notes: &mut Notes) {
        let left: Vec<&Instance> = view.live().filter(|i| i.pair == arm.pair && view.worker_ready(&i.worker)).collect();
        if left.is_empty() {
            self.drop.push(arm.role);
            return;
        }
        self.drain.extend(left.iter().filter(|i| i.life.is_wanted()).map(|i| i.id));
        drain::explain(view, &left, notes);
    }

    /// Drains what no arm runs: a lost worker that came back after its pair was retired.
    fn orphans(&mut self, view: &View<'_>) {
        let arms = &view.deployment.arms;
        let orphan = |i: &&&Instance| i.life.is_wanted() && view.worker_ready(&i.worker) && arms.of(&i.pair).is_none();
        let orphans = view.instances.iter().filter(orphan);
        self.drain.extend(orphans.map(|i| i.id));
    }
}

/// When the next instance may be put where earlier ones failed, and the one that failed last.
pub(super) fn back_off<'a>(view: &View<'a>, pair: &Pair, worker: &WorkerName) -> Option<(Millis, &'a Instance)> {
    let here = |i: &&Instance| &i.pair == pair && &i.worker == worker && i.life == Life::Failed;
    let failed: Vec<&Instance> = view.instances.iter().copied().filter(here).collect();
    let (at, last) =
        failed.iter().copied().filter_map(|i| Some((i.failed_at?, i))).max_by_key(|(at, i)| (*at, i.id))?;
    let doublings = u32::try_from(failed.len().saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    let wait = Period(BACK_OFF.0.saturating_mul(1 << doublings)).min(BACK_OFF_MAX);
    Some((at.plus(wait), last))
}
