//! The flags of `slipwayd agent`. What they mean stands with the settings in `config`; not here: anything that is done with them.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use slipway::config::{AgentConfig, AgentLayer, Resolved};

use super::given;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentFlags {
    #[command(flatten)]
    pub settings: AgentSettings,
    #[command(subcommand)]
    pub verb: Option<AgentVerb>,
}

#[derive(Args)]
pub struct AgentSettings {
    #[command(flatten)]
    place: AgentPlace,
    /// Client address of a node; may be repeated.
    #[arg(long = "node", value_name = "HOST:PORT")]
    nodes: Vec<String>,
    /// The worker's name; without it the host name.
    #[arg(long)]
    name: Option<String>,
    /// Pool addresses: one, or a range such as 127.0.2.1-127.0.2.8; may be repeated.
    #[arg(long)]
    pool: Vec<String>,
    /// The machine's own address, for address mode `host`.
    #[arg(long)]
    host: Option<IpAddr>,
    /// A label, KEY=VALUE; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Instances at most.
    #[arg(long)]
    capacity: Option<u32>,
    /// Whether each instance gets a cgroup of its own where that is possible; without it, yes.
    #[arg(long, value_name = "true|false")]
    cgroups: Option<bool>,
    /// Talk to nodes on other than loopback addresses without TLS.
    #[arg(long)]
    insecure: bool,
}

#[derive(Args)]
pub struct AgentPlace {
    /// Configuration file (TOML); the other flags are laid over it.
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// The agent's data directory.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum AgentVerb {
    /// Stops every instance of an agent that does not run.
    Drain(AgentPlace),
}

impl AgentPlace {
    /// The directory, from the flags or the file.
    pub fn dir(self) -> anyhow::Result<PathBuf> {
        match (self.data_dir, self.config) {
            (Some(dir), _) => Ok(dir),
            // As `slipwayd agent` finds it: the environment overrides the file.
            (None, Some(path)) => Ok(AgentConfig::read(Some(&path), AgentLayer::default())?.config.data_dir),
            (None, None) => anyhow::bail!("give --config FILE or --data-dir DIRECTORY"),
        }
    }
}

impl AgentSettings {
    /// The configuration, with these flags over file and environment.
    pub fn read(self) -> anyhow::Result<Resolved<AgentConfig>> {
        let pair = |l: &String| {
            let (key, value) = l.split_once('=').with_context(|| format!("--label {l:?} is not KEY=VALUE"))?;
            Ok((key.into(), value.into()))
        };
        let labels: anyhow::Result<BTreeMap<String, String>> = self.labels.iter().map(pair).collect();
        let flags = AgentLayer {
            name: self.name.map(Some),
            data_dir: self.place.data_dir,
            nodes: given(self.nodes),
            pool: given(self.pool),
            host: self.host,
            labels: Some(labels?).filter(|l| !l.is_empty()),
            capacity: self.capacity,
            cgroups: self.cgroups,
            insecure: self.insecure.then_some(true),
        };
        Ok(AgentConfig::read(self.place.config.as_deref(), flags)?)
    }
}
