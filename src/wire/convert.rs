//! State's rows as messages: environments, services, releases, deployments, workers, instances, nodes, traffic.
//!
//! Invariant: a conversion reads one State, so what it says of one moment is of one moment. Not here: paging and
//! filters (`rpc`).

use std::collections::BTreeMap;

use super::v1;
use crate::{
    model::{DeploymentId, Histogram, MAX_METRICS, MetricName, ModelError, Pair, Sample, Samples},
    state::{
        Copies, Deployment, Environment, FencePoint, Instance, Meta, NodeRole, NodeRow, PoolSlot, Presence, Reason,
        Release, ReleaseStatus, Route, Service, State, Worker, copies, copies_of, failed_in, serving,
    },
};

/// A count that does not fit is the largest that does.
pub fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The part that every noun carries.
pub fn meta(m: &Meta) -> v1::Meta {
    v1::Meta {
        revision: m.revision,
        created_index: m.created_index,
        updated_index: m.updated_index,
        labels: m.labels.clone(),
    }
}

/// A release and the spec revision it runs under.
pub fn pair(p: &Pair) -> v1::Pair {
    v1::Pair { version: p.version.to_string(), digest: p.digest.to_string(), spec: p.spec }
}

/// What was counted, in the order in which people are told.
pub fn metrics(all: &Samples) -> Vec<v1::Metric> {
    let histogram = |h: &Histogram| {
        let (bounds, counts) = h.buckets().iter().copied().unzip();
        v1::Histogram { bounds, counts, sum: h.sum() }
    };
    let one = |(name, sample): (&MetricName, &Sample)| v1::Metric {
        name: name.to_string(),
        count: sample.count(),
        histogram: sample.histogram().map(histogram),
    };
    all.told().map(one).collect()
}

/// What a worker says that it counted.
pub fn read_metrics(all: &[v1::Metric]) -> Result<Samples, ModelError> {
    if all.len() > MAX_METRICS {
        return Err(ModelError::field("counts", format!("names {} metrics, and at most {MAX_METRICS} are", all.len())));
    }
    let mut samples = Samples::default();
    for m in all {
        let bad = |problem: String| ModelError::field(format!("counts.{}", m.name), problem);
        let sample = match &m.histogram {
            None => Sample::Counter(m.count),
            Some(h) if h.bounds.len() != h.counts.len() => {
                return Err(bad(format!("has {} bounds and {} counts", h.bounds.len(), h.counts.len())));
            }
            Some(h) => {
                let buckets = h.bounds.iter().copied().zip(h.counts.iter().copied()).collect();
                Sample::Histogram(Histogram::new(buckets, h.sum, m.count).map_err(bad)?)
            }
        };
        if samples.0.insert(m.name.parse()?, sample).is_some() {
            return Err(bad("comes twice".into()));
        }
    }
    Ok(samples)
}

/// An environment.
pub fn environment(e: &Environment) -> v1::Environment {
    v1::Environment {
        meta: Some(meta(&e.meta)),
        name: e.name.to_string(),
        default_strategy: e.default_strategy.to_string(),
        order: e.order,
        on_no_data: e.on_no_data.to_string(),
    }
}

/// A service with what hangs on it.
pub fn service(state: &State, s: &Service) -> v1::Service {
    let deployment_ids = state.deployments.keys().filter(|d| d.service == s.name).map(ToString::to_string).collect();
    v1::Service {
        meta: Some(meta(&s.meta)),
        name: s.name.to_string(),
        release_count: count(state.releases.keys().filter(|(of, _)| of == &s.name).count()),
        deployment_ids,
    }
}

/// A release.
pub fn release(state: &State, r: &Release) -> v1::Release {
    let (holders, voters) = copies_of(state, &r.digest);
    // Nothing runs it yet, and no node has to fetch it any more.
    let is_ready = r.status == ReleaseStatus::Loading && holders == voters;
    let failed = failed_in(state, r);
    let runs_in = state.deployments_of(&r.service).flat_map(|d| {
        let mine = d.arms.iter().filter(|a| a.pair.version == r.version);
        mine.map(|a| v1::ReleaseUse { deployment: d.id.to_string(), role: a.role.to_string(), weight_bp: a.weight.0 })
    });
    v1::Release {
        meta: Some(meta(&r.meta)),
        service: r.service.to_string(),
        version: r.version.to_string(),
        digest: r.digest.to_string(),
        size: r.size,
        status: if is_ready { "ready" } else { r.status.into() }.into(),
        build: Some(v1::BuildInfo {
            commit: r.build.commit.clone(),
            built_at: r.build.built_at.clone(),
            toolchain: r.build.toolchain.clone(),
            components: r.build.components.clone(),
        }),
        holders: count(holders),
        voters: count(voters),
        registered_at_ms: r.registered_at.0,
        runs_in: runs_in.collect(),
        failed_in: failed.map(|f| f.id.to_string()).unwrap_or_default(),
        reason: failed.and_then(|f| f.reason.as_ref()).map(ToString::to_string).unwrap_or_default(),
        reason_label: failed.and_then(|f| f.reason.as_ref()).map(Reason::label).unwrap_or_default().into(),
    }
}

