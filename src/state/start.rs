//! `StartRollout`: everything that can be refused before a rollout begins is refused here, with the name of the thing and the fix.

use super::{
    Deployment, EventBody, PoolSlot, Presence, Rejection, ReleaseStatus, Rollout, RolloutKind, RolloutPhase,
    RolloutStatus, State, Worker, alloc, catalog,
    command::StartRollout,
    context::{Cx, Done},
    operator, switches,
};
use crate::model::{AddressMode, Pair, RolloutId, Spec, Strategy, WorkerName};

/// Workers that a spec's placement chooses and that are heard of, by name.
pub fn chosen<'a>(s: &'a State, spec: &'a Spec) -> impl Iterator<Item = &'a Worker> + 'a {
    s.workers.carrying(&spec.placement.workers).filter(|w| w.presence == Presence::Ready)
}

fn selector(spec: &Spec) -> String {
    let parts: Vec<String> = spec.placement.workers.iter().map(|(k, v)| format!("{k}={v}")).collect();
    if parts.is_empty() { "any".into() } else { parts.join(",") }
}

/// `StartRollout`.
pub(super) fn start(cx: &mut Cx<'_>, s: &StartRollout) -> Done {
    s.params.check("rollout").map_err(|e| Rejection::Invalid(e.to_string()))?;
    let mut d = cx.deployment(&s.deployment)?;
    let service = &s.deployment.service;
    let Some(release) = cx.s.releases.get(&(service.clone(), s.version.clone())).cloned() else {
        let known = cx.s.releases.keys().filter(|(x, _)| x == service).map(|(_, v)| v);
        let near = catalog::hint(&s.version.to_string(), known);
        let near = if near.is_empty() { "; `slipway release push` makes it".into() } else { near };
        return Err(Rejection::not_found("release", format!("{service} {}", s.version), near));
    };
    if release.status == ReleaseStatus::Retired {
        return Err(Rejection::Precondition(format!("release {service} {} is retired: push a new version", s.version)));
    }
    if let Some(seen) = s.expected.filter(|e| *e != d.meta.revision) {
        return Err(Rejection::Stale { seen, now: d.meta.revision });
    }
    if let Some(rollout) = d.live {
        if !s.replace {
            return Err(Rejection::Busy { rollout });
        }
        operator::replace(cx, rollout)?;
        d = cx.deployment(&s.deployment)?;
    }
    switches::not_switching(cx, &d.id)?;
    let mut to = Pair { version: s.version.clone(), digest: release.digest.clone(), spec: d.spec };
    let Some(spec) = cx.s.spec(&d.id, to.spec).cloned() else {
        return Err(Rejection::Precondition(format!("{} has no spec: `slipway apply -f` gives it one", d.id)));
    };
    let from = d.tracks.stable.as_ref().map(|t| t.pair.clone());
    if from.as_ref() == Some(&to) {
        // After `abort --as-is` it does not run everywhere, and this makes it whole.
        if !s.restart && d.as_is.is_none() {
            return Err(Rejection::Precondition(format!(
                "{} runs {} already: `slipway rollout restart` rolls it out again",
                d.id, to.version
            )));
        }
        // The same settings under a new revision: tracks, instances and counts are told apart by pairs.
        to.spec = to.spec.saturating_add(1);
        d.spec = to.spec;
        cx.s.specs.insert((d.id.clone(), to.spec), spec.clone());
    }
    let strategy = choose(cx, &d, s, from.is_some())?;
    room(&cx.s, &d, &spec, &to, strategy, s)?;
    let mut params = s.params.clone();
    params.strategy = Some(strategy);
    params.on_no_data = params.on_no_data.or(cx.s.environments.get(&d.id.environment).map(|e| e.on_no_data));
    let row = new_rollout(cx, &d, RolloutKind::Forward, from, to, params, strategy);
    d.live = Some(row.id);
    cx.put_deployment(d);
    announce(cx, &row);
    cx.s.rollouts.insert(row.id, row);
    Ok(())
}

fn choose(cx: &Cx<'_>, d: &Deployment, s: &StartRollout, has_stable: bool) -> Result<Strategy, Rejection> {
    if !has_stable {
        // Nothing serves yet: there is nothing to compare with or to switch from.
        return Ok(Strategy::Direct);
    }
    let default = cx.s.environments.get(&d.id.environment).map(|e| e.default_strategy);
    s.params.strategy.or(default).ok_or_else(|| Rejection::not_found("environment", &d.id.environment, ""))
}

pub(super) fn announce(cx: &mut Cx<'_>, r: &Rollout) {
    cx.emit(EventBody::RolloutChanged {
        rollout: r.id,
        deployment: r.deployment.clone(),
        status: r.status,
        reason: None,
    });
}

/// A pending rollout of this entry.
pub(super) fn new_rollout(
    cx: &Cx<'_>,
    d: &Deployment,
    kind: RolloutKind,
    from: Option<Pair>,
    to: Pair,
    params: crate::model::RolloutParams,
    strategy: Strategy,
) -> Rollout {
    Rollout {
        meta: cx.new_meta(),
        id: RolloutId(cx.at.index),
        deployment: d.id.clone(),
        kind,
        from,
        to,
        strategy,
        params,
        desired: 0,
        order: Vec::new(),
        without: Vec::new(),
        steps: Vec::new(),
        forward_steps: Vec::new(),
        cursor: 0,
        phase: RolloutPhase::Forward,
        undo_compiled: false,
        status: RolloutStatus::Pending,
        remainder: None,
        deadline_remainder: None,
        paused_at: None,
        switched: false,
        reason: None,
        started_at: cx.now(),
        traffic_back_at: None,
        ended_at: None,
        undone_by: None,
        principal: cx.principal.to_string(),
        started_wall: cx.s.wall,
        ended_wall: 0,
    }
}

/// Whether there are workers, addresses and capacity for the strategy's peak.
fn room(s: &State, d: &Deployment, spec: &Spec, to: &Pair, strategy: Strategy, asked: &StartRollout) -> Done {
    let workers: Vec<&Worker> = chosen(s, spec).collect();
    if workers.is_empty() {
        return Err(Rejection::Precondition(format!(
            "no worker is ready that {} may run on (selector {}): start `slipwayd agent` on one, or change placement.workers",
            d.id,
            selector(spec)
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
                            selector(spec),
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
        let has = |t: &Option<super::Track>, f: &dyn Fn(&super::Track) -> bool| {
            t.as_ref().is_some_and(|t| &t.pair == pair && f(t))
        };
        has(&d.tracks.candidate, &|_| shared.candidate.0 > 0) || has(&d.tracks.previous, &|t| d.shares(t))
    };
    let mut any = false;
    for w in workers {
        let live: Vec<&super::Instance> = alloc::live_on(s, &w.name).collect();
        // What is neither from nor to is retired first, unless it serves.
        let leaves = |i: &&&super::Instance| {
            i.deployment == d.id && &i.pair != to && Some(&i.pair) != stable && !serves(&i.pair)
        };
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
    let there = super::serving::wanted(s, &d.id, to) > 0;
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
