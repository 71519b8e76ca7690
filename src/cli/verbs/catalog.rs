//! `apply`, and what is there: environments, workers, deployments.

use std::io::{IsTerminal as _, Read as _};

use serde::Serialize;

use super::upkeep;
use crate::{
    cli::{
        CliError, Session,
        args::{ApplyArgs, DeploymentVerb, EnvironmentVerb, WorkerVerb},
        error::DONE,
        missing, render,
    },
    console,
    model::{Named, SpecFormat, read_spec},
    wire::v1,
};

/// What stands for a file that came over standard input.
const STDIN: &str = "standard input";

/// An environment and what is in it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct WholeEnvironment<'a> {
    #[serde(flatten)]
    environment: &'a v1::Environment,
    deployments: Vec<v1::Deployment>,
}

pub async fn environment(s: &Session, verb: EnvironmentVerb) -> Result<u8, CliError> {
    let verb = match verb {
        EnvironmentVerb::Create(args) => return upkeep::make_environment(s, args, true).await,
        EnvironmentVerb::Set(args) => return upkeep::make_environment(s, args, false).await,
        EnvironmentVerb::Remove { name, sure } => return upkeep::remove_environment(s, &name, &sure).await,
        EnvironmentVerb::List => None,
        EnvironmentVerb::Show { name } => Some(name),
    };
    let all = s.client.environments(v1::ListRequest::default()).await?.items;
    match verb {
        None => s.out.show(&all, |items| render::environments(items, s.out.wide()))?,
        Some(name) => {
            let found = all.iter().find(|e| e.name == name);
            let known = all.iter().map(|e| &e.name);
            let environment = found.ok_or_else(|| missing(Named::Environment, &name, known))?;
            let ask = v1::ListRequest { environment: name.clone(), ..Default::default() };
            let shown = WholeEnvironment { environment, deployments: s.client.deployments(ask).await?.items };
            s.out.show(&shown, |x| {
                let list = render::deployments(&x.deployments, s.out.wide());
                format!("{}\n\n{list}", render::environments(std::slice::from_ref(x.environment), s.out.wide()))
            })?;
        }
    }
    Ok(DONE)
}

/// A worker and what it runs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct WholeWorker<'a> {
    #[serde(flatten)]
    worker: &'a v1::Worker,
    instances: Vec<v1::Instance>,
}

pub async fn worker(s: &Session, verb: WorkerVerb) -> Result<u8, CliError> {
    let verb = match verb {
        WorkerVerb::Remove { name, gone, sure } => return upkeep::remove_worker(s, name, gone, &sure).await,
        WorkerVerb::Rekey { name, within, sure } => return upkeep::rekey_worker(s, name, within, &sure).await,
        WorkerVerb::List => None,
        WorkerVerb::Show { name } => Some(name),
    };
    let all = s.client.workers(v1::ListRequest::default()).await?.items;
    match verb {
        None => s.out.show(&all, |items| render::workers(items, s.out.wide()))?,
        Some(name) => {
            let found = all.iter().find(|w| w.name == name);
            let worker = found.ok_or_else(|| missing(Named::Worker, &name, all.iter().map(|w| &w.name)))?;
            let ask = v1::ListRequest { worker: name.clone(), ..Default::default() };
            let shown = WholeWorker { worker, instances: s.client.instances(ask).await?.items };
            s.out.show(&shown, |x| {
                let head = render::workers(std::slice::from_ref(x.worker), true);
                format!("{head}\n\n{}", render::instances(&x.instances, s.out.wide()))
            })?;
        }
    }
    Ok(DONE)
}

/// A deployment and its instances, those that ended too.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct WholeDeployment {
    #[serde(flatten)]
    deployment: v1::Deployment,
    instances: Vec<v1::Instance>,
}

pub async fn deployment(s: &Session, verb: DeploymentVerb) -> Result<u8, CliError> {
    match verb {
        DeploymentVerb::List => {
            let environment = s.listed().await?.unwrap_or_default().to_string();
            let request = v1::ListRequest { environment, ..Default::default() };
            let reply = s.client.deployments(request).await?;
            s.out.show(&reply.items, |items| render::deployments(items, s.out.wide()))?;
            Ok(DONE)
        }
        DeploymentVerb::Show(what) => show(s, &what.target).await,
        DeploymentVerb::Remove { what, stop, watch, sure } => {
            upkeep::remove_deployment(s, &what.deployment, stop, watch, &sure).await
        }
        DeploymentVerb::History(args) => super::rollout::history(s, args).await,
    }
}

async fn show(s: &Session, target: &str) -> Result<u8, CliError> {
    let id = s.deployment_of(target).await?;
    let deployment = s.deployment(&id).await?;
    let (environment, service) = id.split_once('/').unwrap_or_default();
    let request =
        v1::ListRequest { environment: environment.into(), service: service.into(), all: true, ..Default::default() };
    let mut instances = s.client.instances(request).await?.items;
    if s.out.for_people() && !s.out.wide() {
        // Those that failed are what somebody looks for, as long as their version has to do with the deployment.
        let last = s.rollout(target).await.ok().and_then(|r| r.to);
        let concerns = |i: &v1::Instance| i.pair == last || deployment.arms.iter().any(|a| a.pair == i.pair);
        instances.retain(|i| i.status != "gone" && (i.status != "failed" || concerns(i)));
    }
    let shown = WholeDeployment { deployment, instances };
    s.out.show(&shown, |x| render::deployment(&x.deployment, &x.instances, s.out.wide()))?;
    Ok(DONE)
}

/// Standard input to its end, on a thread of its own: a terminal may never end it, and Ctrl-C must.
async fn standard_input() -> Result<String, std::io::Error> {
    if std::io::stdin().is_terminal() {
        console::note("reading the spec from standard input; Ctrl-D ends it");
    }
    let read = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    });
    read.await.unwrap_or_else(|e| Err(std::io::Error::other(e)))
}

pub async fn apply(s: &Session, args: ApplyArgs) -> Result<u8, CliError> {
    let from_stdin = args.file.as_os_str() == "-";
    let path = if from_stdin { STDIN.to_string() } else { args.file.display().to_string() };
    let unreadable = |source| CliError::File { path: path.clone(), source };
    let (document, format) = if from_stdin {
        (standard_input().await.map_err(unreadable)?, SpecFormat::Yaml)
    } else {
        (std::fs::read_to_string(&args.file).map_err(unreadable)?, SpecFormat::of_file(&path))
    };
    if document.trim().is_empty() {
        return Err(CliError::Usage(format!("{path} is empty: docs/spec.md says what a spec holds")));
    }
    // Mistakes in the file are said without asking a node, in the same words.
    let spec = read_spec(&document, format)
        .map_err(|e| CliError::Usage(format!("{path}: {}", e.to_string().replace("<input>", &path))))?;
    if let Some(only) = s.only.as_ref().filter(|only| **only != spec.deployment.environment.as_str()) {
        return Err(CliError::Usage(format!(
            "{path} is about {}, --environment says {only}: change the file, or leave the flag out",
            spec.deployment
        )));
    }
    let request =
        v1::ApplyRequest { document, format: format.to_string(), dry_run: args.dry_run, ..Default::default() };
    let reply = s.client.apply(request).await?;
    s.out.show(&reply, |r| render::applied(r, args.dry_run))?;
    Ok(DONE)
}
