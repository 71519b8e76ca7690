//! `service`: the short spellings; each is a `rollout` verb.

use super::rollout;
use crate::{
    cli::{
        CliError, Session,
        args::{CanaryVerb, ServiceVerb},
        error::DONE,
        render,
    },
    wire::v1,
};

pub async fn run(s: &Session, verb: ServiceVerb) -> Result<u8, CliError> {
    match verb {
        ServiceVerb::List => {
            let reply = s.client.services(v1::ListRequest::default()).await?;
            s.out.show(&reply.items, |items| render::services(items))?;
            Ok(DONE)
        }
        ServiceVerb::Update { deployment, to, image, params, watch } => {
            if let Some(image) = image {
                let service = deployment.rsplit('/').next().unwrap_or(&deployment);
                return Err(CliError::Usage(format!(
                    "--image {image}: OCI images are not supported yet: push a directory with \
                     `slipway release push {service} VERSION DIR`, then use --to VERSION"
                )));
            }
            rollout::start(s, &deployment, to.as_deref(), &params, watch).await
        }
        ServiceVerb::Rollback { deployment, watch } => rollout::rollback(s, &deployment, watch).await,
        ServiceVerb::History { deployment } => rollout::history(s, &deployment).await,
        ServiceVerb::Canary(CanaryVerb::Status { deployment }) => rollout::status(s, &deployment).await,
        ServiceVerb::Canary(CanaryVerb::Promote { deployment, watch }) => {
            rollout::promote(s, &deployment, true, watch).await
        }
    }
}
