//! Where new instances go: spread over the workers, one on each before a second, in the rollout's order; where one
//! failed, last.
//!
//! Invariant: never more of a pair on a worker than its spec says, never more than the worker has addresses and
//! capacity for.

use std::collections::{BTreeMap, BTreeSet};

use super::prelude::*;

/// Which free addresses count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freed {
    /// Those that may be taken now.
    Now,
    /// Also those of which a DNS server may still hand out the name of who left; they are free in bounded time.
    Soon,
}

/// How many more instances of a deployment a worker can take once `leaving` of its instances are gone, and what is
/// short first.
pub(super) fn free_places(
    state: &State,
    deployment: &DeploymentId,
    spec: &Spec,
    worker: &Worker,
    leaving: u32,
    freed: Freed,
) -> (u32, &'static str) {
    let on = || state.instances.on(&worker.name).filter(|i| i.life.is_live());
    let capacity = worker.capacity.saturating_sub(count(on()).saturating_sub(leaving));
    let addresses = match spec.address {
        AddressMode::Host => u32::from(port_user(state, worker, deployment, spec).is_none()),
        AddressMode::Pool => {
            let served = |_| match freed {
                Freed::Now => 0,
                Freed::Soon => u64::MAX,
            };
            count(free_when(state, worker, deployment, served).iter()).saturating_add(leaving)
        }
    };
    if addresses <= capacity { (addresses, "addresses") } else { (capacity, "capacity") }
}

/// Where `n` instances of `pair` go, and the workers that would take more if they had room.
pub(super) fn spread(
    view: &View<'_>,
    pair: &Pair,
    order: &[WorkerName],
    n: u32,
) -> (Vec<(WorkerName, u32)>, Vec<WorkerName>) {
    let Some(spec) = view.spec(pair) else { return (Vec::new(), Vec::new()) };
    let mut load: BTreeMap<&WorkerName, u32> = BTreeMap::new();
    for i in view.wanted(pair) {
        *load.entry(&i.worker).or_default() += 1;
    }
    let mut places: Vec<(&WorkerName, u32, u32)> = Vec::new();
    let failed: BTreeSet<&WorkerName> =
        view.instances.iter().filter(|i| i.life == Life::Failed && &i.pair == pair).map(|i| &i.worker).collect();
    for name in order {
        let Some(worker) = view.state.workers.get(name).filter(|w| w.presence == Presence::Ready) else { continue };
        let (free, _) = free_places(view.state, view.id(), spec, worker, 0, Freed::Now);
        places.push((name, load.get(name).copied().unwrap_or(0), free));
    }
    let limit = spec.placement.per_worker;
    let mut chosen: BTreeMap<&WorkerName, u32> = BTreeMap::new();
    for _ in 0..n {
        let open = places.iter_mut().filter(|(_, load, free)| *load < limit && *free > 0);
        let Some(best) = open.min_by_key(|(w, load, _)| (failed.contains(*w), *load)) else { break };
        best.1 += 1;
        best.2 -= 1;
        *chosen.entry(best.0).or_default() += 1;
    }
    let placed: u32 = chosen.values().sum();
    let short = if placed < n {
        places.iter().filter(|(_, load, free)| *load < limit && *free == 0).map(|(w, ..)| (*w).clone()).collect()
    } else {
        Vec::new()
    };
    let add = order.iter().filter_map(|w| Some((w.clone(), *chosen.get(w)?))).collect();
    (add, short)
}
