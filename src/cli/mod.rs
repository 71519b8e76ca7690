//! The command line: verbs over `client`, tables, the live view, JSON, exit codes.
//!
//! Invariants: results go to standard output, everything else to standard error; every error says what to do next; what
//! a script needs is in `-o json` and in the exit code (`error`). Not here: retries and node lists (`client`), and any
//! rule of rollouts.

mod args;
mod complete;
mod error;
mod hint;
mod live;
mod output;
pub mod pack;
mod params;
mod reference;
mod render;
mod verbs;

pub use complete::complete;
pub use error::CliError;
pub use reference::reference;

use std::{ffi::OsString, time::Duration};

use clap::{
    FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    client::{Client, ClientError, Limits},
    clock::Clock,
    config::{self, Said, UserConfig},
    console::{self, Unwritten},
    model::{DeploymentId, ModelError, Name, Named, RolloutId},
    wire::v1,
};
use args::{Command, Global, Sure};
use output::Output;

/// Where a node is looked for when nothing names one.
const DEFAULT_NODE: &str = "127.0.0.1:7652";
/// The environment that a bare service name means when nothing names one.
const DEFAULT_ENVIRONMENT: &str = "production";

/// Runs one command line and gives its exit code.
pub async fn run(arguments: impl IntoIterator<Item = OsString>, clock: Clock) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = match parse(&arguments) {
        Ok(command) => command,
        Err(e) => return said_by_clap(&e, &arguments),
    };
    let json = !Output::new(command.global.output).for_people();
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    // The probe ends by itself on Ctrl-C, with its summary; anything else just stops, and the cluster goes on.
    let own_end = verbs::ends_by_itself(&command.noun);
    let result = tokio::select! {
        result = dispatch(command, clock) => result,
        () = interrupted, if !own_end => return error::INTERRUPTED,
    };
    result.unwrap_or_else(|e| {
        if !e.reader_left() {
            let text = error::plain(&e);
            let code = e.exit_code();
            console::note(&if json { error::json(&text, e.reason(), code) } else { format!("error: {text}") });
        }
        e.exit_code()
    })
}

fn parse(arguments: &[OsString]) -> Result<Command, clap::Error> {
    let mut definition = args::definition();
    let matches = definition.try_get_matches_from_mut(arguments).map_err(|e| with_verbs(e, arguments))?;
    Command::from_arg_matches(&matches).map_err(|e| e.format(&mut definition))
}

