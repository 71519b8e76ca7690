//! What a person may type: nouns, verbs and flags. Meaning is elsewhere; here are only names, help, examples and types.
//!
//! Invariants, held by `cli/tests`: each argument has its help, each verb an example that can be typed as it stands,
//! each noun a place in the groups of the first page. The man pages, docs/cli-reference.md and the completions are made
//! of the same.

mod catalog;
mod cluster;
mod rollout;
mod traffic;
mod upkeep;

use clap::{Arg, Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};

use super::{complete, error, params::ParamArgs};
use crate::model::Period;

pub use catalog::*;
pub use cluster::*;
pub use rollout::*;
pub use traffic::*;
pub use upkeep::*;

/// Rolls new versions out down a controlled ramp.
#[derive(Debug, Parser)]
#[command(name = "slipway", version = version(), max_term_width = 100, subcommand_value_name = "NOUN")]
#[command(subcommand_help_heading = "Nouns")]
pub struct Command {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub noun: Noun,
}

/// Flags that every verb takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every verb")]
pub struct Global {
    /// Client address of a node, several joined by commas [SLIPWAY_NODES, config.toml; default 127.0.0.1:7652]
    #[arg(long, global = true, value_name = "HOST:PORT", value_delimiter = ',', value_hint = ValueHint::Hostname)]
    pub node: Vec<String>,
    /// Environment that a bare service name means [SLIPWAY_ENVIRONMENT, config.toml; default production]; lists show
    /// only this one when the flag is given
    #[arg(long, global = true, value_name = "NAME", add = complete::environments())]
    pub environment: Option<String>,
    /// How to print: tables that fit the screen, whole ones (wide, with more columns of releases, workers, nodes,
    /// instances, deployments, environments and rollouts), or all there is for scripts (docs/json.md)
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, ignore_case = true, value_name = "FORMAT")]
    pub output: Format,
    /// Longest time for one call, with its retries at other nodes [default: 10s, but 1.5s where no node takes the
    /// connection]
    #[arg(long, global = true, value_name = "DURATION", value_parser = above_zero)]
    pub timeout: Option<Period>,
    /// Take what the asked node knows, without the leader's confirmation; it may be old
    #[arg(long, global = true)]
    pub stale: bool,
}

