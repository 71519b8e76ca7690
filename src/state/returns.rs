//! Traffic taken back: what is known of the DNS servers after a rollback, an abort or a return moved it.
//!
//! A way back is never made to wait, so the traffic has moved before anybody was asked. What is recorded afterwards is when each
//! server confirmed it, or that its lease ended, and from when on none answers with the version that was left. Invariants: a record
//! says "fenced" only with every server's word, or the end of the lease of one that was bound already when the traffic moved; it holds
//! nothing up. Deliberately not here: moving the traffic (`routes`), when there is something to say (`engine`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Deployment, EventBody, Rejection, ServerEnd, State, SwitchEnd, bound,
    context::{Cx, Done, guard},
    differs, fence_set,
};
use crate::model::{DeploymentId, Millis, NodeId, Period, RolloutId, Version};

/// Longest note of an end.
const MAX_NOTE: usize = 2048;
/// Records that are kept; the planner looks at all of them.
const KEPT: usize = 1024;

/// One way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficBack {
    /// The rollout that was turned back, or that is the return.
    pub rollout: RolloutId,
    /// Whose traffic.
    pub deployment: DeploymentId,
    /// The version that was left.
    pub left: Version,
    /// Index of the entry that moved all of it.
    pub index: u64,
    /// Cluster time of that entry.
    pub at: Millis,
    /// TTL of answers that caches may hold.
    pub ttl: Period,
    /// Servers that a lease bound already: without their word, its end will do.
    pub bound: BTreeSet<NodeId>,
    /// For how long after a lease's end stale answers are given.
    pub stale: Period,
    /// What was seen, once there is something to say.
    pub end: Option<SwitchEnd>,
}

/// All traffic of a deployment has left a version in this entry. `d` is the row as it will be.
pub(super) fn began(cx: &mut Cx<'_>, d: &Deployment, rollout: RolloutId, left: &Version) {
    let Some(route) = d.route.as_ref() else { return };
    let is_bound = |n: &NodeId| bound(&cx.s, &d.id, *n, 0);
    let row = TrafficBack {
        rollout,
        deployment: d.id.clone(),
        left: left.clone(),
        index: cx.at.index,
        at: cx.now(),
        ttl: route.ttl,
        bound: fence_set(&cx.s).into_iter().filter(is_bound).collect(),
        stale: cx.s.fences.policy(&d.id, route.mode).stale(),
        end: None,
    };
    cx.s.backs.insert(rollout, row);
}

/// `TrafficBackSettled`.
pub(super) fn settled(cx: &mut Cx<'_>, rollout: RolloutId, index: u64, end: &SwitchEnd) -> Done {
    let Some(row) = cx.s.backs.get(&rollout) else { return guard(format!("{rollout} took no traffic back")) };
    if row.index != index {
        return Err(Rejection::Stale { seen: index, now: row.index });
    }
    if row.end.is_some() || !end.switched {
        return guard(format!("what is known of {rollout}'s way back is settled"));
    }
    if end.note.len() > MAX_NOTE {
        return guard("its note is too long");
    }
    for node in fence_set(&cx.s).into_iter().filter(|_| end.fenced_at.is_some()) {
        let how = end.servers.iter().find(|(n, _, _)| *n == node).map(|(_, _, how)| *how);
        let evidence = match how {
            Some(ServerEnd::Served(_)) => true,
            Some(ServerEnd::Expired) => row.bound.contains(&node) || cx.s.fences.left.contains_key(&node),
            Some(ServerEnd::Holds | ServerEnd::Unbound) | None => false,
        };
        if differs(&cx.s, node) || !evidence {
            return guard(format!("the way back of {rollout} is not fenced at node {node}"));
        }
    }
    let mut row = row.clone();
    let now = cx.now();
    row.end = Some(SwitchEnd { at: now, ..end.clone() });
    let what = match end.fenced_at {
        Some(_) => format!("fenced after {} ms: no server answers with {}", now.since(row.at).0, row.left),
        None => format!("not fenced: {}", end.note),
    };
    cx.emit(EventBody::TrafficBack { rollout, deployment: row.deployment.clone(), what });
    cx.s.backs.insert(rollout, row);
    if cx.s.backs.len() > KEPT {
        let oldest = cx.s.backs.values().find(|b| b.end.is_some()).map(|b| b.rollout);
        oldest.into_iter().for_each(|id| drop(cx.s.backs.remove(&id)));
    }
    Ok(())
}

/// What a restored cluster keeps: what is settled.
pub(super) fn restored(s: &mut State) {
    let open: Vec<RolloutId> = s.backs.values().filter(|b| b.end.is_none()).map(|b| b.rollout).collect();
    open.iter().for_each(|id| drop(s.backs.remove(id)));
}

/// What must hold in every State.
pub(super) fn check(s: &State) -> Result<(), String> {
    for b in s.backs.values() {
        let there = s.rollouts.get(&b.rollout).is_some_and(|r| r.deployment == b.deployment);
        if !there {
            return Err(format!("the way back of {} belongs to no rollout", b.rollout));
        }
    }
    Ok(())
}