/// Packages that one answer names as not on every voter.
const INCOMPLETE: usize = 20;

/// How many copies there are of the packages of releases.
pub fn packages(state: &State) -> v1::Packages {
    let all = copies(state);
    let voters = state.nodes.values().filter(|n| n.role == NodeRole::Voter).count();
    let mut incomplete: Vec<&Copies<'_>> = all.iter().filter(|c| c.holders.len() < voters).collect();
    incomplete.sort_by_key(|c| c.holders.len());
    let one = |c: &&Copies<'_>| v1::PackageCopies {
        digest: c.digest.to_string(),
        release: c.releases.first().map(|r| format!("{} {}", r.service, r.version)).unwrap_or_default(),
        holders: count(c.holders.len()),
    };
    v1::Packages {
        voters: count(voters),
        total: count(all.len()),
        complete: count(all.len() - incomplete.len()),
        incomplete: incomplete.iter().take(INCOMPLETE).map(one).collect(),
    }
}

/// The DNS name of a deployment.
pub fn dns_name(state: &State, id: &DeploymentId) -> String {
    let zone = state.cluster.as_ref().map_or("slipway.internal", |c| c.zone.as_str());
    format!("{}.{}.svc.{zone}", id.service, id.environment)
}

fn route(r: &Route) -> v1::Route {
    let FencePoint { incarnation, n } = r.generation;
    v1::Route {
        incarnation,
        generation: n,
        mode: r.mode.to_string(),
        ttl_s: u32::try_from(r.ttl.0 / 1000).unwrap_or(u32::MAX),
    }
}

/// Where a stop stands, in a word; empty: it is not stopped.
pub fn stop_word(state: &State, d: &Deployment) -> &'static str {
    match &d.stop {
        None => "",
        Some(stop) if stop.starting => "starting",
        Some(_) if state.instances_of(&d.id).any(|i| i.life.is_live()) => "stopping",
        Some(_) => "stopped",
    }
}

/// A deployment with its arms as they serve.
pub fn deployment(state: &State, d: &Deployment) -> v1::Deployment {
    let able = serving(state, &d.id, state.now);
    let arms = d.arms.iter().map(|a| v1::Arm {
        role: a.role.to_string(),
        pair: Some(pair(&a.pair)),
        want: a.want,
        serving: count(able.iter().filter(|i| i.pair == a.pair).count()),
        live: count(
            state.instances_of(&d.id).filter(|i| i.pair == a.pair && i.life.is_live() && !on_lost(state, i)).count(),
        ),
        weight_bp: a.weight.0,
        retire_at_ms: a.retire_at.map_or(0, |at| at.0),
    });
    let of_lost = state.instances_of(&d.id).filter(|i| i.life.is_live() && on_lost(state, i));
    let lost: std::collections::BTreeSet<String> = of_lost.map(|i| i.worker.to_string()).collect();
    v1::Deployment {
        meta: Some(meta(&d.meta)),
        id: d.id.to_string(),
        spec: d.spec,
        arms: arms.collect(),
        route: d.route.as_ref().map(route),
        desired: d.desired,
        live_rollout: d.live.map(|r| r.to_string()).unwrap_or_default(),
        last_rollout: d.last.map(|r| r.to_string()).unwrap_or_default(),
        dns_name: dns_name(state, &d.id),
        as_is: d.as_is.as_ref().map(|a| a.rollout.to_string()).unwrap_or_default(),
        lost: lost.into_iter().collect(),
        removing: d.removing.is_some(),
        stop: stop_word(state, d).into(),
        stopped_at_ms: d.stop.as_ref().map_or(0, |s| s.since.0),
        stopped_wall_ms: d.stop.as_ref().map_or(0, |s| s.wall),
        stopped_by: d.stop.as_ref().map(|s| s.by.clone()).unwrap_or_default(),
    }
}

/// Whether an instance's worker is lost, so that what is known of it is old.
fn on_lost(state: &State, i: &Instance) -> bool {
    state.workers.get(&i.worker).is_none_or(|w| w.presence == Presence::Lost)
}

