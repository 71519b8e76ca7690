//! Finds what a node or an agent would otherwise only find when it starts, or never: listeners that collide, addresses
//! that no other machine reaches, numbers that make no sense. Each error names the setting and what to write.
//!
//! Not here: reading settings (`settings`), and what only the machine knows, such as a port that is in use.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use super::{AgentConfig, ConfigError, NodeConfig, value};
use crate::model::{MAX_POOL, host_port, is_host, is_label, unfit};

/// Most MiB that can be asked to stay free: 16 TiB.
const MOST_MIB: u64 = 16 << 20;
const MOST_ENTRIES: u64 = 1_000_000_000;
const ONE_DAY_MS: u64 = 86_400_000;
const MOST_ANSWERS: u32 = 10_000_000;
const MOST_INSTANCES: u32 = 10_000;

/// A node's settings.
pub fn node(c: &NodeConfig) -> Result<(), ConfigError> {
    within("snapshot_every", c.snapshot_every, 1, MOST_ENTRIES)?;
    within("digest_every_ms", c.digest_every_ms, 0, ONE_DAY_MS)?;
    within("disk_low_mib", c.disk_low_mib, 0, MOST_MIB)?;
    for (key, n) in [
        ("dns_rate_answers", c.dns_rate_answers),
        ("dns_rate_negative", c.dns_rate_negative),
        ("dns_rate_errors", c.dns_rate_errors),
        ("dns_rate_slip", c.dns_rate_slip),
    ] {
        within(key, n.into(), 0, MOST_ANSWERS.into())?;
    }
    listeners(c)?;
    advertised(c)?;
    directory(&c.data_dir)
}

/// An agent's settings.
pub fn agent(c: &AgentConfig) -> Result<(), ConfigError> {
    if c.nodes.is_empty() {
        return Err(value("nodes", "name at least one node's client address, such as 127.0.0.1:7652".into()));
    }
    for address in &c.nodes {
        let (host, _) = host_port(bare(address)).map_err(|e| value("nodes", e.to_string()))?;
        if !c.insecure && host.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback()) {
            let problem =
                "is not a loopback address, and there is no TLS in this version: set `insecure = true` to accept that";
            return Err(value("nodes", format!("{address:?} {problem}")));
        }
    }
    within("capacity", c.capacity.into(), 1, MOST_INSTANCES.into())?;
    labels(&c.labels)?;
    if let Some(why) = unfit(c.host) {
        return Err(value("host", format!("{} {why}: write the machine's own address", c.host)));
    }
    let pool = c.pool_addresses()?;
    if let Some((odd, why)) = pool.iter().find_map(|a| Some((a, unfit(*a)?))) {
        return Err(value("pool", format!("{odd} {why}: no instance can have it")));
    }
    directory(&c.data_dir)
}

/// An address as gRPC's clients also write it.
pub fn bare(address: &str) -> &str {
    address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/')
}

fn within(key: &'static str, n: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&n) { Ok(()) } else { Err(value(key, format!("{n} is not from {least} to {most}"))) }
}

/// Each its own place: an address that stands for all of them takes the port of every other one.
fn listeners(c: &NodeConfig) -> Result<(), ConfigError> {
    let mut all: Vec<(&'static str, SocketAddr)> = vec![
        ("peer_listen", c.peer_listen),
        ("client_listen", c.client_listen),
        ("dns_listen", c.dns_listen),
        ("http_listen", c.http_listen),
    ];
    all.extend(c.dns_tls_listen.map(|a| ("dns_tls_listen", a)));
    for (n, (key, addr)) in all.iter().enumerate() {
        if addr.port() == 0 {
            return Err(value(key, format!("{addr} has port 0, which others could not know: choose a port")));
        }
        let same = |other: &SocketAddr| {
            let everywhere = other.ip().is_unspecified() || addr.ip().is_unspecified();
            other.port() == addr.port() && (other.ip() == addr.ip() || everywhere)
        };
        if let Some((other, taken)) = all.iter().take(n).find(|(_, other)| same(other)) {
            return Err(value(key, format!("{addr} is the place of {other} ({taken}): choose another port")));
        }
    }
    Ok(())
}

fn advertised(c: &NodeConfig) -> Result<(), ConfigError> {
    if let Some(host) = &c.advertise {
        let nowhere = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        if !is_host(host) || nowhere {
            let problem = "is not a host that others reach: write a name or an IP address, without port or brackets (the listeners' \
                           ports are added)";
            return Err(value("advertise", format!("{host:?} {problem}")));
        }
        return Ok(());
    }
    for (key, addr) in [("peer_listen", c.peer_listen), ("client_listen", c.client_listen)] {
        if addr.ip().is_unspecified() {
            let problem = "stands for all addresses, and other nodes would be told it: set `advertise` to the host that they reach";
            return Err(value(key, format!("{addr} {problem}")));
        }
    }
    Ok(())
}

fn labels(labels: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    if labels.len() > 64 {
        return Err(value("labels", "at most 64".into()));
    }
    let odd = labels.iter().find(|(k, v)| !is_label(k) || !is_label(v) || k.len() > 128 || v.len() > 256);
    match odd {
        Some((k, v)) => Err(value(
            "labels",
            format!(
                "{k:?} = {v:?} could not be selected: letters, digits and . _ - / : @ +, names up to 128, values up to 256"
            ),
        )),
        None => Ok(()),
    }
}

