//! The spec as a person writes it: unknown keys refused, durations as `10m` or `PT10M`, percentages as `10` or `10%`.
//! Turning it into a [`Spec`] fills the defaults in and checks every range. Reading files is not here.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    AddressMode, BasisPoints, CheckTls, DeploymentId, DnsPolicy, Drain, HealthCheck, MetricName, MetricsSource,
    ModelError, Name, Overrides, Period, Placement, Protocol, RolloutParams, RunSpec, Said, Spec, StopSpec, Trust,
    spec_values::{PortDoc, settings, text, text_or_number, whole},
};

/// `run:`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunDoc {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Extra environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// File with environment lines.
    pub env_file: Option<String>,
    /// Unix user.
    pub user: Option<String>,
    /// Stop signal and grace.
    #[serde(default)]
    pub stop: StopDoc,
}

/// `run.stop:`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopDoc {
    /// Signal's name, with or without `SIG`.
    pub signal: Option<String>,
    /// `group` or `main`.
    pub to: Option<String>,
    /// Time until SIGKILL.
    #[serde(default, deserialize_with = "text_or_number")]
    pub grace: Option<Period>,
}

/// `placement:`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementDoc {
    /// Label selector `role=web,zone=a`; empty or absent: all workers.
    pub workers: Option<String>,
    /// Instances per chosen worker.
    #[serde(default, deserialize_with = "whole")]
    pub per_worker: Option<u32>,
}

/// `health:`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthDoc {
    pub http: String,
    /// Port's name.
    pub port: Option<String>,
    /// Host header.
    pub host: Option<String>,
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Whom https trusts.
    pub tls: Option<TlsDoc>,
    /// Statuses that pass: `200-399`, `200,204,301-308`.
    #[serde(default, deserialize_with = "text")]
    pub status: Option<String>,
    /// Time between checks.
    #[serde(default, deserialize_with = "text_or_number")]
    pub interval: Option<Period>,
    /// Limit of one check.
    #[serde(default, deserialize_with = "text_or_number")]
    pub timeout: Option<Period>,
    /// Passes in a row.
    #[serde(default, deserialize_with = "whole")]
    pub healthy_after: Option<u32>,
    /// Failures in a row.
    #[serde(default, deserialize_with = "whole")]
    pub unhealthy_after: Option<u32>,
    /// Limit from start to first pass.
    #[serde(default, deserialize_with = "text_or_number")]
    pub start_within: Option<Period>,
}

/// `health.tls:`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsDoc {
    /// PEM file on the worker.
    pub ca_file: Option<String>,
    /// Name asked for, and in the certificate.
    pub server_name: Option<String>,
    /// Takes any certificate.
    pub insecure_skip_verify: Option<bool>,
}

/// `metrics:`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsDoc {
    /// Path of the metrics page.
    pub path: Option<String>,
    /// Series of requests.
    pub requests: String,
    /// Series of errors.
    pub errors: String,
    /// Further series, by name.
    #[serde(default)]
    pub series: BTreeMap<String, String>,
}

/// `dns:`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsDoc {
    /// TTL of the policy answer.
    #[serde(default, deserialize_with = "text_or_number")]
    pub ttl: Option<Period>,
    /// TTL of pins.
    #[serde(default, deserialize_with = "text_or_number")]
    pub pin_ttl: Option<Period>,
    /// What an answer is whose version has nothing to name: `renormalise` or `strict`.
    pub when_empty: Option<String>,
    /// What a version names below the threshold: `nodata`, `fail_open`, `last_good` or `servfail`.
    pub on_panic: Option<String>,
    /// The threshold: a share of its running instances.
    #[serde(default, deserialize_with = "text_or_number")]
    pub panic_below: Option<BasisPoints>,
}

/// A whole spec document.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecDoc {
    /// Service's name.
    pub service: String,
    /// Environment's name.
    pub environment: String,
    pub run: RunDoc,
    /// `pool` or `host`.
    pub address: Option<String>,
    /// Ports by name.
    pub ports: BTreeMap<String, PortDoc>,
    /// Where it runs.
    #[serde(default)]
    pub placement: PlacementDoc,
    /// Health check.
    pub health: HealthDoc,
    pub metrics: Option<MetricsDoc>,
    /// Drain time.
    #[serde(default, deserialize_with = "text_or_number")]
    pub drain: Option<Period>,
    /// Silence after which a worker is lost for good.
    #[serde(default, deserialize_with = "text_or_number")]
    pub lost_for_good: Option<Period>,
    /// Whether an instance must never run twice.
    #[serde(default)]
    pub singleton: bool,
    /// TTLs.
    #[serde(default)]
    pub dns: DnsDoc,
    /// Rollout defaults.
    #[serde(default, deserialize_with = "settings")]
    pub rollout: Overrides,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Whether a text can be a worker's label or its value: what a selector can name.
pub fn is_label(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "._-/:@+".contains(c))
}

/// Reads a label selector such as `role=web,zone=a`: equality alone, each label once.
pub fn read_selector(text: &str) -> Result<BTreeMap<String, String>, ModelError> {
    let bad = |part: &str, why: &str| {
        let problem = format!("{part:?} {why}: write KEY=VALUE, several joined by commas, such as role=web,zone=a");
        ModelError::field("placement.workers", problem)
    };
    let mut labels = BTreeMap::new();
    if text.trim().is_empty() {
        return Ok(labels);
    }
    for part in text.split(',').map(str::trim) {
        let (key, value) = part.split_once('=').ok_or_else(|| bad(part, "is no label"))?;
        let (key, value) = (key.trim(), value.trim());
        if !is_label(key) || !is_label(value) {
            return Err(bad(part, "is not KEY=VALUE (there is no !=, == or in; a name or value holds no blanks)"));
        }
        if labels.insert(key.to_string(), value.to_string()).is_some() {
            return Err(bad(part, "names a label again, and no worker has two values of one label"));
        }
    }
    Ok(labels)
}

