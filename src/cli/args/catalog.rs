//! Flags of the verbs about what is rolled out, and where it runs.

use super::*;

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Spec in YAML, JSON or TOML; - reads standard input (YAML or JSON)
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: std::path::PathBuf,
    /// Check it and say what would change; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// One service's name.
#[derive(Debug, Args)]
pub struct OnService {
    /// Name of a service
    #[arg(value_name = "SERVICE", add = complete::services())]
    pub service: String,
}

/// One release.
#[derive(Debug, Args)]
pub struct OnRelease {
    /// Name of a service
    #[arg(value_name = "SERVICE", add = complete::services())]
    pub service: String,
    /// One of its versions
    #[arg(value_name = "VERSION", add = complete::versions())]
    pub version: String,
}

#[derive(Debug, Subcommand)]
pub enum ReleaseVerb {
    /// Pack a directory reproducibly, upload it and register it as a version
    #[command(
        after_help = "Examples:\n  slipway release push shop 1.1.0 ./build --commit b7e4c27\n  slipway release push cart 1.0.0 cart.tar.gz --new"
    )]
    Push(PushArgs),
    /// List releases: what became of them, how many copies there are
    #[command(visible_alias = "ls", after_help = "Example:\n  slipway release list shop -o wide")]
    List {
        /// Only this service's
        #[arg(value_name = "SERVICE", add = complete::services())]
        service: Option<String>,
    },
    /// One release: what it is made of, where it runs
    #[command(visible_alias = "status", after_help = "Example:\n  slipway release show shop 1.0.0")]
    Show(OnRelease),
    /// Take a version out of use for ever: nobody rolls it out any more, and it stays listed
    #[command(after_help = "Example:\n  slipway release retire shop 0.9.0 --yes")]
    Retire {
        #[command(flatten)]
        release: OnRelease,
        #[command(flatten)]
        sure: Sure,
    },
    /// Remove a version that nothing runs and nothing could go back to; nodes delete its package some time later
    #[command(after_help = "Example:\n  slipway release remove shop 0.9.0 --yes")]
    Remove {
        #[command(flatten)]
        release: OnRelease,
        #[command(flatten)]
        sure: Sure,
    },
    /// Remove old versions that nothing runs, is rolled out or could be gone back to
    #[command(
        after_help = "Examples:\n  slipway release prune shop --keep 10 --yes\n  slipway release prune shop --older-than 720h --yes"
    )]
    Prune {
        #[command(flatten)]
        what: OnService,
        /// Keep so many of the newest by registration
        #[arg(long, value_name = "N", required_unless_present = "older_than", conflicts_with = "older_than")]
        keep: Option<u32>,
        /// Remove those that were registered so long ago
        #[arg(long, value_name = "DURATION")]
        older_than: Option<Period>,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Debug, Args)]
pub struct PushArgs {
    #[command(flatten)]
    pub what: OnService,
    /// Version such as 1.1.0, v2 or dev-b7e4c27
    #[arg(value_name = "VERSION")]
    pub version: String,
    /// Directory to pack, or a .tar.gz or .tar.zst that is packed already
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub path: std::path::PathBuf,
    /// The service is not there yet: make it
    #[arg(long)]
    pub new: bool,
    /// Label KEY=VALUE on the release; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Version of a component that the release is made of, NAME=VERSION; may be repeated
    #[arg(long = "component", value_name = "NAME=VERSION", value_parser = label)]
    pub components: Vec<(String, String)>,
    /// Source commit it was built from
    #[arg(long, value_name = "COMMIT")]
    pub commit: Option<String>,
    /// Toolchain it was built with
    #[arg(long, value_name = "TEXT")]
    pub toolchain: Option<String>,
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        Some(_) | None => Err("write KEY=VALUE".into()),
    }
}

/// One deployment.
#[derive(Debug, Args)]
pub struct OnDeployment {
    /// ENVIRONMENT/SERVICE, or a service in the default environment
    #[arg(value_name = "DEPLOYMENT", add = complete::deployments())]
    pub deployment: String,
}

/// Whether and how long to wait for the end.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Say what it waits for until it is done
    #[arg(short, long)]
    pub watch: bool,
    /// Stop waiting after this long, with exit code 4; the cluster goes on
    #[arg(long, value_name = "DURATION", value_parser = above_zero, requires = "watch")]
    pub within: Option<Period>,
}

