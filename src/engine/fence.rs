//! Switches under way: when every server knows of one, when its traffic moves, and from when on no server answers with the old
//! version.
//!
//! Invariants: a server counts as fenced by its own word, or when it is known to be bound and its last possible lease is over; what
//! cannot be known is said in the end's record and never waited out. Not here: what a command does (`state`), the law of one lease
//! (`traffic::lease`), rollouts' own `switch` steps (`route`, which asks here too).

use std::collections::BTreeMap;

use super::view::Notes;
use crate::{
    model::{DeploymentId, Millis, NodeId, Period, Wait},
    state::{
        Command, Observations, Seen, ServerEnd, State, Switch, SwitchEnd, Unfenced, WaitLevel, bound,
        command::{ArmsConfirmed, LeasesSettled, SwitchEnded, SwitchMoved},
        differs, fence_set, leases_due, switch_obstacle,
    },
    traffic::lease::Standing,
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

/// What a server was heard to serve, and when it said so. The word of one whose State differs from the majority's is no evidence.
pub(super) fn served(state: &State, seen: &Observations, node: NodeId) -> (u64, Option<Millis>) {
    match seen.nodes.get(&node).filter(|_| !differs(state, node)) {
        Some(Seen::Known { at, value }) => (value.served_index, Some(*at)),
        Some(Seen::Unknown | Seen::Silent { .. }) | None => (0, None),
    }
}

/// Every server with what it was heard to serve, for commands that confirm arms.
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

/// How a server stands to an entry that moved these deployments.
pub(super) fn standing<'a>(
    state: &State,
    seen: &Observations,
    deployments: impl Iterator<Item = &'a DeploymentId> + Clone,
    node: NodeId,
    index: u64,
) -> Standing {
    let (at, _) = served(state, seen, node);
    let is_bound = deployments.clone().all(|d| bound(state, d, node, at));
    // Stale answers go on after the lease, and when it ended nobody here remembers.
    let mode = |d: &DeploymentId| state.deployments.get(d).and_then(|d| d.route.as_ref()).map(|r| r.mode);
    let stale = deployments.filter_map(|d| Some(state.fences.policy(d, mode(d)?).stale())).max().unwrap_or_default();
    let left = seen.leases.as_ref().map(|l| Period(l.of(node).0.saturating_add(stale.0)));
    Standing::of(at >= index, is_bound, left)
}

/// Whether a lease will be over in its time: a service that answers stale goes on for longer, and of leases that nobody keeps a book
/// of nothing is known.
pub(super) fn worth_waiting(state: &State, left: Period) -> bool {
    left <= state.fences.waited().bound()
}

/// What a server is called.
pub(super) fn name(state: &State, node: NodeId) -> String {
    state.nodes.get(&node).map_or_else(|| format!("node {node}"), |n| n.name.clone())
}

fn names(state: &State, nodes: &[NodeId]) -> String {
    nodes.iter().map(|n| name(state, *n)).collect::<Vec<_>>().join(", ")
}

/// Whether all of these have been silent for long, or answer nobody as their State is wrong.
pub(super) fn silent(state: &State, nodes: &[NodeId]) -> bool {
    nodes.iter().all(|n| differs(state, *n) || state.nodes.get(n).is_none_or(|row| row.silent_since.is_some()))
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
                Some(Command::ArmsConfirmed(ArmsConfirmed { served: words }))
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
    let (mut servers, mut behind, mut open) = (Vec::new(), Vec::new(), Vec::new());
    let (mut look_again, mut until) = (Millis(u64::MAX), moved.plus(UNBOUND));
    for node in fence_set(state) {
        let how = match standing(state, seen, deployments(s), node, index) {
            Standing::Served => ServerEnd::Served(served(state, seen, node).1.unwrap_or(now)),
            Standing::Expired => ServerEnd::Expired,
            Standing::Holds(left) => {
                if worth_waiting(state, left) {
                    look_again = look_again.min(now.plus(left));
                    until = state.fences.gives_up(moved);
                }
                behind.push(node);
                ServerEnd::Holds
            }
            Standing::Unbound => {
                open.push(node);
                ServerEnd::Unbound
            }
        };
        servers.push((node, name(state, node), how));
    }
    let fenced = behind.is_empty() && open.is_empty();
    let words = words(state, seen);
    let waited_out = servers.iter().any(|(_, _, how)| *how == ServerEnd::Expired);
    if fenced && waited_out && news(state, &words) {
        // Whom only its word binds is bound by law once that is committed; without it the end would be refused.
        return Some(Command::ArmsConfirmed(ArmsConfirmed { served: words }));
    }
    if !fenced && now < until {
        let waits: Vec<NodeId> = behind.into_iter().chain(open).collect();
        notes.wait(Wait::Views { index, behind: waits });
        notes.wake_at(until.min(look_again));
        return None;
    }
    let note = if fenced {
        String::new()
    } else {
        let mut parts = Vec::new();
        if !open.is_empty() {
            parts.push(format!(
                "{} may go on answering with the old version: it did not confirm that it knows of the switch",
                names(state, &open)
            ));
        }
        if !behind.is_empty() {
            parts.push(format!("{} may answer with the old version for a while", names(state, &behind)));
        }
        parts.join("; ")
    };
    // TTLs were 0 since before the old one ran out, if every server has served the arm itself: one that was only waited out has not.
    let low = |n: &NodeId| {
        s.targets.iter().all(|t| state.fences.arms.get(&t.deployment).is_some_and(|a| a.confirmed.contains(n)))
    };
    let lowered = s.wait == WaitLevel::Caches && s.ready.is_some() && fence_set(state).iter().all(low);
    let cleared = if lowered { now } else { now.plus(s.ttl) };
    let end = SwitchEnd {
        at: now,
        switched: true,
        fenced_at: fenced.then_some(now),
        servers,
        clear_at: fenced.then_some(cleared),
        note,
    };
    Some(Command::SwitchEnded(SwitchEnded { switch: s.id, seen: s.revision, end }))
}

/// Whether these words confirm an arm of a switch to a server that has not confirmed it yet.
fn news(state: &State, words: &[(NodeId, u64)]) -> bool {
    let new = |(node, at): &(NodeId, u64)| {
        state.nodes.contains_key(node)
            && state.fences.arms.values().any(|a| *at >= a.index && !a.confirmed.contains(node))
    };
    words.iter().any(new)
}

/// Servers that have come to know of the mode `always`.
fn always(state: &State, seen: &Observations) -> Option<Command> {
    let arm = state.fences.always.as_ref()?;
    let words = words(state, seen);
    let news =
        words.iter().any(|(n, at)| *at >= arm.index && !arm.confirmed.contains(n) && state.nodes.contains_key(n));
    news.then_some(Command::ArmsConfirmed(ArmsConfirmed { served: words }))
}
