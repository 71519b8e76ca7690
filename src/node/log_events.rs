//! One line of the log for each event in State, on every node.
//!
//! Invariant: an event that is applied while this process runs makes one line; what was there before it started makes none. Batches
//! and instances are told at `debug`, as they would drown the rest.

use std::ops::Bound;

use tracing::field;

use crate::{
    raft::Consensus,
    state::{EventKey, Severity, State},
};

/// Follows State for ever.
pub(super) async fn run(consensus: Consensus) {
    let mut views = consensus.view_changes();
    let newest = |s: &State| s.events.get_max().map(|(key, _)| *key).unwrap_or_default();
    let mut seen: Option<EventKey> = None;
    loop {
        views.borrow_and_update();
        let state = consensus.view();
        // Before there is a cluster nothing has happened, so its making is told.
        if let Some(from) = seen {
            tell(&state, from);
        }
        if state.applied.index > 0 || seen.is_none() {
            seen = Some(newest(&state));
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}

fn tell(state: &State, from: EventKey) {
    let term = state.applied.term;
    for (key, event) in state.events.range((Bound::Excluded(from), Bound::Unbounded)) {
        let told = event.body.describe();
        let (index, by, event, text) = (key.index, &event.by, told.kind, told.text);
        let (deployment, rollout) = (told.deployment.map(field::display), told.rollout.map(field::display));
        let more: Vec<String> = told.fields.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        let more = format!("{}actor={by}", more.concat());
        match told.severity {
            Severity::Detail => tracing::debug!(event, term, index, deployment, rollout, more, "{text}"),
            Severity::Normal => tracing::info!(event, term, index, deployment, rollout, more, "{text}"),
            Severity::Warning => tracing::warn!(event, term, index, deployment, rollout, more, "{text}"),
            Severity::Alarm => tracing::error!(event, term, index, deployment, rollout, more, "{text}"),
        }
    }
}
