//! Which instances count: what DNS may name, and how much capacity a pair has. DNS, guards and the planner share these.

use std::collections::BTreeSet;

use crate::state::base::prelude::*;

/// Whether the instance's worker has been silent for so long that it leaves DNS.
fn silent(state: &State, i: &Instance, out_after: Period, now: Millis) -> bool {
    match state.workers.get(&i.worker) {
        Some(w) => w.presence == Presence::Lost && w.lost_at.is_some_and(|t| now >= t.plus(out_after)),
        None => true,
    }
}

/// Whether the instance's worker is lost for good. Not to be named runs nothing twice, so a singleton's is meant too.
fn dead(state: &State, i: &Instance, now: Millis) -> bool {
    let lost_at = || state.workers.get(&i.worker).filter(|w| w.presence == Presence::Lost)?.lost_at;
    i.counted_out.is_some() || lost_at().is_some_and(|at| for_good(state, i).is_some_and(|after| now >= at.plus(after)))
}

fn for_good(state: &State, i: &Instance) -> Option<Period> {
    state.spec(&i.deployment, i.pair.spec).map(|s| s.lost_for_good)
}

/// When a lost worker's instances leave DNS by time alone: as silent ones, and as dead ones.
pub fn leave_at<'a>(state: &'a State, worker: &'a Worker) -> impl Iterator<Item = Millis> + 'a {
    let out_after = state.cluster.as_ref().map(|c| c.settings.dns_out_after);
    let dead = state.instances.on(&worker.name).filter(|i| i.serves()).filter_map(|i| for_good(state, i));
    let at = worker.lost_at.filter(|_| worker.presence == Presence::Lost);
    out_after.into_iter().chain(dead).filter_map(move |after| Some(at?.plus(after)))
}

/// What DNS may name, in id order: running, passing, and on a worker that is not silent for too long. When fewer than
/// half would remain without the lost workers' instances, all stay (the panic threshold: then our own view is the
/// likelier fault). Instances that were counted out, or would be if they were no singletons, take no part in that,
/// unless nothing else is left: then the last ones go on being named.
pub fn serving<'a>(state: &'a State, deployment: &DeploymentId, now: Millis) -> Vec<&'a Instance> {
    serving_among(state, state.instances_of(deployment), now)
}

/// The same for a caller that has the deployment's instances at hand: `instances` are all of one deployment, in id
/// order.
pub fn serving_among<'a>(
    state: &State,
    instances: impl Iterator<Item = &'a Instance>,
    now: Millis,
) -> Vec<&'a Instance> {
    let out_after =
        state.cluster.as_ref().map_or_else(|| Settings::default().dns_out_after, |c| c.settings.dns_out_after);
    let (dead, able): (Vec<&Instance>, Vec<&Instance>) =
        instances.filter(|i| i.serves()).partition(|i| dead(state, i, now));
    if able.is_empty() {
        return dead;
    }
    let kept: Vec<&Instance> = able.iter().copied().filter(|i| !silent(state, i, out_after, now)).collect();
    if kept.len().saturating_mul(2) < able.len() { able } else { kept }
}

/// Capacity of a pair: instances that run, pass their checks and stand on a worker that is heard of. No panic
/// threshold: capacity is what weights may be raised to.
pub fn passing(state: &State, deployment: &DeploymentId, pair: &Pair) -> u32 {
    count(state, deployment, pair, |i| passes(state, i))
}

/// Instances of a pair that are meant to serve (starting or running) and were not counted out.
pub fn wanted(state: &State, deployment: &DeploymentId, pair: &Pair) -> u32 {
    count(state, deployment, pair, |i| i.life.is_wanted() && i.counted_out.is_none())
}

/// Those of them whose worker is heard of: what an installation has. What stands on a lost worker can neither be relied
/// on nor waited for.
pub fn there(state: &State, deployment: &DeploymentId, pair: &Pair) -> u32 {
    count(state, deployment, pair, |i| i.life.is_wanted() && ready(state, i))
}

/// Whether every arm that the keeper holds has the instances that it wants.
pub fn complete(state: &State, d: &Deployment, now: Millis) -> bool {
    d.arms.iter().filter(|a| d.holds(a, now)).all(|a| wanted(state, &d.id, &a.pair) >= a.want)
}

/// Whether a worker is heard of.
pub fn hears(state: &State, worker: &WorkerName) -> bool {
    state.workers.get(worker).is_some_and(|w| w.presence == Presence::Ready)
}

/// Whether the instance's worker is heard of.
pub(in crate::state) fn ready(state: &State, i: &Instance) -> bool {
    hears(state, &i.worker)
}

/// Whether it serves, on a worker that is heard of: what capacity counts.
pub fn passes(state: &State, i: &Instance) -> bool {
    i.serves() && ready(state, i)
}

/// Whether a worker has a package unpacked.
pub fn staged(state: &State, worker: &WorkerName, digest: &Digest) -> bool {
    state.workers.get(worker).is_some_and(|w| w.staged.contains(digest))
}

/// Workers on which instances of a pair run and that no longer have its package unpacked: a rollback to it could start
/// nothing there.
pub fn unstaged(state: &State, deployment: &DeploymentId, pair: &Pair) -> BTreeSet<WorkerName> {
    let runs = |i: &&Instance| &i.pair == pair && i.life == Life::Running && ready(state, i);
    let on = state.instances_of(deployment).filter(runs).map(|i| &i.worker);
    on.filter(|w| !staged(state, w, &pair.digest)).cloned().collect()
}

fn count(state: &State, deployment: &DeploymentId, pair: &Pair, f: impl Fn(&Instance) -> bool) -> u32 {
    let n = state.instances_of(deployment).filter(|i| &i.pair == pair && f(i)).count();
    u32::try_from(n).unwrap_or(u32::MAX)
}
