//! When the instances that DNS may name change by time alone. Which ones they are is `state::serving_among`, shared
//! with guards and planner; the rows that it reads are committed, so every node lets the same ones through at the same
//! index.

use crate::{
    model::Millis,
    state::{State, Worker, leave_at},
};

/// The next point of cluster time at which a lost worker's instances leave, without any row changing.
pub(super) fn next_change(state: &State) -> Option<Millis> {
    state.workers.lost().flat_map(|w| leave_at(state, w)).filter(|out| *out > state.now).min()
}

/// Lost workers whose instances left between two States by time.
pub(super) fn counted_out_since<'a>(old: &'a State, new: &'a State) -> impl Iterator<Item = &'a Worker> {
    new.workers.lost().filter(move |w| leave_at(new, w).any(|out| old.now < out && out <= new.now))
}
