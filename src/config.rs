//! The only reader of configuration files and environment: TOML with unknown keys refused, over it `SLIPWAY_NODE_*` or
//! `SLIPWAY_AGENT_*` variables, over them the command line, which `bin/` reads. docs/config.md is made of what stands
//! here.
//!
//! Not here: what flags there are (`bin/`).

mod kinds;
mod reference;
mod settings;
mod sound;
mod user;

pub use kinds::SettingKind;
pub use reference::reference;
pub use settings::{Described, Resolved, Shown, Source};
pub use sound::bare;
pub use user::{Said, UserConfig, cache_dir, colours, columns, dumb_terminal, user_dir};

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;

use crate::model::{MAX_POOL, Prefix, WorkerName};

/// What is wrong with a configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
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
    /// A variable is not what it should be.
    #[error("environment variable {variable}: {problem}")]
    Environment {
        variable: String,
        /// What is wrong, with the nearest known one.
        problem: String,
    },
    /// A value does not fit.
    #[error("{key}: {problem}")]
    Value {
        key: &'static str,
        /// What is wrong and what to write instead.
        problem: String,
    },
}

/// Raft's times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "snake_case")]
pub enum RaftProfile {
    /// Heartbeat 50 ms, election 200 to 400 ms, RPC 150 ms.
    #[default]
    Lan,
    /// Heartbeat 150 ms, election 600 to 1,200 ms, RPC 450 ms: busy or distant machines, tests.
    Slow,
}

settings::settings! {
    /// `slipwayd node`'s settings.
    pub struct NodeConfig, layer NodeLayer, variables "SLIPWAY_NODE_" {
        /// The node's name.
        name: String, "--name NAME", required;
        /// Its data directory.
        data_dir: PathBuf, "--data-dir DIRECTORY", required;
        /// Where peers reach it.
        peer_listen: SocketAddr, "--peer-listen", or(local(7651));
        /// Where operators and agents reach it.
        client_listen: SocketAddr, "--client-listen", or(local(7652));
        /// Where its DNS listens, UDP and TCP.
        dns_listen: SocketAddr, "--dns-listen", or(local(8653));
        /// Where its DNS over TLS listens (853 is usual); without it there is none.
        dns_tls_listen: Option<SocketAddr>, "--dns-tls-listen", or(None);
        /// Certificate of DNS over TLS (PEM), followed by those of its issuers. Read again within seconds of a change,
        /// as is the key.
        dns_tls_cert: Option<PathBuf>, "--dns-tls-cert", or(None);
        /// Private key of that certificate (PEM, no passphrase).
        dns_tls_key: Option<PathBuf>, "--dns-tls-key", or(None);
        /// Where `/healthz`, `/readyz` and `/metrics` listen.
        http_listen: SocketAddr, "--http-listen", or(local(7653));
        /// Host that others use for this node when it differs from the listeners' (ports stay).
        advertise: Option<String>, "--advertise HOST", or(None);
        /// Raft's times: `lan`, or `slow` for busy or distant machines. The same on all nodes.
        raft: RaftProfile, "--raft", or(RaftProfile::Lan);
        /// Log entries between snapshots.
        snapshot_every: u64, "--snapshot-every", or(50_000);
        /// Milliseconds between the leader's digest probes, which show that all replicas hold the same State; 0: none
        /// but those asked for.
        digest_every_ms: u64, "--digest-every-ms", or(60_000);
        /// With less room than this many MiB below `data_dir` the node does not lead and takes no proposals; 0: no
        /// mark.
        disk_low_mib: u64, "--disk-low-mib", or(256);
        /// Connections that each of the client, peer and HTTP listeners serves at a time; fewer when the system's limit
        /// of open files is too low for them.
        max_connections: u32, "--max-connections", or(4096);
        /// Ranges of addresses for whose reverse names (PTR) this node's DNS answers; empty: none.
        dns_reverse: Vec<Prefix>, "--dns-reverse", or(prefixes(&PRIVATE));
        /// Answers with records that DNS sends to one network (/24, /56) a second over UDP; 0: no limit.
        dns_rate_answers: u32, "--dns-rate-answers", or(1000);
        /// The same for NXDOMAIN and empty answers.
        dns_rate_negative: u32, "--dns-rate-negative", or(200);
        /// The same for errors.
        dns_rate_errors: u32, "--dns-rate-errors", or(100);
        /// Each so-many-th answer over the rate is sent short, so that a real client comes back over TCP or with a
        /// cookie; 0: none.
        dns_rate_slip: u32, "--dns-rate-slip", or(2);
        /// Ranges of addresses that these rates do not hold for, such as your own resolvers.
        dns_rate_exempt: Vec<Prefix>, "--dns-rate-exempt", or(prefixes(&LOOPBACK));
        /// Secrets of DNS cookies, each 32 hexadecimal digits: the first signs, all are accepted. Only to share them
        /// with other servers: without any the cluster generates its own and changes it every day. Others can read a
        /// command line: better in the file.
        dns_cookie_secrets: Vec<String>, "--dns-cookie-secret HEX", or(Vec::new());
        /// Whether listeners may be on other than loopback addresses without TLS and tokens.
        insecure: bool, "--insecure", or(false);
    } hidden {
        /// Feature levels to claim instead of the program's own, lowest and highest: for tests of upgrades, by a hidden
        /// flag only.
        levels: Option<(u32, u32)>;
        /// A part that is to panic, `plan:SERVICE` or `task:NAME`: for tests of supervision, by a hidden flag only.
        fault: Option<String>;
    }
}

