//! `WorkerRemoved`: a machine that does not come back goes, with its addresses, its assignments and what was counted
//! out on it.
//!
//! Invariants: nothing that counts goes with it; its addresses go to others only when no DNS server names who had them,
//! and who comes under its name again begins above its generations and reports (`Parted`). Not here: another machine
//! under the same name (`worker_rekeyed`).

use std::collections::BTreeSet;

use super::{alloc, workers};
use crate::state::base::{names, prelude::*};

fields! {
    /// Removes a worker that is lost.
    #[derive(Debug, Clone, PartialEq)]
    pub struct WorkerRemoved {
        1 [required] pub worker: WorkerName,
        /// An operator's word that its machine runs nothing any more: what it had need not be counted out first.
        2 pub gone: bool,
    }
}

impl Apply for WorkerRemoved {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { worker: ref name, gone } = self;
        let w = workers::lost(cx, name, "removed")?;
        check(cx, &w, gone)?;
        let live: Vec<Instance> = alloc::live_on(cx.s, name).cloned().collect();
        for mut i in live {
            // It may have run to the end: its row goes the way of one that was stopped.
            cx.move_life(&mut i, Life::Draining);
            cx.move_life(&mut i, Life::Gone);
            i.health = Health::Unknown;
            cx.put_instance(i);
        }
        let assigned: Vec<DeploymentId> = cx.s.assignments.of_worker(name).map(|(d, _)| d.clone()).collect();
        for deployment in assigned {
            cx.s.assignments.remove(&(name.clone(), deployment));
        }
        let index = cx.at.index;
        let since = |slot: &PoolSlot| match slot {
            PoolSlot::Used(_) => index,
            PoolSlot::Free { since, .. } => *since,
        };
        let vacated = w.pool.values().map(since).max().unwrap_or(0);
        alloc::part(cx, |p| {
            p.vacated = p.vacated.max(vacated);
            p.generation = p.generation.max(w.set_generation);
            // A report of the next epoch is above all that its agent may still say.
            p.epoch = p.epoch.max(w.report.0.saturating_add(1));
        });
        cx.s.workers.remove(name);
        cx.emit(EventBody::WorkerChanged { worker: name.clone(), what: "removed".into() });
        Ok(())
    }
}

/// Refuses what would take away what counts, or what a live rollout counts on.
fn check(cx: &Cx<'_>, w: &Worker, gone: bool) -> Done {
    let name = &w.name;
    // This walks every deployment, which a removal is rare enough for.
    let mut live = cx.s.deployments.values().filter_map(|d| cx.s.live_rollout(&d.id));
    if let Some(r) = live.find(|r| r.order.contains(name)) {
        return Err(Rejection::Precondition(format!(
            "{} of {} counts on worker {name}: wait for its end, or `slipway rollout abort {}`",
            r.id, r.deployment, r.id
        )));
    }
    let kept: BTreeSet<&DeploymentId> = w.pool.values().filter_map(|slot| alloc::kept_for(cx.s, slot)).collect();
    if let Some(some) = names::some(kept.into_iter()).filter(|_| !gone) {
        return Err(Rejection::Precondition(format!(
            "addresses of worker {name} are kept for what is stopped ({some}): start it, or give the addresses up \
             (`slipway worker remove {name} --gone`)"
        )));
    }
    let counts: Vec<&Instance> = alloc::live_on(cx.s, name).filter(|i| i.counted_out.is_none()).collect();
    match names::some(counts.iter().map(|i| &i.deployment)) {
        Some(some) if !gone => Err(Rejection::Precondition(format!(
            "{} instances on worker {name} still count ({some}), as it may come back: wait until it is lost for good, or say that its \
             machine runs nothing any more (`slipway worker remove {name} --gone`)",
            counts.len()
        ))),
        Some(_) | None => Ok(()),
    }
}
