//! `facts`: what was heard, as far as it differs from what is committed. Transitions only: a counter that grows with
//! each probe is committed when it crosses the bound that someone acts on, not before.
//!
//! Invariants: reports at or below a worker's fence are left out; silence becomes a fact only after its whole time,
//! counted from the leader's own start at the earliest. Not here: what follows from facts (`plan`).

use super::prelude::*;

/// Workers in one command at most.
const WORKERS: usize = 200;
/// Bytes of one command at most, far below what the log takes in one entry.
const BYTES: usize = 256 * 1024;
/// Digests of one report that are looked at; the law keeps no more.
const STAGED: usize = 1024;

/// Commands that bring State up to what was heard. `now` is cluster time.
pub fn facts(state: &State, seen: &Observations, now: Millis) -> Vec<Command> {
    let Some(cluster) = &state.cluster else { return Vec::new() };
    let mut commands = presence(state, seen, now, cluster.settings.lost_after);
    commands.extend(nodes(state, seen, now, cluster.settings.node_silent_after));
    let reports: Vec<WorkerFacts> = seen
        .workers
        .iter()
        .filter_map(|(name, heard)| difference(state, state.workers.get(name)?, heard.known()?))
        .collect();
    commands.extend(packed(reports).into_iter().map(|workers| Command::FactsRecorded(FactsRecorded { workers })));
    commands
}

/// Reports in commands of bounded size. One report that is too large alone is cut; what is left out is in the worker's
/// next one.
fn packed(reports: Vec<WorkerFacts>) -> Vec<Vec<WorkerFacts>> {
    let mut all: Vec<Vec<WorkerFacts>> = Vec::new();
    let mut room = 0;
    for report in reports {
        let report = cut(report);
        let size = size(&report);
        match all.last_mut() {
            Some(last) if last.len() < WORKERS && size <= room => {
                room -= size;
                last.push(report);
            }
            Some(_) | None => {
                room = BYTES.saturating_sub(size);
                all.push(vec![report]);
            }
        }
    }
    all
}

fn size<T: serde::Serialize>(what: &T) -> usize {
    codec::encode_plain(what).map_or(BYTES, |bytes| bytes.len())
}

/// As much of a report as one command takes.
fn cut(mut report: WorkerFacts) -> WorkerFacts {
    let mut room = BYTES;
    let mut fits = |n: usize| {
        room = room.saturating_sub(n);
        room > 0
    };
    let staged = report.staged.as_ref().map_or(0, size);
    fits(staged);
    report.instances.retain(|f| fits(size(f)));
    report.reached.retain(|f| fits(size(f)));
    report
}

/// When something was heard last; never before the term, as a new leader knows of nothing older.
fn last_heard<T>(seen: &Observations, heard: Option<&Seen<T>>) -> Millis {
    match heard {
        Some(Seen::Known { at, .. }) => *at,
        Some(Seen::Silent { since }) => *since,
        Some(Seen::Unknown) | None => seen.leader_since,
    }
}

fn presence(state: &State, seen: &Observations, now: Millis, lost_after: Period) -> Vec<Command> {
    let mut commands = Vec::new();
    for worker in state.workers.values() {
        let heard = seen.workers.get(&worker.name);
        // One that has just come has had no time to report.
        let at = last_heard(seen, heard).max(worker.registered_at);
        let silent = now.since(at.max(seen.leader_since)) >= lost_after;
        match worker.presence {
            Presence::Ready if silent => {
                commands.push(Command::WorkerLost(WorkerLost { worker: worker.name.clone(), last_heard: at }));
            }
            Presence::Lost if heard.is_some_and(|h| h.known().is_some()) && now.since(at) < lost_after => {
                commands.push(Command::WorkerReturned(WorkerReturned { worker: worker.name.clone() }));
            }
            Presence::Ready | Presence::Lost => {}
        }
    }
    commands
}

fn nodes(state: &State, seen: &Observations, now: Millis, silent_after: Period) -> Vec<Command> {
    let mut commands = Vec::new();
    for node in state.nodes.values().filter(|n| n.role.serves_dns()) {
        let heard = seen.nodes.get(&node.id);
        // One that answers nobody is as good as silent, whatever else is heard of it.
        let unready = heard.and_then(Seen::known).and_then(|said| said.unready_since);
        let at = unready.unwrap_or_else(|| last_heard(seen, heard));
        let silent = now.since(at.max(seen.leader_since)) >= silent_after;
        let answers = heard.is_some_and(|h| h.known().is_some()) && unready.is_none();
        if node.silent_since.is_none() && silent {
            commands.push(Command::NodeSilent(NodeSilent { node: node.id }));
        } else if node.silent_since.is_some() && answers && now.since(at) < silent_after {
            commands.push(Command::NodeHeard(NodeHeard { node: node.id }));
        }
    }
    commands
}

