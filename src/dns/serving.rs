//! When the instances that DNS may name change by time alone. Which ones they are is `state::serving_among`, shared with guards and
//! planner; the rows that it reads are committed, so every node lets the same ones through at the same index.

use crate::{model::Millis, state::State};

/// The next point of cluster time at which a lost worker's instances leave, without any row changing.
pub(super) fn next_change(state: &State) -> Option<Millis> {
    let settings = &state.cluster.as_ref()?.settings;
    let out = state.workers.lost().filter_map(|w| Some(w.lost_at?.plus(settings.dns_out_after)));
    out.filter(|out| *out > state.now).min()
}
