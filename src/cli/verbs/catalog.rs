//! `apply`, and what is there: environments, services, workers, deployments.

use std::io::Read;

use crate::{
    cli::{
        CliError, Session,
        args::{ApplyArgs, DeploymentVerb},
        error::DONE,
        render,
    },
    model::{SpecFormat, read_spec},
    wire::v1,
};

pub async fn environments(s: &Session) -> Result<u8, CliError> {
    let reply = s.client.environments(v1::ListRequest::default()).await?;
    s.out.show(&reply.items, |items| render::environments(items))?;
    Ok(DONE)
}

pub async fn workers(s: &Session) -> Result<u8, CliError> {
    let reply = s.client.workers(v1::ListRequest::default()).await?;
    s.out.show(&reply.items, |items| render::workers(items, s.out.wide()))?;
    Ok(DONE)
}

/// A deployment and its instances, for scripts.
#[derive(serde::Serialize)]
struct Shown {
    deployment: v1::Deployment,
    instances: Vec<v1::Instance>,
}

pub async fn deployment(s: &Session, verb: DeploymentVerb) -> Result<u8, CliError> {
    match verb {
        DeploymentVerb::List => {
            let reply = s.client.deployments(v1::ListRequest::default()).await?;
            s.out.show(&reply.items, |items| render::deployments(items, s.out.wide()))?;
        }
        DeploymentVerb::Show { deployment } => {
            let id = s.deployment_id(&deployment)?;
            let deployment = s.deployment(&id).await?;
            let (environment, service) = id.split_once('/').unwrap_or_default();
            let request = v1::ListRequest {
                environment: environment.into(),
                service: service.into(),
                all: s.out.wide(),
                ..Default::default()
            };
            let instances = s.client.instances(request).await?.items;
            let shown = Shown { deployment, instances };
            s.out.show(&shown, |x| render::deployment(&x.deployment, &x.instances, s.out.wide()))?;
        }
    }
    Ok(DONE)
}

pub async fn apply(s: &Session, args: ApplyArgs) -> Result<u8, CliError> {
    let path = args.file.display().to_string();
    let unreadable = |source| CliError::File { path: path.clone(), source };
    let (document, format) = if path == "-" {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map_err(unreadable)?;
        (text, SpecFormat::Yaml)
    } else {
        (std::fs::read_to_string(&args.file).map_err(unreadable)?, SpecFormat::of_file(&path))
    };
    // Mistakes in the file are said without asking a node, in the same words.
    read_spec(&document, format).map_err(|e| CliError::Failed(format!("{path}: {e}")))?;
    let request =
        v1::ApplyRequest { document, format: format.to_string(), dry_run: args.dry_run, ..Default::default() };
    let reply = s.client.apply(request).await?;
    s.out.show(&reply, |r| render::applied(r, args.dry_run))?;
    Ok(DONE)
}
