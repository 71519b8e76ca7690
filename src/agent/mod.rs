//! The worker agent: holds one session to any node, keeps releases on disk, runs instances, probes and counts.
//!
//! Invariants: it journals before it acts; it obeys only a desired state that is not older than what it has seen;
//! instances outlive it and are found again by lock and pidfd, never doubled. Not here: what should run (State), who
//! may be an agent (`rpc`).
//!
//! `session` talks, `fleet` passes on, `reconcile` keeps one deployment as assigned, `instance` leads one instance
//! through its life, `process` and `shim` start and find processes, `ledger` over `journal` remembers, `board` collects
//! what is reported.

mod addresses;
mod assignment;
mod board;
mod cgroup;
mod check;
mod env_file;
mod fetch;
mod files;
mod fleet;
mod instance;
mod journal;
mod kin;
mod launch;
mod layout;
mod ledger;
mod log_times;
mod logs;
mod machine;
mod lingering;
mod nodes;
mod probe;
mod process;
mod reconcile;
mod runtime;
mod scrape;
mod session;
mod shim;
mod sockets;
mod tally;
mod tree;
pub mod unpack;
mod user;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use shim::shim_main;
use thiserror::Error;

use self::{
    board::Board, cgroup::Keeping, fetch::Store, fleet::Fleet, layout::Layout, machine::Machine, nodes::Nodes,
    session::Session,
};
use crate::config::{AgentConfig, ConfigError};

/// Why an agent cannot run or go on.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The configuration does not fit.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A configured node is no address that the agent may connect to.
    #[error("{0}")]
    Nodes(String),
    #[error("{path} is in use by a running agent: stop it, or choose another data_dir")]
    InUse { path: PathBuf },
    /// The disk refused.
    #[error("{path}: {source}")]
    Disk { path: PathBuf, source: io::Error },
    #[error("{path} is damaged: restore it, or remove the whole data directory to begin as a new worker")]
    Damaged { path: PathBuf },
    #[error("{name:?} cannot be a worker's name (a-z, 0-9, '-', '.', 63 characters at most): set `name`")]
    HostName { name: String },
    #[error("the task of {what} panicked ({why}); its instances run on: start the agent again")]
    Task { what: String, why: String },
    /// A journal cannot be used.
    #[error(transparent)]
    Journal(#[from] journal::JournalError),
    /// A node refuses this worker for good.
    #[error("{node} refuses worker {name}: {reason}")]
    Refused { node: String, name: String, reason: String },
    #[error(
        "{path} belongs to cluster {ours}, but the node is of cluster {theirs}: check `nodes`, or give this worker an empty data_dir"
    )]
    OtherCluster {
        path: PathBuf,
        ours: String,
        /// Whom the nodes belong to.
        theirs: String,
    },
    #[error("{count} deployments are assigned to this worker: more than it takes")]
    TooMany { count: usize },
}

/// An absolute layout: instances have working directories of their own.
fn layout(data_dir: &Path) -> Result<Layout, AgentError> {
    let disk = |source| AgentError::Disk { path: data_dir.into(), source };
    files::ensure_dir(data_dir).map_err(disk)?;
    Ok(Layout::new(&data_dir.canonicalize().map_err(disk)?))
}

/// How this agent can keep the processes of an instance together: tried out with a child.
async fn keeping(config: &AgentConfig, machine: &Machine, program: &Path) -> Keeping {
    if !config.cgroups {
        return Keeping::Subreaper("cgroups = false".into());
    }
    let name = format!("slipway-{}", machine.public_key().chars().take(16).collect::<String>());
    let mut idle = std::process::Command::new(program);
    // The inner half of a shim, which waits for a go-ahead that never comes.
    idle.args(["shim", "--exec", "/nowhere", "0"]);
    let found = tokio::task::spawn_blocking(move || Keeping::find(&name, idle)).await;
    found.unwrap_or_else(|e| Keeping::Subreaper(e.to_string()))
}

/// Runs an agent until SIGTERM or SIGINT; its instances go on. `program` is `slipwayd` itself, which is started as the
/// shim.
pub async fn run(config: AgentConfig, program: PathBuf) -> Result<(), AgentError> {
    let disk = |source| AgentError::Disk { path: "signals".into(), source };
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(disk)?;
    let stop = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    run_until(config, program, stop).await
}

/// Runs an agent until `stop` is ready; its instances go on.
pub async fn run_until(
    config: AgentConfig,
    program: PathBuf,
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    config.check()?;
    let layout = layout(&config.data_dir)?;
    let nodes = Nodes::new(&config.nodes, config.insecure).map_err(AgentError::Nodes)?;
    let machine = Machine::open(&layout, config.name.as_deref())?;
    if config.insecure {
        tracing::warn!("insecure = true: this agent obeys nodes on other machines without TLS");
    }
    let store = Store::open(&layout, nodes.clone())
        .map_err(|source| AgentError::Disk { path: layout.root().into(), source })?;
    let board = Board::default();
    let keeping = keeping(&config, &machine, &program).await;
    match &keeping {
        Keeping::Cgroups(home) => tracing::info!("each instance has a cgroup of its own below {}", home.display()),
        Keeping::Subreaper(why) => {
            tracing::info!("instances have no cgroups, so shims inherit and end what is left: {why}")
        }
    }
    let fleet = Fleet::open(machine.name.as_str(), &layout, &store, &board, program, keeping.clone())?;
    let seen = machine::Obeyed::load(&layout)?;
    tracing::info!(name = %machine.name, epoch = machine.epoch, "agent starts");
    let pool = config.pool_addresses()?;
    let session = Session {
        keeping,
        machine,
        config,
        pool,
        layout,
        nodes,
        board,
        store,
        fleet,
        seen,
        seq: 0,
        wanted: None,
        lacks: None,
    };
    tokio::select! {
        failed = session.serve() => Err(failed),
        () = stop => {
            tracing::info!("agent ends; its instances go on");
            Ok(())
        }
    }
}

/// Stops every instance of an agent that does not run, and returns when they are gone.
pub async fn drain(data_dir: &Path, program: PathBuf) -> Result<(), AgentError> {
    if !data_dir.is_dir() {
        let source = io::Error::new(io::ErrorKind::NotFound, "there is no such directory");
        return Err(AgentError::Disk { path: data_dir.into(), source });
    }
    let layout = layout(data_dir)?;
    let _alone = machine::lock(&layout)?;
    let nodes = Nodes::new(&[], false).map_err(AgentError::Nodes)?;
    let store =
        Store::open(&layout, nodes).map_err(|source| AgentError::Disk { path: layout.root().into(), source })?;
    // It starts nothing.
    let keeping = Keeping::Subreaper("the agent is draining".into());
    Fleet::open("draining", &layout, &store, &Board::default(), program, keeping)?.stop_all().await
}
