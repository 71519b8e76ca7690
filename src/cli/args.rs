//! What a person may type: nouns, verbs and flags. Meaning is elsewhere; here are only names, help and types.

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::params::ParamArgs;
use crate::model::Period;

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
pub enum ClusterVerb {
    /// Make a new cluster of the node at --node
    Init {
        /// The cluster's name
        #[arg(long, default_value = "slipway")]
        name: String,
        /// DNS zone [default: slipway.internal]
        #[arg(long)]
        zone: Option<String>,
    },
    /// Make the node at --node join the cluster of another node
    Join {
        /// Client address of any member
        #[arg(value_name = "MEMBER")]
        seed: String,
    },
    /// Who is in it, who leads, how far everyone is
    Status,
    /// Ask every node for a digest of its State: do all replicas agree?
    Digest,
    /// Make the node at --node write a snapshot of its log now, and drop what it covers
    Snapshot {
        /// Every node of the cluster
        #[arg(long)]
        all: bool,
    },
    /// Take a backup of everything from a running node: the state and all packages, in one file
    Backup {
        /// Where to; it must not exist
        file: std::path::PathBuf,
        /// Leave packages out: releases must be pushed again after a restore
        #[arg(long, visible_alias = "without-blobs")]
        without_packages: bool,
    },
    /// Make a new cluster of one node on this machine from a backup (runs `slipwayd restore`)
    Restore {
        /// A backup
        file: std::path::PathBuf,
        /// Flags of the new node, as for `slipwayd node`: --config FILE, or --name NAME --data-dir DIRECTORY ...; see `slipwayd restore --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "FLAGS")]
        flags: Vec<std::ffi::OsString>,
    },
    /// Check a backup or a stopped node's data directory (runs `slipwayd check`)
    Check {
        /// A file or a directory
        path: std::path::PathBuf,
    },
    /// Hand leadership to another node
    TransferLeader {
        /// Name or id of a node; any other voter when absent
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
    },
    /// Remove a node for ever; its data directory cannot come back
    Leave {
        /// Name or id of a member; the node at --node when absent
        #[arg(value_name = "MEMBER")]
        member: Option<String>,
        /// Also when it holds the last copy of a package: its releases must be pushed again
        #[arg(long)]
        lose_packages: bool,
    },
    /// Take a node out for maintenance: it hands leadership over, does not lead and is not ready, until --undo
    Drain {
        /// Name or id of a member; the node at --node when absent
        #[arg(value_name = "MEMBER")]
        member: Option<String>,
        /// Take it back
        #[arg(long)]
        undo: bool,
    },
    /// Feature levels: what nodes support, and raising the active one
    #[command(subcommand)]
    Upgrade(UpgradeVerb),
    /// The secret of DNS cookies that all nodes share
    #[command(subcommand)]
    DnsCookie(DnsCookieVerb),
}

#[derive(Debug, Subcommand)]
pub enum DnsCookieVerb {
    /// Make up another secret now; cookies of the one before are good for another hour
    Rotate,
}

#[derive(Debug, Subcommand)]
pub enum UpgradeVerb {
    /// The active feature level, and what each node's program supports
    Status,
    /// Raise the feature level by one; older programs cannot come back after it
    Finalize,
}

#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// List them
    #[command(visible_alias = "ls")]
    List,
    /// Put a new node in a dead one's place: the new one joins, then the dead one is removed. May be run again
    Replace {
        /// Name or id of the node to remove
        #[arg(value_name = "DEAD")]
        dead: String,
        /// Client address of the new node, which runs on an empty data directory
        #[arg(long, value_name = "HOST:PORT")]
        with: String,
        /// Also when the dead one holds the last copy of a package: its releases must be pushed again
        #[arg(long)]
        lose_packages: bool,
    },
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
}

#[derive(Debug, Args)]
pub struct PushArgs {
    pub service: String,
    /// Semantic version such as 1.1.0
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
    /// One deployment: tracks, route, instances
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

#[derive(Debug, Args)]
pub struct StartArgs {
    /// ENVIRONMENT/SERVICE, or a service in the default environment
    pub deployment: String,
    /// Version to move to
    #[arg(long, value_name = "VERSION")]
    pub to: String,
    #[command(flatten)]
    pub params: Box<ParamArgs>,
}

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Follow until it ends; the exit code says how (0 completed, 3 rolled back)
    #[arg(short, long)]
    pub watch: bool,
    /// Stop watching after this long, with exit code 4; the rollout goes on
    #[arg(long, value_name = "DURATION")]
    pub within: Option<Period>,
}

