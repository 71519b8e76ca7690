//! Which instances count: what DNS may name, and how much capacity a pair has. DNS, guards and the planner share these.

use super::{Instance, Presence, Settings, State};
use crate::model::{DeploymentId, Millis, Pair};

/// Whether the instance's worker has been silent for so long that it leaves DNS.
fn silent(state: &State, i: &Instance, out_after: crate::model::Period, now: Millis) -> bool {
    match state.workers.get(&i.worker) {
        Some(w) => w.presence == Presence::Lost && w.lost_at.is_some_and(|t| now >= t.plus(out_after)),
        None => true,
    }
}

/// What DNS may name, in id order: running, passing, and on a worker that is not silent for too long. When fewer than half would remain
/// without the lost workers' instances, all stay (the panic threshold: then our own view is the likelier fault). Instances that were
/// counted out, as their worker is lost for good, take no part in that, unless nothing else is left: then the last ones go on being named.
pub fn serving<'a>(state: &'a State, deployment: &DeploymentId, now: Millis) -> Vec<&'a Instance> {
    serving_among(state, state.instances_of(deployment), now)
}

/// The same for a caller that has the deployment's instances at hand: `instances` are all of one deployment, in id order.
pub fn serving_among<'a>(
    state: &State,
    instances: impl Iterator<Item = &'a Instance>,
    now: Millis,
) -> Vec<&'a Instance> {
    let out_after =
        state.cluster.as_ref().map_or_else(|| Settings::default().dns_out_after, |c| c.settings.dns_out_after);
    let (able, dead): (Vec<&Instance>, Vec<&Instance>) =
        instances.filter(|i| i.serves()).partition(|i| i.counted_out.is_none());
    if able.is_empty() {
        return dead;
    }
    let kept: Vec<&Instance> = able.iter().copied().filter(|i| !silent(state, i, out_after, now)).collect();
    if kept.len().saturating_mul(2) < able.len() { able } else { kept }
}

/// Capacity of a pair: instances that run, pass their checks and stand on a worker that is heard of. No panic threshold: capacity is
/// what weights may be raised to.
pub fn passing(state: &State, deployment: &DeploymentId, pair: &Pair) -> u32 {
    count(state, deployment, pair, |i| i.serves() && ready(state, i))
}

/// Instances of a pair that are meant to serve (starting or running) and were not counted out.
pub fn wanted(state: &State, deployment: &DeploymentId, pair: &Pair) -> u32 {
    count(state, deployment, pair, |i| i.life.is_wanted() && i.counted_out.is_none())
}

/// Those of them whose worker is heard of: what an installation has. What stands on a lost worker can neither be relied on nor waited for.
pub fn there(state: &State, deployment: &DeploymentId, pair: &Pair) -> u32 {
    count(state, deployment, pair, |i| i.life.is_wanted() && ready(state, i))
}

/// Whether the instance's worker is heard of.
pub(super) fn ready(state: &State, i: &Instance) -> bool {
    state.workers.get(&i.worker).is_some_and(|w| w.presence == Presence::Ready)
}

fn count(state: &State, deployment: &DeploymentId, pair: &Pair, f: impl Fn(&Instance) -> bool) -> u32 {
    let n = state.instances_of(deployment).filter(|i| &i.pair == pair && f(i)).count();
    u32::try_from(n).unwrap_or(u32::MAX)
}
