//! Switches under way: when every server knows of one, when its traffic moves, and from when on no server answers with
//! the old version.
//!
//! Invariant: what cannot be known is said in the end's record and never waited out. Not here: how one server stands
//! (`standing`), what a command does (`state`), rollouts' own `switch` steps (`steps::switch`).

use std::collections::BTreeMap;

use super::prelude::*;
use super::{
    standing::{self, Move, Servers, names, served, silent},
    view::Notes,
};

/// How long servers that have long been silent are waited for.
const SILENT: Period = Period::seconds(1);
/// How long servers that cannot be waited out are waited for once the traffic has moved.
const UNBOUND: Period = Period::seconds(2);

/// Commands for the switches under way, with what they wait for by deployment.
pub(super) fn next(
    state: &State,
    seen: &Observations,
    now: Millis,
    notes: &mut BTreeMap<DeploymentId, Notes>,
) -> Vec<Command> {
    let mut commands = Vec::new();
    for s in state.fences.open() {
        let mut mine = Notes::default();
        commands.extend(match s.moved {
            None => before(state, seen, now, s, &mut mine),
            Some((index, at)) => after(state, seen, now, s, (index, at), &mut mine),
        });
        for t in &s.targets {
            let notes = notes.entry(t.deployment.clone()).or_default();
            mine.waits.iter().for_each(|w| notes.wait(w.clone()));
            mine.wake.into_iter().for_each(|at| notes.wake_at(at));
        }
    }
    if commands.is_empty() {
        commands.extend(always(state, seen));
    }
    if commands.is_empty() && leases_due(&state.fences, now) {
        commands.push(Command::LeasesSettled(LeasesSettled { seen: state.fences.revision }));
    }
    commands
}

/// The moment at which something of earlier leases is to be settled.
pub(super) fn due(state: &State) -> Option<Millis> {
    let f = &state.fences;
    let times = f.left.values().chain(f.floor.iter().map(|(_, at)| at)).flatten();
    times.map(|at| at.plus(f.waited().bound())).min()
}

/// Every server with what it was heard to serve, for commands that confirm armings.
pub(super) fn words(state: &State, seen: &Observations) -> Vec<(NodeId, u64)> {
    let all = fence_set(state).into_iter().map(|n| (n, served(state, seen, n).0));
    all.filter(|(_, at)| *at > 0).collect()
}

/// Servers that are not known to be bound for these deployments.
pub(super) fn unbound<'a>(
    state: &State,
    seen: &Observations,
    deployments: impl Iterator<Item = &'a DeploymentId> + Clone,
) -> Vec<NodeId> {
    let free = |n: &NodeId| !deployments.clone().all(|d| bound(state, d, *n, served(state, seen, *n).0));
    fence_set(state).into_iter().filter(free).collect()
}

fn deployments(s: &Switch) -> impl Iterator<Item = &DeploymentId> + Clone {
    s.targets.iter().map(|t| &t.deployment)
}

fn before(state: &State, seen: &Observations, now: Millis, s: &Switch, notes: &mut Notes) -> Option<Command> {
    let take_back = |note: String| {
        let end = SwitchEnd { at: now, switched: false, fenced_at: None, servers: Vec::new(), clear_at: None, note };
        Some(Command::SwitchEnded(SwitchEnded { switch: s.id, seen: s.revision, end }))
    };
    if let Some(why) = switch_obstacle(state, s) {
        return take_back(why);
    }
    let words = words(state, seen);
    let missing = unbound(state, seen, deployments(s));
    let move_on = Some(Command::SwitchMoved(SwitchMoved { switch: s.id, seen: s.revision, served: words.clone() }));
    if missing.is_empty() {
        return match (s.wait, s.ready) {
            (WaitLevel::Quorum | WaitLevel::Fenced, _) => move_on,
            // From this entry on nobody hands out what a cache may keep.
            (WaitLevel::Caches, None) if news(state, &words) => {
                Some(Command::ArmingConfirmed(ArmingConfirmed { served: words }))
            }
            (WaitLevel::Caches, None) => move_on,
            (WaitLevel::Caches, Some(at)) if at.plus(s.ttl) <= now => move_on,
            (WaitLevel::Caches, Some(at)) => {
                notes.wait(Wait::Caches { until: at.plus(s.ttl) });
                notes.wake_at(at.plus(s.ttl));
                None
            }
        };
    }
    let within = if silent(state, &missing) { s.within.min(SILENT) } else { s.within };
    let until = s.asked_at.plus(within);
    if now < until {
        notes.wait(Wait::Views { index: s.id, behind: missing });
        notes.wake_at(until);
        return None;
    }
    match s.unfenced {
        Unfenced::Proceed => move_on,
        Unfenced::TakeBack => {
            take_back(format!("{} did not confirm within {within} that it knows of the switch", names(state, &missing)))
        }
    }
}