settings::settings! {
    /// `slipwayd agent`'s settings.
    pub struct AgentConfig, layer AgentLayer, variables "SLIPWAY_AGENT_" {
        /// The worker's name; when it is not set, the host name.
        name: Option<String>, "--name NAME", or(None);
        /// Its data directory.
        data_dir: PathBuf, "--data-dir DIRECTORY", required;
        /// Client addresses of nodes, any number.
        nodes: Vec<String>, "--node HOST:PORT", required;
        /// Pool addresses: single ones or ranges such as `127.0.2.1-127.0.2.8`.
        pool: Vec<String>, "--pool ADDRESS[-ADDRESS]", or(Vec::new());
        /// The machine's own address, for address mode `host`.
        host: IpAddr, "--host", or(local(0).ip());
        /// Labels of this worker, which a spec's placement can ask for.
        labels: BTreeMap<String, String>, "--label", or(BTreeMap::new());
        /// Instances at most.
        capacity: u32, "--capacity", or(100);
        /// Whether each instance gets a cgroup of its own, where this agent may make them; else its shim is a
        /// subreaper.
        cgroups: bool, "--cgroups", or(true);
        /// Whether it may talk to nodes on other than loopback addresses without TLS.
        insecure: bool, "--insecure", or(false);
    }
}

/// Ranges that no public server answers reverse names for: loopback, RFC 1918 and unique local addresses.
const PRIVATE: [&str; 6] = ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

fn prefixes(of: &[&str]) -> Vec<Prefix> {
    of.iter().filter_map(|p| p.parse().ok()).collect()
}

/// A port on loopback.
const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// Most connections that a listener may be set to serve.
pub const MAX_CONNECTIONS: u32 = 100_000;

impl NodeConfig {
    /// Reads and checks a file, and nothing else.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let resolved = Self::from_layers(vec![(Source::File, load(path)?)])?;
        resolved.config.check()?;
        Ok(resolved.config)
    }

    /// Reads and checks a file, if one is named, the environment and flags.
    pub fn read(file: Option<&Path>, flags: NodeLayer) -> Result<Resolved<Self>, ConfigError> {
        let environment = NodeLayer::from_environment(variables())?;
        let file = file.map_or_else(|| Ok(NodeLayer::default()), load)?;
        let layers = vec![(Source::Flag, flags), (Source::Environment, environment), (Source::File, file)];
        let resolved = Self::from_layers(layers)?;
        resolved.config.check()?;
        Ok(resolved)
    }

    /// Checks what was given: names, and that no listener leaves loopback unless `insecure` says so.
    pub fn check(&self) -> Result<(), ConfigError> {
        if WorkerName::new(&self.name).is_err() {
            return Err(value("name", format!("{:?} is not a host name (a-z, 0-9, '-', '.')", self.name)));
        }
        if !(1..=MAX_CONNECTIONS).contains(&self.max_connections) {
            return Err(value("max_connections", format!("must be 1 to {MAX_CONNECTIONS}")));
        }
        self.cookie_secrets()?;
        self.dns_tls()?;
        let dns_tls = self.dns_tls_listen.map(|addr| ("dns_tls_listen", addr));
        let listeners = [
            ("peer_listen", self.peer_listen),
            ("client_listen", self.client_listen),
            ("dns_listen", self.dns_listen),
            ("http_listen", self.http_listen),
        ];
        for (key, addr) in listeners.into_iter().chain(dns_tls) {
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
        sound::node(self)
    }

    /// The secrets of DNS cookies.
    pub fn cookie_secrets(&self) -> Result<Vec<[u8; 16]>, ConfigError> {
        let read = |text: &String| <[u8; 16]>::try_from(HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?).ok();
        let all: Option<Vec<[u8; 16]>> = self.dns_cookie_secrets.iter().map(read).collect();
        all.ok_or_else(|| {
            // A secret is not repeated in a message.
            let problem = "each must be 32 hexadecimal digits, such as `openssl rand -hex 16` prints".into();
            value("dns_cookie_secrets", problem)
        })
    }

    /// The listeners that are open to others, for the warning at start and in `cluster status`.
    pub fn exposed(&self) -> Vec<SocketAddr> {
        let all = [self.peer_listen, self.client_listen, self.dns_listen, self.http_listen];
        all.into_iter().chain(self.dns_tls_listen).filter(|a| !a.ip().is_loopback()).collect()
    }

    /// Address, certificate and key of DNS over TLS, which are given together or not at all.
    pub fn dns_tls(&self) -> Result<Option<(SocketAddr, &Path, &Path)>, ConfigError> {
        match (self.dns_tls_listen, &self.dns_tls_cert, &self.dns_tls_key) {
            (None, None, None) => Ok(None),
            (Some(addr), Some(cert), Some(key)) => Ok(Some((addr, cert, key))),
            (None, _, _) => {
                Err(value("dns_tls_listen", "a certificate or key is given, but no address to listen on".into()))
            }
            (Some(_), None, _) => Err(value("dns_tls_cert", "must be given with `dns_tls_listen`: a PEM file".into())),
            (Some(_), _, None) => Err(value("dns_tls_key", "must be given with `dns_tls_listen`: a PEM file".into())),
        }
    }
}

