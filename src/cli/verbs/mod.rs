//! One function a noun: calls the client, prints the reply. Every verb that changes something says what it changed.

mod backup;
mod catalog;
mod cluster;
mod digest;
mod dns;
mod events;
mod logs;
mod node;
mod probe;
mod release;
mod rollout;
mod service;
mod traffic;

use super::{
    CliError, Session,
    args::{ListVerb, Noun, TrafficVerb},
    error::DONE,
    render,
};

/// Whether a verb handles Ctrl-C itself: the probe prints its summary, the demo stops its processes.
pub fn ends_by_itself(noun: &Noun) -> bool {
    matches!(noun, Noun::Traffic(TrafficVerb::Probe(_)) | Noun::Demo { .. })
}

/// Runs a verb; its exit code.
pub async fn run(s: &Session, noun: Noun) -> Result<u8, CliError> {
    match noun {
        Noun::Cluster(verb) => cluster::run(s, verb).await,
        Noun::Node(verb) => node::run(s, verb).await,
        Noun::Worker(ListVerb::List) => catalog::workers(s).await,
        Noun::Release(verb) => release::run(s, verb).await,
        Noun::Environment(ListVerb::List) => catalog::environments(s).await,
        Noun::Service(verb) => service::run(s, verb).await,
        Noun::Deployment(verb) => catalog::deployment(s, verb).await,
        Noun::Rollout(verb) => rollout::run(s, verb).await,
        Noun::Traffic(TrafficVerb::Show { deployment }) => {
            let deployment = s.deployment_id(&deployment)?;
            let reply = dns::everywhere(s, deployment).await?;
            s.out.show(&reply, render::route)?;
            Ok(DONE)
        }
        Noun::Traffic(TrafficVerb::Switch(args)) => traffic::switch(s, args).await,
        Noun::Traffic(TrafficVerb::Lease(args)) => traffic::lease(s, args).await,
        Noun::Traffic(TrafficVerb::Probe(args)) => probe::run(s, args).await,
        Noun::Dns(verb) => dns::run(s, verb).await,
        Noun::Event(verb) => events::run(s, verb).await,
        Noun::Apply(args) => catalog::apply(s, args).await,
        Noun::Logs(args) => logs::run(s, args).await,
        // Needs no cluster: done before a session is made.
        Noun::Completions { .. } | Noun::Demo { .. } => Ok(DONE),
    }
}
