//! `release`: push, list, show, retire, remove.

use indicatif::{ProgressBar, ProgressStyle};

use super::upkeep;
use crate::{
    cli::{
        CliError, Session,
        args::{OnRelease, PushArgs, ReleaseVerb},
        error::DONE,
        missing, pack, render,
    },
    config, console,
    model::{Name, Named, Version},
    wire::v1,
};

pub async fn run(s: &Session, verb: ReleaseVerb) -> Result<u8, CliError> {
    match verb {
        ReleaseVerb::Prune { what, keep, older_than, sure } => {
            upkeep::prune(s, &what.service, keep, older_than, &sure).await
        }
        ReleaseVerb::Push(args) => push(s, args).await,
        ReleaseVerb::List { service } => list(s, service.as_deref()).await,
        ReleaseVerb::Show(release) => show(s, &release).await,
        ReleaseVerb::Retire { release: OnRelease { service, version }, sure } => {
            let request = named(&service, &version)?;
            s.sure(&sure, &format!("{service} {version} cannot be rolled out any more"))?;
            let reply = s.client.retire_release(request).await?;
            s.out.show(&reply, |_| format!("{service} {version} is retired: nobody rolls it out any more"))?;
            Ok(DONE)
        }
        ReleaseVerb::Remove { release: OnRelease { service, version }, sure } => {
            let request = named(&service, &version)?;
            s.sure(&sure, &format!("{service} {version} is removed, and must be pushed again to come back"))?;
            let reply = s.client.remove_release(request).await?;
            s.out.show(&reply, |_| format!("{service} {version} is removed"))?;
            Ok(DONE)
        }
    }
}

fn named(service: &str, version: &str) -> Result<v1::ReleaseVerbRequest, CliError> {
    let (service, version) = (Name::service(service)?.to_string(), version.parse::<Version>()?.to_string());
    Ok(v1::ReleaseVerbRequest { request: None, service, version })
}

async fn list(s: &Session, service: Option<&str>) -> Result<u8, CliError> {
    let service = service.map(Name::service).transpose()?.map(|n| n.to_string()).unwrap_or_default();
    let mut all = s.client.releases(v1::ListRequest { service: service.clone(), ..Default::default() }).await?.items;
    if all.is_empty() && !service.is_empty() {
        known_service(s, &service).await?;
    }
    if let Some(environment) = s.listed().await? {
        let ask = v1::ListRequest { environment: environment.into(), ..Default::default() };
        let here = s.client.deployments(ask).await?.items;
        let prefix = format!("{environment}/");
        let here: Vec<&str> = here.iter().filter_map(|d| d.id.strip_prefix(&prefix)).collect();
        all.retain(|r| here.contains(&r.service.as_str()));
    }
    s.out.show(&all, |items| render::releases(items, s.now(), s.out.wide()))?;
    Ok(DONE)
}

/// The service's row; an error with the nearest name when there is none.
pub(super) async fn known_service(s: &Session, service: &str) -> Result<v1::Service, CliError> {
    let all = s.client.services(v1::ListRequest::default()).await?.items;
    let found = all.iter().find(|x| x.name == service).cloned();
    found.ok_or_else(|| missing(Named::Service, service, all.iter().map(|x| &x.name)))
}

async fn show(s: &Session, OnRelease { service, version }: &OnRelease) -> Result<u8, CliError> {
    let ask = v1::ListRequest { service: service.into(), ..Default::default() };
    let all = s.client.releases(ask).await?.items;
    let Some(release) = all.iter().find(|r| r.version == *version) else {
        known_service(s, service).await?;
        return Err(missing(Named::Release, &format!("{service} {version}"), all.iter().map(|r| &r.version)));
    };
    s.out.show(release, |r| render::release(r, s.now()))?;
    Ok(DONE)
}

/// What a push did.
#[derive(serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Pushed {
    service: String,
    version: String,
    digest: String,
    size: u64,
    /// Nodes that hold the package.
    holders: u32,
    /// Nodes that are to hold it.
    node_count: u32,
    /// Whether the version was there already, with the same bytes.
    unchanged: bool,
}

async fn push(s: &Session, args: PushArgs) -> Result<u8, CliError> {
    let service = Name::service(&args.what.service)?.to_string();
    let version = args.version.parse::<Version>()?.to_string();
    let mut labels = std::collections::BTreeMap::new();
    for (key, value) in args.labels {
        if labels.insert(key.clone(), value).is_some() {
            return Err(CliError::Usage(format!("--label {key} is given twice")));
        }
    }
    // What cannot be is said before minutes of packing: no node, or a service that is a slip of the pen.
    if !args.new {
        let known = known_service(s, &service).await;
        known.map_err(|e| match e {
            CliError::Missing(text) => {
                CliError::Missing(format!("{text} (`--new` makes the service {service} with this release)"))
            }
            other => other,
        })?;
    }
    let before = s.client.releases(v1::ListRequest { service: service.clone(), ..Default::default() }).await?.items;
    let unchanged = before.iter().any(|r| r.version == version);
    let packed = tokio::task::spawn_blocking(move || pack::package(&args.path, &config::temporary_dir())).await;
    let package = packed.map_err(|e| CliError::Failed(format!("packing ended early: {e}")))?;
    let package = package.map_err(|e| CliError::Failed(e.to_string()))?;
    for line in package.notes.lines() {
        console::note(&format!("note: {line}"));
    }

    let bar = ProgressBar::new(package.size);
    let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes} ({eta} left)");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let moving = bar.clone();
    let pushed = s.client.push(&package.digest, &package.path, package.size, move |n| moving.set_position(n)).await;
    bar.finish_and_clear();
    let pushed = pushed?;
    let request = v1::RegisterReleaseRequest {
        request: None,
        service: service.clone(),
        version: version.clone(),
        digest: package.digest.clone(),
        build: Some(v1::BuildInfo {
            commit: args.commit.unwrap_or_default(),
            built_at: package.built_at.map(|at| at.to_string()).unwrap_or_default(),
            toolchain: args.toolchain.unwrap_or_default(),
            components: args.components.into_iter().collect(),
        }),
        labels,
    };
    let reply = s.client.register_release(request).await?;
    let result = Pushed {
        service,
        version,
        digest: package.digest.clone(),
        size: package.size,
        holders: reply.holders.max(pushed.holders),
        node_count: reply.nodes.max(pushed.nodes),
        unchanged,
    };
    s.out.show(&result, |p| {
        let digest = render::digest(&p.digest);
        let unchanged = if p.unchanged { "; it was there already, nothing changed" } else { "" };
        format!("{} {} {digest}… on {} of {} nodes{unchanged}", p.service, p.version, p.holders, p.node_count)
    })?;
    Ok(DONE)
}
