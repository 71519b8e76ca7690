//! Traffic taken back: what is known of the DNS servers after a rollback, an abort or a return moved it.
//!
//! A rollback is never made to wait, so the traffic moves before any server is asked. Afterwards State records when
//! each server confirmed it, or that its lease ended, and from when on no server answers with the version that was
//! left. Invariants: a record says "fenced" only when each server confirmed it, or a lease that bound the server when
//! the traffic moved is over; it holds nothing up. Not here: moving the traffic (`routes`), when there is something to
//! record (`engine`).

use super::bound::{bound, fence_set};
use crate::state::base::prelude::*;

/// Records that are kept; the planner looks at all of them.
pub(in crate::state) const KEPT: usize = 1024;

/// All traffic of a deployment has left a version in this entry. `d` is the row as it will be.
pub(in crate::state) fn began(cx: &mut Cx<'_>, d: &Deployment, rollout: RolloutId, left: &Version) {
    let Some(route) = d.route.as_ref() else { return };
    let is_bound = |n: &NodeId| bound(cx.s, &d.id, *n, 0);
    let row = TrafficBack {
        rollout,
        deployment: d.id.clone(),
        left: left.clone(),
        index: cx.at.index,
        at: cx.now(),
        ttl: route.ttl,
        bound: fence_set(cx.s).into_iter().filter(is_bound).collect(),
        stale: cx.s.fences.policy(&d.id, route.mode).stale(),
        end: None,
    };
    cx.s.backs.insert(rollout, row);
}

/// What a restored cluster keeps: what is settled.
pub(in crate::state) fn restored(s: &mut State) {
    let open: Vec<RolloutId> = s.backs.values().filter(|b| b.end.is_none()).map(|b| b.rollout).collect();
    open.iter().for_each(|id| drop(s.backs.remove(id)));
}

/// What must hold in every State.
pub(in crate::state) fn check(s: &State) -> Result<(), String> {
    for b in s.backs.values() {
        let there = s.rollouts.get(&b.rollout).is_some_and(|r| r.deployment == b.deployment);
        if !there {
            return Err(format!("the rollback of {} belongs to no rollout", b.rollout));
        }
    }
    Ok(())
}
