//! The nodes that an agent may talk to: those of its configuration and those that a node named, asked in turn.
//!
//! Invariant: without `insecure` the agent connects only to loopback addresses, whoever named them. Not here: what is
//! said (`session`, `fetch`, `logs`).

use std::{net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use crate::{config::bare, model::host_port};

/// Addresses at most.
const MAX_NODES: usize = 64;

/// Addresses, shared by everything that connects.
#[derive(Debug, Clone)]
pub struct Nodes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    configured: Vec<String>,
    insecure: bool,
    known: Mutex<(Vec<String>, usize)>,
}

/// Whether an address is loopback by how it is written; names are looked up when they are used.
fn written_loopback(address: &str) -> Option<bool> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| ip.is_loopback())
}

impl Nodes {
    /// Begins with the configured ones; refuses those that it would never connect to.
    pub fn new(configured: &[String], insecure: bool) -> Result<Self, String> {
        let configured: Vec<String> = configured.iter().map(|a| bare(a).to_owned()).collect();
        for address in &configured {
            host_port(address).map_err(|e| format!("nodes: {e}"))?;
            if written_loopback(address) == Some(false) && !insecure {
                return Err(refusal(address));
            }
        }
        Ok(Self(Arc::new(Inner { known: Mutex::new((configured.clone(), 0)), configured, insecure })))
    }

    /// Takes the addresses a node told; the configured ones stay.
    pub fn learn(&self, told: &[String]) {
        let mut known = self.0.known.lock();
        let mut all = self.0.configured.clone();
        for address in told.iter().map(|a| bare(a)).filter(|a| !a.is_empty()) {
            let allowed = self.0.insecure || written_loopback(address) != Some(false);
            if allowed && all.len() < MAX_NODES && !all.iter().any(|a| a == address) {
                all.push(address.to_owned());
            }
        }
        known.0 = all;
    }

    /// The next node in turn, with a channel that connects at its first use.
    pub async fn next(&self) -> Result<(String, Channel), String> {
        let address = {
            let mut known = self.0.known.lock();
            known.1 = known.1.wrapping_add(1);
            let at = known.1 % known.0.len().max(1);
            known.0.get(at).cloned().ok_or("no node is known")?
        };
        self.check(&address).await?;
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| format!("{address:?} is not an address: {e}"))?
            .connect_timeout(Duration::from_secs(1))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(3))
            .keep_alive_while_idle(true)
            .connect_lazy();
        Ok((address, channel))
    }

    /// Without TLS, what leaves the machine could be read and changed by others.
    async fn check(&self, address: &str) -> Result<(), String> {
        if self.0.insecure || written_loopback(address) == Some(true) {
            return Ok(());
        }
        let found = tokio::net::lookup_host(address).await.map_err(|e| format!("{address}: {e}"))?;
        let all: Vec<_> = found.collect();
        if all.is_empty() || all.iter().any(|a| !a.ip().is_loopback()) {
            return Err(refusal(address));
        }
        Ok(())
    }
}

fn refusal(address: &str) -> String {
    format!(
        "nodes: {address} is not a loopback address, and there is no TLS in this version: anyone on the way could tell this \
         worker what to run. Use 127.0.0.1, or set `insecure = true` to accept that"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn other_machines_need_consent() {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(Nodes::new(&own(&["10.0.0.1:7652"]), false).unwrap_err().contains("insecure = true"));
        assert!(Nodes::new(&own(&["127.0.0.1"]), false).unwrap_err().contains("HOST:PORT"));
        assert!(Nodes::new(&own(&["10.0.0.1:7652", "[fd00::1]:1"]), true).is_ok());
        let nodes = Nodes::new(&own(&["http://127.0.0.1:7652", "[::1]:7"]), false).unwrap();
        nodes.learn(&own(&["10.0.0.9:1", "127.0.0.2:1", "127.0.0.1:7652"]));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..6 {
            seen.insert(nodes.next().await.unwrap().0);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["127.0.0.1:7652", "127.0.0.2:1", "[::1]:7"]);
    }
}
