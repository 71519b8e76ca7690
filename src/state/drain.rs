//! Drains: out of DNS, then settled once every server has served the removal and the caches let go, then stopped.

use super::{
    DrainState, Instance, NodeRole, Permit, Rejection, State, alloc, assign,
    assign::Allow,
    context::{Cx, Done, guard},
    differs,
};
use crate::model::{DeploymentId, Health, InstanceId, Life, Millis, NodeId, Pair, Period};

/// Added to the TTL: resolvers round.
pub const MARGIN: Period = Period::seconds(1);
/// Longest TTL that is believed.
const MAX_TTL: Period = Period::minutes(60);

/// Begins the drain of instances that are wanted; others stay as they are. One that its worker was never told of is simply gone;
/// one that never passed a check was never named by DNS, so its caches are clear at once.
pub(super) fn begin(cx: &mut Cx<'_>, ids: &[InstanceId]) {
    for id in ids {
        let Some(mut i) = cx.s.instances.get(id).cloned() else { continue };
        if !i.life.is_wanted() {
            continue;
        }
        if !assign::has_entry(&cx.s, &i) {
            cancel(cx, i);
            continue;
        }
        let now = cx.now();
        i.drain = Some(DrainState { index: cx.at.index, since: now, clear_at: (!i.passed_once).then_some(now) });
        cx.move_life(&mut i, Life::Draining);
        cx.put_instance(i);
    }
}

/// Drops an instance that no worker was told of.
fn cancel(cx: &mut Cx<'_>, mut i: Instance) {
    if cx.move_life(&mut i, Life::Gone) {
        alloc::free(cx, &i);
        cx.put_instance(i);
    }
}

/// Takes back what waits for a replaced instance to stop: its worker was not told yet.
pub(super) fn cancel_pending(cx: &mut Cx<'_>, deployment: &DeploymentId, pair: &Pair) {
    let pending: Vec<Instance> =
        cx.s.instances_of(deployment)
            .filter(|i| &i.pair == pair && i.life.is_wanted() && !assign::has_entry(&cx.s, i))
            .cloned()
            .collect();
    for i in pending {
        cancel(cx, i);
    }
}

