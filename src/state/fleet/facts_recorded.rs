//! `FactsRecorded`: what agents reported, above each worker's fence; everything unknown is skipped.

use std::sync::Arc;

use super::{
    alloc,
    assign::{self, Allow},
    drain, workers,
};
use crate::state::base::prelude::*;

/// Most digests a worker may say it has.
const MAX_STAGED: usize = 1024;

fields! {
    /// What agents reported, batched.
    #[derive(Debug, Clone, PartialEq)]
    pub struct FactsRecorded {
        /// By worker, each once.
        1 pub workers: Vec<WorkerFacts>,
    }
}

impl Apply for FactsRecorded {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { workers } = self;
        let mut any = false;
        for f in workers {
            let Some(mut w) = cx.s.workers.get(&f.worker).cloned() else { continue };
            if (f.epoch, f.seq) <= w.report {
                continue;
            }
            any = true;
            w.report = (f.epoch, f.seq);
            if let Some(staged) = &f.staged {
                w.staged = staged.iter().take(MAX_STAGED).cloned().collect();
                w.staged.sort();
                w.staged.dedup();
            }
            cx.put_worker(w);
            for r in &f.reached {
                let key = (f.worker.clone(), r.deployment.clone());
                let Some(mut a) = cx.s.assignments.get(&key).cloned() else { continue };
                let older = a.reached.as_ref().is_some_and(|(g, _)| *g > r.generation);
                if r.generation > a.generation || older {
                    continue;
                }
                let said = clipped(r);
                a.reached = Some((said.generation, said.reached));
                if let Some(fit) = said.fit {
                    a.look = Some(look(a.look.take(), said.generation, fit, cx.now()));
                }
                cx.put_assignment(key, a);
            }
            for fact in &f.instances {
                if let Some(i) = cx.s.instances.get(&fact.id).filter(|i| i.worker == f.worker).cloned() {
                    instance(cx, i, fact);
                }
            }
        }
        if any { Ok(()) } else { guard("no report is newer than what is committed") }
    }
}

/// A fact as it is kept: its texts have a bound.
pub fn clipped(fact: &ReachedFact) -> ReachedFact {
    use Reached::{Accepted, Active, Committed, Failed, Refused, Staged};
    let reached = match &fact.reached {
        Failed(text) => Failed(workers::cut(text)),
        Refused { packages, detail } => {
            Refused { packages: packages.iter().take(MAX_STAGED).cloned().collect(), detail: workers::cut(detail) }
        }
        Accepted | Staged | Active | Committed => fact.reached.clone(),
    };
    let fit = fact.fit.as_ref().map(|fit| match fit {
        Fit::Fits => Fit::Fits,
        Fit::Lacks(what) => Fit::Lacks(workers::cut(what)),
    });
    ReachedFact { deployment: fact.deployment.clone(), generation: fact.generation, reached, fit }
}

/// What was found of the next pair, and since when it has been so.
fn look(before: Option<Look>, generation: u64, fit: Fit, now: Millis) -> Look {
    let same = |b: &Look| b.generation == generation && (b.fit == Fit::Fits) == (fit == Fit::Fits);
    let since = before.filter(same).map_or(now, |b| b.since);
    Look { generation, fit, since }
}

/// Where a report takes a life; `None`: it says nothing new.
fn next_life(now: Life, said: Life) -> Option<Life> {
    match (now, said) {
        // Ended is ended: ids are never used again.
        (Life::Gone | Life::Failed, _) => None,
        // State's own words are never a report.
        (_, Life::Draining | Life::Stopping) => None,
        // A restart with back-off is still the same running instance; its health says the rest.
        (Life::Starting | Life::Running | Life::Draining | Life::Stopping, Life::Starting) => None,
        (Life::Starting, Life::Running) => Some(Life::Running),
        (Life::Running | Life::Draining | Life::Stopping, Life::Running) => None,
        (Life::Starting | Life::Running, Life::Gone | Life::Failed) => Some(Life::Failed),
        (Life::Draining, Life::Gone) => Some(Life::Gone),
        (Life::Draining, Life::Failed) => Some(Life::Failed),
        (Life::Stopping, Life::Gone | Life::Failed) => Some(Life::Gone),
    }
}

