//! One function a noun: calls the client, prints the reply. Every verb that changes something says what it changed.

pub(super) mod backup;
pub(super) mod catalog;
pub(super) mod cluster;
pub(super) mod digest;
pub(super) mod dns;
pub(super) mod events;
pub(super) mod logs;
pub(super) mod node;
pub(super) mod probe;
pub(super) mod program;
pub(super) mod release;
pub(super) mod rollout;
pub(super) mod service;
pub(super) mod status;
pub(super) mod stop;
pub(super) mod traffic;
pub(super) mod upkeep;

use super::{
    CliError, Session,
    args::{ClusterVerb, Command, Noun, TrafficVerb},
    complete,
    error::DONE,
    output::Output,
};
use crate::{clock::Clock, demo};

/// Whether a verb handles Ctrl-C itself: the probe prints its summary, the demo stops its processes.
pub fn ends_by_itself(noun: &Noun) -> bool {
    matches!(noun, Noun::Traffic(TrafficVerb::Probe(_)) | Noun::Demo { .. })
}

/// Runs a verb that needs neither a cluster nor settings; nothing for any other.
pub async fn without_cluster(command: &Command, clock: &Clock) -> Option<Result<u8, CliError>> {
    let out = Output::new(command.global.output);
    if let Noun::Completions { shell } = &command.noun {
        return Some(complete::script(*shell).and_then(|script| out.line(&script)).map(|()| DONE));
    }
    if let Noun::Man { dir } = &command.noun {
        return Some(program::man(&out, dir));
    }
    if let Noun::Demo { up, down } = command.noun {
        let action = match (up, down) {
            (_, true) => demo::Action::Down,
            (true, false) => demo::Action::Up,
            (false, false) => demo::Action::Play,
        };
        return Some(Ok(demo::run(action, clock.clone()).await));
    }
    if let Noun::Cluster(ClusterVerb::Restore { file, flags }) = &command.noun {
        return Some(backup::daemon(&out, "restore", file, flags).await);
    }
    if let Noun::Cluster(ClusterVerb::Check { path }) = &command.noun {
        return Some(backup::daemon(&out, "check", path, &[]).await);
    }
    None
}

/// Runs a verb; its exit code.
pub async fn run(s: &Session, noun: Noun) -> Result<u8, CliError> {
    match noun {
        Noun::Status => status::run(s).await,
        Noun::Explain { what } => rollout::explain(s, &what.target).await,
        Noun::Cluster(verb) => cluster::run(s, verb).await,
        Noun::Node(verb) => node::run(s, verb).await,
        Noun::Worker(verb) => catalog::worker(s, verb).await,
        Noun::Release(verb) => release::run(s, verb).await,
        Noun::Environment(verb) => catalog::environment(s, verb).await,
        Noun::Service(verb) => service::run(s, verb).await,
        Noun::Deployment(verb) => catalog::deployment(s, verb).await,
        Noun::Rollout(verb) => rollout::run(s, verb).await,
        Noun::Traffic(verb) => traffic::run(s, verb).await,
        Noun::Dns(verb) => dns::run(s, verb).await,
        Noun::Settings(verb) => upkeep::settings(s, verb).await,
        Noun::Event(verb) => events::run(s, verb).await,
        Noun::Apply(args) => catalog::apply(s, args).await,
        Noun::Logs(args) => logs::run(s, args).await,
        Noun::Version => program::version(s).await,
        // Done before a session is made.
        Noun::Completions { .. } | Noun::Man { .. } | Noun::Demo { .. } => Ok(DONE),
    }
}
