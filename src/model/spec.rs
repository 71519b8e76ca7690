//! The spec: what a deployment runs beside its release. Complete and checked; the form a person writes is `spec_doc`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

use super::health_check::check_path;
use super::{
    DeploymentId, DnsPolicy, HealthCheck, MAX_METRICS, MetricName, ModelError, Overrides, Period, RolloutParams,
    Selector, fields, one_of, signal, variables,
};

fields! {
    json
    /// What an instance executes.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RunSpec {
        /// Program and arguments; the program is relative to the unpacked release. `${NAME}` is replaced (`Template`).
        1 pub command: Vec<String>,
        /// Extra environment variables; `${NAME}` is replaced here too, from what agents and the file set.
        2 pub env: BTreeMap<String, String>,
        /// A file of `NAME=value` lines on the worker, an absolute path; `None` when there is none.
        3 pub env_file: Option<String>,
        /// Unix user to run as; `None`: the agent's own.
        4 pub user: Option<String>,
        /// How it is stopped.
        5 [required] pub stop: StopSpec,
    }
}

fields! {
    json
    /// How an instance is stopped.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct StopSpec {
        /// A name of [`signal`], without `SIG`: `TERM`, `RTMIN+3`.
        1 pub signal: String,
        /// Who gets it first.
        2 [required] pub to: StopTo,
        /// Time between the signal and SIGKILL, for the whole tree of processes.
        3 pub grace: Period,
    }
}

/// Who gets the stop signal at once. What is left of the tree when the main process has ended gets it then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case", parse_err_ty = ModelError, parse_err_fn = no_stop_to)]
pub enum StopTo {
    /// The main process: for one that stops its workers itself.
    Main,
    /// Its process group, as a terminal does: a shell that started the server ends without telling it.
    #[default]
    Group,
}

fn no_stop_to(text: &str) -> ModelError {
    ModelError::field("run.stop.to", one_of::<StopTo>(text))
}

/// Where an instance listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = one_of::<Self>)]
pub enum AddressMode {
    /// The machine's address and fixed ports: one instance of a deployment a worker.
    Host,
    /// An address of the worker's pool for each instance.
    Pool,
}

/// Transport of a port, for SRV names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = one_of::<Self>)]
pub enum Protocol {
    Tcp,
    Udp,
}

fields! {
    json
    /// Which workers run how many.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Placement {
        /// Labels a worker must have; empty: all workers.
        1 pub workers: BTreeMap<String, String>,
        /// Instances on each chosen worker, 1 to 100.
        2 pub per_worker: u32,
    }
}

fields! {
    json
    /// Where counters and histograms are scraped, in the Prometheus text format.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct MetricsSource {
        /// Path asked with GET.
        1 pub path: String,
        /// Series that counts requests, such as `http_requests_total`.
        2 pub requests: String,
        /// Series that counts errors, such as `http_requests_total{code=~"5.."}`.
        3 pub errors: String,
        /// Further counters and histograms, by the names that checks and evidence call them.
        4 pub series: BTreeMap<MetricName, String>,
    }
}

impl MetricsSource {
    /// What is counted: by which name, and by which series.
    pub fn declared(&self) -> impl Iterator<Item = (&MetricName, &str)> {
        let first = [(&MetricName::REQUESTS, &self.requests), (&MetricName::ERRORS, &self.errors)];
        first.into_iter().chain(&self.series).map(|(name, text)| (name, text.as_str()))
    }

    /// The selectors by name; the error names the field.
    pub fn selectors(&self) -> Result<BTreeMap<MetricName, Selector>, ModelError> {
        let read = |(name, text): (&MetricName, &str)| {
            let selector = Selector::parse(text).map_err(|e| ModelError::field(Self::field(name), e))?;
            Ok((name.clone(), selector))
        };
        self.declared().map(read).collect()
    }

    /// Where a metric is declared, as a person writes it.
    pub fn field(name: &MetricName) -> String {
        let group = if [MetricName::REQUESTS, MetricName::ERRORS].contains(name) { "" } else { "series." };
        format!("metrics.{group}{name}")
    }

    fn check(&self) -> Result<(), ModelError> {
        check_path("metrics.path", &self.path)?;
        for name in [MetricName::REQUESTS, MetricName::ERRORS, MetricName::HEALTH] {
            if self.series.contains_key(&name) {
                let problem = format!("{name} means something else already: choose another name");
                return Err(ModelError::field(format!("metrics.series.{name}"), problem));
            }
        }
        let most = MAX_METRICS - 2;
        if self.series.len() > most {
            let problem = format!("names {} metrics, and at most {most} are counted", self.series.len());
            return Err(ModelError::field("metrics.series", problem));
        }
        self.selectors().map(|_| ())
    }
}

/// How long a drained instance keeps running at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain(pub Period);