/// A duration that is not zero: on the wire zero means "not given".
fn above_zero(text: &str) -> Result<Period, String> {
    match text.parse::<Period>() {
        Ok(Period(0)) => Err("it must be more than zero".into()),
        Ok(period) => Ok(period),
        Err(e) => Err(e.to_string()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Wide,
    Json,
    Yaml,
}

/// For verbs that cannot be undone: they ask when a person sits there.
#[derive(Debug, Args)]
pub struct Sure {
    /// Do not ask first; nobody is asked where standard input is no terminal
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum Noun {
    /// What is wrong now: live rollouts, what waits, what is degraded, lost workers, nodes
    #[command(after_help = "Example:\n  slipway status")]
    Status,
    /// Why it does not move: a deployment, a rollout (r-52) or a worker
    #[command(after_help = "Example:\n  slipway explain shop")]
    Explain {
        #[command(flatten)]
        what: OnTarget,
    },
    /// Print what the instances of a deployment or a rollout wrote
    #[command(after_help = "Examples:\n  slipway logs shop\n  slipway logs shop --since 10m\n  \
        slipway logs shop --previous\n  slipway logs r-52 -o json\n  slipway logs shop --instance 59-0 -n 200 --follow")]
    Logs(LogsArgs),
    /// Create or change a deployment from a spec file
    #[command(after_help = "Examples:\n  slipway apply -f shop.yaml --dry-run\n  slipway apply -f shop.yaml")]
    Apply(ApplyArgs),
    /// Versions of services: packages by digest
    #[command(subcommand, alias = "releases")]
    Release(ReleaseVerb),
    /// Rollouts: start, watch, steer, explain
    #[command(subcommand, aliases = ["rollouts", "ro"])]
    Rollout(RolloutVerb),
    /// Services in environments: what runs, with which weight
    #[command(subcommand, aliases = ["deployments", "dep"])]
    Deployment(DeploymentVerb),
    /// Services, with the short spellings for everyday rollouts
    #[command(subcommand, aliases = ["services", "svc"])]
    Service(ServiceVerb),
    /// Environments such as production
    #[command(subcommand, aliases = ["environments", "env"])]
    Environment(EnvironmentVerb),
    /// Who gets which version
    #[command(subcommand)]
    Traffic(TrafficVerb),
    /// What DNS answers, and why
    #[command(subcommand)]
    Dns(DnsVerb),
    /// The cluster itself: make it, join nodes, look at it
    #[command(subcommand, alias = "clusters")]
    Cluster(ClusterVerb),
    /// Nodes of the cluster
    #[command(subcommand, alias = "nodes")]
    Node(NodeVerb),
    /// Machines that run instances
    #[command(subcommand, alias = "workers")]
    Worker(WorkerVerb),
    /// Settings of the cluster, and defaults of rollouts
    #[command(subcommand, alias = "setting")]
    Settings(SettingsVerb),
    /// What happened, in order
    #[command(subcommand, alias = "events")]
    Event(EventVerb),
    /// This program's version and commit, and the nodes' versions
    #[command(after_help = "Example:\n  slipway version")]
    Version,
    /// Print what makes a shell complete verbs, flags and the cluster's own names
    #[command(after_help = "Examples:\n  source <(slipway completions bash)\n  slipway completions fish | source")]
    Completions {
        /// Which shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write the man pages of all verbs into a directory
    #[command(after_help = "Example:\n  slipway man /usr/local/share/man/man1")]
    Man {
        /// An existing directory
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: std::path::PathBuf,
    },
    /// Play the demo: a cluster of its own, every strategy, a killed leader (needs a build tree: `make demo`)
    #[command(hide = true, after_help = "Example:\n  slipway demo --down")]
    Demo {
        /// Bring the demo's cluster up and leave it running
        #[arg(long, conflicts_with = "down")]
        up: bool,
        /// Stop every demo cluster that was left running
        #[arg(long)]
        down: bool,
    },
}

/// The nouns of the first page, by what they are for.
pub const GROUPS: &[(&str, &[&str])] = &[
    ("At three in the morning", &["status", "explain", "logs", "event"]),
    ("Rolling out", &["apply", "release", "rollout", "service", "deployment", "environment"]),
    ("Traffic", &["traffic", "dns"]),
    ("The machines", &["cluster", "node", "worker", "settings"]),
    ("This program", &["version", "completions", "man"]),
];

const TASKS: &str = "\
Common tasks:
  what is wrong now         slipway status
  why it does not move      slipway explain shop
  what it logged            slipway logs shop
  roll a version out        slipway rollout start shop --to 1.1.0 --watch
  go back                   slipway rollout rollback shop --watch
  go to a chosen version    slipway rollout start shop --to 1.0.0 --watch
  which release is bad      slipway rollout history shop, slipway release list shop
  stop a service            slipway service stop shop --watch
  start it again            slipway service start shop --watch
  stop a service for good   slipway deployment remove shop --stop --watch
  scale                     change placement.per_worker in the spec, then
                            slipway apply -f shop.yaml, slipway rollout restart shop --watch
";

/// The whole command line, with the first page of its help.
pub fn definition() -> clap::Command {
    let command = Command::command();
    let mut nouns = String::new();
    for (title, names) in GROUPS {
        nouns += &format!("{title}:\n");
        for name in *names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            nouns += &format!("  {name:<12} {}\n", about.map(ToString::to_string).unwrap_or_default());
        }
        nouns.push('\n');
    }
    let after = format!(
        "{TASKS}\nPlurals and short names are understood too (rollouts, ro, svc, dep, env).\n\
         `slipway NOUN --help` lists its verbs, `slipway NOUN VERB --help` has their flags and examples.\n\nExit codes: {}.",
        error::codes()
    );
    let command = command
        .help_template("{about-with-newline}\n{usage-heading} {usage}\n\n{before-help}Options of every verb:\n{options}{after-help}")
        .before_help(nouns)
        .after_help(after);
    let global: Vec<Arg> = command.get_arguments().filter(|a| a.is_global_set()).cloned().collect();
    tuned(command, "", &global)
}

/// Verbs that ask no node, with those of the options of every verb that they read.
pub const LOCAL: &[(&str, &[&str])] =
    &[("completions", &[]), ("man", &[]), ("cluster restore", &["output"]), ("cluster check", &["output"])];

/// What holds for all verbs. A verb says what its exit codes mean beside what they always do. It shows no option that
/// it does not read. A duration that looks like a flag (`-5s`) is a wrong value and no unknown flag.
fn tuned(command: clap::Command, path: &str, global: &[Arg]) -> clap::Command {
    let own = error::of_verb(path);
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let command = if own.is_empty() { command } else { command.after_help(format!("{after}\n{own}")) };
    let command = command.mut_args(|a| {
        let timed = a.get_value_names().is_some_and(|names| names.iter().any(|n| n.as_str() == "DURATION"));
        if timed { a.allow_hyphen_values(true) } else { a }
    });
    let command = match LOCAL.iter().find(|(verb, _)| *verb == path) {
        None => command,
        Some((_, reads)) => {
            let unread = global.iter().filter(|a| !reads.contains(&a.get_id().as_str()));
            command.args(unread.map(|a| a.clone().hide(true)))
        }
    };
    // Below a noun there are verbs.
    let command = if path.is_empty() || !command.has_subcommands() {
        command
    } else {
        command.subcommand_value_name("VERB").subcommand_help_heading("Verbs")
    };
    command.mut_subcommands(|c| {
        let path = format!("{path} {}", c.get_name()).trim_start().to_string();
        tuned(c, &path, global)
    })
}

/// `0.1.0 (commit)`; the commit is there when whoever built it said it in `SLIPWAY_COMMIT`.
pub fn version() -> &'static str {
    const COMMIT: Option<&str> = option_env!("SLIPWAY_COMMIT");
    static TEXT: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| format!("{} ({})", env!("CARGO_PKG_VERSION"), COMMIT.unwrap_or("commit unknown")));
    &TEXT
}

/// A rollout, or a deployment by its own name or its service's.
#[derive(Debug, Args)]
pub struct OnTarget {
    /// Rollout (r-52), ENVIRONMENT/SERVICE, or a service in the default environment
    #[arg(value_name = "TARGET", add = complete::targets())]
    pub target: String,
}

#[derive(Debug, Subcommand)]
pub enum EventVerb {
    /// Events that are kept
    #[command(visible_aliases = ["ls", "history"])]
    #[command(after_help = "Examples:\n  slipway event list shop -n 20\n  slipway event list --since 10m")]
    List {
        /// Only those of this rollout (r-52), ENVIRONMENT/SERVICE, or service in the default environment
        #[arg(value_name = "TARGET", add = complete::targets())]
        target: Option<String>,
        /// Only the newest so many
        #[arg(short = 'n', long, value_name = "NUMBER")]
        limit: Option<usize>,
        /// Only what happened less than this long ago
        #[arg(long, value_name = "DURATION", value_parser = above_zero)]
        since: Option<Period>,
    },
    /// Events as they come
    #[command(after_help = "Example:\n  slipway event watch shop -o json")]
    Watch {
        /// Only those of this rollout (r-52), ENVIRONMENT/SERVICE, or service in the default environment
        #[arg(value_name = "TARGET", add = complete::targets())]
        target: Option<String>,
        /// Begin after this log index instead of now
        #[arg(long, value_name = "INDEX", value_parser = index)]
        after: Option<u64>,
    },
}

fn index(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "it must be the number of an entry, such as 520".to_string())
}

