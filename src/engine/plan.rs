//! `plan`: one pass over every deployment. A live rollout is the executor's; a deployment without one is the keeper's;
//! drains go on in both.
//!
//! Invariant: one command a deployment and pass, in the order of ids; the next pass sees it applied. Not here: facts
//! about workers and nodes, which are committed beside (`facts`).

use std::collections::{BTreeMap, BTreeSet};

use super::prelude::*;
use super::{collect, drain, executor, fence, keeper, lost, returned};

/// What to propose now, when to look again at the latest, and why each deployment waits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Commands to propose, at most one a deployment.
    pub commands: Vec<Command>,
    /// The next cluster time at which something is due; changes of State and Observations wake the loop too.
    pub wake_at: Option<Millis>,
    /// Reasons for waiting, by deployment; absent when nothing is under way.
    pub waits: BTreeMap<DeploymentId, Vec<Wait>>,
}

/// Decides. `now` is cluster time, at least `state.now`.
pub fn plan(state: &State, seen: &Observations, now: Millis) -> Plan {
    let mut plan = Plan::default();
    let Some(cluster) = &state.cluster else { return plan };
    if let Some(split) = &state.replicas.split {
        // Whose State is right nobody knows, so nothing is decided from it.
        let wait = Wait::Replicas { index: split.index, tables: split.tables.clone() };
        let live = state.deployments.values().filter(|d| d.live.is_some());
        plan.waits = live.map(|d| (d.id.clone(), vec![wait.clone()])).collect();
        return plan;
    }
    let mut switches = BTreeMap::new();
    plan.commands.extend(fence::next(state, seen, now, &mut switches));
    plan.wake_at = fence::due(state);
    let mut lost = lost::upcoming(state);
    for deployment in state.deployments.values() {
        let view = View::new(state, seen, now, &cluster.settings, deployment);
        let switching = switches.remove(&deployment.id);
        let is_switching = switching.is_some();
        let mut notes: Notes = switching.unwrap_or_default();
        let counting = lost::next(&deployment.id, lost.remove(&deployment.id), now, &mut notes);
        let command = counting.or_else(|| match state.live_rollout(&deployment.id) {
            Some(rollout) => executor::next(&view, rollout, &mut notes).or_else(|| drain::next(&view, &mut notes)),
            // What is being switched is left as it is.
            None if is_switching => drain::next(&view, &mut notes),
            None => drain::next(&view, &mut notes).or_else(|| keeper::next(&view, &mut notes)),
        });
        plan.commands.extend(command);
        if !notes.waits.is_empty() {
            plan.waits.insert(deployment.id.clone(), notes.waits);
        }
        plan.wake_at = match (plan.wake_at, notes.wake) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    returned::next(state, seen, now, &mut plan);
    plan.commands.extend(collect::next(state));
    plan.commands = disjoint(std::mem::take(&mut plan.commands));
    plan
}

/// Leaves out what an earlier command of the same plan may take away: words of servers that another one carries, and
/// places on a worker. The next pass, which comes with the first of them applied, decides anew.
fn disjoint(commands: Vec<Command>) -> Vec<Command> {
    let mut words = commands.iter().any(|c| matches!(c, Command::DrainSettled(_)));
    let mut taken: BTreeSet<WorkerName> = BTreeSet::new();
    let mut all = Vec::new();
    for command in commands {
        let mut places: Vec<WorkerName> = Vec::new();
        // In place too: until the old one is gone both count against the worker's capacity.
        if let Command::BatchStarted(BatchStarted { add, .. }) = &command {
            places.extend(add.iter().map(|(w, _)| w.clone()));
        }
        if let Command::ArmAdjusted(ArmAdjusted { add, .. }) = &command {
            places.extend(add.iter().map(|(_, w, _)| w.clone()));
        }
        let again = matches!(command, Command::ViewsServed(_)) && std::mem::replace(&mut words, true);
        if !again && !places.iter().any(|w| taken.contains(w)) {
            taken.extend(places);
            all.push(command);
        }
    }
    all
}