fields! {
    json
    /// The whole spec of one deployment. What is rolled out is (release digest, spec revision).
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Spec {
        1 [required] pub deployment: DeploymentId,
        2 [required] pub run: RunSpec,
        /// Where it listens.
        3 [required] pub address: AddressMode,
        /// Ports by name.
        4 pub ports: BTreeMap<String, (u16, Protocol)>,
        /// Where it runs.
        5 [required] pub placement: Placement,
        6 [required] pub health: HealthCheck,
        /// What it counts; `None`: no error rate can be judged.
        7 pub metrics: Option<MetricsSource>,
        /// Its drain time.
        8 [required] pub drain: Drain,
        /// Silence after which a worker counts as lost for good and its instances are counted out; at least
        /// `lost_after` in effect.
        9 pub lost_for_good: Period,
        /// Whether an instance must never run twice: then a lost worker's are never counted out, as they may run behind
        /// a cut.
        10 pub singleton: bool,
        /// TTL of weighted answers; `None`: 5 s weighted, 1 s blue-green.
        11 pub ttl: Option<Period>,
        /// TTL of version pins.
        12 pub pin_ttl: Period,
        /// What DNS does when there is too little to name.
        13 [required] pub dns: DnsPolicy,
        /// Defaults of its rollouts.
        14 [required] pub rollout: RolloutParams,
        /// Labels of the deployment.
        15 pub labels: BTreeMap<String, String>,
        /// What its document itself says of what the cluster has defaults for; `rollout` and `health` hold what came of
        /// it when it was applied.
        16 pub said: Said,
    }
}

fields! {
    json
    /// What a document says of what the cluster and its services have defaults for.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct Said {
        1 pub rollout: Overrides,
        /// Of the time between health checks.
        2 pub interval: Option<Period>,
    }
}

impl Spec {
    /// The port that health checks, metrics and smoke tests use: the named one, else the first by name.
    pub fn check_port(&self) -> Option<u16> {
        let named = self.health.port.as_ref().and_then(|n| self.ports.get(n));
        named.or_else(|| self.ports.values().next()).map(|(p, _)| *p)
    }

    /// Checks every range; the error names the field.
    pub fn check(&self) -> Result<(), ModelError> {
        let err = |f: &str, p: String| Err(ModelError::field(f, p));
        if self.run.command.is_empty() || self.run.command.len() > 64 {
            return err("run.command", "needs the program and at most 63 arguments".into());
        }
        let program = &self.run.command[0];
        if program.starts_with('/') || program.split('/').any(|c| c == "..") || program.is_empty() {
            return err("run.command", format!("{program:?} must be a path inside the release, such as bin/shop"));
        }
        if self.run.command.iter().map(String::len).sum::<usize>() > 16_384 {
            return err("run.command", "is longer than 16 KiB".into());
        }
        signal::check("run.stop.signal", &self.run.stop.signal)?;
        if self.run.stop.grace > Period::minutes(60) {
            return err("run.stop.grace", "must be at most 1h".into());
        }
        if self.ports.is_empty() || self.ports.len() > 16 {
            return err("ports", "needs 1 to 16 named ports, such as {http: 8080}".into());
        }
        for (name, (port, _)) in &self.ports {
            let ok = (1..=15).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if !ok {
                return err("ports", format!("{name:?} is not a port name (RFC 6335: 1 to 15 of a-z, 0-9, '-')"));
            }
            if *port == 0 {
                return err("ports", format!("{name}: 0 is not a port"));
            }
        }
        if !(1..=100).contains(&self.placement.per_worker) {
            return err("placement.per_worker", "must be from 1 to 100".into());
        }
        if self.address == AddressMode::Host && self.placement.per_worker != 1 {
            return err(
                "placement.per_worker",
                "must be 1 in address mode host, where ports are fixed: use address: pool to run several on a worker"
                    .into(),
            );
        }
        variables::check(&self.run, &self.ports)?;
        self.health.check(&self.ports)?;
        if let Some(m) = &self.metrics {
            m.check()?;
        }
        if self.drain.0 > Period::minutes(60) {
            return err("drain", "must be at most 1h".into());
        }
        if self.lost_for_good < Period::seconds(1) || self.lost_for_good > Period::minutes(60 * 24 * 30) {
            let problem = "must be from 1s to 30 days; `singleton: true` never counts a lost worker's instances out";
            return err("lost_for_good", problem.into());
        }
        for (name, ttl) in [("dns.ttl", self.ttl.unwrap_or(Period::seconds(5))), ("dns.pin_ttl", self.pin_ttl)] {
            if ttl.0 % 1000 != 0 || ttl > Period::minutes(60) {
                return err(name, "must be whole seconds, at most 1h".into());
            }
        }
        if self.labels.len() > 64 {
            return err("labels", "at most 64".into());
        }
        self.dns.check()?;
        self.rollout.check("rollout")
    }
}
