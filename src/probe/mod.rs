//! A load client that behaves as many small clients do: each has its own resolver cache, asks DNS in turn and sends
//! HTTP requests without retries. What it saw is recorded per second, so that others can judge from it what users saw.
//!
//! Invariants: a client holds an answer for its TTL and no longer; a failed lookup is a failed request; every request
//! sent is counted exactly once, in the second in which it was sent. Each request has a connection of its own: a kept
//! one would hold the client at one instance past the TTL, and a drained instance that closes an idle connection just
//! as a request goes out on it would count as a failure that a browser repairs by itself (RFC 9112, 9.3.1) and this
//! client, which never retries, would not. Not here: rollouts, and any knowledge of State; versions come from answers.

mod histogram;
mod lookup;
mod record;
mod report;
mod request;
#[cfg(test)]
mod tests;

pub use histogram::Histogram;
pub use lookup::ask_tcp;
pub use record::{Bucket, FailedRequest, FailureKind, ProbeCounts, Summary};
pub use report::{line, starved, tables};

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::rr::Name;
use parking_lot::RwLock;
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::clock::Clock;
use lookup::Resolver;
use record::Records;

/// Most clients and requests a second: above, this machine would be what is measured.
pub const MAX_CLIENTS: u32 = 100_000;
/// See [`MAX_CLIENTS`].
pub const MAX_RATE: u32 = 20_000;
/// Requests under way at most; one that finds no room is counted as not sent.
const MAX_UNDER_WAY: usize = 10_000;
/// A probe this far behind its own beat, in milliseconds, was kept from running: silence that it then sees may be its
/// own.
pub const STARVED_MS: u64 = 500;
/// What is not worth a word: timers and other programs cost as much on any machine.
const PUNCTUAL_MS: u64 = 50;

/// Versions by address, for services that do not say their version. May be changed while a probe runs.
pub type VersionsByAddress = Arc<RwLock<BTreeMap<IpAddr, String>>>;

/// What to ask, whom, and how often.
#[derive(Debug, Clone)]
pub struct ProbeConfig {
    /// DNS name of the service.
    pub name: String,
    /// DNS servers; a client begins at one of them and goes on in turn.
    pub servers: Vec<SocketAddr>,
    /// The service's port.
    pub port: u16,
    /// Path to get.
    pub path: String,
    /// Requests a second, of all clients together.
    pub rate: u32,
    pub clients: u32,
    /// How long; `None`: until stopped.
    pub duration: Option<Duration>,
    /// Silence of a DNS server before the next one is asked.
    pub server_silence: Duration,
    /// Longest time for one request, with its connection.
    pub request_timeout: Duration,
    /// For answers without an `X-Version` header.
    pub versions: VersionsByAddress,
}

impl ProbeConfig {
    /// A probe with the usual limits.
    pub fn new(name: impl Into<String>, servers: Vec<SocketAddr>, port: u16) -> Self {
        Self {
            name: name.into(),
            servers,
            port,
            path: "/".into(),
            rate: 200,
            clients: 500,
            duration: None,
            server_silence: Duration::from_secs(1),
            request_timeout: Duration::from_secs(5),
            versions: VersionsByAddress::default(),
        }
    }
}

/// Why a probe cannot start.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// A value out of its range.
    #[error("{0}")]
    Config(String),
    #[error("cannot make an HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}

/// Starts probes.
#[derive(Debug)]
pub struct Probe;

/// A running probe. Dropping it stops it.
#[derive(Debug)]
pub struct ProbeHandle {
    records: Arc<Records>,
    stop: CancellationToken,
    tasks: TaskTracker,
    clock: Clock,
    started_ms: u64,
}

/// What all requests share.
struct Shared {
    config: ProbeConfig,
    resolver: Resolver,
    http: reqwest::Client,
    records: Arc<Records>,
    clock: Clock,
}

/// One client's own memory.
type ClientState = Arc<Mutex<lookup::Cache>>;