/// The error; where a verb is not known, with those that there are. Without clap's tip to write an unknown flag as a
/// value: no verb takes one.
fn with_verbs(mut e: clap::Error, arguments: &[OsString]) -> clap::Error {
    if let Some(ContextValue::StyledStrs(tips)) = e.remove(ContextKind::Suggested) {
        let tips = tips.into_iter().filter(|tip| !tip.to_string().contains(" -- ")).collect::<Vec<_>>();
        if !tips.is_empty() {
            e.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
    }
    if e.kind() != ErrorKind::InvalidSubcommand {
        return e;
    }
    let definition = args::definition();
    let mut at = &definition;
    for word in arguments.iter().filter_map(|a| a.to_str()) {
        at = at.find_subcommand(word).unwrap_or(at);
    }
    let known = at.get_subcommands().filter(|c| !c.is_hide_set()).map(clap::Command::get_name).collect::<Vec<_>>();
    let said = e.to_string();
    let said = said.trim_start_matches("error: ").trim_end();
    clap::Error::raw(ErrorKind::InvalidSubcommand, format!("{said}\nThere is: {}\n", known.join(", ")))
}

/// Help and the version are results; what is wrong with a command line is not.
fn said_by_clap(e: &clap::Error, arguments: &[OsString]) -> u8 {
    if e.use_stderr() {
        let words: Vec<_> = arguments.iter().map(|a| a.to_string_lossy()).collect();
        let scripts = |format: &str| ["json", "yaml"].iter().any(|f| format.eq_ignore_ascii_case(f));
        let pairs: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let apart = |w: &[&str]| matches!(w, [flag, format] if ["-o", "--output"].contains(flag) && scripts(format));
        let joined = |w: &&str| {
            let format = w.strip_prefix("--output=").or_else(|| w.strip_prefix("-o"));
            format.is_some_and(|format| scripts(format.trim_start_matches('=')))
        };
        if pairs.windows(2).any(apart) || pairs.iter().any(joined) {
            let text = e.to_string();
            let text = text.trim().trim_start_matches("error: ");
            console::note(&error::json(text, "usage", error::USAGE));
        } else {
            console::note(shown(e, console::err_is_terminal()).trim_end());
        }
        return error::USAGE;
    }
    match console::line(shown(e, console::out_is_terminal()).trim_end()) {
        Ok(()) | Err(Unwritten::ReaderLeft) => error::DONE,
        Err(Unwritten::Failed(_)) => error::FAILED,
    }
}

/// In clap's colours, if there is somebody to see them.
fn shown(e: &clap::Error, terminal: bool) -> String {
    let text = e.render();
    if terminal && config::colours() { text.ansi().to_string() } else { text.to_string() }
}

async fn dispatch(command: Command, clock: Clock) -> Result<u8, CliError> {
    if let Some(done) = verbs::without_cluster(&command, &clock).await {
        return done;
    }
    let session = Session::new(&command.global, clock)?;
    let done = verbs::run(&session, command.noun).await;
    if let Some(heard) = session.client.cluster_heard() {
        hint::keep(&session.nodes, heard, session.client.clock());
    }
    done.map_err(|e| session.located(e))
}

/// What every verb works with.
pub struct Session {
    client: Client,
    limits: Limits,
    environment: String,
    /// The environment that a flag of this very command names.
    only: Option<String>,
    /// The addresses of nodes, and where they came from.
    nodes: Vec<String>,
    nodes_from: String,
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
        let given = |value: &[String]| Said { value: value.to_vec(), from: "--node".into() };
        let nodes = Some(given(&global.node)).filter(|n| !n.value.is_empty()).or(config.nodes);
        let nodes = nodes.unwrap_or_else(|| Said { value: vec![DEFAULT_NODE.into()], from: String::new() });
        let flag = global.environment.clone().map(|value| Said { value, from: "--environment".into() });
        let environment = flag.or(config.environment);
        let environment =
            environment.unwrap_or_else(|| Said { value: DEFAULT_ENVIRONMENT.into(), from: String::new() });
        Name::environment(&environment.value).map_err(|e| CliError::Usage(format!("{}: {e}", environment.from)))?;
        let limits = Limits { stale: global.stale, ..Limits::default() };
        let limits = match global.timeout {
            None => limits,
            // Who gives a time means it, also where every node refuses the connection.
            Some(period) => {
                let deadline = Duration::from_millis(period.0);
                Limits { deadline, refused: deadline, attempt: limits.attempt.min(deadline), ..limits }
            }
        };
        let client = Client::new(&nodes.value, limits, clock).map_err(|e| match nodes.from.as_str() {
            "" => e.into(),
            from => CliError::Usage(format!("{from}: {e}")),
        })?;
        if let Some(now) = hint::now(&nodes.value, client.clock()) {
            client.guess(now);
        }
        let out = Output::new(global.output).carrying(client.applied());
        let only = global.environment.clone();
        let Said { value: nodes, from: nodes_from } = nodes;
        Ok(Self { client, limits, environment: environment.value, only, nodes, nodes_from, out })
    }

    /// The error, with where the addresses came from when no node answers at them.
    fn located(&self, e: CliError) -> CliError {
        let problem = match e {
            CliError::Client(problem) => problem,
            other => return other,
        };
        // Another node that a verb names is not from there.
        let asked = |nodes: &str| self.nodes.iter().any(|n| nodes.contains(n));
        let (ClientError::Unreachable { nodes, .. }
        | ClientError::Foreign { nodes }
        | ClientError::TimedOut { nodes, .. }) = &problem
        else {
            return problem.into();
        };
        if !asked(nodes) {
            return problem.into();
        }
        let down = matches!(problem, ClientError::Unreachable { .. });
        let source_said = match self.nodes_from.as_str() {
            "" => "nothing names a node: give --node HOST:PORT or set SLIPWAY_NODES, or run `slipwayd dev` here"
                .to_string(),
            from if down => format!("the address is from {from}: is the node up? `--node HOST:PORT` names another"),
            from => format!("the address is from {from}"),
        };
        CliError::NoNode { problem, source_said }
    }

    /// Cluster time, as the last answer told it.
    fn now(&self) -> u64 {
        self.client.cluster_now().unwrap_or_default()
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

    /// The deployment that a target is about.
    async fn deployment_of(&self, target: &str) -> Result<String, CliError> {
        match self.target(target)? {
            Target { rollout, .. } if !rollout.is_empty() => Ok(self.rollout(target).await?.deployment),
            Target { deployment, .. } => Ok(deployment),
        }
    }

    /// One deployment's row.
    async fn deployment(&self, id: &str) -> Result<v1::Deployment, CliError> {
        let all = self.client.deployments(v1::ListRequest::default()).await?.items;
        let found = all.iter().find(|d| d.id == id).cloned();
        found.ok_or_else(|| missing(Named::Deployment, id, all.iter().map(|d| &d.id)))
    }

    /// The environment that lists are about: the flag's, which must exist, or all of them.
    async fn listed(&self) -> Result<Option<&str>, CliError> {
        let Some(only) = &self.only else { return Ok(None) };
        let all = self.client.environments(v1::ListRequest::default()).await?.items;
        if !all.iter().any(|e| e.name == *only) {
            return Err(missing(Named::Environment, only, all.iter().map(|e| &e.name)));
        }
        Ok(Some(only))
    }

    /// Asks before something that cannot be undone, if a person sits there.
    fn sure(&self, sure: &Sure, what: &str) -> Result<(), CliError> {
        if sure.yes || !self.out.for_people() || !console::can_ask() || console::ask(&format!("{what}. Go on?")) {
            return Ok(());
        }
        Err(CliError::Failed("nothing was changed; `--yes` does not ask".into()))
    }
}

/// The error of a name that is not among those that there are.
fn missing<'a>(kind: Named, name: &str, known: impl IntoIterator<Item = &'a String>) -> CliError {
    CliError::Missing(kind.missing(name, known))
}

#[cfg(test)]
mod tests;