impl HealthDoc {
    fn tls(&self) -> Result<Option<CheckTls>, ModelError> {
        let err = |f: &str, p: String| Err(ModelError::field(f, p));
        let https = match self.scheme.as_deref() {
            None | Some("http") => false,
            Some("https") => true,
            Some(x) => return err("health.scheme", format!("{x:?} is not http or https")),
        };
        let Some(tls) = self.tls.clone().or_else(|| https.then(TlsDoc::default)) else { return Ok(None) };
        if !https {
            return err("health.tls", "is for https only: set health.scheme: https, or leave tls out".into());
        }
        let trust = match (tls.ca_file, tls.insecure_skip_verify.unwrap_or(false)) {
            (Some(path), false) => Trust::CaFile(path),
            (None, true) => Trust::Anyone,
            (Some(_), true) => {
                return err("health.tls", "has a ca_file and insecure_skip_verify: choose one of them".into());
            }
            (None, false) => {
                return err(
                    "health.tls",
                    "https needs ca_file, a PEM file on the worker with the certificate that is trusted, or \
                     insecure_skip_verify: true, which takes any certificate"
                        .into(),
                );
            }
        };
        Ok(Some(CheckTls { trust, server_name: tls.server_name }))
    }

    fn into_check(self) -> Result<HealthCheck, ModelError> {
        Ok(HealthCheck {
            tls: self.tls()?,
            http: self.http,
            port: self.port,
            host: self.host,
            status: self.status.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
            interval: self.interval.unwrap_or(Period::seconds(2)),
            timeout: self.timeout.unwrap_or(Period::seconds(1)),
            healthy_after: self.healthy_after.unwrap_or(2),
            unhealthy_after: self.unhealthy_after.unwrap_or(3),
            start_within: self.start_within.unwrap_or(Period::seconds(60)),
        })
    }
}

impl MetricsDoc {
    fn into_source(self) -> Result<MetricsSource, ModelError> {
        let named = |(name, text): (String, String)| {
            let read = name.parse().map_err(|e: ModelError| ModelError::field("metrics.series", e.to_string()));
            Ok::<(MetricName, String), ModelError>((read?, text))
        };
        Ok(MetricsSource {
            path: self.path.unwrap_or_else(|| "/metrics".into()),
            requests: self.requests,
            errors: self.errors,
            series: self.series.into_iter().map(named).collect::<Result<_, _>>()?,
        })
    }
}

impl SpecDoc {
    /// The checked spec with defaults filled in.
    pub fn into_spec(self) -> Result<Spec, ModelError> {
        let deployment =
            DeploymentId { environment: Name::environment(&self.environment)?, service: Name::service(&self.service)? };
        let address = self.address.as_deref().map_or(Ok(AddressMode::Pool), str::parse);
        let address = address.map_err(|e| ModelError::field("address", e))?;
        let mut ports = BTreeMap::new();
        for (name, port) in self.ports {
            let bad = |what: String| {
                let problem =
                    format!("{what} is not a port: write a number from 1 to 65535, or {{port: 53, protocol: udp}}");
                ModelError::field(format!("ports.{name}"), problem)
            };
            let value = match port {
                PortDoc::Number(n) => (n, Protocol::Tcp),
                PortDoc::Other(what) => return Err(bad(what)),
                PortDoc::Full(full) => {
                    let protocol = full.protocol.parse();
                    let protocol =
                        protocol.map_err(|e: String| ModelError::field(format!("ports.{name}.protocol"), e))?;
                    (full.port.ok_or_else(|| bad("nothing".into()))?, protocol)
                }
            };
            ports.insert(name, value);
        }
        let signal = self.run.stop.signal.unwrap_or_else(|| "TERM".into()).to_ascii_uppercase();
        let signal = signal.strip_prefix("SIG").unwrap_or(&signal);
        let dns = DnsPolicy {
            when_empty: self.dns.when_empty.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
            on_panic: self.dns.on_panic.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
            panic_below: self.dns.panic_below,
        };
        let interval = self.health.interval;
        let spec = Spec {
            deployment,
            run: RunSpec {
                command: self.run.command,
                env: self.run.env,
                env_file: self.run.env_file,
                user: self.run.user,
                stop: StopSpec {
                    signal: signal.to_string(),
                    to: self.run.stop.to.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
                    grace: self.run.stop.grace.unwrap_or(Period::seconds(20)),
                },
            },
            address,
            ports,
            placement: Placement {
                workers: read_selector(self.placement.workers.as_deref().unwrap_or_default())?,
                per_worker: self.placement.per_worker.unwrap_or(1),
            },
            health: self.health.into_check()?,
            metrics: self.metrics.map(MetricsDoc::into_source).transpose()?,
            drain: Drain(self.drain.unwrap_or(Period::seconds(15))),
            lost_for_good: self.lost_for_good.unwrap_or(Period::minutes(10)),
            singleton: self.singleton,
            ttl: self.dns.ttl,
            pin_ttl: self.dns.pin_ttl.unwrap_or(Period::seconds(30)),
            rollout: self.rollout.over(RolloutParams::default()),
            dns,
            labels: self.labels,
            said: Said { rollout: self.rollout, interval },
        };
        spec.check()?;
        Ok(spec)
    }
}
