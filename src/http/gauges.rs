//! Values of the moment: of Raft, DNS, the leader's loop, and of each deployment in State.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::server::HttpSources;
use crate::state::{State, StepRow, TrackName, serving};

/// Raft's figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftFigures {
    /// Newest term known.
    pub term: u64,
    /// Whether this node leads.
    pub leads: bool,
    /// Last log entry.
    pub last_log: u64,
    /// Last entry in the published State.
    pub applied: u64,
    /// Milliseconds since a majority last confirmed the leadership; leaders only.
    pub quorum_age_ms: Option<u64>,
}

/// DNS's figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsFigures {
    /// Index the view has reached; 0 while the server answers "not ready".
    pub view_index: u64,
    /// Answers by response code since the process started.
    pub answers: BTreeMap<String, u64>,
}

/// The leader's loop's figures, since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeadFigures {
    /// Engine commands proposed.
    pub proposed: u64,
    /// Refusals by reason.
    pub refused: BTreeMap<String, u64>,
}

/// Reads the sources at each scrape.
pub(super) struct Gauges(pub HttpSources);

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

type Encoded = Result<(), fmt::Error>;

fn gauge(e: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Encoded {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    ConstGauge::new(value).encode(e.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn counters(
    e: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: &BTreeMap<String, u64>,
) -> Encoded {
    let mut family = e.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (key, value) in values {
        ConstCounter::new(*value).encode(family.encode_family(&[(label, key.as_str())])?)?;
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
        gauge(e, "slipway_raft_term", "Newest Raft term this node knows", raft.term)?;
        gauge(e, "slipway_raft_leader", "1 while this node leads", u64::from(raft.leads))?;
        gauge(e, "slipway_raft_last_log_index", "Last entry of this node's log", raft.last_log)?;
        gauge(e, "slipway_raft_applied_index", "Last entry applied by this node", raft.applied)?;
        if let Some(age) = raft.quorum_age_ms {
            gauge(e, "slipway_raft_quorum_age_milliseconds", "Since a majority last confirmed this leader", age)?;
        }
        let dns = (self.0.dns)();
        gauge(
            e,
            "slipway_dns_view_index",
            "Index that this node's DNS view has reached; 0: not ready",
            dns.view_index,
        )?;
        counters(e, "slipway_dns_answers", "DNS answers by response code", "rcode", &dns.answers)?;
        let lead = (self.0.lead)();
        gauge(e, "slipway_lead_proposed", "Engine commands this process proposed", lead.proposed)?;
        counters(e, "slipway_lead_refused", "Engine commands refused, by reason", "reason", &lead.refused)?;
        let state = (self.0.state)();
        by_version(e, "slipway_canary_traffic_weight", "Weight of a version in basis points", &weights(&state))?;
        by_version(e, "slipway_instances_serving", "Instances of a version that DNS may name", &instances(&state))?;
        by_version(e, "slipway_canary_error_rate", "Errors by requests in the newest evidence", &error_rates(&state))?;
        let mut family = e.encode_descriptor(
            "slipway_dns_generation",
            "Generation of a deployment's route",
            None,
            MetricType::Gauge,
        )?;
        for (id, deployment) in &state.deployments {
            if let Some(route) = &deployment.route {
                let n = i64::try_from(route.generation.n).unwrap_or(i64::MAX);
                ConstGauge::new(n).encode(family.encode_family(&[("deployment", id.to_string())])?)?;
            }
        }
        Ok(())
    }
}

const TRACKS: [TrackName; 3] = [TrackName::Stable, TrackName::Candidate, TrackName::Previous];

/// Weights of every version that has a track, in basis points; two tracks of one version add up.
pub(super) fn weights(state: &State) -> ByVersion {
    let mut all = ByVersion::new();
    for (id, deployment) in &state.deployments {
        for (name, track) in deployment.tracks.iter() {
            let weight = deployment.route.as_ref().map_or(0, |r| r.weights.get(name).0);
            *all.entry((id.to_string(), track.pair.version.to_string())).or_default() += f64::from(weight);
        }
    }
    all
}

fn instances(state: &State) -> ByVersion {
    let mut all = ByVersion::new();
    for (id, deployment) in &state.deployments {
        for track in TRACKS.iter().filter_map(|n| deployment.tracks.get(*n)) {
            all.entry((id.to_string(), track.pair.version.to_string())).or_default();
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
        let judged = |s: &&StepRow| s.evidence.as_ref().is_some_and(|e| !e.counts.is_empty());
        let Some(evidence) = steps.find(judged).and_then(|s| s.evidence.as_ref()) else { continue };
        let mut totals: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for counts in evidence.counts.values().flatten() {
            let total = totals.entry(counts.pair.version.to_string()).or_default();
            *total = (total.0.saturating_add(counts.requests), total.1.saturating_add(counts.errors));
        }
        for (version, (requests, errors)) in totals.into_iter().filter(|(_, (requests, _))| *requests > 0) {
            all.insert((id.to_string(), version), errors as f64 / requests as f64);
        }
    }
    all
}
