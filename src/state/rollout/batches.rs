//! What batches of an installation share: who may leave, room, new instances.

use std::sync::Arc;

use crate::state::{
    base::prelude::*,
    fleet::{drain, serving},
};

/// Slack on top of the health time-out before a batch counts as failed: fetch of the assignment, start, report.
pub(in crate::state) const SLACK: Period = Period::seconds(15);

pub(in crate::state) fn check_status(r: &Rollout) -> Done {
    let installs = match r.phase {
        RolloutPhase::Forward => RolloutStatus::Active,
        RolloutPhase::Undo => RolloutStatus::RollingBack,
    };
    if r.status == installs { Ok(()) } else { guard(format!("{} is {}", r.id, r.status)) }
}

pub(in crate::state) fn set_want(cx: &mut Cx<'_>, deployment: &DeploymentId, pair: &Pair) -> Done {
    let mut d = cx.deployment(deployment)?;
    let wanted = serving::wanted(cx.s, deployment, pair);
    if let Some(arm) = d.arms.iter_mut().find(|a| &a.pair == pair) {
        arm.want = arm.want.max(wanted);
    }
    cx.put_deployment(d);
    Ok(())
}

/// Instances of the deployment that serve, without some.
fn serve_without(s: &State, deployment: &DeploymentId, without: &[InstanceId]) -> u32 {
    let n = s.instances_of(deployment).filter(|i| serving::passes(s, i) && !without.contains(&i.id)).count();
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// What leaves must not take the healthy count below desired - unavailable (what failed already is no loss).
pub(in crate::state) fn check_unavailable(cx: &Cx<'_>, r: &Rollout, leaving: &[InstanceId]) -> Done {
    let Some(budget) = r.bounded_by() else { return Ok(()) };
    let loses = leaving.iter().filter_map(|id| cx.s.instances.get(id)).any(|i| serving::passes(cx.s, i));
    let left = serve_without(cx.s, &r.deployment, leaving);
    let floor = r.desired.saturating_sub(budget.unavailable);
    if loses && left < floor {
        return guard(format!("{left} healthy instances would be left and at least {floor} must be"));
    }
    Ok(())
}

pub(in crate::state) fn event(r: &Rollout, step: u32, batch: u32, passed: bool) -> EventBody {
    EventBody::BatchChanged { rollout: r.id, deployment: r.deployment.clone(), step, batch, passed }
}

/// Instances that count against a rolling update's surge: on workers of its order that are heard of. What a worker
/// brings that came back or joined in its midst is no part of its bill, or the update would wait for it.
pub(in crate::state) fn counted<'a>(s: &'a State, r: &'a Rollout) -> impl Iterator<Item = &'a Instance> {
    s.instances_of(&r.deployment).filter(|i| serving::ready(s, i) && r.order.contains(&i.worker))
}

/// New instances of an earlier, aborted rollout (or workers that came back) may fill the surge before the first batch,
/// which then could never start: as many old ones go as one batch of one needs, never below what must be available.
pub(in crate::state) fn make_room(cx: &mut Cx<'_>, r: &Rollout) {
    let Some(budget) = r.bounded_by() else { return };
    let mut wanted: Vec<&Instance> = counted(cx.s, r).filter(|i| i.life.is_wanted()).collect();
    let new = wanted.iter().filter(|i| i.pair == r.to).count();
    let roof = r.desired.saturating_add(budget.surge) as usize;
    if new == 0 || new >= r.desired as usize {
        return;
    }
    let mut excess = wanted.len().saturating_add(1).saturating_sub(roof);
    let mut left = wanted.iter().filter(|i| i.serves()).count();
    let floor = r.desired.saturating_sub(budget.unavailable) as usize;
    wanted.retain(|i| i.pair != r.to);
    wanted.sort_by_key(|i| (i.serves(), i.id));
    let mut go = Vec::new();
    for i in wanted {
        if excess == 0 || i.serves() && left <= floor {
            break;
        }
        left = left.saturating_sub(usize::from(i.serves()));
        excess = excess.saturating_sub(1);
        go.push(i.id);
    }
    drain::begin(cx, &go);
}

/// A new row.
pub(in crate::state) fn new_instance(
    cx: &mut Cx<'_>,
    deployment: &DeploymentId,
    pair: &Pair,
    worker: &WorkerName,
) -> Instance {
    Instance {
        meta: cx.new_meta(),
        id: cx.next_instance(),
        deployment: deployment.clone(),
        pair: pair.clone(),
        worker: worker.clone(),
        address: String::new(),
        ports: Arc::default(),
        made_by: None,
        replaces: None,
        drain: None,
        failed_at: None,
        restarts: 0,
        exit: None,
        life: Life::Starting,
        health: Health::Unknown,
        failures: 0,
        passed_once: false,
        counted_out: None,
    }
}
