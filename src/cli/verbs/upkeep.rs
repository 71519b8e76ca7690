//! What is removed, made, set and cleaned up: workers, deployments, services, environments, releases, settings.
//!
//! Invariants: what cannot be undone asks first where a person sits; what changed nothing says so. Not here: what may
//! go (`state`).

use std::collections::BTreeMap;

use super::stop::{self, Goal};
use crate::{
    cli::{
        CliError, Session,
        args::{EnvironmentArgs, SettingsVerb, Sure},
        error::{DONE, TIMED_OUT},
        render,
    },
    client::ClientError,
    model::{Name, Period},
    wire::v1,
};

type Asked = Result<v1::Changed, ClientError>;

/// Prints what a change did, or that it was so already.
fn told(s: &Session, reply: Asked) -> Result<u8, CliError> {
    let so = |r: &v1::Changed| {
        if r.lines.is_empty() { "it is so already: nothing changed".into() } else { r.lines.join("\n") }
    };
    s.out.show(&reply?, so)?;
    Ok(DONE)
}

/// `worker remove`.
pub async fn remove_worker(s: &Session, worker: String, gone: bool, sure: &Sure) -> Result<u8, CliError> {
    s.sure(sure, &format!("{worker} and what is known of it are removed"))?;
    told(s, s.client.remove_worker(v1::RemoveWorkerRequest { request: None, worker, gone }).await)
}

/// `worker rekey`.
pub async fn rekey_worker(s: &Session, worker: String, within: Period, sure: &Sure) -> Result<u8, CliError> {
    s.sure(sure, &format!("another machine may come as {worker}, and the old one is refused from then on"))?;
    told(s, s.client.rekey_worker(v1::RekeyWorkerRequest { request: None, worker, within_ms: within.0 }).await)
}

/// `deployment remove`.
pub async fn remove_deployment(s: &Session, text: &str, stop: bool, watch: bool, sure: &Sure) -> Result<u8, CliError> {
    let deployment = s.deployment_id(text)?;
    let how = if stop { "leaves DNS, stops, and is removed" } else { "is removed" };
    s.sure(sure, &format!("{deployment} {how}"))?;
    let request = v1::RemoveDeploymentRequest { request: None, deployment: deployment.clone(), stop };
    match told(s, s.client.remove_deployment(request).await) {
        // It was to see the end, and does not.
        Err(e) if watch && e.reader_left() => return Ok(TIMED_OUT),
        done => {
            done?;
        }
    }
    if watch { stop::until(s, &deployment, Goal::Gone, None).await } else { Ok(DONE) }
}

/// `service remove`.
pub async fn remove_service(s: &Session, name: &str, sure: &Sure) -> Result<u8, CliError> {
    let name = Name::service(name)?.to_string();
    s.sure(sure, &format!("service {name} is removed"))?;
    told(s, s.client.remove_service(v1::NamedRequest { request: None, name }).await)
}

/// `environment create` and `environment set`.
pub async fn make_environment(s: &Session, args: EnvironmentArgs, new: bool) -> Result<u8, CliError> {
    let request = v1::EnvironmentRequest {
        request: None,
        name: Name::environment(&args.name)?.to_string(),
        order: args.order,
        default_strategy: args.default_strategy.unwrap_or_default(),
        on_no_data: args.on_no_data.unwrap_or_default(),
    };
    let asked = if new { s.client.create_environment(request).await } else { s.client.set_environment(request).await };
    told(s, asked)
}

/// `environment remove`.
pub async fn remove_environment(s: &Session, name: &str, sure: &Sure) -> Result<u8, CliError> {
    let name = Name::environment(name)?.to_string();
    s.sure(sure, &format!("environment {name} is removed"))?;
    told(s, s.client.remove_environment(v1::NamedRequest { request: None, name }).await)
}

/// What a pruning did.
#[derive(serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Pruned {
    service: String,
    removed_versions: Vec<String>,
}

/// `release prune`: asks again while some are left.
pub async fn prune(
    s: &Session,
    service: &str,
    keep: Option<u32>,
    older_than: Option<Period>,
    sure: &Sure,
) -> Result<u8, CliError> {
    let service = Name::service(service)?.to_string();
    let which = match (keep, older_than) {
        (Some(keep), _) => format!("all but the newest {keep}"),
        (None, Some(age)) => format!("those registered more than {age} ago"),
        (None, None) => "none".into(),
    };
    s.sure(sure, &format!("of the releases of {service} that nothing needs {which} are removed"))?;
    let mut done = Pruned { service: service.clone(), removed_versions: Vec::new() };
    loop {
        let older_than_ms = older_than.map(|p| p.0);
        let request = v1::PruneReleasesRequest { request: None, service: service.clone(), keep, older_than_ms };
        let reply = s.client.prune_releases(request).await?;
        done.removed_versions.extend(reply.removed_versions);
        if reply.remaining == 0 {
            break;
        }
    }
    s.out.show(&done, |d| match d.removed_versions.len() {
        0 => format!("nothing to remove of {service}"),
        n => format!("{n} removed of {service}: {}", d.removed_versions.join(", ")),
    })?;
    Ok(DONE)
}

/// `settings`.
pub async fn settings(s: &Session, verb: SettingsVerb) -> Result<u8, CliError> {
    match verb {
        SettingsVerb::Show { service } => {
            let service = service.unwrap_or_default();
            let reply = s.client.settings(v1::GetSettingsRequest { service }).await?;
            s.out.show(&reply.settings, |items| render::settings(items))?;
            Ok(DONE)
        }
        SettingsVerb::Set { service, settings } => {
            let set: BTreeMap<String, String> = settings.iter().cloned().collect();
            if set.len() < settings.len() {
                return Err(CliError::Usage("one setting is given twice".into()));
            }
            let (service, set) = (service.unwrap_or_default(), set.into_iter().collect());
            let request = v1::SetSettingsRequest { request: None, service, set, unset: Vec::new() };
            told(s, s.client.set_settings(request).await)
        }
        SettingsVerb::Unset { service, names } => {
            let service = service.unwrap_or_default();
            let request = v1::SetSettingsRequest { request: None, service, set: Default::default(), unset: names };
            told(s, s.client.set_settings(request).await)
        }
    }
}