/// A worker.
pub fn worker(state: &State, w: &Worker) -> v1::Worker {
    let free = |slot: &&PoolSlot| match slot {
        PoolSlot::Free { .. } => true,
        PoolSlot::Used(_) => false,
    };
    v1::Worker {
        meta: Some(meta(&w.meta)),
        name: w.name.to_string(),
        status: w.presence.to_string(),
        capacity: w.capacity,
        agent_version: w.build.clone(),
        host: w.host.clone(),
        pool_free: count(w.pool.values().filter(free).count()),
        pool_size: count(w.pool.len()),
        instance_count: count(state.instances.on(&w.name).filter(|i| i.life.is_live()).count()),
        last_heard_at_ms: w.lost_at.map_or(0, |at| at.0),
        absent: w.absent.clone(),
        keeping: w.keeping.clone(),
        rekey_until_ms: w.rekey_until.map_or(0, |at| at.0),
    }
}

/// The role of the arm that an instance belongs to, if any.
fn role_of(state: &State, i: &Instance) -> &'static str {
    let arm = state.deployments.get(&i.deployment).and_then(|d| d.arms.of(&i.pair));
    arm.map_or("", |a| a.role.into())
}

/// Ports as the contract writes them.
pub fn ports(ports: &BTreeMap<String, u16>) -> BTreeMap<String, u32> {
    ports.iter().map(|(name, port)| (name.clone(), u32::from(*port))).collect()
}

/// An instance; `serves` is what DNS may name.
pub fn instance(state: &State, i: &Instance, serves: bool) -> v1::Instance {
    v1::Instance {
        meta: Some(meta(&i.meta)),
        id: i.id.to_string(),
        deployment: i.deployment.to_string(),
        pair: Some(pair(&i.pair)),
        role: role_of(state, i).into(),
        worker: i.worker.to_string(),
        address: i.address.clone(),
        ports: ports(&i.ports),
        status: i.life.to_string(),
        health: i.health.to_string(),
        restarts: i.restarts,
        exit: i.exit.clone().unwrap_or_default(),
        serves,
        worker_lost: on_lost(state, i),
        counted_out: i.counted_out.is_some(),
    }
}

/// A node; `leader` and `served` are what the answering node knows.
pub fn node(n: &NodeRow, leader: bool, served: u64) -> v1::Node {
    v1::Node {
        meta: Some(meta(&n.meta)),
        node_id: n.id,
        name: n.name.clone(),
        peer_addr: n.peer_addr.clone(),
        client_addr: n.client_addr.clone(),
        dns_addr: n.dns_addr.clone(),
        role: n.role.to_string(),
        leader,
        dns_silent: n.silent_since.is_some(),
        served_index: served,
        drained: n.drained,
        version: n.version.clone(),
        min_level: n.min_level,
        max_level: n.level,
        ..v1::Node::default()
    }
}

/// Who gets which version, and who answers DNS.
pub fn traffic(state: &State, d: &Deployment) -> v1::GetRouteReply {
    let able = serving(state, &d.id, state.now);
    let shares = d.arms.iter().map(|a| v1::VersionShare {
        role: a.role.to_string(),
        version: a.pair.version.to_string(),
        weight_bp: a.weight.0,
        serving: count(able.iter().filter(|i| i.pair == a.pair).count()),
        addresses: state
            .instances_of(&d.id)
            .filter(|i| i.pair == a.pair && i.life.is_live())
            .map(|i| i.address.clone())
            .collect(),
        ..v1::VersionShare::default()
    });
    let spec = state.spec(&d.id, d.spec);
    let servers = state.nodes.values().filter(|n| n.role != NodeRole::Removed);
    v1::GetRouteReply {
        deployment: d.id.to_string(),
        dns_name: dns_name(state, &d.id),
        generation: d.route.as_ref().map_or(0, |r| r.generation.n),
        mode: d.route.as_ref().map(|r| r.mode.to_string()).unwrap_or_default(),
        ttl_s: d.route.as_ref().map_or(0, |r| u32::try_from(r.ttl.0 / 1000).unwrap_or(u32::MAX)),
        shares: shares.collect(),
        dns_servers: servers.map(|n| n.dns_addr.clone()).collect(),
        ports: spec.map(|s| s.ports.iter().map(|(n, (p, _))| (n.clone(), u32::from(*p))).collect()).unwrap_or_default(),
        applied_index: state.applied.index,
        now_ms: state.now.0,
        ..v1::GetRouteReply::default()
    }
}
