//! `route` and `switch`: one entry moves the traffic, the step ends once it is there.
//!
//! Invariant: a weight never rises above the candidate's healthy capacity, nor does a switch come before all of it passes.

use super::analysis::health;
use super::drain;
use super::executor::Turn;
use super::install;
use super::view::{Notes, target};
use crate::model::{BasisPoints, Millis, NodeId, Period, WHOLE, Wait};
use crate::state::{Command, RouteWeights, Verdict};

/// How long a switch waits for nodes to say that they serve it.
const SERVED_WITHIN: Period = Period::seconds(2);

/// Sets the candidate's weight.
pub(super) fn set(turn: &Turn<'_>, weight: BasisPoints, notes: &mut Notes) -> Option<Command> {
    let (view, r) = (turn.view, turn.r);
    if turn.row.route_index.is_some() {
        return Some(turn.end(Verdict::Unjudged, String::new()));
    }
    let pair = target(r)?;
    let set = || {
        let weights = RouteWeights {
            stable: BasisPoints(WHOLE.0.saturating_sub(weight.0)),
            candidate: weight,
            previous: BasisPoints(0),
        };
        Some(Command::RouteSet { rollout: r.id, seen: r.meta.revision, step: turn.step, weights })
    };
    if !turn.forward() {
        return set();
    }
    if let Some(reason) = health::failure(view, r, pair, turn.began()) {
        return turn.fail(reason, Verdict::Worse);
    }
    let (have, need) = (view.passing(pair), weight.of_rounded_up(r.desired));
    if have >= need {
        return set();
    }
    notes.wait(Wait::Capacity { have, need });
    turn.overdue(notes)
}

/// Cuts over.
pub(super) fn switch(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
    let (view, r) = (turn.view, turn.r);
    if let Some(index) = turn.row.route_index {
        return served(turn, index, notes);
    }
    let pair = target(r)?;
    if let Some(reason) = health::failure(view, r, pair, turn.began()) {
        return turn.fail(reason, Verdict::Worse);
    }
    let (have, need) = (view.passing(pair), install::needed(view, r, WHOLE));
    if have >= need {
        return Some(Command::Switched { rollout: r.id, seen: r.meta.revision, step: turn.step });
    }
    notes.wait(Wait::Capacity { have, need });
    turn.overdue(notes)
}

/// Ends the switch once every DNS server serves it, is known to be silent, or has had its time.
fn served(turn: &Turn<'_>, index: u64, notes: &mut Notes) -> Option<Command> {
    let view = turn.view;
    let switched_at = view.entry_time(index).or(turn.row.started_at).unwrap_or(view.now);
    let until: Millis = switched_at.plus(SERVED_WITHIN);
    let (mut said, mut behind, mut silent) = (Vec::new(), Vec::<NodeId>::new(), Vec::<String>::new());
    for node in view.state.nodes.values().filter(|n| drain::serves_dns(n.role)) {
        let heard = view.seen.nodes.get(&node.id);
        match heard {
            Some(crate::state::Seen::Known { at, value }) if value.served_index >= index => {
                said.push(format!("{} {} ms", node.name, at.since(switched_at).0));
            }
            Some(_) | None if node.silent_since.is_some() => silent.push(node.name.clone()),
            Some(_) | None => behind.push(node.id),
        }
    }
    if !behind.is_empty() && view.now < until {
        notes.wait(Wait::Views { index, behind });
        notes.wake_at(until);
        return None;
    }
    let mut note = format!("switched at {index}: {}; not fenced", said.join(", "));
    if !silent.is_empty() {
        note.push_str(&format!("; silent: {}", silent.join(", ")));
    }
    if !behind.is_empty() {
        let names: Vec<String> =
            behind.iter().filter_map(|id| view.state.nodes.get(id)).map(|n| n.name.clone()).collect();
        note.push_str(&format!("; not confirmed within {SERVED_WITHIN}: {}", names.join(", ")));
    }
    let ttl = view.deployment.route.as_ref().map_or(Period(0), |r| r.ttl);
    note.push_str(&format!("; caches up to {ttl}"));
    Some(turn.end(Verdict::Unjudged, note))
}