/// Lines of an instance that can be asked for at once.
const MOST_LINES: u32 = 10_000;

#[derive(Debug, Args)]
pub struct LogsArgs {
    #[command(flatten)]
    pub what: OnTarget,
    /// Go on printing what they write, as it comes
    #[arg(short, long)]
    pub follow: bool,
    /// Instances that have ended, not those that run or failed; of a rollout, those of the version before it, not those
    /// that it made
    #[arg(short, long, conflicts_with_all = ["follow", "instance"])]
    pub previous: bool,
    /// Only this instance, such as 59-0, also when it has ended
    #[arg(long, value_name = "INSTANCE", value_parser = instance, add = complete::instances())]
    pub instance: Option<String>,
    /// Only what was written less than this long ago, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = above_zero, allow_hyphen_values = true)]
    pub since: Option<Period>,
    /// Last lines of each instance, at most 10000 [default: 50, but all with --since]
    #[arg(short = 'n', long, visible_alias = "tail", value_name = "NUMBER", value_parser = lines)]
    pub lines: Option<u32>,
}

fn lines(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|n| *n <= MOST_LINES);
    number.ok_or_else(|| format!("it must be a number from 0 to {MOST_LINES}"))
}

fn instance(text: &str) -> Result<String, String> {
    match text.parse::<crate::model::InstanceId>() {
        Ok(id) => Ok(id.to_string()),
        Err(e) => Err(e.to_string()),
    }
}
