//! `switch`: one entry moves all traffic, the step ends once it is there.
//!
//! Invariant: no switch comes before all of the candidate passes.

use super::{Runner, begin};
use crate::engine::{
    analysis::health,
    fence,
    prelude::*,
    standing::{self, Move, Servers, name, names},
};

pub(super) const RUNNER: Runner = Runner { start: begin, next };

/// How long a switch waits for nodes to say that they serve it.
const SERVED_WITHIN: Period = Period::seconds(2);
/// How long a switch waits for nodes to confirm that they know of it.
const CONFIRMED_WITHIN: Period = Period::seconds(5);

fn next(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
    let (view, r) = (turn.view, turn.r);
    if let Some((index, at)) = turn.row.routed {
        return served(turn, index, at, notes);
    }
    let pair = r.target()?;
    if let Some(reason) = health::failure(view, r, pair, turn.began()) {
        return turn.fail(reason, Verdict::Worse);
    }
    let (have, need) = (view.passing(pair), need(view.state, r, WHOLE));
    if have >= need {
        if let Some(answer) = armed(turn, notes) {
            return answer;
        }
        return Some(Command::Switched(Switched {
            at: StepRef { rollout: r.id, seen: r.meta.revision, step: turn.step },
        }));
    }
    notes.wait(Wait::Capacity { have, need });
    turn.overdue(notes)
}

/// Before an armed switch: waits until every server has confirmed the arming, or has had its time. `None`: go on.
fn armed(turn: &Turn<'_>, notes: &mut Notes) -> Option<Option<Command>> {
    let (view, state) = (turn.view, turn.view.state);
    let arming = state.fences.armed.get(view.id())?;
    let missing = fence::unbound(state, view.seen, std::iter::once(view.id()));
    let words = fence::words(state, view.seen);
    let within = if standing::silent(state, &missing) { SERVED_WITHIN } else { CONFIRMED_WITHIN };
    let until = arming.since.plus(within);
    if !missing.is_empty() && view.now < until {
        notes.wait(Wait::Views { index: arming.index, behind: missing });
        notes.wake_at(until);
        return Some(None);
    }
    // What they have confirmed outlives this leader.
    fence::confirms(state, arming, &words).then_some(Some(Command::ArmingConfirmed(ArmingConfirmed { served: words })))
}

/// Ends an armed switch: once no server answers with the old version, or when waiting cannot tell any more.
fn fenced(turn: &Turn<'_>, index: u64, switched_at: Millis, notes: &mut Notes) -> Option<Command> {
    let (view, state) = (turn.view, turn.view.state);
    let stands = |node, at| standing::of(state, view.seen, std::iter::once(view.id()), index, (node, at));
    let moved = Move { index, at: switched_at, patience: SERVED_WITHIN };
    let servers = Servers::look(state, view.seen, view.now, moved, stands);
    if let Some((wait, at)) = servers.wait(view.now) {
        notes.wait(wait);
        notes.wake_at(at);
        return None;
    }
    let said = servers.each.iter().filter_map(|(node, how)| match how {
        ServerEnd::Served(at) => Some(format!("{} {} ms", name(state, *node), at.since(switched_at).0)),
        ServerEnd::Expired => Some(format!("{} by the end of its lease", name(state, *node))),
        ServerEnd::Holds | ServerEnd::Unbound => None,
    });
    let (said, behind) = (said.collect::<Vec<_>>(), servers.behind());
    let ttl = view.deployment.route.as_ref().map_or(Period(0), |r| r.ttl);
    let mut note = format!("switched at {index}: {}", said.join(", "));
    if behind.is_empty() {
        note.push_str(&format!("; fenced after {} ms; caches up to {ttl}", view.now.since(switched_at).0));
    } else {
        note.push_str(&format!("; not fenced: {} may answer with the old version", names(state, &behind)));
    }
    Some(turn.end(Verdict::Unjudged, note))
}

/// Ends the switch once every DNS server serves it, is known to be silent, or has had its time.
fn served(turn: &Turn<'_>, index: u64, switched_at: Millis, notes: &mut Notes) -> Option<Command> {
    let view = turn.view;
    if view.state.fences.armed.contains_key(view.id()) {
        return fenced(turn, index, switched_at, notes);
    }
    let until: Millis = switched_at.plus(SERVED_WITHIN);
    let (mut said, mut behind, mut silent) = (Vec::new(), Vec::<NodeId>::new(), Vec::<String>::new());
    for node in view.state.nodes.values().filter(|n| n.role.serves_dns()) {
        let (served, heard) = standing::served(view.state, view.seen, node.id);
        if let Some(at) = heard.filter(|_| served >= index) {
            said.push(format!("{} {} ms", node.name, at.since(switched_at).0));
        } else if standing::silent(view.state, &[node.id]) {
            silent.push(node.name.clone());
        } else {
            behind.push(node.id);
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
        note.push_str(&format!("; not confirmed within {SERVED_WITHIN}: {}", names(view.state, &behind)));
    }
    let ttl = view.deployment.route.as_ref().map_or(Period(0), |r| r.ttl);
    note.push_str(&format!("; caches up to {ttl}"));
    Some(turn.end(Verdict::Unjudged, note))
}