/// The directory is one, or can be made.
fn directory(path: &Path) -> Result<(), ConfigError> {
    if path.as_os_str().is_empty() {
        return Err(value("data_dir", "is empty: name a directory".into()));
    }
    match path.ancestors().find(|p| p.exists()).filter(|p| !p.is_dir()) {
        Some(file) => Err(value("data_dir", format!("{} is no directory", file.display()))),
        None => Ok(()),
    }
}

/// The pool is not larger than the cluster takes.
pub fn pool(count: usize) -> Result<(), ConfigError> {
    if count <= MAX_POOL { Ok(()) } else { Err(value("pool", format!("has {count} addresses; at most {MAX_POOL}"))) }
}

#[cfg(test)]
mod tests {
    use super::super::{AgentLayer, NodeLayer, Source};
    use super::*;

    fn said_of_node(more: &str) -> String {
        let layer: NodeLayer = toml::from_str(&format!("name = 'n1'\ninsecure = true\n{more}")).unwrap();
        let dir = NodeLayer { data_dir: Some("d".into()), ..NodeLayer::default() };
        let config = NodeConfig::from_layers(vec![(Source::Flag, layer), (Source::File, dir)]).unwrap().config;
        config.check().map_or_else(|e| e.to_string(), |()| "sound".into())
    }

    fn said_of_agent(more: &str) -> String {
        let layer: AgentLayer = toml::from_str(more).unwrap();
        let rest = AgentLayer {
            data_dir: Some("d".into()),
            nodes: Some(vec!["127.0.0.1:7652".into()]),
            ..AgentLayer::default()
        };
        let config = AgentConfig::from_layers(vec![(Source::Flag, layer), (Source::File, rest)]).unwrap().config;
        config.check().map_or_else(|e| e.to_string(), |()| "sound".into())
    }

    #[test]
    fn a_node_that_could_not_start_or_be_reached_is_not_sound() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (at, below) = (file.path().display(), file.path().join("d").display().to_string());
        for (text, says) in [
            ("client_listen = '127.0.0.1:7651'", "client_listen: 127.0.0.1:7651 is the place of peer_listen"),
            ("http_listen = '127.0.0.1:8653'", "http_listen: 127.0.0.1:8653 is the place of dns_listen"),
            ("http_listen = '0.0.0.0:7652'", "http_listen: 0.0.0.0:7652 is the place of client_listen"),
            ("peer_listen = '127.0.0.1:0'", "peer_listen: 127.0.0.1:0 has port 0"),
            ("dns_listen = '127.0.0.1:0'", "dns_listen: "),
            ("peer_listen = '0.0.0.0:7651'", "peer_listen: 0.0.0.0:7651 stands for all addresses"),
            ("client_listen = '[::]:7652'", "client_listen: [::]:7652 stands for all addresses"),
            ("advertise = '127.60.3.1:7652'", "advertise: \"127.60.3.1:7652\" is not a host"),
            ("advertise = ''", "advertise: \"\" is not a host"),
            ("advertise = '[::1]'", "advertise: "),
            ("advertise = '0.0.0.0'", "advertise: "),
            ("disk_low_mib = 9223372036854775807", "disk_low_mib: "),
            ("snapshot_every = 0", "snapshot_every: 0 is not from 1"),
            ("snapshot_every = 99999999999", "snapshot_every: "),
            ("digest_every_ms = 99999999999", "digest_every_ms: "),
            ("dns_rate_slip = 4000000000", "dns_rate_slip: "),
            (&format!("data_dir = '{at}'"), "data_dir: "),
            (&format!("data_dir = '{below}'"), "is no directory"),
            ("data_dir = ''", "data_dir: is empty"),
        ] {
            let said = said_of_node(text);
            assert!(said.contains(says), "{text}: {said}");
        }
        for sound in [
            "peer_listen = '0.0.0.0:7651'\nclient_listen = '0.0.0.0:7652'\nadvertise = 'n1.example'",
            "advertise = '::1'",
            "dns_listen = '0.0.0.0:53'",
            "http_listen = '127.0.0.2:7652'",
        ] {
            assert_eq!(said_of_node(sound), "sound", "{sound}");
        }
    }

    #[test]
    fn an_agent_that_could_not_start_or_be_registered_is_not_sound() {
        for (text, says) in [
            ("nodes = ['127.0.0.1']", "nodes: \"127.0.0.1\" is not HOST:PORT"),
            ("nodes = ['::1:7652']", "[::1]:7652"),
            ("nodes = ['10.0.0.1:7652']", "insecure = true"),
            ("nodes = []", "nodes: name at least one"),
            ("capacity = 0", "capacity: 0 is not from 1"),
            ("capacity = 4000000000", "capacity: "),
            ("host = '0.0.0.0'", "host: "),
            ("pool = ['224.0.0.1']", "pool: "),
            ("pool = ['169.254.169.254']", "pool: 169.254.169.254 is link-local"),
            ("host = 'fe80::1'", "host: fe80::1 is link-local"),
            ("labels = {zone = 'a b'}", "labels: "),
            ("labels = {zone = ''}", "labels: "),
            ("pool = ['10.1.0.0-10.1.7.207']", "at most 1024"),
            ("pool = ['10.1.0.0-10.1.3.0', '10.2.0.0-10.2.3.0']", "pool: has 1538 addresses; at most 1024"),
        ] {
            let said = said_of_agent(text);
            assert!(said.contains(says), "{text}: {said}");
        }
        assert_eq!(
            said_of_agent("nodes = ['[::1]:7652', 'n1:7652', 'http://127.0.0.1:7652/']\nlabels = {zone = 'eu-1'}"),
            "sound"
        );
    }
}
