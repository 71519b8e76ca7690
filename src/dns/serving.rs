//! When the instances that DNS may name change by time alone. Which ones they are is `state::serving_among`, shared with guards and
//! planner; the rows that it reads are committed, so every node lets the same ones through at the same index.

use crate::{
    model::Millis,
    state::{State, Worker},
};

/// The next point of cluster time at which a lost worker's instances leave, without any row changing.
pub(super) fn next_change(state: &State) -> Option<Millis> {
    let settings = &state.cluster.as_ref()?.settings;
    let out = state.workers.lost().filter_map(|w| Some(w.lost_at?.plus(settings.dns_out_after)));
    out.filter(|out| *out > state.now).min()
}

/// Lost workers whose instances left between two States by time.
pub(super) fn counted_out_since<'a>(old: &'a State, new: &'a State) -> impl Iterator<Item = &'a Worker> {
    let after = new.cluster.as_ref().map(|c| c.settings.dns_out_after);
    let out = move |w: &Worker| Some(w.lost_at?.plus(after?));
    new.workers.lost().filter(move |w| out(w).is_some_and(|out| old.now < out && out <= new.now))
}
