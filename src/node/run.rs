//! Starts a node, runs it, and ends it.
//!
//! Invariants: listeners are bound before anything is written; background tasks are watched (`tasks`), and the first
//! failure that a node cannot survive ends the process with its reason. Not here: the parts themselves, and what a node
//! shares among them (`start`).

use std::{
    panic::AssertUnwindSafe,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    NodeError,
    backend::{NodeBackend, open},
    clock_watch, discard, fall, figures, follow,
    gate::{Gate, GateLimits, Speaks},
    lease::{self, Leases},
    life,
    listeners::Listeners,
    log_events, membership,
    readiness::{self, Confirmed},
    relay, repair, replicas, space,
    start::Parts,
    tasks::Tasks,
};
use crate::{
    act::Courier,
    api::{Api, Backend, Counts, Kind, Sessions, local_operator},
    clock::Clock,
    config::{ConfigError, NodeConfig},
    dns::{Cookies, DnsLimits, DnsServer, DnsSettings, Rates, Responder, ReverseZones, TlsIdentity, ViewStore},
    http::{self, Pages},
    lead::{Lead, LeadCounts, Panics, PlanBoard},
    observe::Collector,
    raft::Consensus,
    rpc,
    storage::{DataDir, Identity},
    supervise,
    wire::v1,
};

const HAND_OVER: Duration = Duration::from_secs(2);
const CLOSE: Duration = Duration::from_secs(3);
/// A task that ends may only have seen before this node did that consensus has.
const REASON: Duration = Duration::from_secs(1);

/// How a node ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeEnd {
    Asked,
    /// Its disk was full and has room again: start it anew, as after a crash.
    Reopen,
}

/// A node whose listeners are bound and whose directory is open.
pub struct Node {
    parts: Arc<Parts>,
    api: Api,
    backend: Arc<dyn Backend>,
    listeners: Listeners,
    dns_tls: Option<Arc<TlsIdentity>>,
    courier: Courier,
    stop: CancellationToken,
}

/// Waits for a listener to end, which it should not before the node does, and says which it was.
async fn ended<E: std::fmt::Display>(what: &'static str, serving: impl Future<Output = Result<(), E>>) -> NodeError {
    let reason = match AssertUnwindSafe(serving).catch_unwind().await {
        Ok(Ok(())) => "by itself".into(),
        Ok(Err(e)) => e.to_string(),
        Err(panic) => format!("it panicked ({})", supervise::words(panic.as_ref())),
    };
    NodeError::Ended { what, reason }
}

/// Opens the directory and reads whose it is, off the runtime's threads.
async fn open_dir(path: &Path) -> Result<(DataDir, Option<Identity>), NodeError> {
    let dir = path.to_path_buf();
    let opened = tokio::task::spawn_blocking(move || {
        let data = DataDir::open(&dir)?;
        let identity = data.log().identity()?;
        Ok((data, identity))
    });
    match opened.await {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(source)) => Err(NodeError::Data { dir: path.into(), source }),
        Err(e) => Err(NodeError::Other(format!("opening the data directory: {e}"))),
    }
}

