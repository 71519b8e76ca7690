//! Whether the workers have room for a rollout: asked when it starts, so that nobody waits for what cannot come.

use super::{begin, start_rollout::StartRollout};
use crate::state::{
    base::prelude::*,
    fleet::{alloc, serving},
};

/// Whether there are workers, addresses and capacity for the strategy's peak.
pub(in crate::state) fn room(
    s: &State,
    d: &Deployment,
    spec: &Spec,
    to: &Pair,
    strategy: Strategy,
    asked: &StartRollout,
) -> Done {
    let workers: Vec<&Worker> = begin::chosen(s, spec).collect();
    if workers.is_empty() {
        return Err(Rejection::Precondition(format!(
            "no worker is ready that {} may run on (selector {}): start `slipwayd agent` on one, or change placement.workers",
            d.id,
            begin::selector(spec)
        )));
    }
    let limit = s.cluster.as_ref().map_or(u32::MAX, |c| c.settings.limits.instances_per_deployment);
    let all = u32::try_from(workers.len()).unwrap_or(u32::MAX).saturating_mul(spec.placement.per_worker);
    if all > limit {
        return Err(Rejection::Precondition(format!(
            "{} would be {all} instances, {} on each of {} workers, and a deployment has at most {limit}: lower \
             placement.per_worker, or choose fewer workers with placement.workers",
            d.id,
            spec.placement.per_worker,
            workers.len()
        )));
    }
    let stable = d.tracks.stable.as_ref().map(|t| &t.pair);
    let runs_stable =
        |w: &WorkerName| s.instances_of(&d.id).any(|i| &i.worker == w && i.life.is_live() && Some(&i.pair) == stable);
    match spec.address {
        AddressMode::Host => {
            if stable.is_none() {
                return Ok(());
            }
            match strategy {
                Strategy::BlueGreen => {
                    let spare = workers.iter().filter(|w| !runs_stable(&w.name)).count();
                    let need = workers.iter().filter(|w| runs_stable(&w.name)).count().max(1);
                    if spare < need {
                        return Err(Rejection::Precondition(format!(
                            "blue-green in address mode host needs {need} spare workers (selector {}) beside those that run {}, and {spare} are: add workers, use address: pool, or choose rolling or canary",
                            begin::selector(spec),
                            d.id
                        )));
                    }
                }
                Strategy::Rolling if asked.params.max_unavailable == 0 => {
                    return Err(Rejection::Precondition(
                        "rolling in address mode host replaces in place: set max_unavailable to 1 or more (a worker's port has room for one instance)"
                            .into(),
                    ));
                }
                Strategy::Rolling | Strategy::Direct | Strategy::Canary => {}
            }
            Ok(())
        }
        AddressMode::Pool => pool_room(s, d, spec, to, strategy, asked, &workers),
    }
}

fn pool_room(
    s: &State,
    d: &Deployment,
    spec: &Spec,
    to: &Pair,
    strategy: Strategy,
    asked: &StartRollout,
    workers: &[&Worker],
) -> Done {
    let stable = d.tracks.stable.as_ref().map(|t| &t.pair);
    let shared = d.route.as_ref().map(|r| r.weights).unwrap_or_default();
    let serves = |pair: &Pair| {
        let has = |t: &Option<Track>, f: &dyn Fn(&Track) -> bool| t.as_ref().is_some_and(|t| &t.pair == pair && f(t));
        has(&d.tracks.candidate, &|_| shared.candidate.0 > 0) || has(&d.tracks.previous, &|t| d.shares(t))
    };
    let mut any = false;
    for w in workers {
        let live: Vec<&Instance> = alloc::live_on(s, &w.name).collect();
        // What is neither from nor to is retired first, unless it serves.
        let leaves =
            |i: &&&Instance| i.deployment == d.id && &i.pair != to && Some(&i.pair) != stable && !serves(&i.pair);
        let leaving = live.iter().filter(leaves).count();
        let there = live.iter().filter(|i| i.deployment == d.id && &i.pair == to && i.life.is_wanted()).count();
        let free = w.pool.values().filter(|slot| match slot {
            PoolSlot::Free { .. } => true,
            PoolSlot::Used(id) => live.iter().filter(leaves).any(|i| i.id == *id),
        });
        let free = free.count();
        let room = (w.capacity as usize).saturating_sub(live.len().saturating_sub(leaving));
        let need = (spec.placement.per_worker as usize).saturating_sub(there);
        // In place it takes no place that is not taken already.
        let old = live.iter().any(|i| {
            let may_go = asked.params.max_unavailable > 0 || !i.serves();
            i.deployment == d.id && i.life.is_wanted() && &i.pair != to && may_go
        });
        any |= free > 0 && room > 0 || strategy == Strategy::Rolling && old;
        match strategy {
            // In batches: one place somewhere is enough to begin with.
            Strategy::Rolling => {}
            Strategy::Direct | Strategy::Canary | Strategy::BlueGreen => {
                if free < need {
                    return Err(Rejection::Precondition(format!(
                        "worker {} has {free} free addresses and {strategy} needs {need}: add addresses to its pool, or choose rolling",
                        w.name
                    )));
                }
                if room < need {
                    return Err(Rejection::Precondition(format!(
                        "worker {} has room for {room} more instances and {strategy} needs {need}: raise its capacity, or choose rolling",
                        w.name
                    )));
                }
            }
        }
    }
    if any {
        return Ok(());
    }
    // Nothing to add anywhere: only a pair that is there already needs no place.
    let there = serving::wanted(s, &d.id, to) > 0;
    if there {
        return Ok(());
    }
    let fix = if strategy == Strategy::Rolling {
        "no worker has a free address or room: add addresses to a pool, or replace in place with max_surge 0 and max_unavailable 1"
    } else {
        "no worker has a free address or room: add addresses to a pool"
    };
    Err(Rejection::Precondition(fix.into()))
}
