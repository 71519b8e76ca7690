//! The flags of `slipwayd agent`. What they mean stands with the settings in `config`; not here: anything that is done
//! with them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use slipway::config::{AgentConfig, AgentLayer, Resolved};

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
    /// Configuration file (TOML); the other flags are laid over it.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: AgentLayer,
}

#[derive(Args)]
pub struct AgentPlace {
    /// Configuration file (TOML); the other flags are laid over it.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The agent's data directory.
    #[arg(long, value_name = "DIRECTORY")]
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
        Ok(AgentConfig::read(self.config.as_deref(), self.flags)?)
    }
}
