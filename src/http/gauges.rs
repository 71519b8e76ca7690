//! Metrics of the moment: of Raft, DNS, the leader's loop, and of each deployment in State.
//!
//! Invariant: each is read when the page is asked for, and belongs to one State. Not here: counters of rollouts
//! (`counters`), where the values come from (`node`).

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, histogram::Histogram},
};

use super::server::HttpSources;
use crate::{
    model::MetricName,
    raft::{ApplyCounts, ConsensusMetrics, Meters},
    state::{State, StepRow, serving},
    storage::LogMeters,
};

/// Raft's figures.
#[derive(Debug, Clone, Default)]
pub struct RaftFigures {
    /// What consensus measures; absent before there is a cluster.
    pub meters: Option<Meters>,
    /// What the log measures.
    pub log: LogMeters,
    /// Size of the newest snapshot; 0: none.
    pub snapshot_bytes: u64,
    /// Whether this node leads.
    pub leads: bool,
    /// Raft as this node sees it; absent before there is a cluster.
    pub seen: Option<ConsensusMetrics>,
    pub applied: ApplyCounts,
}

/// The client listener's figures, since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RpcFigures {
    /// Changes asked for here, by command.
    pub proposals: BTreeMap<&'static str, u64>,
    /// Refusals told here, by reason.
    pub rejections: BTreeMap<&'static str, u64>,
    /// Workers whose session is here.
    pub sessions: u64,
    /// Connections by listener.
    pub connections: BTreeMap<&'static str, Connections>,
}

/// A listener's connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Served now.
    pub open: u64,
    /// Refused, as there were too many.
    pub refused: u64,
    /// Cut, as they said nothing.
    pub silent: u64,
    /// Cut, as nothing moved on them.
    pub idle: u64,
}

/// DNS's figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsFigures {
    /// Index the view has reached; 0 while the server answers "not ready".
    pub view_index: u64,
    /// Answers by response code since the process started.
    pub answers: BTreeMap<&'static str, u64>,
    /// What came and what became of it, by kind.
    pub events: BTreeMap<&'static str, u64>,
    /// Answers by the policy since the route last changed: deployment, version, how many.
    pub realised: Vec<(String, String, u64)>,
    /// Deployment, version and the requests that its instances counted since the running step began.
    pub requests: Vec<(String, String, u64)>,
    /// Route generation that is served, by deployment.
    pub generations: BTreeMap<String, u64>,
}

/// The process's figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessFigures {
    /// Whether the node is ready.
    pub ready: bool,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Open files and sockets.
    pub open_files: u64,
}

/// The leader's loop's figures, since the process started.
#[derive(Debug, Clone, Default)]
pub struct LeadFigures {
    /// Passes of the planner.
    pub passes: u64,
    /// Ended deliveries by outcome.
    pub deliveries: BTreeMap<&'static str, u64>,
    /// How long deliveries took.
    pub delivery: Option<Histogram>,
    /// Engine commands proposed.
    pub proposed: u64,
    /// Refusals by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Panics of the leader's loop.
    pub panics: u64,
    /// Whether a part of it rests because of panics, here or elsewhere.
    pub stopped: bool,
    /// Background tasks that panicked or ended and were started again.
    pub restarts: BTreeMap<&'static str, u64>,
}

/// Reads the sources at each scrape.
#[derive(derive_more::Debug)]
#[debug("Gauges")]
pub(super) struct Gauges(pub HttpSources);

type Encoded = Result<(), fmt::Error>;