/// An instance that makes room and whose machine is gone has ended.
pub(in crate::state) fn ended(cx: &mut Cx<'_>, i: Instance) {
    let (failures, restarts, exit) = (i.failures, i.restarts, Some("its machine was replaced".into()));
    let fact = InstanceFact { id: i.id, life: Life::Gone, health: Health::Unknown, failures, restarts, exit };
    instance(cx, i, &fact);
}

fn instance(cx: &mut Cx<'_>, mut i: Instance, fact: &InstanceFact) {
    if !i.life.is_live() {
        return;
    }
    // A worker that was never told of it cannot speak of it (in place: it waits for the one it replaces). A stopping
    // one has lost its entry and is the exception.
    if i.life != Life::Stopping && !assign::has_entry(cx.s, &i) {
        return;
    }
    if let Some(to) = next_life(i.life, fact.life) {
        cx.move_life(&mut i, to);
    }
    let health = if i.life.is_live() { fact.health } else { Health::Unknown };
    i.health = health;
    i.passed_once |= health == Health::Passing;
    i.failures = fact.failures;
    i.restarts = i.restarts.max(fact.restarts);
    i.exit = fact.exit.as_deref().map(workers::cut);
    let ended = !i.life.is_live();
    cx.put_instance(i.clone());
    if ended {
        alloc::free(cx, &i);
        if assign::has_entry(cx.s, &i) {
            assign::remove(cx, &i.worker, &i.deployment, &[i.id]);
        }
        successors(cx, &i);
    }
}

/// Who takes the place of an instance that ended: one that still stops at their address is now whom they wait for, and
/// who was not told yet, as it ended without being stopped, begins.
fn successors(cx: &mut Cx<'_>, old: &Instance) {
    let before = drain::before(cx.s, old).map(|b| b.id);
    let next: Vec<Instance> =
        cx.s.instances_of(&old.deployment)
            .filter(|i| i.replaces == Some(old.id) && i.life.is_live())
            .cloned()
            .collect();
    for mut i in next {
        let told = assign::has_entry(cx.s, &i);
        if before.is_some() {
            i.replaces = before;
            cx.put_instance(i.clone());
        }
        let entry = assign::entry(&i);
        if told && before.is_some() {
            assign::edit(cx, &i.worker, &i.deployment, Allow::Keep, false, |c| {
                c.instances.iter_mut().filter(|e| e.id == entry.id).for_each(|e| *e = entry.clone());
            });
        } else if !told && i.life == Life::Starting {
            if let Some(mut w) = cx.s.workers.get(&i.worker).cloned() {
                if let Some(slot) = Arc::make_mut(&mut w.pool).get_mut(&i.address) {
                    *slot = PoolSlot::Used(i.id);
                }
                cx.put_worker(w);
            }
            let allow = Allow::Set(Permit::Activate);
            assign::edit(cx, &i.worker, &i.deployment, allow, true, |c| c.instances.push(entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::next_life;
    use crate::model::Life;
    use crate::state::lifecycle;

    #[test]
    fn every_report_moves_along_the_table_or_not_at_all() {
        let all = [Life::Starting, Life::Running, Life::Draining, Life::Stopping, Life::Gone, Life::Failed];
        for now in all {
            for said in all {
                if let Some(to) = next_life(now, said) {
                    assert!(lifecycle::life(now, to), "{now} + {said} -> {to}");
                }
            }
        }
        assert_eq!(next_life(Life::Running, Life::Gone), Some(Life::Failed), "not asked to go");
        assert_eq!(next_life(Life::Stopping, Life::Gone), Some(Life::Gone));
        assert_eq!(next_life(Life::Draining, Life::Running), None);
    }
}
