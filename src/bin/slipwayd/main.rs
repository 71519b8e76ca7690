//! The daemon: `node`, `agent`, `dev`, and the agent's own `shim`. Thin: reads flags, sets up logging, dispatches.
//!
//! Exit codes: 0 ended as asked, 1 failed, 2 usage or configuration.

mod agent_flags;
mod dev;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use agent_flags::{AgentFlags, AgentSettings, AgentVerb};
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use slipway::{
    agent,
    config::{self, NodeConfig, NodeLayer, Resolved},
    console::{self, Unwritten},
    dns::TlsIdentity,
    node::{Node, NodeEnd, offline, wait_for_room},
};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
#[command(name = "slipwayd", version, about = "Slipway's daemon: a node of the cluster, or a worker's agent")]
struct Cli {
    /// What is logged to stderr, such as `info` or `slipway=debug`.
    /// Without it SLIPWAY_LOG, and without that `info,openraft=error`.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// How it is logged: text for people (default), or one JSON object a line. Without it SLIPWAY_LOG_FORMAT.
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node: replicated state, DNS, the leader's planner.
    Node(NodeFlags),
    /// Runs a worker's agent: releases on disk, instances as processes. Instances outlive it.
    Agent(AgentFlags),
    /// A whole cluster of one for a laptop: a node, an agent and DNS, with a directory of its own.
    Dev(dev::Flags),
    /// Makes a node's directory from a backup: node 1 of a new cluster, which goes on where the backup ends.
    Restore(RestoreFlags),
    /// Backs the directory of a stopped node up; `slipway cluster backup` asks a running one.
    Backup(BackupFlags),
    /// Checks a backup or a stopped node's directory; exit code 1 and what is wrong, and where.
    Check {
        /// A backup or a data directory.
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
    /// Settings: what is in force and where it came from, and whether it is sound. docs/config.md lists them.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Started by the agent alone: holds one instance.
    #[command(hide = true, disable_help_flag = true)]
    Shim {
        /// As the agent passes them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

#[derive(Subcommand)]
enum ConfigVerb {
    /// Prints the settings in force, as a file with the source of each value.
    Print {
        /// Whose.
        #[command(subcommand)]
        of: ConfigOf,
    },
    /// Reads and checks the settings; exit code 2 and what is wrong.
    Check {
        /// Whose.
        #[command(subcommand)]
        of: ConfigOf,
    },
}

#[derive(Subcommand)]
enum ConfigOf {
    /// A node's, with the flags that `slipwayd node` takes.
    Node(Box<NodeFlags>),
    /// An agent's, with the flags that `slipwayd agent` takes.
    Agent(Box<AgentSettings>),
}

#[derive(Args)]
struct NodeFlags {
    /// Configuration file (TOML); the other flags are laid over it.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: NodeLayer,
    /// Claims to support feature levels from here on only, for tests of upgrades.
    #[arg(long, hide = true, default_value_t = 1)]
    min_feature_level: u32,
    /// Claims to support feature levels up to here only, for tests of upgrades.
    #[arg(long, hide = true)]
    max_feature_level: Option<u32>,
    /// Makes a part panic, `plan:SERVICE` or `task:NAME`, for tests of supervision.
    #[arg(long, hide = true)]
    fault: Option<String>,
}

#[derive(Args)]
struct RestoreFlags {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Incarnation of the new cluster at least: above that of a cluster restored earlier from the same backup.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    incarnation: u64,
    /// Id of a cluster that was restored earlier from the same backup: its agents go on with the new one. May be
    /// repeated.
    #[arg(long = "succeeds", value_name = "CLUSTER")]
    succeeds: Vec<String>,
    #[command(flatten)]
    node: NodeFlags,
}

#[derive(Args)]
struct BackupFlags {
    /// Data directory of a node that does not run.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// Where to; it must not exist.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Leave packages out.
    #[arg(long, visible_alias = "without-blobs")]
    without_packages: bool,
}

impl NodeFlags {
    fn read(self) -> anyhow::Result<Resolved<NodeConfig>> {
        let mut resolved = NodeConfig::read(self.config.as_deref(), self.flags)?;
        resolved.config.fault = self.fault;
        if self.min_feature_level > 1 || self.max_feature_level.is_some() {
            let known = u32::from(slipway::state::codec::READS);
            let max = self.max_feature_level.unwrap_or(slipway::state::codec::LEVEL.into()).max(self.min_feature_level);
            anyhow::ensure!(max <= known, "--max-feature-level: this program knows feature levels up to {known}");
            resolved.config.levels = Some((self.min_feature_level, max));
        }
        Ok(resolved)
    }
}

/// `slipwayd config`: what to print.
fn settings(verb: ConfigVerb) -> anyhow::Result<String> {
    let (of, print) = match verb {
        ConfigVerb::Print { of } => (of, true),
        ConfigVerb::Check { of } => (of, false),
    };
    let (text, exposed) = match of {
        ConfigOf::Node(flags) => {
            let read = flags.read()?;
            if let Some((_, cert, key)) = read.config.dns_tls()?.filter(|_| !print) {
                TlsIdentity::load(cert, key)?;
            }
            (read.print(), read.config.exposed())
        }
        ConfigOf::Agent(flags) => (flags.read()?.print(), Vec::new()),
    };
    if print {
        return Ok(text.trim_end().into());
    }
    let open: Vec<String> = exposed.iter().map(ToString::to_string).collect();
    Ok(match open.is_empty() {
        true => "sound".into(),
        false => format!("sound; without TLS and tokens, open to others: {}", open.join(", ")),
    })
}

/// How and what to log: the flag, else the variable.
fn log_to_stderr(filter: Option<String>, format: Option<LogFormat>) -> Result<(), String> {
    let filter = filter.or_else(|| config::variable("SLIPWAY_LOG")).unwrap_or_else(|| "info,openraft=error".into());
    let filter =
        tracing_subscriber::EnvFilter::try_new(&filter).map_err(|e| format!("--log or SLIPWAY_LOG {filter:?}: {e}"))?;
    let said = format.is_none().then(|| config::variable("SLIPWAY_LOG_FORMAT")).flatten();
    let format = match (format, said.as_deref()) {
        (Some(format), _) => format,
        (None, None | Some("text")) => LogFormat::Text,
        (None, Some("json")) => LogFormat::Json,
        (None, Some(other)) => return Err(format!("SLIPWAY_LOG_FORMAT {other:?}: use `text` or `json`")),
    };
    // Colours are for people: a log file gets plain text.
    let colours = console::err_is_terminal();
    let writer = console::log(matches!(format, LogFormat::Json), true);
    // A line that cannot be written is no failure of whoever logs: the subscriber's own complaint about it would be a
    // panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_writer(writer);
    match format {
        LogFormat::Text => log.with_ansi(colours).with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
    console::log_panics();
    Ok(())
}

fn main() -> ExitCode {
    let code = run();
    console::flush();
    code
}

fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let printed = e.print();
            return match printed.map_err(Unwritten::from) {
                _ if e.use_stderr() => ExitCode::from(2),
                Ok(()) | Err(Unwritten::ReaderLeft) => ExitCode::SUCCESS,
                Err(Unwritten::Failed(_)) => ExitCode::FAILURE,
            };
        }
    };
    if let Command::Shim { args } = cli.command {
        return slipway::agent::shim_main(args);
    }
    if let Err(problem) = log_to_stderr(cli.log, cli.log_format) {
        console::note(&format!("slipwayd: {problem}"));
        return ExitCode::from(2);
    }
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(e)) => {
            console::note(&format!("slipwayd: {}", told(&e)));
            ExitCode::from(2)
        }
        Err(Failure::Run(e)) => {
            // After the log's last lines, which are often the reason.
            console::flush();
            console::note(&format!("slipwayd: {}", told(&e)));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, each said once: most of ours name the cause already, with what to do behind it.
fn told(e: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in e.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

enum Failure {
    Usage(anyhow::Error),
    Run(anyhow::Error),
}

fn dispatch(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime did not start")
        .map_err(Failure::Run)?;
    match command {
        Command::Node(flags) => {
            let config = flags.read().map_err(Failure::Usage)?.config;
            runtime.block_on(run_node(config)).map_err(Failure::Run)
        }
        Command::Agent(flags) => {
            let program = program().map_err(Failure::Run)?;
            match flags.verb {
                Some(AgentVerb::Drain(place)) => {
                    let dir = place.dir().map_err(Failure::Usage)?;
                    runtime.block_on(agent::drain(&dir, program)).map_err(|e| Failure::Run(e.into()))
                }
                None => {
                    let config = flags.settings.read().map_err(Failure::Usage)?.config;
                    runtime.block_on(agent::run(config, program)).map_err(|e| Failure::Run(e.into()))
                }
            }
        }
        Command::Dev(flags) => {
            let (node, worker) = flags.read().map_err(Failure::Usage)?;
            runtime.block_on(dev::run(node, worker)).map_err(Failure::Run)
        }
        Command::Restore(flags) => {
            let config = flags.node.read().map_err(Failure::Usage)?.config;
            let options = offline::RestoreOptions { incarnation: flags.incarnation, succeeds: flags.succeeds };
            say(offline::restore(&flags.file, &config, &options))
        }
        Command::Backup(flags) => say(offline::backup(&flags.data_dir, &flags.file, flags.without_packages)),
        Command::Check { path } => say(offline::check(&path)),
        Command::Config(verb) => {
            let text = settings(verb).map_err(Failure::Usage)?;
            written(&text)
        }
        // Handled before the runtime is made: the shim must stay small.
        Command::Shim { args } => {
            slipway::agent::shim_main(args);
            Ok(())
        }
    }
}

fn say(done: Result<String, slipway::node::NodeError>) -> Result<(), Failure> {
    let text = done.map_err(|e| Failure::Run(e.into()))?;
    written(&text)
}

/// A result on standard output; whoever has left has seen enough.
fn written(text: &str) -> Result<(), Failure> {
    match console::line(text) {
        Ok(()) | Err(Unwritten::ReaderLeft) => Ok(()),
        Err(e @ Unwritten::Failed(_)) => Err(Failure::Run(anyhow::anyhow!("cannot write the result: {e}"))),
    }
}

/// Cancelled at SIGTERM or SIGINT.
fn signals() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let ended = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        ended.cancel();
    });
    Ok(token)
}

