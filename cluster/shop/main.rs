//! `shop`: the demo's service, a small real HTTP server that knows its version and can be told to fail.
//!
//! It reads `shop.toml` of its package once at start, answers on every `--listen` address, counts its answers for
//! Prometheus and on SIGTERM finishes what is open. `error_percent` is exact: of every hundred consecutive requests to
//! `/` exactly that many fail, evenly spread. Deliberately not here: anything of Slipway's library; to Slipway this is
//! a program like any other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

const USAGE: &str = "usage: shop --listen ADDRESS:PORT [--listen ADDRESS:PORT]...
Without --listen the address is taken from SLIPWAY_ADDR_HTTP. Settings come from ./shop.toml or the package's shop.toml.";

/// Requests that are open at SIGTERM get this long.
const DRAIN: Duration = Duration::from_millis(4500);
const MAX_LATENCY_MS: u64 = 60_000;
const MAX_LISTENERS: usize = 16;

/// `shop.toml`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Settings {
    version: String,
    /// Of a hundred requests to `/` so many are answered with 500.
    #[serde(default)]
    error_percent: u64,
    /// How long an answer to `/` takes.
    #[serde(default)]
    latency_ms: u64,
    /// Whether `/healthz` says ok.
    #[serde(default = "yes")]
    healthy: bool,
}

fn yes() -> bool {
    true
}

impl Settings {
    fn parse(text: &str) -> Result<Settings, String> {
        let settings: Settings = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        if settings.version.is_empty() || HeaderValue::from_str(&settings.version).is_err() {
            return Err(format!("version {:?}: write something like \"1.0.0\"", settings.version));
        }
        if settings.error_percent > 100 {
            return Err(format!("error_percent = {}: at most 100", settings.error_percent));
        }
        if settings.latency_ms > MAX_LATENCY_MS {
            return Err(format!("latency_ms = {}: at most {MAX_LATENCY_MS}", settings.latency_ms));
        }
        Ok(settings)
    }

    /// Reads the first `shop.toml` of these that exists.
    fn read(places: &[PathBuf]) -> Result<Settings, String> {
        for place in places {
            match std::fs::read_to_string(place) {
                Ok(text) => return Settings::parse(&text).map_err(|e| format!("{}: {e}", place.display())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(format!("{}: {e}", place.display())),
            }
        }
        let tried: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
        Err(format!("no shop.toml found (tried {}): write one with at least version = \"1.0.0\"", tried.join(", ")))
    }
}

/// Where `shop.toml` may be: the working directory, else the package, whose `bin/` the program is in.
fn places(program: Option<&Path>) -> Vec<PathBuf> {
    let package = program.and_then(|p| p.parent()?.parent());
    std::iter::once(PathBuf::from("shop.toml")).chain(package.map(|p| p.join("shop.toml"))).collect()
}

/// Addresses from the arguments, or from the environment when there are none.
fn listen_addresses(
    args: impl IntoIterator<Item = String>,
    environment: Option<String>,
) -> Result<Vec<SocketAddr>, String> {
    let mut given = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.split_once('=') {
            Some(("--listen", value)) => given.push(value.to_owned()),
            _ if arg == "--listen" => given.push(args.next().ok_or("--listen needs ADDRESS:PORT after it")?),
            _ => return Err(format!("unknown argument {arg:?}")),
        }
    }
    if given.is_empty() {
        given.push(environment.ok_or("no address: give --listen ADDRESS:PORT or set SLIPWAY_ADDR_HTTP")?);
    }
    if given.len() > MAX_LISTENERS {
        return Err(format!("{} addresses: at most {MAX_LISTENERS}", given.len()));
    }
    given
        .iter()
        .map(|text| text.parse().map_err(|_| format!("{text:?} is no ADDRESS:PORT (for example 127.0.0.1:8080)")))
        .collect()
}

/// What all requests share.
struct Shop {
    settings: Settings,
    version: HeaderValue,
    /// Requests to `/` so far; the source of the rotation.
    seen: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
    /// Requests to `/` that came and are not answered yet.
    open: AtomicU64,
}

