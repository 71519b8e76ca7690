//! `release`: push, list, show, retire, remove.

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cli::{
        CliError, Session,
        args::{PushArgs, ReleaseVerb},
        error::DONE,
        pack, render,
    },
    config, console,
    model::{Name, Version, nearest},
    wire::v1,
};

pub async fn run(s: &Session, verb: ReleaseVerb) -> Result<u8, CliError> {
    match verb {
        ReleaseVerb::Push(args) => push(s, args).await,
        ReleaseVerb::List { service } => {
            let request = v1::ListRequest { service: service.unwrap_or_default(), ..Default::default() };
            let reply = s.client.releases(request).await?;
            s.out.show(&reply.items, |items| render::releases(items, s.out.wide()))?;
            Ok(DONE)
        }
        ReleaseVerb::Show { service, version } => show(s, &service, &version).await,
        ReleaseVerb::Retire { service, version } => {
            let reply = s.client.retire_release(named(&service, &version)?).await?;
            s.out.show(&reply, |_| format!("{service} {version} is retired: nobody rolls it out any more"))?;
            Ok(DONE)
        }
        ReleaseVerb::Remove { service, version } => {
            let reply = s.client.remove_release(named(&service, &version)?).await?;
            s.out.show(&reply, |_| format!("{service} {version} is removed"))?;
            Ok(DONE)
        }
    }
}

fn named(service: &str, version: &str) -> Result<v1::ReleaseVerbRequest, CliError> {
    let (service, version) = (Name::service(service)?.to_string(), version.parse::<Version>()?.to_string());
    Ok(v1::ReleaseVerbRequest { request: None, service, version })
}

async fn show(s: &Session, service: &str, version: &str) -> Result<u8, CliError> {
    let ask = v1::ListRequest { service: service.into(), ..Default::default() };
    let all = s.client.releases(ask.clone()).await?.items;
    let known: Vec<&str> = all.iter().map(|r| r.version.as_str()).collect();
    let Some(release) = all.iter().find(|r| r.version == version) else {
        let near = nearest(version, known.iter().copied()).map(|v| format!("; did you mean {v}?")).unwrap_or_default();
        return Err(CliError::Failed(format!("release {service} {version} does not exist{near}")));
    };
    let deployments = s.client.deployments(ask).await?.items;
    s.out.show(release, |r| render::release(r, &deployments))?;
    Ok(DONE)
}

/// What a push did, for scripts.
#[derive(serde::Serialize)]
struct Pushed {
    service: String,
    version: String,
    digest: String,
    size: u64,
    holders: u32,
    nodes: u32,
}

async fn push(s: &Session, args: PushArgs) -> Result<u8, CliError> {
    let service = Name::service(&args.service)?.to_string();
    let version = args.version.parse::<Version>()?.to_string();
    let labels = args.labels.iter().map(|l| match l.split_once('=') {
        Some((k, v)) => Ok((k.to_string(), v.to_string())),
        None => Err(CliError::Usage(format!("--label {l:?}: write KEY=VALUE"))),
    });
    let labels = labels.collect::<Result<_, _>>()?;
    // A node that cannot be reached is said before minutes of packing.
    s.client.status().await?;
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
            built_at: String::new(),
            toolchain: args.toolchain.unwrap_or_default(),
            components: Default::default(),
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
        nodes: reply.nodes.max(pushed.nodes),
    };
    s.out.show(&result, |p| {
        let digest = render::digest(&p.digest);
        format!("{} {} {digest}… on {} of {} nodes", p.service, p.version, p.holders, p.nodes)
    })?;
    Ok(DONE)
}
