//! Health checks: one HTTP request at a time, and the hysteresis that turns them into passing and failing.
//!
//! A check uses a connection of its own: a server that no longer accepts any must not look healthy through an old one. Not here:
//! what follows from health (`instance`).

use std::{net::SocketAddr, time::Duration};

use super::assignment::Entry;
use crate::model::{Health, HealthCheck, Spec};

/// Bytes of an answer that are read.
const MAX_BODY: usize = 4 << 20;

/// The client for checks and scrapes: no connection is kept, no redirect followed, no proxy asked.
pub fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("slipway-agent/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Where an instance's checks go: the spec's port of it.
pub fn target(entry: &Entry, spec: &Spec) -> Option<SocketAddr> {
    let named = spec.health.port.as_ref().and_then(|n| entry.ports.get(n));
    let port = named.or_else(|| spec.ports.keys().find_map(|n| entry.ports.get(n)));
    port.or_else(|| entry.ports.values().next()).map(|p| SocketAddr::new(entry.address, *p))
}

/// Gets a page; the error says what happened instead.
pub async fn get(client: &reqwest::Client, at: SocketAddr, path: &str, timeout: Duration) -> Result<Vec<u8>, String> {
    let ask = async {
        let mut answer = client.get(format!("http://{at}{path}")).send().await.map_err(|e| innermost(&e))?;
        let status = answer.status();
        if !(status.is_success() || status.is_redirection()) {
            return Err(format!("{path} answered {status}"));
        }
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|e| innermost(&e))? {
            if body.len() + part.len() > MAX_BODY {
                return Err(format!("{path} answered more than {MAX_BODY} bytes"));
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    };
    let within = tokio::time::timeout(timeout, ask).await;
    within.unwrap_or_else(|_| Err(format!("{path} did not answer within {} ms", timeout.as_millis())))
}

/// "connection refused" says more than "error sending request".
fn innermost(e: &dyn std::error::Error) -> String {
    let mut last = e;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Health out of single checks.
#[derive(Debug, Clone)]
pub struct Hysteresis {
    healthy_after: u32,
    unhealthy_after: u32,
    passes: u32,
    failures: u32,
    health: Health,
}

impl Hysteresis {
    /// Begins without knowing.
    pub fn new(check: &HealthCheck) -> Self {
        Self {
            healthy_after: check.healthy_after.max(1),
            unhealthy_after: check.unhealthy_after.max(1),
            passes: 0,
            failures: 0,
            health: Health::Unknown,
        }
    }

    /// Takes a check's result.
    pub fn take(&mut self, passed: bool) {
        if passed {
            self.failures = 0;
            self.passes = self.passes.saturating_add(1);
            if self.passes >= self.healthy_after {
                self.health = Health::Passing;
            }
        } else {
            self.passes = 0;
            self.failures = self.failures.saturating_add(1);
            if self.failures >= self.unhealthy_after {
                self.health = Health::Failing;
            }
        }
    }

    /// What is known.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Period;

    fn check(healthy_after: u32, unhealthy_after: u32) -> HealthCheck {
        HealthCheck {
            http: "/healthz".into(),
            port: None,
            interval: Period(100),
            timeout: Period(100),
            healthy_after,
            unhealthy_after,
            start_within: Period(1000),
        }
    }

    #[test]
    fn one_slip_changes_nothing() {
        let mut h = Hysteresis::new(&check(2, 3));
        let mut seen = Vec::new();
        for passed in [true, true, false, false, true, false, false, false, true, true] {
            h.take(passed);
            seen.push(h.health());
        }
        use Health::{Failing as F, Passing as P, Unknown as U};
        assert_eq!(seen, [U, P, P, P, P, P, P, F, F, P]);
        assert_eq!(h.failures(), 0);
    }

    async fn serve(answer: &'static [u8]) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
            }
        });
        at
    }

    #[tokio::test]
    async fn answers_are_told_apart() {
        let client = client().unwrap();
        let second = Duration::from_secs(5);
        let good = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(get(&client, good, "/x", second).await.unwrap(), b"ok");
        let bad = serve(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        assert!(get(&client, bad, "/x", second).await.unwrap_err().contains("503"));
        let silent = serve(b"").await;
        assert!(get(&client, silent, "/x", second).await.is_err());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hangs = listener.local_addr().unwrap();
        let said = get(&client, hangs, "/x", Duration::from_millis(50)).await.unwrap_err();
        assert!(said.contains("within 50 ms"), "{said}");
        drop(listener);
        let said = get(&client, hangs, "/x", second).await.unwrap_err();
        assert!(said.to_lowercase().contains("refused"), "{said}");
    }
}