impl Node {
    /// Binds, opens, and takes part in the cluster that the directory belongs to, if any.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        for addr in config.exposed() {
            tracing::warn!("{}", open(&addr));
        }
        let dns_tls = dns_tls(&config)?;
        let listeners = Listeners::bind(&config).await?;
        let (dir, identity) = open_dir(&config.data_dir).await?;
        let clock = Clock::real();
        let slot = Arc::new(OnceLock::new());
        let blobs = dir.blobs().clone();
        let parts = Arc::new(Parts {
            config,
            clock: clock.clone(),
            dir,
            slot: slot.clone(),
            installed: watch::Sender::new(false),
            making: Mutex::new(()),
            collector: Arc::new(Collector::new(clock.clone())),
            board: PlanBoard::default(),
            lead_counts: Arc::new(LeadCounts::default()),
            dns: Arc::new(ViewStore::new()),
            responder: OnceLock::new(),
            dns_since: OnceLock::new(),
            leases: Leases::default(),
            confirmed: Confirmed::default(),
            tasks: Arc::default(),
            jumped: clock_watch::Jumped::default(),
            panics: Arc::new(Panics::default()),
        });
        let backend: Arc<dyn Backend> = Arc::new(NodeBackend(parts.clone()));
        let stop = CancellationToken::new();
        let api = Api {
            consensus: slot,
            blobs,
            sessions: Arc::new(Sessions::new(clock.clone())),
            clock: clock.clone(),
            stop: stop.clone(),
            counts: Arc::new(Counts::default()),
            backend: backend.clone(),
            remote: Arc::new(rpc::Nodes),
        };
        if let Some(identity) = identity {
            parts.start_consensus(identity).await?;
        }
        let courier = Courier::new(clock);
        Ok(Self { parts, api, backend, listeners, dns_tls, courier, stop })
    }

    /// Whether it belongs to no cluster yet.
    pub fn is_new(&self) -> bool {
        self.parts.slot.get().is_none()
    }

    /// Makes a cluster of this node, as `slipway cluster init` does; for `slipwayd dev`. Nothing when it has one
    /// already.
    pub fn init_when_new(&self, name: &str) -> impl Future<Output = Result<(), NodeError>> + Send + 'static {
        let (backend, slot) = (self.backend.clone(), self.parts.slot.clone());
        let request = v1::InitRequest { name: name.into(), zone: String::new() };
        async move {
            if slot.get().is_some_and(|c| c.view().cluster.is_some()) {
                return Ok(());
            }
            match backend.init(&local_operator(), request).await {
                Ok(_) => Ok(()),
                // Its log was still being read.
                Err(e) if e.kind == Kind::Exists => Ok(()),
                Err(e) => Err(NodeError::Other(format!("cluster init: {e}"))),
            }
        }
    }

    /// Runs until `asked` is cancelled or something fails for good. With a full disk it goes on answering what it can
    /// until there is room again.
    pub async fn run(self, asked: CancellationToken) -> Result<NodeEnd, NodeError> {
        let Self { parts, api, backend: _, listeners, dns_tls, courier, stop } = self;
        let settings = dns_settings(&parts.config).map_err(|e| NodeError::Other(e.to_string()))?;
        let responder = Arc::new(Responder::with(parts.dns.clone(), parts.clock.clone(), settings));
        parts.responder.get_or_init(|| responder.clone());
        let dns = DnsServer::start_with_tls(
            vec![listeners.dns_udp],
            vec![listeners.dns_tcp],
            listeners.dns_tls.zip(dns_tls),
            responder.clone(),
            &DnsLimits::default(),
        );

        if let Some(reason) = dns.broken() {
            return Err(NodeError::Ended { what: "DNS", reason: reason.into() });
        }

        let health = tonic_health::server::HealthReporter::new();
        let mut servers: JoinSet<NodeError> = JoinSet::new();
        let (routes, token) = (rpc::client_routes(&api, &health), stop.clone());
        let limits = GateLimits::for_node(parts.config.max_connections);
        let gate = |listener, what, speaks| {
            Gate::new(listener, what, speaks, limits).map_err(|e| NodeError::Ended { what, reason: e.to_string() })
        };
        let listener = gate(listeners.client, "clients", Speaks::Grpc)?;
        let mut gates = figures::Gates::from([("clients", listener.counts())]);
        servers.spawn(ended("clients", rpc::serve(listener, routes, token)));
        let (routes, token) = (rpc::peer_routes(&api), stop.clone());
        let listener = gate(listeners.peer, "peers", Speaks::Grpc)?;
        gates.insert("peers", listener.counts());
        servers.spawn(ended("peers", rpc::serve(listener, routes, token)));
        let listener = gate(listeners.http, "HTTP", Speaks::Http)?;
        gates.insert("HTTP", listener.counts());
        let pages = Pages::new(figures::sources(&parts, &api, &responder, gates));
        servers.spawn(ended("HTTP", http::serve(listener, pages.clone(), stop.clone().cancelled_owned())));

        let mut tasks = Tasks::new(parts.tasks.clone(), parts.clock.clone(), parts.config.fault.as_deref());
        tasks.keep("rollout counters", move || pages.clone().follow());
        let failed = {
            let (parts, api) = (parts.clone(), api.clone());
            let mut installed = parts.installed.subscribe();
            async move {
                // The sender lives in `parts`, which lives as long as this.
                if installed.wait_for(|i| *i).await.is_err() {
                    std::future::pending::<()>().await;
                }
                let Some(consensus) = parts.slot.get().cloned() else { std::future::pending().await };
                work(&mut tasks, &parts, &api, &consensus, courier);
                let failed = || async {
                    let mut failure = consensus.failure();
                    let reason = failure.wait_for(Option::is_some).await.ok().and_then(|r| r.clone());
                    reason.unwrap_or_else(|| "consensus ended".into())
                };
                let reason = tokio::select! {
                    reason = failed() => Ok(reason),
                    reason = life::unfit(parts.clone(), consensus.clone()) => Err(NodeError::Other(reason)),
                    (what, why) = tasks.dead() => match timeout(REASON, failed()).await {
                        Ok(reason) => Ok(reason),
                        Err(_) => Err(NodeError::Task { what, why }),
                    },
                };
                drop(tasks);
                let reason = reason?;
                if !crate::storage::space::is_full(&reason) {
                    return Err(NodeError::Failed(reason));
                }
                space::room(&parts).await;
                Ok(NodeEnd::Reopen)
            }
        };
        let result = tokio::select! {
            () = asked.cancelled() => Ok(NodeEnd::Asked),
            full = failed => full,
            Some(done) = servers.join_next() => {
                Err(done.unwrap_or_else(|e| NodeError::Other(format!("a listener failed: {e}"))))
            }
        };
        tracing::info!("stopping");
        if let (Ok(NodeEnd::Asked), Some(consensus)) = (&result, parts.slot.get()) {
            hand_over(consensus).await;
        }
        parts.dns.set_ready(false);
        stop.cancel();
        dns.stop().await;
        let closed = async { while servers.join_next().await.is_some() {} };
        if timeout(CLOSE, closed).await.is_err() {
            tracing::debug!("connections were cut");
        }
        if let Some(consensus) = parts.slot.get()
            && let Err(error) = consensus.shutdown().await
        {
            tracing::warn!(%error, "consensus did not close cleanly");
        }
        result
    }
}

