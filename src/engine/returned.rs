//! After a way back: who has confirmed it, whose lease is over, and when no server answers with the version that was left.
//!
//! Invariants: nothing waits for this; a server counts by its own word, or, if a lease bound it when the traffic moved, by the end of
//! its last possible lease; what cannot be said within a minute is said to be unknown. Not here: switches (`fence`).

use super::fence::{name, served, worth_waiting};
use super::plan::Plan;
use crate::{
    model::{Millis, NodeId, Period, Wait},
    state::{
        Command, Observations, ServerEnd, State, SwitchEnd, TrafficBack, command::TrafficBackSettled, differs,
        fence_set,
    },
    traffic::lease::Standing,
};

/// How long servers have to confirm before they are called unknown.
const WITHIN: Period = Period::minutes(1);

/// Adds to the plan what there is to say.
pub(super) fn next(state: &State, seen: &Observations, now: Millis, plan: &mut Plan) {
    for b in state.backs.values().filter(|b| b.end.is_none()) {
        match look(state, seen, now, b) {
            Ok(end) => plan.commands.push(Command::TrafficBackSettled(TrafficBackSettled {
                rollout: b.rollout,
                index: b.index,
                end,
            })),
            Err((wait, at)) => {
                let waits = plan.waits.entry(b.deployment.clone()).or_default();
                if !waits.contains(&wait) {
                    waits.push(wait);
                }
                plan.wake_at = Some(plan.wake_at.map_or(at, |w| w.min(at)));
            }
        }
    }
}

fn look(state: &State, seen: &Observations, now: Millis, b: &TrafficBack) -> Result<SwitchEnd, (Wait, Millis)> {
    let mut until = b.at.plus(WITHIN);
    let mut look_again = until;
    let (mut servers, mut behind) = (Vec::new(), Vec::new());
    for node in fence_set(state) {
        let (at, heard) = served(state, seen, node);
        let bound = !differs(state, node) && (b.bound.contains(&node) || state.fences.left.contains_key(&node));
        let left = seen.leases.as_ref().map(|l| Period(l.of(node).0.saturating_add(b.stale.0)));
        let how = match Standing::of(at >= b.index, bound, left) {
            Standing::Served => ServerEnd::Served(heard.unwrap_or(now)),
            Standing::Expired => ServerEnd::Expired,
            Standing::Holds(left) => {
                if worth_waiting(state, left) {
                    look_again = look_again.min(now.plus(left));
                    until = until.max(state.fences.gives_up(b.at));
                }
                behind.push(node);
                ServerEnd::Holds
            }
            Standing::Unbound => {
                behind.push(node);
                ServerEnd::Unbound
            }
        };
        servers.push((node, name(state, node), how));
    }
    if !behind.is_empty() && now < until {
        return Err((Wait::Views { index: b.index, behind }, look_again.min(until)));
    }
    let fenced_at = behind.is_empty().then_some(now);
    let names = |nodes: &[NodeId]| nodes.iter().map(|n| name(state, *n)).collect::<Vec<_>>().join(", ");
    let note = if behind.is_empty() {
        String::new()
    } else {
        format!("{} may go on answering with {}: no word within {WITHIN}", names(&behind), b.left)
    };
    Ok(SwitchEnd { at: now, switched: true, fenced_at, servers, clear_at: fenced_at.map(|at| at.plus(b.ttl)), note })
}