impl Probe {
    /// Starts a probe on the current runtime.
    pub fn start(config: ProbeConfig, clock: Clock) -> Result<ProbeHandle, ProbeError> {
        let bad = |text: String| Err(ProbeError::Config(text));
        if config.rate == 0 || config.rate > MAX_RATE {
            return bad(format!("--rate {}: use 1 to {MAX_RATE} requests a second", config.rate));
        }
        if config.clients == 0 || config.clients > MAX_CLIENTS {
            return bad(format!("--clients {}: use 1 to {MAX_CLIENTS}", config.clients));
        }
        if config.servers.is_empty() {
            return bad("no DNS server to ask: name one with --dns IP:PORT".into());
        }
        if !config.path.starts_with('/') {
            return bad(format!("--path {:?}: begin it with /", config.path));
        }
        let name = Name::from_ascii(&config.name).map(|mut n| {
            n.set_fqdn(true);
            n
        });
        let Ok(name) = name else { return bad(format!("{:?} is not a DNS name", config.name)) };
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .tcp_nodelay(true)
            .timeout(config.request_timeout)
            .build()?;

        let started_ms = clock.wall_ms();
        let records = Arc::new(Records::new());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let resolver = Resolver::new(name, config.servers.clone(), config.server_silence, clock.clone());
        let shared = Arc::new(Shared { config, resolver, http, records: records.clone(), clock: clock.clone() });
        tasks.spawn(pace(shared, stop.clone(), tasks.clone()));
        tasks.close();
        Ok(ProbeHandle { records, stop, tasks, clock, started_ms })
    }
}

/// Starts request after request: at a steady rate, by the clients in a fixed rotation, each a little off the beat.
async fn pace(shared: Arc<Shared>, stop: CancellationToken, tasks: TaskTracker) {
    let clients: Vec<ClientState> =
        (0..shared.config.clients).map(|n| Arc::new(Mutex::new(lookup::Cache::new(n as usize)))).collect();
    let room = Arc::new(Semaphore::new(MAX_UNDER_WAY));
    let period = Duration::from_secs(1) / shared.config.rate;
    // A client's own spacing is clients/rate; its requests wander by up to a tenth of that, so that no two clients keep
    // step.
    let wander = (period * shared.config.clients / 10).min(Duration::from_millis(250));
    let started = shared.clock.mono();
    // Bursts after a stall keep the rate true: a request that comes late still comes.
    let mut beat = tokio::time::interval(period);
    let step = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    for (n, client) in (0_u64..).zip(clients.iter().cycle()) {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        let ran = Duration::from_millis(shared.clock.mono().since(started));
        let due = Duration::from_nanos(step.saturating_mul(n));
        let late = u64::try_from(ran.saturating_sub(due).as_millis()).unwrap_or(u64::MAX);
        if late >= PUNCTUAL_MS {
            shared.records.late(shared.clock.wall_ms(), late);
        }
        if shared.config.duration.is_some_and(|d| ran >= d) {
            return;
        }
        let Ok(permit) = room.clone().try_acquire_owned() else {
            shared.records.not_sent(shared.clock.wall_ms());
            continue;
        };
        let (shared, client) = (shared.clone(), client.clone());
        tasks.spawn(async move {
            tokio::time::sleep(wander.mul_f64(rand::random::<f64>())).await;
            request::send(&shared, &client).await;
            drop(permit);
        });
    }
}

impl ProbeHandle {
    /// When it started, in wall-clock milliseconds; buckets count from the full second before.
    pub fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// Wall-clock milliseconds now, by the probe's clock.
    pub fn now_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    /// Everything so far.
    pub fn summary(&self) -> Summary {
        self.records.summary(0, u64::MAX)
    }

    /// The whole seconds that begin in `[from_ms, to_ms)`.
    pub fn between(&self, from_ms: u64, to_ms: u64) -> Summary {
        self.records.summary(from_ms, to_ms)
    }

    /// The seconds that begin at `from_ms` or later, oldest first.
    pub fn buckets(&self, from_ms: u64) -> Vec<Bucket> {
        self.records.buckets(from_ms)
    }

    /// Failed requests with their circumstances, oldest first; the newest few thousand.
    pub fn failures(&self) -> Vec<FailedRequest> {
        self.records.failures()
    }

    /// Waits until the duration is over and every request has its answer.
    pub async fn finished(&self) {
        self.tasks.wait().await;
    }

    /// Sends nothing more, and waits for the answers under way.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for ProbeHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
