//! The daemon: `node`, and the agent's own `shim`. Thin: reads flags, sets up logging, dispatches.
//!
//! Exit codes: 0 ended as asked, 1 failed, 2 usage or configuration.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use slipway::{
    config::{NodeConfig, RaftProfile},
    node::Node,
};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
#[command(name = "slipwayd", version, about = "Slipway's daemon: a node of the cluster, or a worker's agent")]
struct Cli {
    /// What is logged to stderr, such as `info` or `slipway=debug`.
    #[arg(long, global = true, env = "SLIPWAY_LOG", default_value = "info")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node: replicated state, DNS, the leader's planner.
    Node(NodeFlags),
    /// Started by the agent alone: holds one instance.
    #[command(hide = true, disable_help_flag = true)]
    Shim {
        /// As the agent passes them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// Raft's times.
#[derive(Clone, Copy, ValueEnum)]
enum Profile {
    Lan,
    Slow,
}

#[derive(Args)]
struct NodeFlags {
    /// Configuration file (TOML); the other flags are laid over it.
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// The node's name.
    #[arg(long)]
    name: Option<String>,
    /// Its data directory.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where peers reach it.
    #[arg(long)]
    peer_listen: Option<SocketAddr>,
    /// Where operators and agents reach it.
    #[arg(long)]
    client_listen: Option<SocketAddr>,
    /// Where its DNS listens, UDP and TCP.
    #[arg(long)]
    dns_listen: Option<SocketAddr>,
    /// Where `/healthz`, `/readyz` and `/metrics` listen.
    #[arg(long)]
    http_listen: Option<SocketAddr>,
    /// Host that others use for this node when it differs from the listeners'.
    #[arg(long)]
    advertise: Option<String>,
    /// Raft's times: `lan`, or `slow` for busy or distant machines.
    #[arg(long, value_enum)]
    raft: Option<Profile>,
    /// Listen on other than loopback addresses without TLS and tokens.
    #[arg(long)]
    insecure: bool,
}

impl NodeFlags {
    fn read(self) -> anyhow::Result<NodeConfig> {
        let mut config = match &self.config {
            Some(path) => NodeConfig::load(path)?,
            None => {
                let name = self.name.clone().context("give --config FILE, or at least --name and --data-dir")?;
                let dir = self.data_dir.clone().context("give --config FILE, or at least --name and --data-dir")?;
                NodeConfig::new(name, dir)
            }
        };
        let NodeFlags { config: _, name, data_dir, peer_listen, client_listen, dns_listen, http_listen, .. } = self;
        config.name = name.unwrap_or(config.name);
        config.data_dir = data_dir.unwrap_or(config.data_dir);
        config.peer_listen = peer_listen.unwrap_or(config.peer_listen);
        config.client_listen = client_listen.unwrap_or(config.client_listen);
        config.dns_listen = dns_listen.unwrap_or(config.dns_listen);
        config.http_listen = http_listen.unwrap_or(config.http_listen);
        config.advertise = self.advertise.or(config.advertise);
        config.insecure |= self.insecure;
        match self.raft {
            Some(Profile::Lan) => config.raft = RaftProfile::Lan,
            Some(Profile::Slow) => config.raft = RaftProfile::Slow,
            None => {}
        }
        config.check()?;
        Ok(config)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Shim { args } = cli.command {
        return slipway::agent::shim_main(args);
    }
    let filter = match tracing_subscriber::EnvFilter::try_new(&cli.log) {
        Ok(filter) => filter,
        Err(e) => {
            eprintln!("slipwayd: --log {:?}: {e}", cli.log);
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(e)) => {
            eprintln!("slipwayd: {e:#}");
            ExitCode::from(2)
        }
        Err(Failure::Run(e)) => {
            eprintln!("slipwayd: {e:#}");
            ExitCode::FAILURE
        }
    }
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
            let config = flags.read().map_err(Failure::Usage)?;
            runtime.block_on(run_node(config)).map_err(Failure::Run)
        }
        // Handled before the runtime is made: the shim must stay small.
        Command::Shim { args } => {
            slipway::agent::shim_main(args);
            Ok(())
        }
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
    let node = Node::start(config).await?;
    node.run(ended).await?;
    Ok(())
}
