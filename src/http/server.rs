//! The listener and its three pages.
//!
//! Invariant: a page is made when it is asked for. Not here: what makes a node ready (`node`), metrics and their values
//! (`gauges`, `counters`).

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State as Shared,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use prometheus_client::{encoding::text::encode, registry::Registry};

use super::{
    counters::RolloutCounters,
    gauges::{DnsFigures, Gauges, LeadFigures, ProcessFigures, RaftFigures, RpcFigures},
};
use crate::state::State;

/// Reads one figure when asked.
pub type Supplier<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// Where the pages get what they show.
#[derive(Clone)]
pub struct HttpSources {
    /// The newest published State.
    pub state: Supplier<Arc<State>>,
    pub raft: Supplier<RaftFigures>,
    pub dns: Supplier<DnsFigures>,
    /// The leader's loop's figures.
    pub lead: Supplier<LeadFigures>,
    /// The client listener's figures.
    pub rpc: Supplier<RpcFigures>,
    pub process: Supplier<ProcessFigures>,
    /// Whether the node is ready; if not, why.
    pub ready: Supplier<Result<(), String>>,
    /// The strategies that series may be of.
    pub strategies: Vec<String>,
}

/// The pages, and the counters that they show.
pub struct Pages {
    registry: Registry,
    counters: RolloutCounters,
    sources: HttpSources,
}

/// How often rollout counters look for new events: far more often than the ring of events could turn over.
const FOLLOW: Duration = Duration::from_secs(1);

impl Pages {
    /// Counters begin here.
    pub fn new(sources: HttpSources) -> Arc<Self> {
        let mut registry = Registry::default();
        let counters = RolloutCounters::register(&mut registry, sources.strategies.iter().cloned());
        registry.register_collector(Box::new(Gauges(sources.clone())));
        counters.follow(&(sources.state)());
        Arc::new(Self { registry, counters, sources })
    }

    /// Follows State for ever, so that no event is missed between two requests. Whoever serves the pages keeps it
    /// running.
    pub async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(FOLLOW).await;
            self.counters.follow(&(self.sources.state)());
        }
    }
}

/// Serves until `stop` is done.
pub async fn serve<L: Listener>(
    listener: L,
    pages: Arc<Pages>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()>
where
    L::Addr: std::fmt::Debug,
{
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(pages);
    axum::serve(listener, app).with_graceful_shutdown(stop).await
}

/// The pages of a node that waits before it starts: it lives, it is not ready, and why.
pub async fn serve_waiting<L: Listener>(listener: L, why: &str) -> io::Result<()>
where
    L::Addr: std::fmt::Debug,
{
    let text = format!("not ready: {why}\n");
    let not_ready = get(move || std::future::ready((StatusCode::SERVICE_UNAVAILABLE, text.clone())));
    let app = Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", not_ready);
    axum::serve(listener, app).await
}

async fn readyz(Shared(pages): Shared<Arc<Pages>>, headers: HeaderMap) -> Response {
    let ready = (pages.sources.ready)();
    let wants = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if wants.contains("application/json") {
        let code = if ready.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let reasons: Vec<String> = ready.as_ref().err().cloned().into_iter().collect();
        return (code, Json(serde_json::json!({ "ready": ready.is_ok(), "reasons": reasons }))).into_response();
    }
    match ready {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn metrics(Shared(pages): Shared<Arc<Pages>>) -> Response {
    pages.counters.follow(&(pages.sources.state)());
    let mut text = String::new();
    match encode(&mut text, &pages.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::ConsensusMetrics;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    async fn page(addr: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn says_why_it_is_not_ready_and_shows_figures() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let sources = HttpSources {
            state: Arc::new(|| Arc::new(State::default())),
            raft: Arc::new(|| RaftFigures {
                leads: true,
                seen: Some(ConsensusMetrics { term: 3, ..ConsensusMetrics::default() }),
                ..RaftFigures::default()
            }),
            dns: Arc::new(|| DnsFigures { view_index: 7, answers: [("noerror", 2)].into(), ..DnsFigures::default() }),
            lead: Arc::new(LeadFigures::default),
            rpc: Arc::new(RpcFigures::default),
            process: Arc::new(ProcessFigures::default),
            strategies: vec!["canary".into()],
            ready: Arc::new(|| Err("no cluster".into())),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served =
            tokio::spawn(serve(listener, Pages::new(sources), async move { stopped.await.unwrap_or_default() }));
        let ready = page(addr, "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("no cluster"), "{ready}");
        assert!(page(addr, "/healthz").await.contains("ok"));
        let metrics = page(addr, "/metrics").await;
        for line in [
            "slipway_raft_term 3",
            "slipway_raft_leader 1",
            "slipway_dns_view_index 7",
            "slipway_dns_answers_total{rcode=\"noerror\"} 2",
        ] {
            assert!(metrics.contains(line), "{line} in {metrics}");
        }
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
    }
}
