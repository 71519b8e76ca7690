//! Which instances DNS may name: healthy, undrained, and not on a worker that has been silent for too long.
//!
//! Reads committed rows only, so every node lets the same ones through at the same index. The panic threshold: when leaving out the
//! instances of lost workers would leave fewer than half of a deployment's serving instances, all of them stay, because a silence
//! that wide is more likely ours than theirs.

use crate::{
    model::Millis,
    state::{Instance, Presence, State},
};

/// Cluster time from which the instances of this instance's worker are left out; `None` while the worker is heard of.
pub(super) fn out_at(state: &State, instance: &Instance) -> Option<Millis> {
    let settings = &state.cluster.as_ref()?.settings;
    let worker = state.workers.get(&instance.worker)?;
    match worker.presence {
        Presence::Ready => None,
        Presence::Lost => Some(worker.lost_at.unwrap_or_default().plus(settings.dns_out_after)),
    }
}

/// Keeps those of one deployment's instances that DNS may name.
pub(super) fn eligible<'a>(state: &State, instances: &[&'a Instance]) -> Vec<&'a Instance> {
    let serving: Vec<&Instance> = instances.iter().copied().filter(|i| i.serves()).collect();
    let heard: Vec<&Instance> =
        serving.iter().copied().filter(|i| out_at(state, i).is_none_or(|out| state.now < out)).collect();
    if heard.len() * 2 < serving.len() { serving } else { heard }
}

/// The next point of cluster time at which [`eligible`] changes by itself, without any row changing.
pub(super) fn next_change(state: &State) -> Option<Millis> {
    let settings = &state.cluster.as_ref()?.settings;
    let lost = state.workers.values().filter(|w| w.presence == Presence::Lost);
    lost.filter_map(|w| Some(w.lost_at?.plus(settings.dns_out_after))).filter(|out| *out > state.now).min()
}
