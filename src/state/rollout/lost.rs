//! Workers that are lost for good: when their instances are counted out, of capacity and of a live rollout.
//!
//! Invariants: nothing is counted out before its spec's `lost_for_good` is over, nor ever where the spec says
//! `singleton`, as a copy may still run behind a cut; a rollout keeps at least one worker in its order, so that "nobody
//! is left" never reads as "done". A worker that returns counts again. Not here: the command (`counted_out`), noticing
//! that a worker is silent (`fleet`), what DNS makes of it (`serving`).

use crate::state::base::prelude::*;

/// Cluster time from which a worker counts as lost for good under a spec; `None`: it is heard of, or never.
pub fn lost_for_good_at(worker: &Worker, spec: &Spec) -> Option<Millis> {
    match worker.presence {
        Presence::Ready => None,
        Presence::Lost if spec.singleton => None,
        Presence::Lost => worker.lost_at.map(|t| t.plus(spec.lost_for_good)),
    }
}

/// When the next instances of a deployment on a worker, or its place in the live rollout, count out; `None`: nothing
/// will.
pub fn counts_out_at(s: &State, deployment: &DeploymentId, worker: &Worker) -> Option<Millis> {
    let at = |pair: &Pair| s.spec(deployment, pair.spec).and_then(|spec| lost_for_good_at(worker, spec));
    let rows = s.instances_of(deployment).filter(|i| counts(i, &worker.name)).filter_map(|i| at(&i.pair));
    let place = s.live_rollout(deployment).filter(|r| r.order.contains(&worker.name) && r.order.len() > 1);
    rows.chain(place.and_then(Rollout::target).and_then(at)).min()
}

pub(in crate::state) fn counts(i: &Instance, worker: &WorkerName) -> bool {
    &i.worker == worker && i.life.is_live() && i.counted_out.is_none()
}
