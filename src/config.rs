//! The only reader of configuration files and environment: TOML with unknown keys refused, `SLIPWAY_*` variables for secrets and
//! places. Command-line flags are laid over it by `bin/`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;

use crate::model::WorkerName;

/// What is wrong with a configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {problem}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and what, with the nearest known key.
        problem: String,
    },
    /// A value does not fit.
    #[error("{key}: {problem}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What is wrong and what to write instead.
        problem: String,
    },
}

/// Raft's times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RaftProfile {
    /// Heartbeat 50 ms, election 200 to 400 ms, RPC 150 ms.
    #[default]
    Lan,
    /// Heartbeat 150 ms, election 600 to 1,200 ms, RPC 450 ms: busy or distant machines, tests.
    Slow,
}

/// `slipwayd node`'s configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The node's name.
    pub name: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Where peers reach it.
    #[serde(default = "default_peer")]
    pub peer_listen: SocketAddr,
    /// Where operators and agents reach it.
    #[serde(default = "default_client")]
    pub client_listen: SocketAddr,
    /// Where its DNS listens, UDP and TCP.
    #[serde(default = "default_dns")]
    pub dns_listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` listen.
    #[serde(default = "default_http")]
    pub http_listen: SocketAddr,
    /// Address others use for this node when it differs from the listeners' (`host`; ports stay).
    pub advertise: Option<String>,
    /// Raft's times.
    #[serde(default)]
    pub raft: RaftProfile,
    /// Log entries between snapshots.
    #[serde(default = "default_snapshot_every")]
    pub snapshot_every: u64,
    /// Milliseconds between the leader's digest probes, which show that all replicas hold the same State; 0: none but those asked for.
    #[serde(default = "default_digest_every_ms")]
    pub digest_every_ms: u64,
    /// With less room than this many MiB below `data_dir` the node does not lead and takes no proposals; 0: no mark.
    #[serde(default = "default_disk_low_mib")]
    pub disk_low_mib: u64,
    /// Whether listeners may be on other than loopback addresses without TLS and tokens.
    #[serde(default)]
    pub insecure: bool,
    /// Feature levels to claim instead of the program's own, lowest and highest: for tests of upgrades, by a hidden flag only.
    #[serde(skip)]
    pub levels: Option<(u32, u32)>,
}

/// `slipwayd agent`'s configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The worker's name; absent: the host name.
    pub name: Option<String>,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Client addresses of nodes, any number.
    pub nodes: Vec<String>,
    /// Pool addresses: single ones or ranges such as `127.0.2.1-127.0.2.8`.
    #[serde(default)]
    pub pool: Vec<String>,
    /// The machine's own address, for mode `host`.
    #[serde(default = "default_host")]
    pub host: IpAddr,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Instances at most.
    #[serde(default = "default_capacity")]
    pub capacity: u32,
    /// Whether it may talk to nodes on other than loopback addresses without TLS.
    #[serde(default)]
    pub insecure: bool,
}

fn default_peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7651))
}
fn default_client() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7652))
}
fn default_dns() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8653))
}
fn default_http() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7653))
}
fn default_host() -> IpAddr {
    IpAddr::from([127, 0, 0, 1])
}
fn default_snapshot_every() -> u64 {
    50_000
}
fn default_digest_every_ms() -> u64 {
    60_000
}
fn default_disk_low_mib() -> u64 {
    256
}
fn default_capacity() -> u32 {
    100
}

/// Largest pool of one worker.
pub const MAX_POOL: usize = 4096;

impl NodeConfig {
    /// All defaults.
    pub fn new(name: String, data_dir: PathBuf) -> Self {
        Self {
            name,
            data_dir,
            peer_listen: default_peer(),
            client_listen: default_client(),
            dns_listen: default_dns(),
            http_listen: default_http(),
            advertise: None,
            raft: RaftProfile::default(),
            snapshot_every: default_snapshot_every(),
            disk_low_mib: default_disk_low_mib(),
            digest_every_ms: default_digest_every_ms(),
            insecure: false,
            levels: None,
        }
    }

    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = load(path)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what a file or flags gave: names, and that no listener leaves loopback unless `insecure` says so.
    pub fn check(&self) -> Result<(), ConfigError> {
        if WorkerName::new(&self.name).is_err() {
            return Err(value("name", format!("{:?} is not a host name (a-z, 0-9, '-', '.')", self.name)));
        }
        if self.snapshot_every == 0 {
            return Err(value("snapshot_every", "must be 1 or more".into()));
        }
        for (key, addr) in [
            ("peer_listen", self.peer_listen),
            ("client_listen", self.client_listen),
            ("dns_listen", self.dns_listen),
            ("http_listen", self.http_listen),
        ] {
            if !addr.ip().is_loopback() && !self.insecure {
                return Err(value(
                    key,
                    format!(
                        "{addr} is not a loopback address, and there is no TLS in this version: anyone who reaches it could \
                         operate the cluster. Use 127.0.0.1, or set `insecure = true` to accept that"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The listeners that are open to others, for the warning at start and in `cluster status`.
    pub fn exposed(&self) -> Vec<SocketAddr> {
        let all = [self.peer_listen, self.client_listen, self.dns_listen, self.http_listen];
        all.into_iter().filter(|a| !a.ip().is_loopback()).collect()
    }
}

impl AgentConfig {
    /// All defaults.
    pub fn new(data_dir: PathBuf, nodes: Vec<String>) -> Self {
        Self {
            name: None,
            data_dir,
            nodes,
            pool: Vec::new(),
            host: default_host(),
            labels: BTreeMap::new(),
            capacity: default_capacity(),
            insecure: false,
        }
    }

    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = load(path)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what a file or flags gave.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(name) = &self.name {
            WorkerName::new(name).map_err(|e| value("name", e.to_string()))?;
        }
        if self.nodes.is_empty() {
            return Err(value("nodes", "name at least one node's client address, such as 127.0.0.1:7652".into()));
        }
        if self.capacity == 0 {
            return Err(value("capacity", "must be 1 or more".into()));
        }
        self.pool_addresses().map(|_| ())
    }

    /// The pool with its ranges written out, in order, each address once.
    pub fn pool_addresses(&self) -> Result<Vec<IpAddr>, ConfigError> {
        let mut all = Vec::new();
        for item in &self.pool {
            let bad = |why: &str| value("pool", format!("{item:?} {why}: write 127.0.2.1 or 127.0.2.1-127.0.2.8"));
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let parse =
                |s: &str| s.trim().parse::<IpAddr>().map_err(|_| bad("is not an IP address or a range of them"));
            match (parse(first)?, parse(last)?) {
                (IpAddr::V4(a), IpAddr::V4(b)) if a <= b && u32::from(b) - u32::from(a) < 4096 => {
                    all.extend((u32::from(a)..=u32::from(b)).map(|n| IpAddr::from(n.to_be_bytes())));
                }
                (IpAddr::V6(a), IpAddr::V6(b)) if a <= b && u128::from(b) - u128::from(a) < 4096 => {
                    all.extend((u128::from(a)..=u128::from(b)).map(|n| IpAddr::from(n.to_be_bytes())));
                }
                (IpAddr::V4(_) | IpAddr::V6(_), IpAddr::V4(_) | IpAddr::V6(_)) => {
                    return Err(bad("is not a rising range of at most 4096 addresses"));
                }
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|a| seen.insert(*a));
        if all.len() > MAX_POOL {
            return Err(value("pool", format!("has {} addresses; at most {MAX_POOL}", all.len())));
        }
        Ok(all)
    }
}

fn value(key: &'static str, problem: String) -> ConfigError {
    ConfigError::Value { key, problem }
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
    toml::from_str(&text).map_err(|e| ConfigError::Parse {
        path: path.to_path_buf(),
        problem: crate::model::with_nearest(&e.to_string()),
    })
}

/// An environment variable, when it is set and valid text.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// The CLI's own settings: `config.toml` in [`user_dir`], with `SLIPWAY_NODES` and `SLIPWAY_ENVIRONMENT` laid over it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// Client addresses of nodes.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Environment that a bare service name means.
    pub environment: Option<String>,
}

impl UserConfig {
    /// Reads the file, if there is one, and the environment.
    pub fn load() -> Result<Self, ConfigError> {
        let path = user_dir().map(|d| d.join("config.toml"));
        let mut config = match path.filter(|p| p.exists()) {
            Some(path) => load(&path)?,
            None => Self::default(),
        };
        if let Some(nodes) = variable("SLIPWAY_NODES") {
            config.nodes = nodes.split(',').map(|n| n.trim().to_string()).filter(|n| !n.is_empty()).collect();
        }
        if let Some(environment) = variable("SLIPWAY_ENVIRONMENT") {
            config.environment = Some(environment);
        }
        Ok(config)
    }
}

/// Directory for files that live as long as a command.
pub fn temporary_dir() -> PathBuf {
    std::env::temp_dir()
}

/// Directory for the CLI's own small files: `$XDG_CONFIG_HOME/slipway`, else `$HOME/.config/slipway`.
pub fn user_dir() -> Option<PathBuf> {
    let base = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    base.or_else(|| variable("HOME").map(|h| PathBuf::from(h).join(".config"))).map(|b| b.join("slipway"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Result<NodeConfig, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        NodeConfig::load(&path)
    }

    #[test]
    fn unknown_keys_and_open_listeners_are_refused() {
        assert!(node("name = 'n1'\ndata_dir = 'd'").is_ok());
        let e = node("name = 'n1'\ndata_dir = 'd'\ndns_listn = '127.0.0.1:53'").unwrap_err().to_string();
        assert!(e.contains("node.toml") && e.contains("did you mean `dns_listen`"), "{e}");
        let e = node("name = 'n1'\ndata_dir = 'd'\ndns_listen = '0.0.0.0:53'").unwrap_err().to_string();
        assert!(e.contains("insecure = true"), "{e}");
        let open = node("name = 'n1'\ndata_dir = 'd'\ninsecure = true\ndns_listen = '0.0.0.0:53'").unwrap();
        assert_eq!(open.exposed().len(), 1);
        assert!(NodeConfig::load(Path::new("does/not/exist")).unwrap_err().to_string().contains("does/not/exist"));
    }

    #[test]
    fn the_examples_in_cluster_are_read() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster");
        assert_eq!(NodeConfig::load(&dir.join("node.toml")).unwrap().exposed().len(), 4);
        assert_eq!(AgentConfig::load(&dir.join("agent.toml")).unwrap().pool_addresses().unwrap().len(), 16);
        let unit = std::fs::read_to_string(dir.join("slipway-agent.service")).unwrap();
        assert!(unit.contains("\nKillMode=process\n"), "instances must outlive their agent under systemd");
    }

    #[test]
    fn pools_are_written_as_ranges() {
        let config = |pool: &[&str]| AgentConfig {
            name: None,
            data_dir: "d".into(),
            nodes: vec!["127.0.0.1:7652".into()],
            pool: pool.iter().map(ToString::to_string).collect(),
            host: default_host(),
            labels: BTreeMap::new(),
            capacity: 1,
            insecure: false,
        };
        assert_eq!(config(&["127.0.2.1-127.0.2.3", "127.0.2.3"]).pool_addresses().unwrap().len(), 3);
        for bad in ["127.0.2.3-127.0.2.1", "x", "127.0.0.1-::1", "10.0.0.0-10.255.255.255"] {
            assert!(config(&[bad]).check().is_err(), "{bad}");
        }
    }
}
