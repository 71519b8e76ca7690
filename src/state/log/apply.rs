//! `apply`: one committed entry, all or nothing.
//!
//! A command changes State in place; what a refused one has changed is taken back (`base::savepoint`), so that a
//! refusal changes nothing but `applied`, `now`, `wall` and the table of requests. Guards and effects stand in the
//! commands' own files.

use super::{
    command::Command,
    requests::{self, Look},
    stamp::Stamped,
};
use crate::state::{
    base::{
        event::{Event, EventKey},
        prelude::*,
    },
    catalog::statuses,
    cluster::levels,
    traffic::{slots, switches},
};

/// What a command that was not refused did.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// Index of the entry that took effect: an earlier one when this is a repeat.
    pub index: u64,
    /// What happened; empty in a repeat.
    pub events: Vec<Event>,
    /// Whether the request had taken effect before.
    pub repeated: bool,
}

/// Applies a blank or membership entry: only the position moves.
pub fn apply_blank(state: &mut State, at: LogId) {
    state.applied = at;
}

/// Applies one committed command.
pub fn apply(state: &mut State, at: LogId, stamped: &Stamped) -> Result<Applied, Rejection> {
    state.applied = at;
    if stamped.term != at.term {
        return Err(Rejection::WrongTerm { stamped: stamped.term, entry: at.term });
    }
    state.now = state.now.max(stamped.at);
    state.wall = stamped.wall;
    requests::forget_expired(state);
    let ticket = match requests::look(state, stamped)? {
        Look::Engine => None,
        Look::Fresh(ticket) => Some(ticket),
        Look::Repeat(index) => return Ok(Applied { index, events: Vec::new(), repeated: true }),
    };
    let before = state.savepoint();
    let mut cx = Cx::new(state, at, &stamped.principal);
    let result = match (&stamped.body, &cx.s.cluster) {
        (Command::ClusterInit(_), Some(_)) => Err(Rejection::AlreadyInitialised),
        (Command::ClusterInit(_), None) | (_, Some(_)) if stamped.body.level() > cx.s.level.max(1) => {
            Err(levels::too_new(stamped.body.name(), stamped.body.level(), cx.s.level))
        }
        (Command::ClusterInit(_), None) | (_, Some(_)) => stamped.body.apply(&mut cx),
        (_, None) => Err(Rejection::NoCluster),
    };
    let result = result.and_then(|()| {
        switches::sweep(&mut cx);
        follow_up(&mut cx);
        cx.finish()
    });
    let result = match result {
        Ok(bodies) => {
            state.keep();
            Ok(Applied { index: at.index, events: record(state, at, &stamped.principal, bodies), repeated: false })
        }
        Err(refused) => {
            state.back_to(before);
            Err(refused)
        }
    };
    if let Some(ticket) = ticket {
        requests::remember(state, at, ticket, result.as_ref().err());
    }
    result
}

/// What follows from changed deployments: slots of keys, as the fewest keys move from the entry before to this one, and
/// the statuses of releases, which say where they run.
fn follow_up(cx: &mut Cx<'_>) {
    let versions = |d: &Deployment| d.arms.iter().map(|a| (a.role, a.pair.version.clone())).collect::<Vec<_>>();
    for id in cx.changed_deployments() {
        let (old, new) = (cx.s.deployments.was(&id), cx.s.deployments.get_shared(&id).cloned());
        let Some(new) = new else { continue };
        slots::follow(cx.s, old.as_deref(), &new);
        let (was, is) = (old.as_deref().map(versions).unwrap_or_default(), versions(&new));
        if was != is {
            statuses::settle_versions(cx, &id.service, was.into_iter().chain(is).map(|(_, v)| v));
        }
    }
}

fn record(state: &mut State, at: LogId, by: &Principal, bodies: Vec<EventBody>) -> Vec<Event> {
    let events: Vec<Event> = (0u32..)
        .zip(bodies)
        .map(|(ordinal, body)| Event {
            key: EventKey { index: at.index, ordinal },
            at: state.now,
            wall: state.wall,
            body,
            by: by.clone(),
        })
        .collect();
    for e in &events {
        state.events.insert(e.key, e.clone());
    }
    let kept = state.cluster.as_ref().map_or_else(|| Settings::default().limits.events, |c| c.settings.limits.events);
    while state.events.len() > kept as usize {
        let Some(oldest) = state.events.get_min().map(|(k, _)| *k) else { break };
        state.events.remove(&oldest);
    }
    events
}

/// A copy of State to which a command is applied next, as this principal's: for previews and rehearsals. Nothing is
/// agreed on by it.
pub fn rehearse(state: &State, by: &Principal, body: Command) -> Result<State, Rejection> {
    let mut copy = state.clone();
    let at = LogId { term: state.applied.term, index: state.applied.index.saturating_add(1) };
    let stamped =
        Stamped { at: state.now, wall: state.wall, term: at.term, principal: by.clone(), request: None, body };
    apply(&mut copy, at, &stamped)?;
    Ok(copy)
}