impl AgentConfig {
    /// Reads and checks a file, and nothing else.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let resolved = Self::from_layers(vec![(Source::File, load(path)?)])?;
        resolved.config.check()?;
        Ok(resolved.config)
    }

    /// Reads and checks a file, if one is named, the environment and flags. Labels of flags are added to the others.
    pub fn read(file: Option<&Path>, flags: AgentLayer) -> Result<Resolved<Self>, ConfigError> {
        let environment = AgentLayer::from_environment(variables())?;
        let file: AgentLayer = file.map_or_else(|| Ok(AgentLayer::default()), load)?;
        let mut flags = flags;
        if let Some(labels) = &mut flags.labels {
            let below = environment.labels.as_ref().or(file.labels.as_ref());
            for (key, value) in below.into_iter().flatten() {
                labels.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        let layers = vec![(Source::Flag, flags), (Source::Environment, environment), (Source::File, file)];
        let resolved = Self::from_layers(layers)?;
        resolved.config.check()?;
        Ok(resolved)
    }

    /// Checks what was given.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(name) = &self.name {
            WorkerName::new(name).map_err(|e| value("name", e.to_string()))?;
        }
        sound::agent(self)
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
                (IpAddr::V4(a), IpAddr::V4(b)) if a <= b && ((u32::from(b) - u32::from(a)) as usize) < MAX_POOL => {
                    all.extend((u32::from(a)..=u32::from(b)).map(|n| IpAddr::from(n.to_be_bytes())));
                }
                (IpAddr::V6(a), IpAddr::V6(b)) if a <= b && u128::from(b) - u128::from(a) < MAX_POOL as u128 => {
                    all.extend((u128::from(a)..=u128::from(b)).map(|n| IpAddr::from(n.to_be_bytes())));
                }
                (IpAddr::V4(_) | IpAddr::V6(_), IpAddr::V4(_) | IpAddr::V6(_)) => {
                    return Err(bad(&format!("is not a rising range of at most {MAX_POOL} addresses")));
                }
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|a| seen.insert(*a));
        sound::pool(all.len())?;
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

/// All environment variables that are valid text, in their order.
fn variables() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}

