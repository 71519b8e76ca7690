//! The one place that edits assignments: content, generation, digest, permit, mark, and the worker's set generation.
//!
//! A generation rises with every change of the content; within one, the permit only rises. Marks are outside the
//! content, so that a new step changes no generation. `hold` keeps what a rollback would need: the pairs of all arms,
//! of the live rollout and of the newest completed one. `next` comes with the step that stages and goes with the first
//! instance, in entries that change the content anyway.

use super::rows::{Assignment, AssignmentContent, Entry, Instance};
use crate::{
    model::{DeploymentId, Digest, InstanceId, Pair, Permit, StepId, WorkerName},
    state::{State, base::context::Cx, store::frame, traffic::arms::Role},
};

/// What an edit does to the permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::state) enum Allow {
    /// As it is; `Stage` for a new row.
    Keep,
    /// At least this (in a new generation: exactly this).
    Set(Permit),
}

/// Digests that must stay on the disk of the deployment's workers.
pub(in crate::state) fn needed(s: &State, deployment: &DeploymentId) -> Vec<Digest> {
    let Some(d) = s.deployments.get(deployment) else { return Vec::new() };
    let mut hold: Vec<Digest> = d.arms.iter().map(|a| a.pair.digest.clone()).collect();
    let live = d.live.and_then(|id| s.rollouts.get(&id));
    // What was gone back from is not gone back to: it may be removed.
    for r in live.into_iter().chain(s.undoable(d).filter(|r| !r.is_rollback())) {
        hold.extend(r.from.iter().map(|p| p.digest.clone()));
        // The new release is fetched when its first step says so, not the moment the rollout is accepted.
        if d.arms.of(&r.to).is_some() {
            hold.push(r.to.digest.clone());
        }
    }
    hold
}

/// The pair that agents are to look at before anything of it is started: the candidate, once its package is staged and
/// while no entry runs it.
fn next(s: &State, deployment: &DeploymentId, content: &AssignmentContent, stage: bool) -> Option<Pair> {
    let pair = s.deployments.get(deployment)?.arms.pair(Role::Candidate)?;
    let asked = stage || content.next.as_ref() == Some(pair);
    let runs = content.instances.iter().any(|e| &e.pair == pair);
    (asked && !runs).then(|| pair.clone())
}

/// crc32c of the encoded content: what an agent compares.
pub fn content_digest(content: &AssignmentContent) -> u32 {
    frame::encode_plain(content).map(|b| crc32c::crc32c(&b)).unwrap_or_default()
}

/// The step whose counts are wanted now.
fn mark(s: &State, deployment: &DeploymentId) -> Option<StepId> {
    s.live_rollout(deployment)?.running()?.1.step_id
}

/// Edits a worker's assignment; makes the row when needed, and removes it when nothing is left to hold or run. `stage`
/// takes the deployment's needed digests into `hold`, and the candidate as what is to run next; otherwise `hold` only
/// loses what is needed no more.
pub(in crate::state) fn edit(
    cx: &mut Cx<'_>,
    worker: &WorkerName,
    deployment: &DeploymentId,
    allow: Allow,
    stage: bool,
    change: impl FnOnce(&mut AssignmentContent),
) {
    let key = (worker.clone(), deployment.clone());
    let old = cx.s.assignments.get(&key).cloned();
    let mut row = old.clone().unwrap_or_else(|| Assignment {
        meta: cx.new_meta(),
        generation: 0,
        content_digest: 0,
        permit: Permit::Stage,
        reached: None,
        content: AssignmentContent::default(),
        mark: None,
        look: None,
    });
    let before = row.content.clone();
    change(&mut row.content);
    row.content.instances.sort_by_key(|e| e.id);
    let needed = needed(cx.s, deployment);
    let mut hold: Vec<Digest> = row.content.instances.iter().map(|e| e.pair.digest.clone()).collect();
    hold.extend(needed.into_iter().filter(|d| stage || before.hold.contains(d)));
    hold.sort();
    hold.dedup();
    row.content.hold = hold;
    row.content.next = next(cx.s, deployment, &row.content, stage);
    let runs = |role| cx.s.deployments.get(deployment).and_then(|d| d.arms.pair(role)).cloned();
    row.content.current = runs(Role::Stable);
    row.content.previous = runs(Role::Previous);
    row.mark = mark(cx.s, deployment);

    let empty = row.content.hold.is_empty() && row.content.instances.is_empty();
    let changed = old.is_none() || row.content != before;
    if empty {
        if old.is_some() {
            cx.s.assignments.remove(&key);
            raise_set(cx, worker);
        }
        return;
    }
    row.permit = match (allow, changed) {
        (Allow::Keep, _) => row.permit,
        (Allow::Set(p), true) => p,
        (Allow::Set(p), false) => row.permit.max(p),
    };
    if changed {
        row.generation = next_generation(cx, worker, old.as_ref());
        row.content_digest = content_digest(&row.content);
    }
    cx.put_assignment(key, row);
    if changed {
        raise_set(cx, worker);
    }
}

/// Generations never go back, also when a row was removed and made again: the worker's set generation
/// is above all that were.
fn next_generation(cx: &Cx<'_>, worker: &WorkerName, old: Option<&Assignment>) -> u64 {
    match old {
        Some(a) => a.generation.saturating_add(1),
        None => cx.s.workers.get(worker).map_or(1, |w| w.set_generation.saturating_add(1)),
    }
}

fn raise_set(cx: &mut Cx<'_>, worker: &WorkerName) {
    if let Some(mut w) = cx.s.workers.get(worker).cloned() {
        w.set_generation = w.set_generation.saturating_add(1);
        cx.put_worker(w);
    }
}

/// Whether the worker has been told of the instance.
pub(in crate::state) fn has_entry(s: &State, i: &Instance) -> bool {
    let a = s.assignments.get(&(i.worker.clone(), i.deployment.clone()));
    a.is_some_and(|a| a.content.instances.iter().any(|e| e.id == i.id))
}

/// The entry that runs an instance.
pub(in crate::state) fn entry(i: &Instance) -> Entry {
    Entry { id: i.id, pair: i.pair.clone(), address: i.address.clone(), ports: i.ports.clone(), replaces: i.replaces }
}

/// Takes entries off a worker; the permit stays.
pub(in crate::state) fn remove(cx: &mut Cx<'_>, worker: &WorkerName, deployment: &DeploymentId, ids: &[InstanceId]) {
    edit(cx, worker, deployment, Allow::Keep, false, |c| c.instances.retain(|e| !ids.contains(&e.id)));
}

/// Brings `hold`, `current`, `previous` and marks of every worker of the deployment up to date after roles or steps
/// moved.
pub(in crate::state) fn refresh(cx: &mut Cx<'_>, deployment: &DeploymentId) {
    for worker in workers_of(cx.s, deployment) {
        edit(cx, &worker, deployment, Allow::Keep, false, |_| ());
    }
}

/// Lets the workers' new entries end their probation.
pub(in crate::state) fn commit(cx: &mut Cx<'_>, deployment: &DeploymentId, workers: &[WorkerName]) {
    for worker in workers {
        if cx.s.assignments.contains_key(&(worker.clone(), deployment.clone())) {
            edit(cx, worker, deployment, Allow::Set(Permit::Commit), false, |_| ());
        }
    }
}

/// Workers that have an assignment for the deployment.
pub(in crate::state) fn workers_of(s: &State, deployment: &DeploymentId) -> Vec<WorkerName> {
    s.assignments.workers_of(deployment).cloned().collect()
}
