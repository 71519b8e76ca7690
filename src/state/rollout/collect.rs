//! What is forgotten: ended instances, terminal rollouts beyond retention, specs that nothing names.

use std::collections::BTreeSet;

use crate::state::base::prelude::*;

/// One deployment; also run at the end of each of its rollouts, so that nothing grows without bound.
pub(in crate::state) fn deployment(cx: &mut Cx<'_>, id: &DeploymentId) {
    let Some(d) = cx.s.deployments.get(id).cloned() else { return };
    let undoable = cx.s.undoable(&d).map(|r| r.id);
    rollouts(cx, id, [d.last, undoable]);
    instances(cx, id, d.live.or(d.last));
    specs(cx, id);
}

fn rollouts(cx: &mut Cx<'_>, id: &DeploymentId, stay: [Option<RolloutId>; 2]) {
    let keep = cx.settings().limits.history_per_deployment as usize;
    let ended: Vec<RolloutId> = cx.s.rollouts.of(id).filter(|r| r.status.is_terminal()).map(|r| r.id).collect();
    let named: BTreeSet<RolloutId> =
        cx.s.rollouts
            .of(id)
            .filter(|r| !r.status.is_terminal())
            .filter_map(|r| match r.kind {
                RolloutKind::Return { undoes } => Some(undoes),
                RolloutKind::Forward => None,
            })
            .collect();
    for old in ended.iter().take(ended.len().saturating_sub(keep)) {
        if !stay.contains(&Some(*old)) && !named.contains(old) {
            cx.s.rollouts.remove(old);
            cx.s.backs.remove(old);
        }
    }
}

/// Ended instances that may be forgotten: all but those that the newest rollout made or replaced, as they are its
/// history.
pub fn collectable(s: &State, id: &DeploymentId, newest: Option<RolloutId>) -> Vec<InstanceId> {
    let named: BTreeSet<InstanceId> = newest
        .and_then(|r| s.rollouts.get(&r))
        .into_iter()
        .flat_map(|r| r.steps.iter().chain(&r.forward_steps))
        .filter_map(|s| s.batch.as_ref())
        .flat_map(|b| b.added.iter().chain(&b.replaced))
        .copied()
        .collect();
    let old = |i: &&Instance| !i.life.is_live() && !named.contains(&i.id) && (newest.is_none() || i.made_by != newest);
    s.instances_of(id).filter(old).map(|i| i.id).collect()
}

fn instances(cx: &mut Cx<'_>, id: &DeploymentId, newest: Option<RolloutId>) {
    for i in collectable(cx.s, id, newest) {
        cx.s.instances.remove(&i);
    }
}

fn specs(cx: &mut Cx<'_>, id: &DeploymentId) {
    let Some(d) = cx.s.deployments.get(id) else { return };
    let mut named: BTreeSet<u64> = d.arms.iter().map(|a| a.pair.spec).chain([d.spec]).collect();
    named.extend(cx.s.instances_of(id).map(|i| i.pair.spec));
    for r in cx.s.rollouts.of(id) {
        named.insert(r.to.spec);
        named.extend(r.from.iter().map(|p| p.spec));
    }
    let old: Vec<u64> = cx.s.specs_of(id).map(|(r, _)| r).filter(|r| !named.contains(r)).collect();
    for r in old {
        cx.s.specs.remove(&(id.clone(), r));
    }
}

/// All that is kept for a deployment of which nothing runs.
pub(in crate::state) fn everything(cx: &mut Cx<'_>, id: &DeploymentId) {
    let rollouts: Vec<RolloutId> = cx.s.rollouts.of(id).map(|r| r.id).collect();
    for r in &rollouts {
        cx.s.rollouts.remove(r);
        cx.s.backs.remove(r);
    }
    let instances: Vec<InstanceId> = cx.s.instances_of(id).map(|i| i.id).collect();
    for i in &instances {
        cx.s.instances.remove(i);
    }
    let specs: Vec<u64> = cx.s.specs_of(id).map(|(revision, _)| revision).collect();
    for revision in specs {
        cx.s.specs.remove(&(id.clone(), revision));
    }
}
