//! Workers that are lost for good: when their instances are counted out, of capacity and of a live rollout.
//!
//! Invariants: nothing is counted out before its spec's `lost_for_good` is over, nor ever where the spec says `singleton`, as a copy
//! may still run behind a cut; a rollout keeps at least one worker in its order, so that "nobody is left" never reads as "done". A worker
//! that returns counts again. Not here: noticing that a worker is silent (`fleet`), what DNS makes of it (`serving`).

use super::{
    EventBody, Instance, Presence, RolloutPhase, RolloutStatus, State, Worker, chosen,
    context::{Cx, Done, guard},
    steps,
};
use crate::model::{DeploymentId, Millis, Pair, RolloutId, Spec, WorkerName};

/// Cluster time from which a worker counts as lost for good under a spec; `None`: it is heard of, or never.
pub fn lost_for_good_at(worker: &Worker, spec: &Spec) -> Option<Millis> {
    match worker.presence {
        Presence::Ready => None,
        Presence::Lost if spec.singleton => None,
        Presence::Lost => worker.lost_at.map(|t| t.plus(spec.lost_for_good)),
    }
}

/// When the next instances of a deployment on a worker, or its place in the live rollout, count out; `None`: nothing will.
pub fn counts_out_at(s: &State, deployment: &DeploymentId, worker: &Worker) -> Option<Millis> {
    let at = |pair: &Pair| s.spec(deployment, pair.spec).and_then(|spec| lost_for_good_at(worker, spec));
    let rows = s.instances_of(deployment).filter(|i| counts(i, &worker.name)).filter_map(|i| at(&i.pair));
    let place = s.live_rollout(deployment).filter(|r| r.order.contains(&worker.name) && r.order.len() > 1);
    rows.chain(place.and_then(steps::target).and_then(at)).min()
}

fn counts(i: &Instance, worker: &WorkerName) -> bool {
    &i.worker == worker && i.life.is_live() && i.counted_out.is_none()
}

/// `CountedOut`.
pub(super) fn counted_out(cx: &mut Cx<'_>, deployment: &DeploymentId, worker: &WorkerName) -> Done {
    let mut d = cx.deployment(deployment)?;
    let Some(w) = cx.s.workers.get(worker).cloned() else { return guard(format!("{worker} is no worker")) };
    let now = cx.now();
    let is_out = |cx: &Cx<'_>, pair: &Pair| {
        cx.s.spec(deployment, pair.spec).and_then(|spec| lost_for_good_at(&w, spec)).is_some_and(|at| at <= now)
    };
    let mine: Vec<Instance> = cx.s.instances_of(deployment).filter(|i| counts(i, worker)).cloned().collect();
    let out: Vec<Instance> = mine.into_iter().filter(|i| is_out(cx, &i.pair)).collect();
    let instances = u32::try_from(out.len()).unwrap_or(u32::MAX);
    for mut i in out {
        i.counted_out = Some(now);
        cx.put_instance(i);
    }
    let mut shrunk = false;
    if let Some(mut r) = cx.s.live_rollout(deployment).cloned()
        && let Some(pair) = steps::target(&r).cloned()
        && r.order.len() > 1
        && r.order.contains(worker)
        && is_out(cx, &pair)
    {
        let per_worker = cx.s.spec(deployment, pair.spec).map_or(1, |spec| spec.placement.per_worker);
        r.order.retain(|w| w != worker);
        r.desired = r.desired.saturating_sub(per_worker).max(1);
        if !r.without.contains(worker) {
            r.without.push(worker.clone());
        }
        if r.phase == RolloutPhase::Forward {
            d.desired = r.desired;
            cx.put_deployment(d);
        }
        cx.put_rollout(r);
        shrunk = true;
    }
    if instances == 0 && !shrunk {
        return guard(format!("nothing of {deployment} on {worker} is to be counted out yet"));
    }
    cx.emit(EventBody::CountedOut { deployment: deployment.clone(), worker: worker.clone(), instances });
    Ok(())
}

/// `OrderExtended`.
pub(super) fn extended(cx: &mut Cx<'_>, id: RolloutId, seen: u64, workers: &[WorkerName]) -> Done {
    let mut r = cx.rollout_seen(id, seen)?;
    let goes = r.status == RolloutStatus::Active || r.status == RolloutStatus::RollingBack;
    if !goes || !r.is_way_back() {
        return guard(format!("{id} is {} and no way back that goes on", r.status));
    }
    let Some(spec) = steps::target(&r).and_then(|pair| cx.s.spec(&r.deployment, pair.spec)).cloned() else {
        return guard("there is nothing to go back to");
    };
    for worker in workers {
        if r.order.contains(worker) || !chosen(&cx.s, &spec).any(|w| &w.name == worker) {
            return guard(format!("{worker} is in the order, not ready, or not chosen"));
        }
        r.order.push(worker.clone());
        r.without.retain(|w| w != worker);
        r.desired = r.desired.saturating_add(spec.placement.per_worker);
    }
    let limit = cx.settings().limits.instances_per_deployment;
    if workers.is_empty() || r.desired > limit {
        return guard(format!("{} workers, {} instances of {limit} at most", workers.len(), r.desired));
    }
    if r.phase == RolloutPhase::Forward {
        let mut d = cx.deployment(&r.deployment)?;
        d.desired = r.desired;
        cx.put_deployment(d);
    }
    cx.put_rollout(r);
    Ok(())
}

/// What was counted out on a worker counts again.
pub(super) fn back(cx: &mut Cx<'_>, worker: &WorkerName) {
    let rows: Vec<Instance> = cx.s.instances.on(worker).filter(|i| i.counted_out.is_some()).cloned().collect();
    for mut i in rows {
        i.counted_out = None;
        cx.put_instance(i);
    }
}