/// An environment variable, when it is set and valid text.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// Directory for files that live as long as a command.
pub fn temporary_dir() -> PathBuf {
    std::env::temp_dir()
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
        let tls = "name = 'n1'\ndata_dir = 'd'\ndns_tls_listen = '0.0.0.0:853'\n";
        assert!(node(tls).unwrap_err().to_string().starts_with("dns_tls_cert: must be given"));
        assert!(node(&format!("{tls}dns_tls_cert = 'c'")).unwrap_err().to_string().starts_with("dns_tls_key"));
        let alone = node("name = 'n1'\ndata_dir = 'd'\ndns_tls_key = 'k'").unwrap_err().to_string();
        assert!(alone.starts_with("dns_tls_listen"), "{alone}");
        let tls = format!("{tls}dns_tls_cert = 'c'\ndns_tls_key = 'k'\n");
        assert!(node(&tls).unwrap_err().to_string().contains("insecure = true"));
        assert_eq!(node(&format!("{tls}insecure = true")).unwrap().exposed().len(), 1);
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
    fn flags_lie_over_the_environment_and_that_over_the_file() {
        let file: NodeLayer = toml::from_str("name = 'f'\ndata_dir = 'f'\nsnapshot_every = 5\nraft = 'slow'").unwrap();
        let vars = [("SLIPWAY_NODE_NAME", "e"), ("SLIPWAY_NODE_SNAPSHOT_EVERY", "7"), ("SLIPWAY_NODE_RAFT", "")];
        let environment = NodeLayer::from_environment(vars.map(|(k, v)| (k.into(), v.into()))).unwrap();
        let flags = NodeLayer { name: Some("c".into()), ..NodeLayer::default() };
        let layers = vec![(Source::Flag, flags), (Source::Environment, environment), (Source::File, file)];
        let resolved = NodeConfig::from_layers(layers).unwrap();
        let (config, text) = (&resolved.config, resolved.print());
        assert_eq!((config.name.as_str(), config.snapshot_every, config.raft), ("c", 7, RaftProfile::Slow));
        let line = |key: &str| text.lines().find(|l| l.starts_with(key)).unwrap_or_else(|| panic!("{key} in {text}"));
        assert!(line("name = \"c\"").ends_with("# flag"));
        assert!(line("snapshot_every = 7").ends_with("# environment"));
        assert!(line("raft = \"slow\"").ends_with("# file"));
        assert!(line("insecure = false").ends_with("# default"));
        assert!(line("# advertise is not set").ends_with("# default"));
        // What is printed is a file that says the same.
        let again = NodeConfig::from_layers(vec![(Source::File, toml::from_str(&text).unwrap())]).unwrap();
        assert_eq!(again.config, resolved.config);
    }

    #[test]
    fn unknown_variables_and_values_that_do_not_fit_are_refused_by_name() {
        let read = |name: &str, text: &str| NodeLayer::from_environment([(name.into(), text.into())]);
        let e = read("SLIPWAY_NODE_DNS_LISTN", "127.0.0.1:53").unwrap_err().to_string();
        assert!(e.contains("SLIPWAY_NODE_DNS_LISTN") && e.contains("did you mean `SLIPWAY_NODE_DNS_LISTEN`"), "{e}");
        let e = read("SLIPWAY_NODE_SNAPSHOT_EVERY", "often").unwrap_err().to_string();
        assert!(e.contains("SLIPWAY_NODE_SNAPSHOT_EVERY") && e.contains("\"often\"") && e.contains("number"), "{e}");
        assert!(read("SLIPWAY_NODE_name", "x").is_err(), "variables are in capitals");
        assert_eq!(read("SLIPWAY_NODES", "127.0.0.1:7652").unwrap(), NodeLayer::default(), "the CLI's, not ours");
        let e = NodeConfig::from_layers(vec![(Source::Flag, NodeLayer::default())]).unwrap_err().to_string();
        assert!(e.contains("--name") && e.contains("SLIPWAY_NODE_NAME") && e.contains("--config FILE"), "{e}");
        let vars = [("SLIPWAY_AGENT_NODES", "a:1, b:2"), ("SLIPWAY_AGENT_LABELS", "zone=a,rack=7")];
        let agent = AgentLayer::from_environment(vars.map(|(k, v)| (k.into(), v.into()))).unwrap();
        assert_eq!(agent.nodes.unwrap(), ["a:1", "b:2"]);
        assert_eq!(agent.labels.unwrap()["rack"], "7");
    }

    #[test]
    fn pools_are_written_as_ranges() {
        let config = |pool: &[&str]| {
            let layer = AgentLayer {
                data_dir: Some("d".into()),
                nodes: Some(vec!["127.0.0.1:7652".into()]),
                pool: Some(pool.iter().map(ToString::to_string).collect()),
                ..AgentLayer::default()
            };
            AgentConfig::from_layers(vec![(Source::File, layer)]).unwrap().config
        };
        assert_eq!(config(&["127.0.2.1-127.0.2.3", "127.0.2.3"]).pool_addresses().unwrap().len(), 3);
        for bad in ["127.0.2.3-127.0.2.1", "x", "127.0.0.1-::1", "10.0.0.0-10.255.255.255"] {
            assert!(config(&[bad]).check().is_err(), "{bad}");
        }
    }
}