/// What DNS over TLS shows, where it is asked for.
fn dns_tls(config: &NodeConfig) -> Result<Option<Arc<TlsIdentity>>, NodeError> {
    let Some((_, cert, key)) = config.dns_tls().map_err(|e| NodeError::Other(e.to_string()))? else { return Ok(None) };
    Ok(Some(Arc::new(TlsIdentity::load(cert, key)?)))
}

/// Everything that runs once there is a cluster. Each follows State, so that it may be started again at any time.
fn work(tasks: &mut Tasks, parts: &Arc<Parts>, api: &Api, consensus: &Consensus, courier: Courier) {
    /// The future that `$make` gives of clones of all of these.
    macro_rules! with {
        ($($name:ident),+; $make:expr) => {{
            $(let $name = $name.clone();)+
            move || {
                $(let $name = $name.clone();)+
                $make
            }
        }};
    }
    tasks.keep("dns views", with!(parts, consensus; follow::dns(parts, consensus)));
    tasks.once("dns readiness", with!(parts, consensus; follow::ready(parts, consensus)));
    tasks.keep("confirmed reads", with!(parts, consensus; readiness::follow(parts, consensus)));
    tasks.keep("clock watch", with!(parts; clock_watch::run(parts)));
    tasks.keep("event log", with!(consensus; log_events::run(consensus)));
    tasks.keep("digest reports", with!(consensus; replicas::report(consensus)));
    tasks.keep("quarantine", with!(parts, consensus; replicas::quarantine(parts, consensus)));
    tasks.keep("disk space", with!(parts, consensus; space::guard(parts, consensus)));
    tasks.keep("membership", with!(consensus; membership::run(consensus)));
    tasks.keep("own row", with!(parts, consensus, api; life::follow(parts, consensus, api)));
    let sessions = &api.sessions;
    tasks.keep("relay", with!(parts, consensus, sessions; relay::run(parts, consensus, sessions)));
    tasks.keep("package discard", with!(api, consensus; discard::run(api, consensus)));
    tasks.keep("package repair", with!(api, consensus; repair::run(api, consensus)));
    let lead =
        Lead::new(consensus.clone(), parts.collector.clone(), courier, parts.board.clone(), parts.lead_counts.clone());
    let every = std::time::Duration::from_millis(parts.config.digest_every_ms);
    let (book, own) = (parts.clone(), consensus.clone());
    let leases = Arc::new(move |term| lease::left(&book, &own, term));
    let lead = lead.probing_every(every).waiting_for(leases);
    let lead = lead.falling(parts.panics.clone(), fall::after(parts, consensus));
    let fault = parts.config.fault.as_deref().and_then(|f| f.strip_prefix("plan:")).map(str::to_owned);
    let lead = &lead.with_fault(fault);
    tasks.keep("leader's loop", with!(lead; lead.run()));
    tasks.keep("serving lease", with!(parts, consensus; lease::follow(parts, consensus)));
}

/// A leader that stops in good order, or cannot go on leading, lets another lead.
pub(super) async fn hand_over(consensus: &Consensus) {
    let others = consensus.metrics().members.iter().any(|m| m.voter && m.id != consensus.node_id());
    if !consensus.leader().borrow().is_me || !others {
        return;
    }
    let handed = async {
        let mut after = consensus.node_id();
        loop {
            if let Some(to) = consensus.successor(after, true) {
                match consensus.transfer_leader(to).await {
                    Ok(()) => return tracing::info!(to, "leadership handed over"),
                    Err(error) => tracing::debug!(to, %error, "leadership not handed over"),
                }
                // It may have stopped just now: the next one, then.
                after = to;
            }
            if !consensus.leader().borrow().is_me {
                return;
            }
            tokio::time::sleep(HAND_OVER / 20).await;
        }
    };
    if timeout(HAND_OVER, handed).await.is_err() {
        tracing::warn!("nobody took leadership over in time");
    }
}

fn dns_settings(config: &NodeConfig) -> Result<DnsSettings, ConfigError> {
    let secrets = config.cookie_secrets()?;
    let cookies = if secrets.is_empty() { Cookies::of_cluster(rand::random()) } else { Cookies::new(secrets) };
    Ok(DnsSettings {
        reverse: ReverseZones::new(&config.dns_reverse),
        cookies,
        rates: Rates {
            answers: config.dns_rate_answers,
            negative: config.dns_rate_negative,
            errors: config.dns_rate_errors,
            slip: config.dns_rate_slip,
            exempt: config.dns_rate_exempt.clone(),
        },
        nsid: config.name.clone(),
    })
}