/// Draining instances of a pair that are not yet stopping come back (a rollback wants them again).
pub(super) fn revive(cx: &mut Cx<'_>, deployment: &DeploymentId, pair: &Pair) {
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

/// Whether the node's DNS may have answered clients.
fn serves_dns(role: NodeRole) -> bool {
    match role {
        NodeRole::Learner | NodeRole::Voter | NodeRole::Leaving => true,
        NodeRole::Joining | NodeRole::Removed => false,
    }
}

/// `DrainSettled`. It also records what each node has served, which frees addresses for other deployments.
pub(super) fn settled(
    cx: &mut Cx<'_>,
    deployment: &DeploymentId,
    index: u64,
    confirmed: &[(NodeId, u64)],
    silent: &[NodeId],
    unready: &[NodeId],
    ttl_ms: u64,
) -> Done {
    cx.deployment(deployment)?;
    for node in cx.s.nodes.values().filter(|n| serves_dns(n.role)) {
        let odd = differs(&cx.s, node.id);
        let served = !odd && confirmed.iter().any(|(id, at)| *id == node.id && *at >= index);
        let quiet = silent.contains(&node.id) && (odd || node.silent_since.is_some());
        if !served && !quiet && !unready.contains(&node.id) {
            return guard(format!("node {} has not served index {index} and is not silent", node.id));
        }
    }
    let mut changed = raise_served(cx, confirmed);
    let ttl = Period(ttl_ms.min(MAX_TTL.0));
    let after_ttl = cx.now().plus(ttl).plus(MARGIN);
    let open: Vec<Instance> =
        cx.s.instances_of(deployment)
            .filter(|i| i.life == Life::Draining)
            .filter(|i| i.drain.is_some_and(|d| d.index <= index && d.clear_at.is_none()))
            .cloned()
            .collect();
    for mut i in open {
        let Some(mut drain) = i.drain else { continue };
        let least = cx.s.spec(deployment, i.pair.spec).map_or(Period(0), |s| s.drain.0);
        drain.clear_at = Some(after_ttl.max(drain.since.plus(least)));
        i.drain = Some(drain);
        cx.put_instance(i);
        changed = true;
    }
    if changed { Ok(()) } else { guard(format!("nothing drains at or before index {index}")) }
}

/// `ViewsServed`: what each server has served, which frees addresses for other deployments.
pub(super) fn views_served(cx: &mut Cx<'_>, served: &[(NodeId, u64)]) -> Done {
    if raise_served(cx, served) { Ok(()) } else { guard("no server has served more than is known") }
}

fn raise_served(cx: &mut Cx<'_>, served: &[(NodeId, u64)]) -> bool {
    let mut changed = false;
    for (id, at) in served {
        // An index above the entry's own would be a claim about the future.
        let at = (*at).min(cx.at.index);
        if let Some(mut node) = cx.s.nodes.get(id).cloned()
            && node.served < at
            && !differs(&cx.s, *id)
        {
            node.served = at;
            cx.put_node(node);
            changed = true;
        }
    }
    changed
}

/// Whether a draining instance may be stopped now.
pub(super) fn clear(i: &Instance, now: Millis) -> bool {
    i.life == Life::Draining && i.drain.and_then(|d| d.clear_at).is_some_and(|t| now >= t)
}

/// Whom an instance takes the place of, while that one may still run.
pub(super) fn before<'a>(s: &'a State, i: &Instance) -> Option<&'a Instance> {
    s.instances.get(&i.replaces?).filter(|old| old.life.is_live())
}

/// `StopPermitted`: entries leave the assignments; who waits for a replaced one's place takes it in the same generation.
pub(super) fn stop_permitted(cx: &mut Cx<'_>, deployment: &DeploymentId, ids: &[InstanceId]) -> Done {
    if ids.is_empty() {
        return guard("no instance named");
    }
    let mut stopping = Vec::new();
    for id in ids {
        let i = cx.instance_of(deployment, *id)?;
        if !clear(&i, cx.now()) {
            return guard(format!("{id} is {} and may not be stopped yet", i.life));
        }
        stopping.push(i);
    }
    for mut i in stopping {
        cx.move_life(&mut i, Life::Stopping);
        cx.put_instance(i.clone());
        match successor(&cx.s, &i) {
            None => assign::remove(cx, &i.worker, deployment, &[i.id]),
            Some(next) => {
                alloc::hand_over(cx, &i.worker, i.id, next.id);
                let entry = assign::entry(&next);
                assign::edit(cx, &i.worker, deployment, Allow::Set(Permit::Activate), true, |c| {
                    c.instances.retain(|e| e.id != i.id);
                    c.instances.push(entry);
                });
            }
        }
    }
    Ok(())
}

/// The instance that waits for this one's place.
fn successor(s: &State, old: &Instance) -> Option<Instance> {
    let waiting = |i: &&Instance| {
        i.replaces == Some(old.id) && i.life == Life::Starting && i.worker == old.worker && !assign::has_entry(s, i)
    };
    s.instances_of(&old.deployment).find(waiting).cloned()
}

/// Whether an instance still holds a condition up: live, and on a worker that is heard of (a lost one may never answer again).
pub(super) fn holds_up(s: &State, i: &Instance) -> bool {
    i.life.is_live() && super::serving::ready(s, i)
}

/// Refuses instances that are not the deployment's.
pub(super) fn check_ids(
    cx: &Cx<'_>,
    deployment: &DeploymentId,
    ids: &[InstanceId],
) -> Result<Vec<Instance>, Rejection> {
    ids.iter().map(|id| cx.instance_of(deployment, *id)).collect()
}
