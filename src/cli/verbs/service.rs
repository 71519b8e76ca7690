//! `service`: the short spellings, most of them of `rollout` verbs; `stop` and `start` act in `stop`.

use serde::Serialize;

use super::{release, rollout, stop, upkeep};
use crate::{
    cli::{
        CliError, Session,
        args::{CanaryVerb, ServiceVerb},
        error::DONE,
        render,
    },
    wire::v1,
};

/// A service with what belongs to it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct WholeService {
    #[serde(flatten)]
    service: v1::Service,
    releases: Vec<v1::Release>,
    deployments: Vec<v1::Deployment>,
}

pub async fn run(s: &Session, verb: ServiceVerb) -> Result<u8, CliError> {
    match verb {
        ServiceVerb::List => {
            let mut all = s.client.services(v1::ListRequest::default()).await?.items;
            if let Some(environment) = s.listed().await? {
                let prefix = format!("{environment}/");
                all.retain(|x| x.deployment_ids.iter().any(|d| d.starts_with(&prefix)));
            }
            s.out.show(&all, |items| render::services(items))?;
            Ok(DONE)
        }
        ServiceVerb::Show(what) => {
            let service = release::known_service(s, &what.service).await?;
            let ask = v1::ListRequest { service: what.service, ..Default::default() };
            let releases = s.client.releases(ask.clone()).await?.items;
            let shown = WholeService { service, releases, deployments: s.client.deployments(ask).await?.items };
            s.out.show(&shown, |x| {
                let deployments = render::deployments(&x.deployments, s.out.wide());
                format!(
                    "{}\n\n{deployments}\n\n{}",
                    x.service.name,
                    render::releases(&x.releases, s.now(), s.out.wide())
                )
            })?;
            Ok(DONE)
        }
        ServiceVerb::Update { start, watch } => rollout::begin(s, start, false, None, watch).await,
        ServiceVerb::Rollback { what, watch } => rollout::rollback(s, &what.target, watch).await,
        ServiceVerb::Stop { what, wait, sure } => stop::stop(s, &what.deployment, &wait, &sure).await,
        ServiceVerb::Start { what, wait } => stop::start(s, &what.deployment, &wait).await,
        ServiceVerb::Remove { what, sure } => upkeep::remove_service(s, &what.service, &sure).await,
        ServiceVerb::History(args) => rollout::history(s, args).await,
        ServiceVerb::Canary(CanaryVerb::Status(what)) => rollout::status(s, &what.target).await,
        ServiceVerb::Canary(CanaryVerb::Promote { what, watch }) => {
            rollout::promote(s, &what.target, true, watch).await
        }
    }
}