impl Shop {
    fn new(settings: Settings) -> Shop {
        let version = HeaderValue::from_str(&settings.version).unwrap_or(HeaderValue::from_static("unknown"));
        let zero = || AtomicU64::new(0);
        Shop { settings, version, seen: zero(), ok: zero(), failed: zero(), open: zero() }
    }

    /// Whether the next request fails: as Bresenham draws a line, `error_percent` of a hundred, evenly spread.
    fn next_fails(&self) -> bool {
        let n = self.seen.fetch_add(1, Ordering::Relaxed) % 100;
        let percent = self.settings.error_percent;
        (n + 1) * percent / 100 > n * percent / 100
    }

    fn metrics(&self) -> String {
        format!(
            "# HELP http_requests_total Requests to / by status code.\n\
             # TYPE http_requests_total counter\n\
             http_requests_total{{code=\"200\"}} {}\n\
             http_requests_total{{code=\"500\"}} {}\n\
             # HELP shop_open_requests Requests to / that wait for their answer.\n\
             # TYPE shop_open_requests gauge\n\
             shop_open_requests {}\n\
             # HELP shop_info The version that runs.\n\
             # TYPE shop_info gauge\n\
             shop_info{{version=\"{}\"}} 1\n",
            self.ok.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
            self.open.load(Ordering::Relaxed),
            self.settings.version.replace('\\', "\\\\").replace('"', "\\\""),
        )
    }
}

async fn front(State(shop): State<Arc<Shop>>) -> Response {
    let fails = shop.next_fails();
    shop.open.fetch_add(1, Ordering::Relaxed);
    if shop.settings.latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(shop.settings.latency_ms)).await;
    }
    let (code, counter, text) = match fails {
        true => (StatusCode::INTERNAL_SERVER_ERROR, &shop.failed, "failed"),
        false => (StatusCode::OK, &shop.ok, "shop"),
    };
    counter.fetch_add(1, Ordering::Relaxed);
    shop.open.fetch_sub(1, Ordering::Relaxed);
    (code, [("x-version", shop.version.clone())], format!("{text} {}\n", shop.settings.version)).into_response()
}

async fn health(State(shop): State<Arc<Shop>>) -> (StatusCode, &'static str) {
    if shop.settings.healthy { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "unhealthy\n") }
}

fn router(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/healthz", get(health))
        .route("/smoke", get(|| async { "ok\n" }))
        .route(
            "/metrics",
            get(|State(shop): State<Arc<Shop>>| async move {
                ([("content-type", "text/plain; version=0.0.4")], shop.metrics())
            }),
        )
        .with_state(shop)
}