#[derive(Debug, Subcommand)]
pub enum RolloutVerb {
    /// Show the steps that `start` would run, and change nothing
    Plan(StartArgs),
    /// Start a rollout
    Start {
        #[command(flatten)]
        start: StartArgs,
        /// End a live rollout first, in the same moment: a way back where it stands, one that goes forward with the traffic on stable
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Roll the running version out again
    Restart {
        deployment: String,
        #[command(flatten)]
        params: Box<ParamArgs>,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Steps, weights, what it waits for
    Status {
        /// Rollout (r-52) or ENVIRONMENT/SERVICE
        target: String,
    },
    /// Follow until it ends
    Watch {
        /// Rollout (r-52) or ENVIRONMENT/SERVICE
        target: String,
        /// Stop watching after this long, with exit code 4
        #[arg(long, value_name = "DURATION")]
        within: Option<Period>,
    },
    /// Hold it where it is
    Pause { target: String },
    /// Go on after a pause
    Resume { target: String },
    /// End the present step
    Promote {
        target: String,
        /// Skip bakes, hooks and lower percentages, never the last install and route
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Put traffic on stable and stop, keeping candidates to look at
    Abort {
        target: String,
        /// End a way back where it stands: both versions keep their instances and traffic until the next rollout replaces both
        #[arg(long)]
        as_is: bool,
    },
    /// Unwind everything: traffic first, then workers
    Rollback {
        target: String,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Past rollouts, newest first
    History { deployment: String },
    /// Why it is not moving, and what was decided so far
    Explain { deployment: String },
}

#[derive(Debug, Subcommand)]
pub enum TrafficVerb {
    /// Versions, weights, DNS names and servers of a deployment
    Show { deployment: String },
    /// Move all traffic of deployments to the version beside the running one, in one entry, and say when no DNS server answers with
    /// the old one any more; exit code 1 when that cannot be said, 3 when nothing was moved
    Switch(SwitchArgs),
    /// Serving leases: show their settings and the switches so far, or change settings
    Lease(LeaseArgs),
    /// Ask DNS and send requests as clients do, and count who answers; exit code 1 when a request failed
    Probe(ProbeArgs),
}

#[derive(Debug, Subcommand)]
pub enum DnsVerb {
    /// Why a node answers a name as it does; exit code 1 when it has no answer
    Trace(DnsTraceArgs),
    /// Ask every node, side by side; exit code 1 when one is behind or silent
    Query(DnsQueryArgs),
}

#[derive(Debug, Args)]
pub struct DnsTraceArgs {
    /// DNS name, ENVIRONMENT/SERVICE, or a service in the default environment
    pub name: String,
    /// As this client would be answered, whose last look-up may bind the answer
    #[arg(long, value_name = "IP")]
    pub from: Option<std::net::IpAddr>,
    /// As if k-KEY stood before the name
    #[arg(long)]
    pub key: Option<String>,
    /// Node to ask, by name or id [default: the one that --node reaches]
    #[arg(long, value_name = "NODE")]
    pub on: Option<String>,
}

#[derive(Debug, Args)]
pub struct DnsQueryArgs {
    /// DNS name, ENVIRONMENT/SERVICE, or a service in the default environment
    pub name: String,
    /// Record type
    #[arg(long = "type", short = 't', default_value = "A")]
    pub kind: String,
}

#[derive(Debug, Args)]
pub struct SwitchArgs {
    /// ENVIRONMENT/SERVICE, or services in the default environment
    #[arg(required_unless_present = "back")]
    pub deployments: Vec<String>,
    /// Version to move to, or `previous`
    #[arg(long, value_name = "VERSION", required_unless_present = "back", conflicts_with = "back")]
    pub to: Option<String>,
    /// Take an earlier switch back, as a whole
    #[arg(long, value_name = "SWITCH", conflicts_with = "deployments")]
    pub back: Option<String>,
    /// What to wait for: committed; no server answers with the old version; nor does a cache that keeps to TTLs
    #[arg(long, value_enum, default_value_t = WaitFor::Fenced)]
    pub wait: WaitFor,
    /// Move nothing when a DNS server does not confirm in time that it knows of the switch
    #[arg(long)]
    pub or_take_back: bool,
    /// How long DNS servers may take to confirm that
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub within: Period,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    Quorum,
    Fenced,
    Caches,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LeaseMode {
    Armed,
    Always,
}

#[derive(Debug, Args)]
pub struct LeaseArgs {
    /// When leases bind: only what is being switched, or every service at all times
    #[arg(long, value_enum)]
    pub mode: Option<LeaseMode>,
    /// How long a lease is
    #[arg(long, value_name = "DURATION")]
    pub duration: Option<Period>,
    /// How much faster one node's clock may run than another's, parts per million
    #[arg(long, value_name = "PPM")]
    pub drift: Option<u32>,
    /// What is added where a lease is waited for
    #[arg(long, value_name = "DURATION")]
    pub margin: Option<Period>,
    /// A deployment, with --on-expiry
    #[arg(requires = "on_expiry")]
    pub deployment: Option<String>,
    /// What a bound deployment answers once the lease is over: fail, stale:DURATION, or default
    #[arg(long, value_name = "POLICY", requires = "deployment")]
    pub on_expiry: Option<String>,
}

#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// ENVIRONMENT/SERVICE, a service in the default environment, or a DNS name
    pub name: String,
    /// HTTP requests a second, of all clients together
    #[arg(long, default_value_t = 200)]
    pub rate: u32,
    /// Clients, each with its own resolver cache
    #[arg(long, default_value_t = 500)]
    pub clients: u32,
    /// How long; until Ctrl-C when absent
    #[arg(long, value_name = "DURATION")]
    pub duration: Option<Period>,
    /// DNS servers to ask in turn [default: every node's]
    #[arg(long, value_name = "IP:PORT,...", value_delimiter = ',')]
    pub dns: Vec<std::net::SocketAddr>,
    /// Port of the service [default: its port http, or its only one]
    #[arg(long)]
    pub port: Option<u16>,
    /// Path to get
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Print one JSON object at the end; the same as -o json
    #[arg(long)]
    pub json: bool,
    /// Write everything, second by second, to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<std::path::PathBuf>,
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