/// What one worker's newest report changes, if anything.
fn difference(state: &State, worker: &Worker, report: &WorkerFacts) -> Option<WorkerFacts> {
    if (report.epoch, report.seq) <= worker.report {
        return None;
    }
    let mut instances: Vec<InstanceFact> = report
        .instances
        .iter()
        .filter(|f| state.instances.get(&f.id).is_some_and(|i| i.worker == worker.name && differs(state, i, f)))
        .cloned()
        .collect();
    let unseen = state
        .instances
        .on(&worker.name)
        .filter(|i| i.life == Life::Stopping && !report.instances.iter().any(|f| f.id == i.id));
    instances.extend(unseen.filter(|i| settled(state, worker, report, &i.deployment)).map(gone));
    let reached: Vec<ReachedFact> = report
        .reached
        .iter()
        .map(clipped)
        .filter(|f| {
            let row = state.assignments.get(&(worker.name.clone(), f.deployment.clone()));
            row.is_some_and(|a| {
                f.generation <= a.generation
                    && (a.reached.as_ref() != Some(&(f.generation, f.reached.clone())) || looked_anew(a, f))
            })
        })
        .collect();
    let staged = report.staged.as_deref().map(sorted).filter(|s| *s != sorted(&worker.staged));
    for fact in &mut instances {
        fact.exit = fact.exit.as_deref().map(cut_text);
    }
    if instances.is_empty() && reached.is_empty() && staged.is_none() {
        return None;
    }
    Some(WorkerFacts { worker: worker.name.clone(), epoch: report.epoch, seq: report.seq, instances, reached, staged })
}

/// Whether an agent says something else of the next pair than it did.
fn looked_anew(a: &Assignment, f: &ReachedFact) -> bool {
    let said = a.look.as_ref().filter(|l| l.generation == f.generation).map(|l| &l.fit);
    f.fit.as_ref().is_some_and(|found| said != Some(found))
}

fn sorted(digests: &[Digest]) -> Vec<Digest> {
    let mut sorted = digests.to_vec();
    sorted.sort();
    sorted.dedup();
    sorted.truncate(STAGED);
    sorted
}

/// Whether a report says something about an instance that State does not know and someone acts on.
fn differs(state: &State, i: &Instance, f: &InstanceFact) -> bool {
    let ended = |life| match life {
        Life::Gone | Life::Failed => true,
        Life::Starting | Life::Running | Life::Draining | Life::Stopping => false,
    };
    let life = match i.life {
        Life::Starting => f.life == Life::Running || ended(f.life),
        // A restart with back-off is the same running instance; its health says the rest.
        Life::Running | Life::Draining | Life::Stopping => ended(f.life),
        // The end is the end.
        Life::Gone | Life::Failed => return false,
    };
    let bound = failure_bound(state, &i.deployment);
    let crosses = (f.failures >= bound) != (i.failures >= bound);
    life || f.health != i.health
        || f.restarts > i.restarts
        || f.exit.as_deref().map(cut_text) != i.exit
        || (crosses && f.health == Health::Failing)
}

/// Consecutive failures that someone acts on.
fn failure_bound(state: &State, deployment: &DeploymentId) -> u32 {
    if let Some(r) = state.live_rollout(deployment) {
        return r.params.max_health_failures;
    }
    let spec = state.deployments.get(deployment).and_then(|d| state.spec(deployment, d.spec));
    spec.map_or(u32::MAX, |s| s.rollout.max_health_failures)
}

/// Whether the agent has taken up the newest assignment, so that what it does not name is not there.
fn settled(state: &State, worker: &Worker, report: &WorkerFacts, deployment: &DeploymentId) -> bool {
    let told = report.reached.iter().find(|f| &f.deployment == deployment);
    match state.assignments.get(&(worker.name.clone(), deployment.clone())) {
        None => told.is_none(),
        // It has journalled the assignment without the instance, and what still runs it names, whatever else it waits
        // for.
        Some(a) => told.is_some_and(|f| f.generation == a.generation),
    }
}

fn gone(i: &Instance) -> InstanceFact {
    InstanceFact {
        id: i.id,
        life: Life::Gone,
        health: Health::Unknown,
        failures: 0,
        restarts: i.restarts,
        exit: i.exit.clone(),
    }
}