/// Serves until a signal, then until open requests are done or `DRAIN` is over.
async fn serve(shop: Arc<Shop>, listeners: Vec<TcpListener>, mut term: Signal, mut int: Signal) -> std::io::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let mut servers = JoinSet::new();
    for listener in listeners {
        let mut stopped = stopped.clone();
        let app = router(shop.clone());
        servers.spawn(async move {
            axum::serve(listener, app)
                .with_graceful_shutdown(async move {
                    let _ = stopped.wait_for(|stop| *stop).await;
                })
                .await
        });
    }
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        ended = servers.join_next() => {
            return ended.map_or(Ok(()), |joined| joined.unwrap_or_else(|e| Err(std::io::Error::other(e))));
        }
    }
    // Fails only when no server is left to tell.
    let _ = stop.send(true);
    let all = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, all).await.is_err() {
        eprintln!("shop: requests still open after {DRAIN:?}, leaving them");
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let addresses = match listen_addresses(std::env::args().skip(1), std::env::var("SLIPWAY_ADDR_HTTP").ok()) {
        Ok(addresses) => addresses,
        Err(e) => return refuse(&format!("{e}\n{USAGE}")),
    };
    let settings = match Settings::read(&places(std::env::current_exe().ok().as_deref())) {
        Ok(settings) => settings,
        Err(e) => return refuse(&e),
    };
    // Before the first listener: who sees the port open may send the signal at once.
    let (Ok(term), Ok(int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        eprintln!("shop: cannot listen for signals");
        return ExitCode::FAILURE;
    };
    let mut listeners = Vec::new();
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(e) => {
                eprintln!("shop: cannot listen on {address}: {e}");
                return ExitCode::FAILURE;
            }
        }
    }
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            eprintln!("shop {} listens on {address}", settings.version);
        }
    }
    match serve(Arc::new(Shop::new(settings)), listeners, term, int).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("shop: {e}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("shop: {why}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop(error_percent: u64) -> Shop {
        Shop::new(Settings { version: "1.0.0".into(), error_percent, latency_ms: 0, healthy: true })
    }

    #[test]
    fn error_percent_is_exact_and_even() {
        for percent in [0, 1, 30, 33, 50, 99, 100] {
            let shop = shop(percent);
            let fails: Vec<bool> = (0..300).map(|_| shop.next_fails()).collect();
            for from in 0..200 {
                let count = fails[from..from + 100].iter().filter(|f| **f).count() as u64;
                assert_eq!(count, percent, "requests {from} to {}", from + 99);
            }
            for ten in fails.chunks(10) {
                let count = ten.iter().filter(|f| **f).count() as u64;
                assert!(count.abs_diff(percent / 10) <= 1, "{percent} %: {count} of ten");
            }
        }
    }

    #[test]
    fn addresses_come_from_arguments_then_environment() {
        let parse = |args: &[&str], env: Option<&str>| {
            listen_addresses(args.iter().map(|a| (*a).to_owned()), env.map(str::to_owned))
        };
        let two = parse(&["--listen", "127.0.0.1:1", "--listen=[::1]:2"], Some("127.0.0.1:9"));
        assert_eq!(two.map(|a| a.len()), Ok(2));
        assert_eq!(parse(&[], Some("127.0.0.1:9")), Ok(vec!["127.0.0.1:9".parse().expect("an address")]));
        for (args, env, says) in [
            (vec!["--listen"], None, "needs ADDRESS:PORT"),
            (vec!["--listen", "localhost"], None, "\"localhost\" is no ADDRESS:PORT"),
            (vec!["--port", "1"], None, "unknown argument \"--port\""),
            (vec![], None, "SLIPWAY_ADDR_HTTP"),
            (vec![], Some("x"), "\"x\" is no ADDRESS:PORT"),
        ] {
            let error = parse(&args, env).expect_err("refused");
            assert!(error.contains(says), "{args:?}: {error}");
        }
    }

    #[test]
    fn settings_name_what_is_wrong() {
        let good = Settings::parse("version = \"4.0.0\"\nerror_percent = 30").expect("valid");
        assert_eq!((good.error_percent, good.latency_ms, good.healthy), (30, 0, true));
        for (text, says) in [
            ("error_percent = 1", "version"),
            ("version = \"\"", "1.0.0"),
            ("version = \"1\"\nerror_percent = 101", "at most 100"),
            ("version = \"1\"\nlatency_ms = 60001", "at most 60000"),
            ("version = \"1\"\nerrors = 3", "errors"),
        ] {
            let error = Settings::parse(text).expect_err("refused");
            assert!(error.contains(says), "{text}: {error}");
        }
        let none = Settings::read(&[PathBuf::from("/nonexistent/shop.toml")]).expect_err("refused");
        assert!(none.contains("/nonexistent/shop.toml"), "{none}");
    }

    #[test]
    fn the_package_is_two_above_the_program() {
        let found = places(Some(Path::new("/p/bin/shop")));
        assert_eq!(found, [PathBuf::from("shop.toml"), PathBuf::from("/p/shop.toml")]);
    }

    #[test]
    fn metrics_count_by_code() {
        let shop = shop(0);
        shop.ok.store(7, Ordering::Relaxed);
        shop.failed.store(3, Ordering::Relaxed);
        let text = shop.metrics();
        assert!(text.contains("http_requests_total{code=\"200\"} 7\n"), "{text}");
        assert!(text.contains("http_requests_total{code=\"500\"} 3\n"), "{text}");
    }
}
