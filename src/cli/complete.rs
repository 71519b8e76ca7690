//! Completions that ask the cluster: services, versions, rollouts, nodes, workers, as the shell asks for them.
//!
//! Invariant: a cluster that does not answer within [`PATIENCE`] costs nothing but that time, and no word of it is
//! printed.

use clap_complete::{
    CompleteEnv, Shell,
    engine::{ArgValueCandidates, CompletionCandidate},
    env::Shells,
};

use super::{
    CliError, Session,
    args::{self, Format, Global},
};
use crate::{clock::Clock, engine::STRATEGIES, model::Period, wire::v1};

/// How long a person waits for a key to do something.
const PATIENCE: Period = Period(700);

/// Answers a shell that asks for completions, and says whether that was it.
pub fn complete() -> bool {
    let arguments = std::env::args_os();
    let here = std::env::current_dir().ok();
    let asked = CompleteEnv::with_factory(args::definition).try_complete(arguments, here.as_deref());
    // A shell that is not known is told nothing, as anything would land in somebody's command line.
    asked.unwrap_or(true)
}

/// What makes a shell ask.
pub fn script(shell: Shell) -> Result<String, CliError> {
    let shells = Shells::builtins();
    let program = std::env::current_exe().map_or_else(|_| "slipway".into(), |p| p.display().to_string());
    let mut script = Vec::new();
    let written = match shells.completer(&shell.to_string()) {
        Some(shell) => shell.write_registration("COMPLETE", "slipway", "slipway", &program, &mut script),
        None => Err(std::io::Error::other("no such shell")),
    };
    written.map_err(|e| CliError::Failed(format!("{shell}: {e}")))?;
    Ok(String::from_utf8_lossy(&script).trim_end().to_string())
}

/// A name, and what is said beside it.
type Named = (String, String);

/// Names that a call to the cluster gives; none when it fails.
macro_rules! asking {
    ($($(#[$doc:meta])* $name:ident = |$session:ident| $names:expr;)+) => {$(
        $(#[$doc])*
        pub fn $name() -> ArgValueCandidates {
            ArgValueCandidates::new(|| {
                candidates(async |$session: &Session| -> Result<Vec<Named>, CliError> { Ok($names) })
            })
        }
    )+};
}

asking! {
    /// Deployments, those of the default environment by their service.
    deployments = |s| deployment_names(s).await?;
    /// Deployments and live rollouts.
    targets = |s| {
        let mut all = deployment_names(s).await?;
        let live = s.client.deployments(v1::ListRequest::default()).await?.items.into_iter();
        all.extend(live.filter(|d| !d.live_rollout.is_empty()).map(|d| (d.live_rollout, d.id)));
        all
    };
    /// Services.
    services = |s| {
        let all = s.client.services(v1::ListRequest::default()).await?.items.into_iter();
        all.map(|x| (x.name, x.deployment_ids.join(", "))).collect()
    };
    /// Versions of all services.
    versions = |s| {
        let all = s.client.releases(v1::ListRequest::default()).await?.items.into_iter();
        all.map(|r| (r.version, format!("{} {}", r.service, r.status))).collect()
    };
    /// Instances, also those that have ended.
    instances = |s| {
        let all = s.client.instances(v1::ListRequest { all: true, ..Default::default() }).await?.items.into_iter();
        all.map(|i| (i.id, format!("{} {}", i.deployment, i.status))).collect()
    };
    /// Environments.
    environments = |s| {
        let all = s.client.environments(v1::ListRequest::default()).await?.items.into_iter();
        all.map(|e| (e.name, String::new())).collect()
    };
    /// Nodes that are members.
    nodes = |s| {
        let all = s.client.status().await?.nodes.into_iter().filter(|n| n.role != "removed");
        all.map(|n| (n.name, n.client_addr)).collect()
    };
    /// Workers.
    workers = |s| {
        let all = s.client.workers(v1::ListRequest::default()).await?.items.into_iter();
        all.map(|w| (w.name, w.status)).collect()
    };
}

/// Strategies that this program knows.
pub fn strategies() -> ArgValueCandidates {
    ArgValueCandidates::new(|| STRATEGIES.iter().map(|s| CompletionCandidate::new(s.name.to_string())).collect())
}

async fn deployment_names(s: &Session) -> Result<Vec<Named>, CliError> {
    let all = s.client.deployments(v1::ListRequest::default()).await?.items;
    let bare = all.iter().filter_map(|d| {
        let (environment, service) = d.id.split_once('/')?;
        (environment == s.environment).then(|| (service.to_string(), d.id.clone()))
    });
    Ok(bare.chain(all.iter().map(|d| (d.id.clone(), d.live_rollout.clone()))).collect())
}

fn candidates(names: impl AsyncFnOnce(&Session) -> Result<Vec<Named>, CliError>) -> Vec<CompletionCandidate> {
    let global =
        Global { node: Vec::new(), environment: None, output: Format::Table, timeout: Some(PATIENCE), stale: true };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let found = runtime.block_on(async {
        let session = Session::new(&global, Clock::real())?;
        names(&session).await
    });
    let mut seen = std::collections::BTreeSet::new();
    let new = found.unwrap_or_default().into_iter().filter(|(name, _)| seen.insert(name.clone()));
    new.map(|(name, about)| {
        let about = Some(about).filter(|a| !a.is_empty());
        CompletionCandidate::new(name).help(about.map(Into::into))
    })
    .collect()
}