async fn run_node(config: NodeConfig) -> anyhow::Result<()> {
    let ended = signals()?;
    let node = match Node::start(config.clone()).await {
        Err(e) if e.is_for_want_of_room() => {
            return match ended.run_until_cancelled(wait_for_room(&config, &e)).await {
                Some(()) => Err(again()?.into()),
                None => Ok(()),
            };
        }
        started => started?,
    };
    if node.is_new() {
        tracing::info!("this node belongs to no cluster yet: `slipway cluster init` or `slipway cluster join`");
    }
    match node.run(ended).await? {
        NodeEnd::Asked => Ok(()),
        NodeEnd::Reopen => Err(again()?.into()),
    }
}

/// Becomes this program anew, with the same arguments, process id and log: as after a crash, nothing is kept in memory.
fn again() -> anyhow::Result<std::io::Error> {
    use std::os::unix::process::CommandExt as _;
    tracing::info!("starting anew");
    console::flush();
    Ok(std::process::Command::new(program()?).args(std::env::args_os().skip(1)).exec())
}

/// This very program, which the agent starts as its shim.
fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("where this program is, is not known")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let inner = std::io::Error::other("address in use");
        let e = anyhow::Error::from(inner).context("cannot listen (address in use); choose another").context("dev");
        assert_eq!(told(&e), "dev: cannot listen (address in use); choose another");
    }
}
