//! The command line: verbs over `client`, tables, the live view, JSON, exit codes.
//!
//! Invariants: results go to standard output, everything else to standard error; every error says what to do next; what a script
//! needs is in `-o json` and in the exit code (`error`). Not here: retries and node lists (`client`), and any rule of rollouts.

mod args;
mod error;
mod live;
mod output;
pub mod pack;
mod params;
mod render;
mod verbs;

pub use error::CliError;

use std::{ffi::OsString, time::Duration};

use clap::Parser;

use crate::{
    client::{Client, Limits},
    clock::Clock,
    config::UserConfig,
    console::{self, Unwritten},
    demo,
    model::{DeploymentId, ModelError, Name, RolloutId},
    wire::v1,
};
use args::{Command, Global, Noun};
use output::Output;

/// Where a node is looked for when nothing names one.
const DEFAULT_NODE: &str = "127.0.0.1:7652";
/// The environment that a bare service name means when nothing names one.
const DEFAULT_ENVIRONMENT: &str = "production";

/// Runs one command line and gives its exit code.
pub async fn run(arguments: impl IntoIterator<Item = OsString>, clock: Clock) -> u8 {
    let command = match Command::try_parse_from(arguments) {
        Ok(command) => command,
        Err(e) => {
            return said_by_clap(&e);
        }
    };
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    // The probe ends by itself on Ctrl-C, with its summary; anything else just stops, and the cluster goes on.
    let own_end = verbs::ends_by_itself(&command.noun);
    let result = tokio::select! {
        result = dispatch(command, clock) => result,
        () = interrupted, if !own_end => return 130,
    };
    result.unwrap_or_else(|e| {
        if !e.reader_left() {
            console::note(&format!("error: {e}"));
        }
        e.exit_code()
    })
}

/// Help and the version are results; what is wrong with a command line is not.
fn said_by_clap(e: &clap::Error) -> u8 {
    if e.use_stderr() {
        // In clap's colours, if there is somebody to see them.
        let _ = e.print();
        return error::USAGE;
    }
    match e.print().map_err(Unwritten::from) {
        Ok(()) | Err(Unwritten::ReaderLeft) => error::DONE,
        Err(Unwritten::Failed(_)) => error::FAILED,
    }
}

async fn dispatch(command: Command, clock: Clock) -> Result<u8, CliError> {
    if let Noun::Completions { shell } = command.noun {
        let mut definition = <Command as clap::CommandFactory>::command();
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut definition, "slipway", &mut script);
        Output::new(args::Format::Table).line(String::from_utf8_lossy(&script).trim_end())?;
        return Ok(error::DONE);
    }
    if let Noun::Demo { up, down } = command.noun {
        let action = match (up, down) {
            (_, true) => demo::Action::Down,
            (true, false) => demo::Action::Up,
            (false, false) => demo::Action::Play,
        };
        return Ok(demo::run(action, clock).await);
    }
    let session = Session::new(&command.global, clock)?;
    verbs::run(&session, command.noun).await
}

/// What every verb works with.
pub struct Session {
    client: Client,
    limits: Limits,
    environment: String,
    out: Output,
}

/// A rollout or a deployment, as verbs name them.
struct Target {
    rollout: String,
    deployment: String,
}

impl Session {
    fn new(global: &Global, clock: Clock) -> Result<Self, CliError> {
        let config = UserConfig::load()?;
        let nodes = [global.node.clone(), config.nodes, vec![DEFAULT_NODE.into()]];
        let nodes = nodes.into_iter().find(|n| !n.is_empty()).unwrap_or_default();
        let environment = global.environment.clone().or(config.environment).unwrap_or(DEFAULT_ENVIRONMENT.into());
        Name::environment(&environment)?;
        let deadline = Duration::from_millis(global.timeout.0);
        let limits = Limits {
            deadline,
            attempt: Limits::default().attempt.min(deadline),
            stale: global.stale,
            ..Limits::default()
        };
        let client = Client::new(&nodes, limits, clock)?;
        let out = Output::new(global.output).carrying(client.applied());
        Ok(Self { client, limits, environment, out })
    }

    /// `ENVIRONMENT/SERVICE`, from that or from a bare service.
    fn deployment_id(&self, text: &str) -> Result<String, ModelError> {
        if text.contains('/') {
            return Ok(text.parse::<DeploymentId>()?.to_string());
        }
        Ok(format!("{}/{}", self.environment, Name::service(text)?))
    }

    /// A rollout such as `r-52`, else a deployment.
    fn target(&self, text: &str) -> Result<Target, ModelError> {
        match text.parse::<RolloutId>() {
            Ok(id) => Ok(Target { rollout: id.to_string(), deployment: String::new() }),
            Err(_) => Ok(Target { rollout: String::new(), deployment: self.deployment_id(text)? }),
        }
    }

    /// The rollout of that name, or the live or last one of a deployment.
    async fn rollout(&self, target: &str) -> Result<v1::Rollout, CliError> {
        let Target { rollout, deployment } = self.target(target)?;
        Ok(self.client.rollout(v1::GetRolloutRequest { rollout, deployment }).await?)
    }

    /// One deployment's row.
    async fn deployment(&self, id: &str) -> Result<v1::Deployment, CliError> {
        let (environment, service) = id.split_once('/').unwrap_or((self.environment.as_str(), id));
        let request =
            v1::ListRequest { environment: environment.into(), service: service.into(), ..Default::default() };
        let all = self.client.deployments(request).await?.items;
        all.into_iter().find(|d| d.id == id).ok_or_else(|| {
            CliError::Failed(format!(
                "{id} does not exist: `slipway deployment list` shows what does, `slipway apply -f FILE` makes one"
            ))
        })
    }
}

#[cfg(test)]
mod tests;
