//! Addresses and ports of new instances.
//!
//! Pool: a freed address goes to the end of the queue; its last deployment may take it again at once, another only when
//! every DNS server has served a view without it. A server that has been silent for `silent_for_good` holds none back:
//! it is down, or serves nobody who can be protected by waiting longer. What a stopped deployment freed stays its own
//! until its start is over. Host: the machine's address with fixed ports, so one user a port.

use std::{collections::BTreeMap, sync::Arc};

use super::drain;
use crate::state::base::prelude::*;

/// The lowest index that a DNS server which holds addresses back has served, by what `heard` knows of it beside the
/// row.
fn served_by_all(s: &State, heard: impl Fn(NodeId) -> u64) -> u64 {
    let for_good = s.cluster.as_ref().map_or(Period(u64::MAX), |c| c.settings.silent_for_good);
    let serving = s.nodes.values().filter(|n| match n.role {
        NodeRole::Learner | NodeRole::Voter | NodeRole::Leaving => {
            n.silent_since.is_none_or(|t| s.now < t.plus(for_good))
        }
        NodeRole::Joining | NodeRole::Removed => false,
    });
    serving.map(|n| n.served.max(heard(n.id))).min().unwrap_or(u64::MAX)
}

/// Notes what removed workers and given up addresses leave to those that come later.
pub(in crate::state) fn part(cx: &mut Cx<'_>, with: impl FnOnce(&mut Parted)) {
    let Some(mut cluster) = cx.s.cluster.as_deref().cloned() else { return };
    let before = cluster.parted;
    with(&mut cluster.parted);
    if cluster.parted != before {
        cx.touch(&mut cluster.meta);
        cx.s.cluster = Some(Arc::new(cluster));
    }
}

/// A pool's new address: servers may still name who had it elsewhere, or here before it was given up.
pub(in crate::state) fn new_slot(s: &State) -> PoolSlot {
    let vacated = s.cluster.as_ref().map_or(0, |c| c.parted.vacated);
    PoolSlot::Free { since: if vacated <= served_by_all(s, |_| 0) { 0 } else { vacated }, last: None }
}

/// Free pool addresses that the deployment may take now, in the order in which they are taken.
pub fn free_addresses(s: &State, worker: &Worker, deployment: &DeploymentId) -> Vec<String> {
    free_when(s, worker, deployment, |_| 0)
}

/// The same once what was heard of the servers is committed, by `ViewsServed`.
pub fn free_when(s: &State, worker: &Worker, deployment: &DeploymentId, heard: impl Fn(NodeId) -> u64) -> Vec<String> {
    let served = served_by_all(s, heard);
    let mut free: Vec<(bool, u64, &String)> = Vec::new();
    for (address, slot) in worker.pool.iter() {
        match slot {
            PoolSlot::Free { since, last } => {
                let own = last.as_ref() == Some(deployment);
                let kept = kept_for(s, slot).is_some();
                if own || !kept && (*since == 0 || *since <= served) {
                    free.push((!kept, *since, address));
                }
            }
            PoolSlot::Used(_) => {}
        }
    }
    // What is kept for it comes first.
    free.sort();
    free.into_iter().map(|(_, _, a)| a.clone()).collect()
}

/// The deployment that a free address is kept for: it was stopped there, and its start is not over.
pub(in crate::state) fn kept_for<'a>(s: &'a State, slot: &'a PoolSlot) -> Option<&'a DeploymentId> {
    match slot {
        PoolSlot::Free { since, last: Some(last) } => {
            let stop = s.deployments.get(last)?.stop.as_ref()?;
            (*since >= stop.index).then_some(last)
        }
        PoolSlot::Free { last: None, .. } | PoolSlot::Used(_) => None,
    }
}

