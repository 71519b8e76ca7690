//! After a rollback moved the traffic: which servers have confirmed it, whose lease is over, and when no server answers
//! with the version that was left.
//!
//! Invariants: nothing waits for this. A server counts by its own report or, if a lease bound it when the traffic
//! moved, by the end of its last possible lease. What is not known within a minute is recorded as unknown. Not here:
//! switches (`fence`).

use super::plan::Plan;
use super::prelude::*;
use super::standing::{Move, Servers, left, names};
use crate::traffic::lease::Standing;

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
    let stands = |node, at| {
        let bound = !differs(state, node) && (b.bound.contains(&node) || state.fences.left.contains_key(&node));
        Standing::of(at >= b.index, bound, left(seen, node, b.stale))
    };
    let servers = Servers::look(state, seen, now, Move { index: b.index, at: b.at, patience: WITHIN }, stands);
    if let Some(wait) = servers.wait(now) {
        return Err(wait);
    }
    let behind = servers.behind();
    let fenced_at = behind.is_empty().then_some(now);
    let note = if behind.is_empty() {
        String::new()
    } else {
        format!("{} may go on answering with {}: no word within {WITHIN}", names(state, &behind), b.left)
    };
    let servers = servers.record();
    Ok(SwitchEnd { at: now, switched: true, fenced_at, servers, clear_at: fenced_at.map(|at| at.plus(b.ttl)), note })
}
