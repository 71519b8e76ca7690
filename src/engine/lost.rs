//! Workers lost for good: when what they had is counted out.
//!
//! Invariant: one deployment and worker in a pass, and only when the law says that the time is over. Not here: what it
//! changes (`state::rollout`).

use std::collections::{BTreeMap, BTreeSet};

use super::prelude::*;

/// What counts out next of each deployment, and when. Costs nothing while no worker is lost.
pub(super) fn upcoming(state: &State) -> BTreeMap<DeploymentId, (Millis, WorkerName)> {
    let mut all: BTreeMap<DeploymentId, (Millis, WorkerName)> = BTreeMap::new();
    for worker in state.workers.lost() {
        for id in concerned(state, worker) {
            let Some(at) = counts_out_at(state, id, worker) else { continue };
            let next = (at, worker.name.clone());
            all.entry(id.clone()).and_modify(|old| *old = next.clone().min(old.clone())).or_insert(next);
        }
    }
    all
}

/// That a deployment waits for lost workers, until the first of them counts out.
pub(super) fn wait(view: &View<'_>, workers: Vec<WorkerName>) -> Wait {
    let rows = workers.iter().filter_map(|w| view.state.workers.get(w));
    let until = rows.filter_map(|w| counts_out_at(view.state, view.id(), w)).min();
    Wait::Lost { workers, until }
}

/// Deployments with instances on a worker, or a live rollout that counts on it.
fn concerned<'a>(state: &'a State, worker: &Worker) -> BTreeSet<&'a DeploymentId> {
    let rows = state.instances.on(&worker.name).filter(|i| i.life.is_live() && i.counted_out.is_none());
    let live = state.deployments.values().filter_map(|d| state.rollouts.get(&d.live?));
    let counting = live.filter(|r| r.order.contains(&worker.name));
    rows.map(|i| &i.deployment).chain(counting.map(|r| &r.deployment)).collect()
}

/// `CountedOut`, once its time is over.
pub(super) fn next(
    id: &DeploymentId,
    due: Option<(Millis, WorkerName)>,
    now: Millis,
    notes: &mut Notes,
) -> Option<Command> {
    let (at, worker) = due?;
    if at > now {
        notes.wake_at(at);
        return None;
    }
    Some(Command::CountedOut(CountedOut { deployment: id.clone(), worker }))
}