/// Who has one of a spec's ports at a worker's own address: an instance that lives there, or a stopped deployment that
/// comes back there.
pub fn port_user(s: &State, worker: &Worker, deployment: &DeploymentId, spec: &Spec) -> Option<String> {
    let wants = |port: u16| spec.ports.values().any(|(wanted, _)| *wanted == port);
    let lives = |i: &&Instance| i.address == worker.host && i.ports.values().any(|p| wants(*p));
    if let Some(i) = live_on(s, &worker.name).find(lives) {
        return Some(format!("{} ({})", i.id, i.deployment));
    }
    let stopped = s.assignments.of_worker(&worker.name).map(|(d, _)| d).filter(|d| *d != deployment);
    let comes_back = |d: &&DeploymentId| {
        let row = s.deployments.get(*d).filter(|row| row.stop.is_some());
        let stable = row.and_then(|row| s.spec(d, row.arms.pair(Role::Stable)?.spec));
        stable.is_some_and(|x| x.address == AddressMode::Host && x.ports.values().any(|(port, _)| wants(*port)))
    };
    stopped.filter(comes_back).map(|d| format!("{d}, which is stopped,")).next()
}

/// Live instances on a worker that count against its capacity.
pub(in crate::state) fn live_on<'a>(s: &'a State, worker: &WorkerName) -> impl Iterator<Item = &'a Instance> + use<'a> {
    s.instances.on(worker).filter(|i| i.life.is_live())
}

/// The ports an instance gets: the spec's, at its own address.
pub(in crate::state) fn ports(spec: &Spec) -> Arc<BTreeMap<String, u16>> {
    Arc::new(spec.ports.iter().map(|(name, (port, _))| (name.clone(), *port)).collect())
}

/// Takes an address for a new instance on a worker. `replaced` does not count against its capacity.
pub(in crate::state) fn take(
    cx: &mut Cx<'_>,
    worker: &WorkerName,
    deployment: &DeploymentId,
    spec: &Spec,
    id: InstanceId,
) -> Result<String, Rejection> {
    let Some(mut w) = cx.s.workers.get(worker).cloned() else { return guard(format!("{worker} is no worker")) };
    let live = live_on(cx.s, worker).count();
    if live >= w.capacity as usize {
        return guard(format!("{worker} runs {live} instances and takes {} at most", w.capacity));
    }
    match spec.address {
        AddressMode::Host => match port_user(cx.s, &w, deployment, spec) {
            Some(who) => guard(format!("{worker}: {who} has the port")),
            None => Ok(w.host),
        },
        AddressMode::Pool => {
            let Some(address) = free_addresses(cx.s, &w, deployment).into_iter().next() else {
                return guard(format!("{worker} has no free address in its pool"));
            };
            Arc::make_mut(&mut w.pool).insert(address.clone(), PoolSlot::Used(id));
            cx.put_worker(w);
            Ok(address)
        }
    }
}

/// Hands the address of a replaced instance to the one that takes its place.
pub(in crate::state) fn hand_over(cx: &mut Cx<'_>, worker: &WorkerName, old: InstanceId, new: InstanceId) {
    let Some(mut w) = cx.s.workers.get(worker).cloned() else { return };
    fill(&mut w, old, &PoolSlot::Used(new));
    cx.put_worker(w);
}

/// Frees the address of an instance that is gone or failed. Its name left DNS when its drain began, or now.
pub(in crate::state) fn free(cx: &mut Cx<'_>, i: &Instance) {
    debug_assert!(matches!(i.life, Life::Gone | Life::Failed));
    let Some(mut w) = cx.s.workers.get(&i.worker).cloned() else { return };
    let since = match &i.drain {
        Some(DrainState { index, .. }) => *index,
        None => cx.at.index,
    };
    // Whom it was to replace may still be stopping there: then the address is that one's again.
    let before = drain::before(cx.s, i).map(|old| old.id);
    let free = PoolSlot::Free { since, last: Some(i.deployment.clone()) };
    fill(&mut w, i.id, &before.map_or(free, PoolSlot::Used));
    // One that its agent no longer offers, be it gone from the machine or from the configuration, stayed for its user
    // alone.
    if before.is_none() && w.withdrawn.remove(&i.address) {
        Arc::make_mut(&mut w.pool).remove(&i.address);
        part(cx, |p| p.vacated = p.vacated.max(since));
    }
    cx.put_worker(w);
}

/// Changes the slots of one user.
fn fill(w: &mut Worker, user: InstanceId, with: &PoolSlot) {
    let used = PoolSlot::Used(user);
    if w.pool.values().any(|slot| *slot == used) {
        for slot in Arc::make_mut(&mut w.pool).values_mut().filter(|slot| **slot == used) {
            *slot = with.clone();
        }
    }
}