fn gauge(e: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Encoded {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    ConstGauge::new(value).encode(e.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn counter(e: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Encoded {
    ConstCounter::new(value).encode(e.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn histogram(e: &mut DescriptorEncoder<'_>, name: &str, help: &str, values: &Histogram) -> Encoded {
    values.encode(e.encode_descriptor(name, help, None, MetricType::Histogram)?)
}

/// Raft as this node sees it.
fn seen(e: &mut DescriptorEncoder<'_>, raft: Option<&ConsensusMetrics>, leads: bool) -> Encoded {
    let of = |pick: fn(&ConsensusMetrics) -> Option<u64>| raft.and_then(pick).unwrap_or(0);
    gauge(e, "slipway_raft_term", "Newest Raft term this node knows", of(|r| Some(r.term)))?;
    gauge(e, "slipway_raft_leader", "1 while this node leads", u64::from(leads))?;
    gauge(e, "slipway_raft_last_log_index", "Last entry of this node's log", of(|r| r.last_log))?;
    gauge(e, "slipway_raft_applied_index", "Last entry applied by this node", of(|r| Some(r.applied)))?;
    gauge(e, "slipway_raft_committed_index", "Last entry that this node knows to be committed", of(|r| r.committed))?;
    gauge(e, "slipway_raft_snapshot_index", "Entry of the newest snapshot; 0: none", of(|r| r.snapshot))?;
    let role = raft.map_or("none", |r| r.role.name());
    labelled(e, "slipway_raft_role", "1 for this node's part", "role", &[(role, 1)].into())?;
    let others = raft.into_iter().flat_map(|r| r.members.iter().filter(|m| m.id != r.node));
    let lag = others.filter_map(|m| Some((m.id.to_string(), of(|r| r.last_log).saturating_sub(m.matched?)))).collect();
    let help = "Entries a member is behind; leaders only";
    labelled::<String>(e, "slipway_raft_replication_lag_entries", help, "peer", &lag)?;
    gauge(e, "slipway_raft_purged_index", "Last entry removed from this node's log", of(|r| r.purged))?;
    let Some((raft, age)) = raft.and_then(|r| Some((r, r.quorum_age?))) else { return Ok(()) };
    // A single voter is its own majority and hears from nobody.
    let alone = raft.members.iter().filter(|m| m.voter).count() < 2;
    let help = "Since a majority last confirmed this leader; leaders only";
    let family = e.encode_descriptor("slipway_raft_quorum_age_seconds", help, None, MetricType::Gauge)?;
    ConstGauge::new(if alone { 0.0 } else { age.as_secs_f64() }).encode(family)
}

/// What Raft, its log and `apply` measure.
fn measured(e: &mut DescriptorEncoder<'_>, raft: &RaftFigures) -> Encoded {
    let log = &raft.log;
    histogram(e, "slipway_log_sync_seconds", "Time of each sync of the log", &log.sync)?;
    histogram(e, "slipway_log_sync_writes", "Writes that each sync of the log served", &log.writes)?;
    let Some(meters) = &raft.meters else { return Ok(()) };
    histogram(e, "slipway_commit_seconds", "From a proposal on this leader to its answer", &meters.commit)?;
    histogram(e, "slipway_apply_seconds", "Decoding and applying one command", &meters.apply)?;
    histogram(e, "slipway_snapshot_seconds", "Encoding and writing a snapshot", &meters.snapshot)?;
    gauge(e, "slipway_snapshot_bytes", "Size of the newest snapshot; 0: none", raft.snapshot_bytes)?;
    counter(e, "slipway_snapshots_installed", "Snapshots received from a leader", meters.installed.get())?;
    counter(e, "slipway_raft_leader_changes", "Leaders that this node saw after one another", meters.leaders.get())
}

fn labelled<K: AsRef<str>>(
    e: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: &BTreeMap<K, u64>,
) -> Encoded {
    let mut family = e.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (key, value) in values {
        let value = i64::try_from(*value).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(family.encode_family(&[(label, key.as_ref())])?)?;
    }
    Ok(())
}

fn counters<K: AsRef<str>>(
    e: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: &BTreeMap<K, u64>,
) -> Encoded {
    let mut family = e.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (key, value) in values {
        ConstCounter::new(*value).encode(family.encode_family(&[(label, key.as_ref())])?)?;
    }
    Ok(())
}

fn connections(e: &mut DescriptorEncoder<'_>, listeners: &BTreeMap<&'static str, Connections>) -> Encoded {
    let pick = |f: fn(&Connections) -> u64| listeners.iter().map(|(l, c)| (*l, f(c))).collect::<BTreeMap<_, _>>();
    labelled(e, "slipway_connections_open", "Connections served now", "listener", &pick(|c| c.open))?;
    let mut family = e.encode_descriptor(
        "slipway_connections_refused",
        "Connections refused or cut: too many, silent after they were made, or idle",
        None,
        MetricType::Counter,
    )?;
    for (listener, c) in listeners {
        for (why, n) in [("too_many", c.refused), ("silent", c.silent), ("idle", c.idle)] {
            let labels = [("listener", *listener), ("reason", why)];
            ConstCounter::new(n).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// A value of a version of a deployment.
type ByVersion = BTreeMap<(String, String), f64>;

fn by_version(e: &mut DescriptorEncoder<'_>, name: &str, help: &str, values: &ByVersion) -> Encoded {
    let mut family = e.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for ((service, version), value) in values {
        let labels = [("service", service.as_str()), ("version", version.as_str())];
        ConstGauge::new(*value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

impl Collector for Gauges {
    fn encode(&self, mut e: DescriptorEncoder<'_>) -> Encoded {
        let e = &mut e;
        let raft = (self.0.raft)();
        seen(e, raft.seen.as_ref(), raft.leads)?;
        measured(e, &raft)?;
        counters(e, "slipway_apply_commands", "Commands applied by this process", "command", &raft.applied.commands)?;
        counters(e, "slipway_apply_rejections", "Applied commands that were refused", "reason", &raft.applied.refused)?;
        let rpc = (self.0.rpc)();
        counters(e, "slipway_rpc_proposals", "Changes asked for at this node", "command", &rpc.proposals)?;
        counters(e, "slipway_rpc_rejections", "Refusals told by this node", "reason", &rpc.rejections)?;
        connections(e, &rpc.connections)?;
        gauge(e, "slipway_worker_sessions", "Workers whose session is at this node", rpc.sessions)?;
        let dns = (self.0.dns)();
        gauge(
            e,
            "slipway_dns_view_index",
            "Index that this node's DNS view has reached; 0: not ready",
            dns.view_index,
        )?;
        counters(e, "slipway_dns_answers", "DNS answers by response code", "rcode", &dns.answers)?;
        counters(
            e,
            "slipway_dns_events",
            "DNS messages that came, and what was special about them",
            "kind",
            &dns.events,
        )?;
        let lead = (self.0.lead)();
        counter(e, "slipway_lead_passes", "Passes of the planner in this process", lead.passes)?;
        counter(e, "slipway_lead_proposed", "Engine commands this process proposed", lead.proposed)?;
        counters(e, "slipway_lead_refused", "Engine commands refused, by reason", "reason", &lead.refused)?;
        counter(
            e,
            "slipway_lead_panics",
            "Panics of the leader's loop in this process; each costs it the leadership",
            lead.panics,
        )?;
        let help = "1 while planning is stopped after three panics of leaders' loops within ten minutes";
        gauge(e, "slipway_lead_stopped", help, u64::from(lead.stopped))?;
        let help = "Background tasks of this process that panicked or ended, and were started again";
        counters(e, "slipway_task_restarts", help, "task", &lead.restarts)?;
        counters(e, "slipway_outbox_deliveries", "Deliveries this process ended", "outcome", &lead.deliveries)?;
        if let Some(times) = &lead.delivery {
            histogram(e, "slipway_outbox_delivery_seconds", "From the start of a delivery to its end", times)?;
        }
        let process = (self.0.process)();
        gauge(e, "slipway_ready", "1 while /readyz answers 200", u64::from(process.ready))?;
        gauge(e, "slipway_resident_bytes", "Resident memory of this process", process.resident)?;
        gauge(e, "slipway_open_files", "Open files and sockets of this process", process.open_files)?;
        let state = (self.0.state)();
        rows(e, &state)?;
        by_version(e, "slipway_canary_traffic_weight", "Weight of a version in basis points", &weights(&state))?;
        let answered: ByVersion = dns.realised.iter().map(|(d, v, n)| ((d.clone(), v.clone()), *n as f64)).collect();
        let help = "Answers of this node's DNS that named a version by the policy, since the route last changed";
        by_version(e, "slipway_dns_version_answers", help, &answered)?;
        let counted: ByVersion = dns.requests.iter().map(|(d, v, n)| ((d.clone(), v.clone()), *n as f64)).collect();
        let help = "Requests that a version's instances counted since the running step began; absent where none count";
        by_version(e, "slipway_version_requests", help, &counted)?;
        by_version(e, "slipway_instances_serving", "Instances of a version that DNS may name", &instances(&state))?;
        by_version(e, "slipway_canary_error_rate", "Errors by requests in the newest evidence", &error_rates(&state))?;
        labelled(e, "slipway_dns_generation", "Route generation that DNS serves", "deployment", &dns.generations)?;
        gauge(e, "slipway_replicas_diverged", "Nodes whose State differs", state.replicas.diverged.len() as u64)?;
        let split = u64::from(state.replicas.split.is_some());
        gauge(e, "slipway_replicas_split", "1 while no majority of the nodes has one State", split)?;
        gauge(e, "slipway_replicas_probe_index", "Entry of the newest digest probe", state.replicas.probe)
    }
}

/// How much State holds of what.
fn rows(e: &mut DescriptorEncoder<'_>, state: &State) -> Encoded {
    let mut workers = BTreeMap::from([("ready".to_string(), 0), ("lost".to_string(), 0)]);
    for worker in state.workers.values() {
        *workers.entry(worker.presence.to_string()).or_default() += 1;
    }
    labelled(e, "slipway_workers", "Workers by presence", "presence", &workers)?;
    let live = state.deployments.values().filter(|d| d.live.is_some()).count() as u64;
    gauge(e, "slipway_rollouts_live", "Rollouts that are not over", live)?;
    let stopped = state.deployments.values().filter(|d| d.is_stopped()).count() as u64;
    gauge(e, "slipway_deployments_stopped", "Deployments that are stopped, or on their way there", stopped)?;
    gauge(e, "slipway_state_deployments", "Deployments", state.deployments.len() as u64)?;
    gauge(e, "slipway_state_instances", "Instances that State has a row of", state.instances.len() as u64)?;
    gauge(e, "slipway_state_requests", "Results kept for repeated requests", state.requests.len() as u64)?;
    gauge(e, "slipway_state_incarnation", "Raised by each restore", state.incarnation)?;
    gauge(e, "slipway_outbox_pending", "Deliveries that the leader owes", state.outbox.len() as u64)
}

/// Weights of every version that has an arm, in basis points; two arms of one version add up.
pub(super) fn weights(state: &State) -> ByVersion {
    let mut all = ByVersion::new();
    for (id, deployment) in &state.deployments {
        for arm in deployment.arms.iter() {
            *all.entry((id.to_string(), arm.pair.version.to_string())).or_default() += f64::from(arm.weight.0);
        }
    }
    all
}

fn instances(state: &State) -> ByVersion {
    let mut all = ByVersion::new();
    for (id, deployment) in &state.deployments {
        for arm in deployment.arms.iter() {
            all.entry((id.to_string(), arm.pair.version.to_string())).or_default();
        }
        for instance in serving(state, id, state.now) {
            *all.entry((id.to_string(), instance.pair.version.to_string())).or_default() += 1.0;
        }
    }
    all
}

/// From the newest evidence of each deployment's newest rollout.
fn error_rates(state: &State) -> ByVersion {
    let mut all = ByVersion::new();
    for (id, deployment) in &state.deployments {
        let newest = deployment.live.or(deployment.last).and_then(|r| state.rollouts.get(&r));
        let Some(rollout) = newest else { continue };
        let mut steps = rollout.forward_steps.iter().chain(&rollout.steps).rev();
        let judged = |s: &&StepRow| s.evidence.as_ref().is_some_and(|e| !e.seen.is_empty());
        let Some(evidence) = steps.find(judged).and_then(|s| s.evidence.as_ref()) else { continue };
        for (version, seen) in evidence.by_version() {
            let counts = seen.count(&MetricName::ERRORS).zip(seen.count(&MetricName::REQUESTS));
            if let Some((errors, requests)) = counts.filter(|(_, requests)| *requests > 0) {
                all.insert((id.to_string(), version.to_string()), errors as f64 / requests as f64);
            }
        }
    }
    all
}