#[derive(Debug, Subcommand)]
pub enum DeploymentVerb {
    /// List deployments
    #[command(visible_alias = "ls", after_help = "Example:\n  slipway deployment list --environment production")]
    List,
    /// One deployment: versions, route, instances, and those that failed
    #[command(visible_alias = "status", after_help = "Example:\n  slipway deployment show shop -o wide")]
    Show(OnTarget),
    /// Past rollouts, newest first
    #[command(after_help = "Example:\n  slipway deployment history shop -n 5")]
    History(HistoryArgs),
    /// Remove a deployment of which nothing runs
    #[command(after_help = "Example:\n  slipway deployment remove shop --stop --yes")]
    Remove {
        #[command(flatten)]
        what: OnDeployment,
        /// Take it out of DNS, drain and stop it first
        #[arg(long)]
        stop: bool,
        /// Wait until nothing of it is left
        #[arg(short, long)]
        watch: bool,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// List services
    #[command(visible_alias = "ls", after_help = "Example:\n  slipway service list")]
    List,
    /// One service: its releases and its deployments
    #[command(visible_alias = "status", after_help = "Example:\n  slipway service show shop")]
    Show(OnService),
    /// Roll a version out; the same as `rollout start`
    #[command(after_help = "Example:\n  slipway service update shop --to 1.1.0 --watch")]
    Update {
        #[command(flatten)]
        start: StartArgs,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Unwind the live rollout, or return from the last completed one
    #[command(after_help = "Example:\n  slipway service rollback shop --watch")]
    Rollback {
        #[command(flatten)]
        what: OnTarget,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Stop all instances until `service start`: out of DNS first, then drained
    ///
    /// Versions, weights and worker addresses are kept for the start, over restarts of machines too. While it is
    /// stopped its DNS names have no address, as they have none when no instance passes its checks.
    #[command(after_help = "Example:\n  slipway service stop shop --yes")]
    Stop {
        #[command(flatten)]
        what: OnDeployment,
        #[command(flatten)]
        wait: WaitArgs,
        #[command(flatten)]
        sure: Sure,
    },
    /// Start what was stopped: the same versions and weights, at the same addresses
    ///
    /// Each instance gets traffic once it passes its checks.
    #[command(after_help = "Example:\n  slipway service start shop")]
    Start {
        #[command(flatten)]
        what: OnDeployment,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Past rollouts, newest first
    #[command(after_help = "Example:\n  slipway service history shop -n 5")]
    History(HistoryArgs),
    /// The live canary
    #[command(subcommand)]
    Canary(CanaryVerb),
    /// Remove a service that has neither deployments nor releases; other bytes never come under versions that ran
    #[command(after_help = "Example:\n  slipway service remove shop --yes")]
    Remove {
        #[command(flatten)]
        what: OnService,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Debug, Subcommand)]
pub enum CanaryVerb {
    /// Steps, weights, what it waits for
    #[command(visible_alias = "show", after_help = "Example:\n  slipway service canary status shop")]
    Status(OnTarget),
    /// Skip bakes and lower percentages and promote at once (`rollout promote --full`)
    #[command(after_help = "Example:\n  slipway service canary promote shop --watch")]
    Promote {
        #[command(flatten)]
        what: OnTarget,
        #[command(flatten)]
        watch: WatchArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum EnvironmentVerb {
    /// List environments
    #[command(visible_alias = "ls", after_help = "Example:\n  slipway environment list")]
    List,
    /// One environment: its settings and its deployments
    #[command(visible_alias = "status", after_help = "Example:\n  slipway environment show production")]
    Show {
        /// Name of an environment
        #[arg(value_name = "ENVIRONMENT", add = complete::environments())]
        name: String,
    },
    /// Make an environment
    #[command(after_help = "Example:\n  slipway environment create beta --order 25 --default-strategy canary")]
    Create(EnvironmentArgs),
    /// Change an environment
    #[command(after_help = "Example:\n  slipway environment set beta --default-strategy rolling")]
    Set(EnvironmentArgs),
    /// Remove an environment without deployments; the last one stays
    #[command(after_help = "Example:\n  slipway environment remove beta --yes")]
    Remove {
        /// Name of an environment
        #[arg(value_name = "ENVIRONMENT", add = complete::environments())]
        name: String,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Debug, Subcommand)]
pub enum WorkerVerb {
    /// List workers
    #[command(visible_alias = "ls", after_help = "Example:\n  slipway worker list -o wide")]
    List,
    /// One worker: its machine, what it runs
    #[command(visible_alias = "status", after_help = "Example:\n  slipway worker show w1")]
    Show {
        /// Name of a worker
        #[arg(value_name = "WORKER", add = complete::workers())]
        name: String,
    },
    /// Remove a machine that does not come back: its name, its addresses, and what was counted out on it
    #[command(after_help = "Example:\n  slipway worker remove w3 --gone --yes")]
    Remove {
        /// Name of a worker
        #[arg(value_name = "WORKER", add = complete::workers())]
        name: String,
        /// It runs nothing any more, so nothing has to wait until it is lost for good
        #[arg(long)]
        gone: bool,
        #[command(flatten)]
        sure: Sure,
    },
    /// Let another machine take a lost one's place for a while, under its name and with its addresses
    #[command(after_help = "Example:\n  slipway worker rekey w3 --within 1h --yes")]
    Rekey {
        /// Name of a worker
        #[arg(value_name = "WORKER", add = complete::workers())]
        name: String,
        /// For so long another key is taken
        #[arg(long, value_name = "DURATION", default_value = "1h")]
        within: Period,
        #[command(flatten)]
        sure: Sure,
    },
}