fn after(
    state: &State,
    seen: &Observations,
    now: Millis,
    s: &Switch,
    (index, moved): (u64, Millis),
    notes: &mut Notes,
) -> Option<Command> {
    let stands = |node, at| standing::of(state, seen, deployments(s), index, (node, at));
    let servers = Servers::look(state, seen, now, Move { index, at: moved, patience: UNBOUND }, stands);
    let fenced = servers.behind().is_empty();
    let words = words(state, seen);
    if fenced && !servers.that(ServerEnd::Expired).is_empty() && news(state, &words) {
        // Whom only its word binds is bound by law once that is committed; without it the end would be refused.
        return Some(Command::ArmingConfirmed(ArmingConfirmed { served: words }));
    }
    if let Some((wait, at)) = servers.wait(now) {
        notes.wait(wait);
        notes.wake_at(at);
        return None;
    }
    let (holding, unbound) = (servers.that(ServerEnd::Holds), servers.that(ServerEnd::Unbound));
    let mut parts = Vec::new();
    if !unbound.is_empty() {
        parts.push(format!(
            "{} may go on answering with the old version: it did not confirm that it knows of the switch",
            names(state, &unbound)
        ));
    }
    if !holding.is_empty() {
        parts.push(format!("{} may answer with the old version for a while", names(state, &holding)));
    }
    // TTLs were 0 since before the old one ran out, if every server has served the arming itself: one that was only
    // waited out has not.
    let low = |n: &NodeId| {
        s.targets.iter().all(|t| state.fences.armed.get(&t.deployment).is_some_and(|a| a.confirmed.contains(n)))
    };
    let lowered = s.wait == WaitLevel::Caches && s.ready.is_some() && fence_set(state).iter().all(low);
    let cleared = if lowered { now } else { now.plus(s.ttl) };
    let end = SwitchEnd {
        at: now,
        switched: true,
        fenced_at: fenced.then_some(now),
        servers: servers.record(),
        clear_at: fenced.then_some(cleared),
        note: parts.join("; "),
    };
    Some(Command::SwitchEnded(SwitchEnded { switch: s.id, seen: s.revision, end }))
}

/// Whether these words confirm an arming of a switch to a server that has not confirmed it yet.
fn news(state: &State, words: &[(NodeId, u64)]) -> bool {
    state.fences.armed.values().any(|arming| confirms(state, arming, words))
}

/// Whether these words confirm an arming to a server that has not confirmed it yet.
pub(super) fn confirms(state: &State, arming: &Arming, words: &[(NodeId, u64)]) -> bool {
    words.iter().any(|(n, at)| *at >= arming.index && !arming.confirmed.contains(n) && state.nodes.contains_key(n))
}

/// Servers that have come to know of the mode `always`.
fn always(state: &State, seen: &Observations) -> Option<Command> {
    let arming = state.fences.always.as_ref()?;
    let words = words(state, seen);
    confirms(state, arming, &words).then_some(Command::ArmingConfirmed(ArmingConfirmed { served: words }))
}
