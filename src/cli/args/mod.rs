//! What a person may type: nouns, verbs and flags, with their help and types.
//!
//! Not here: what a verb does (`verbs`).

mod cluster;
mod rollout;
mod traffic;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::params::ParamArgs;
use crate::model::Period;

pub use cluster::*;
pub use rollout::*;
pub use traffic::*;

/// Rolls new versions out down a controlled ramp.
#[derive(Debug, Parser)]
#[command(name = "slipway", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed or refused, 2 usage, 3 rolled back, 4 timed out, 5 no node available."
)]
pub struct Command {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub noun: Noun,
}

/// Flags that every verb takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Client address of a node, several joined by commas [SLIPWAY_NODES, config.toml; default 127.0.0.1:7652]
    #[arg(long, global = true, value_name = "HOST:PORT", value_delimiter = ',')]
    pub node: Vec<String>,
    /// Environment that a bare service name means [SLIPWAY_ENVIRONMENT, config.toml; default production]
    #[arg(long, global = true, value_name = "NAME")]
    pub environment: Option<String>,
    /// How to print
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Longest time for one call, with its retries at other nodes
    #[arg(long, global = true, value_name = "DURATION", default_value = "10s")]
    pub timeout: Period,
    /// Take what the asked node knows, without the leader's confirmation; it may be old
    #[arg(long, global = true)]
    pub stale: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Wide,
    Json,
    Yaml,
}

#[derive(Debug, Subcommand)]
pub enum Noun {
    /// The cluster itself: make it, join nodes, look at it
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// Nodes of the cluster
    #[command(subcommand)]
    Node(NodeVerb),
    /// Machines that run instances
    #[command(subcommand)]
    Worker(ListVerb),
    /// Versions of services: packages by digest
    #[command(subcommand)]
    Release(ReleaseVerb),
    /// Environments such as production
    #[command(subcommand)]
    Environment(ListVerb),
    /// Services, with the short spellings for everyday rollouts
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Services in environments: what runs, with which weight
    #[command(subcommand)]
    Deployment(DeploymentVerb),
    /// Rollouts: start, watch, steer, explain
    #[command(subcommand)]
    Rollout(RolloutVerb),
    /// Who gets which version
    #[command(subcommand)]
    Traffic(TrafficVerb),
    /// What DNS answers, and why
    #[command(subcommand)]
    Dns(DnsVerb),
    /// What happened, in order
    #[command(subcommand)]
    Event(EventVerb),
    /// Create or change a deployment from a spec file
    Apply(ApplyArgs),
    /// Print the logs of a deployment's instances
    Logs(LogsArgs),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
    /// Play the demo: a cluster of its own, every strategy, a killed leader (needs a build tree: `make demo`)
    #[command(hide = true)]
    Demo {
        /// Bring the demo's cluster up and leave it running
        #[arg(long, conflicts_with = "down")]
        up: bool,
        /// Stop every demo cluster that was left running
        #[arg(long)]
        down: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum ListVerb {
    /// List them
    #[command(visible_alias = "ls")]
    List,
}

#[derive(Debug, Subcommand)]
pub enum ReleaseVerb {
    /// Pack a directory reproducibly, upload it and register it as a version
    Push(PushArgs),
    /// List releases
    #[command(visible_alias = "ls")]
    List {
        /// Only this service's
        service: Option<String>,
    },
    /// One release: what it is made of, where it runs
    Show { service: String, version: String },
    /// Take a version out of use: nobody rolls it out any more, and it stays listed
    Retire { service: String, version: String },
    /// Remove a version that nothing runs and nothing could go back to; its package stays on the nodes' disks for now
    Remove { service: String, version: String },
}

#[derive(Debug, Args)]
pub struct PushArgs {
    pub service: String,
    /// Version such as 1.1.0, v2 or dev-b7e4c27
    pub version: String,
    /// Directory to pack, or a .tar.gz or .tar.zst that is packed already
    pub path: std::path::PathBuf,
    /// Label KEY=VALUE on the release
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Source commit it was built from
    #[arg(long)]
    pub commit: Option<String>,
    /// Toolchain it was built with
    #[arg(long)]
    pub toolchain: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum DeploymentVerb {
    /// List deployments
    #[command(visible_alias = "ls")]
    List,
    /// One deployment: arms, route, instances
    Show { deployment: String },
}

#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// List services
    #[command(visible_alias = "ls")]
    List,
    /// Roll a version out; the same as `rollout start`
    Update {
        deployment: String,
        /// Version to move to
        #[arg(long, required_unless_present = "image", value_name = "VERSION")]
        to: Option<String>,
        /// OCI image (not supported yet: push a directory)
        #[arg(long, conflicts_with = "to")]
        image: Option<String>,
        #[command(flatten)]
        params: Box<ParamArgs>,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Unwind the live rollout, or return from the last completed one
    Rollback {
        deployment: String,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Past rollouts, newest first
    History { deployment: String },
    /// The live canary
    #[command(subcommand)]
    Canary(CanaryVerb),
}

#[derive(Debug, Subcommand)]
pub enum CanaryVerb {
    /// Steps, weights, what it waits for
    Status { deployment: String },
    /// Skip bakes and lower percentages and promote at once (`rollout promote --full`)
    Promote {
        deployment: String,
        #[command(flatten)]
        watch: WatchArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum EventVerb {
    /// Events that are kept
    #[command(visible_alias = "ls")]
    List {
        /// Only this one's
        deployment: Option<String>,
    },
    /// Events as they come
    Watch {
        /// Only this one's
        deployment: Option<String>,
        /// Begin after this log index instead of now
        #[arg(long, value_name = "INDEX")]
        after: Option<u64>,
    },
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Spec in YAML, JSON or TOML; - reads standard input (YAML or JSON)
    #[arg(short, long, value_name = "FILE")]
    pub file: std::path::PathBuf,
    /// Check it and say what would change; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// ENVIRONMENT/SERVICE, or a service in the default environment
    pub deployment: String,
    /// Go on printing what comes
    #[arg(short, long)]
    pub follow: bool,
    /// Only this instance, such as 59-0
    #[arg(long)]
    pub instance: Option<String>,
    /// Last lines of each stream to begin with
    #[arg(short = 'n', long, default_value_t = 50)]
    pub lines: u32,
}
