//! Drains: out of DNS, then settled once every server has served the removal and the caches let go, then stopped.

use super::{alloc, assign, serving};
use crate::state::base::{prelude::*, servers::differs};

/// Added to the TTL: resolvers round.
pub const MARGIN: Period = Period::seconds(1);

/// Longest TTL that is believed.
pub(in crate::state) const MAX_TTL: Period = Period::minutes(60);

/// Begins the drain of instances that are wanted; others stay as they are. One that its worker was never told of is
/// simply gone; one that never passed a check was never named by DNS, so its caches are clear at once.
pub(in crate::state) fn begin(cx: &mut Cx<'_>, ids: &[InstanceId]) {
    for id in ids {
        let Some(mut i) = cx.s.instances.get(id).cloned() else { continue };
        if !i.life.is_wanted() {
            continue;
        }
        if !assign::has_entry(cx.s, &i) {
            cancel(cx, i);
            continue;
        }
        let now = cx.now();
        i.drain = Some(DrainState { index: cx.at.index, since: now, clear_at: (!i.passed_once).then_some(now) });
        cx.move_life(&mut i, Life::Draining);
        cx.put_instance(i);
    }
}

/// Begins the drain of all that a deployment has.
pub(in crate::state) fn begin_all(cx: &mut Cx<'_>, deployment: &DeploymentId) {
    let all: Vec<InstanceId> = cx.s.instances_of(deployment).map(|i| i.id).collect();
    begin(cx, &all);
}

/// Drops an instance that no worker was told of.
fn cancel(cx: &mut Cx<'_>, mut i: Instance) {
    if cx.move_life(&mut i, Life::Gone) {
        alloc::free(cx, &i);
        cx.put_instance(i);
    }
}

/// Takes back what waits for a replaced instance to stop: its worker was not told yet.
pub(in crate::state) fn cancel_pending(cx: &mut Cx<'_>, deployment: &DeploymentId, pair: &Pair) {
    let pending: Vec<Instance> =
        cx.s.instances_of(deployment)
            .filter(|i| &i.pair == pair && i.life.is_wanted() && !assign::has_entry(cx.s, i))
            .cloned()
            .collect();
    for i in pending {
        cancel(cx, i);
    }
}

/// Draining instances of a pair that are not yet stopping come back (a rollback wants them again).
pub(in crate::state) fn revive(cx: &mut Cx<'_>, deployment: &DeploymentId, pair: &Pair) {
    let back: Vec<Instance> =
        cx.s.instances_of(deployment).filter(|i| &i.pair == pair && i.life == Life::Draining).cloned().collect();
    for mut i in back {
        let to = if i.passed_once || i.health != Health::Unknown { Life::Running } else { Life::Starting };
        if cx.move_life(&mut i, to) {
            i.drain = None;
            cx.put_instance(i);
        }
    }
}

pub(in crate::state) fn raise_served(cx: &mut Cx<'_>, served: &[(NodeId, u64)]) -> bool {
    let mut changed = false;
    for (id, at) in served {
        // An index above the entry's own would be a claim about the future.
        let at = (*at).min(cx.at.index);
        if let Some(mut node) = cx.s.nodes.get(id).cloned()
            && node.served < at
            && !differs(cx.s, *id)
        {
            node.served = at;
            cx.put_node(node);
            changed = true;
        }
    }
    changed
}

/// Whether a draining instance may be stopped now.
pub(in crate::state) fn clear(i: &Instance, now: Millis) -> bool {
    i.life == Life::Draining && i.drain.and_then(|d| d.clear_at).is_some_and(|t| now >= t)
}

/// Whom an instance takes the place of, while that one may still run.
pub(in crate::state) fn before<'a>(s: &'a State, i: &Instance) -> Option<&'a Instance> {
    s.instances.get(&i.replaces?).filter(|old| old.life.is_live())
}

/// Whether an instance still holds a condition up: live, and on a worker that is heard of (a lost one may never answer
/// again).
pub(in crate::state) fn holds_up(s: &State, i: &Instance) -> bool {
    i.life.is_live() && serving::ready(s, i)
}

/// Refuses instances that are not the deployment's.
pub(in crate::state) fn check_ids(
    cx: &Cx<'_>,
    deployment: &DeploymentId,
    ids: &[InstanceId],
) -> Result<Vec<Instance>, Rejection> {
    ids.iter().map(|id| cx.instance_of(deployment, *id)).collect()
}
