//! `traffic probe`: finds out what to ask, runs a probe, prints it as it goes and at its end.

use std::{net::SocketAddr, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{
    cli::{
        CliError, Session,
        args::ProbeArgs,
        error::{DONE, FAILED},
    },
    console,
    probe::{self, Bucket, FailedRequest, Probe, ProbeConfig, ProbeHandle, Summary, VersionsByAddress},
    wire::v1,
};

/// Between two printed lines where nobody watches live.
const LINE_EVERY: u64 = 5;

/// What a probe saw.
#[derive(Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Probed<'a> {
    dns_name: &'a str,
    started_wall_ms: u64,
    ended_wall_ms: u64,
    /// Requests a second that were asked for.
    rate: u32,
    clients: u32,
    /// Requests that a user would have noticed.
    failed: u64,
    #[serde(flatten)]
    seen: &'a Summary,
}

/// What `--report` writes: also each failure, and each second.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    probed: Probed<'a>,
    failures: Vec<FailedRequest>,
    seconds: Vec<Bucket>,
}

pub async fn run(s: &Session, args: ProbeArgs) -> Result<u8, CliError> {
    let config = config(s, &args).await?;
    if let Some(path) = &args.report {
        // A file that cannot be written is said before the load, not after it.
        std::fs::write(path, "{}\n").map_err(|source| unwritable(path, &source))?;
    }
    let people = s.out.for_people() && !args.json;
    let (name, versions) = (config.name.clone(), config.versions.clone());
    let servers: Vec<String> = config.servers.iter().map(ToString::to_string).collect();
    let head = format!("{name}:{}{}, {} clients, DNS {}", config.port, config.path, config.clients, servers.join(" "));
    let handle = Probe::start(config, s.client.clock().clone()).map_err(|e| CliError::Usage(e.to_string()))?;
    console::note(&head);
    tokio::select! {
        () = handle.finished() => {}
        result = print(s, &handle, people) => result?,
        () = keep_versions(s, &args.name, &versions) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    handle.stop().await;
    let seen = handle.summary();
    let probed = Probed {
        dns_name: &name,
        started_wall_ms: handle.started_ms(),
        ended_wall_ms: handle.now_ms(),
        rate: args.rate,
        clients: args.clients,
        failed: seen.failed(),
        seen: &seen,
    };
    if let Some(path) = &args.report {
        let report = Report { probed, failures: handle.failures(), seconds: handle.buckets(0) };
        let text =
            serde_json::to_string_pretty(&report).map_err(|e| CliError::Output(std::io::Error::from(e).into()))?;
        std::fs::write(path, text + "\n").map_err(|source| unwritable(path, &source))?;
    }
    if args.json {
        s.out.line(&serde_json::to_string(&probed).map_err(|e| CliError::Output(std::io::Error::from(e).into()))?)?;
    } else {
        s.out.show(&probed, |_| format!("\n{}", probe::tables(&seen, &handle.failures())))?;
    }
    Ok(if seen.failed() == 0 { DONE } else { FAILED })
}

fn unwritable(path: &std::path::Path, source: &std::io::Error) -> CliError {
    CliError::Usage(format!("--report {}: {source}", path.display()))
}

/// Where the name is served: from the cluster for a deployment, from flags for a DNS name.
async fn config(s: &Session, args: &ProbeArgs) -> Result<ProbeConfig, CliError> {
    let dns_name = args.name.contains('.') && !args.name.contains('/');
    let (name, mut servers, port) = if dns_name {
        let servers = if args.dns.is_empty() {
            s.client.status().await?.nodes.into_iter().filter(|n| n.role != "removed").map(|n| n.dns_addr).collect()
        } else {
            Vec::new()
        };
        (args.name.clone(), servers, args.port.unwrap_or(80))
    } else {
        let route = route(s, &args.name).await?;
        (route.dns_name.clone(), route.dns_servers.clone(), port(args, &route)?)
    };
    if !args.dns.is_empty() {
        servers.clear();
    }
    let parsed = servers.iter().map(|a| {
        a.parse::<SocketAddr>().map_err(|_| {
            CliError::Failed(format!("the cluster names {a:?} as a DNS server: name servers with --dns IP:PORT"))
        })
    });
    let mut servers = parsed.collect::<Result<Vec<_>, _>>()?;
    servers.extend(&args.dns);
    let mut config = ProbeConfig::new(name, servers, port);
    config.path = args.path.clone();
    config.rate = args.rate;
    config.clients = args.clients;
    config.duration = args.duration.map(|d| Duration::from_millis(d.0));
    Ok(config)
}

async fn route(s: &Session, name: &str) -> Result<v1::GetRouteReply, CliError> {
    let deployment = s.deployment_id(name)?;
    Ok(s.client.route(v1::GetRouteRequest { deployment }).await?)
}

fn port(args: &ProbeArgs, route: &v1::GetRouteReply) -> Result<u16, CliError> {
    if let Some(port) = args.port {
        return Ok(port);
    }
    let only = route.ports.values().next().filter(|_| route.ports.len() == 1);
    let port = route.ports.get("http").or(only).and_then(|p| u16::try_from(*p).ok());
    port.ok_or_else(|| {
        let known: Vec<String> = route.ports.iter().map(|(n, p)| format!("{n} {p}")).collect();
        CliError::Failed(format!("which port? {} has {}: name it with --port", route.deployment, known.join(", ")))
    })
}

/// Keeps versions by address fresh, for services that do not answer with `X-Version`. Never ends.
async fn keep_versions(s: &Session, name: &str, versions: &VersionsByAddress) {
    let mut every = tokio::time::interval(Duration::from_secs(2));
    loop {
        every.tick().await;
        // Without a cluster to ask, the header alone tells.
        let Ok(route) = route(s, name).await else { continue };
        let all = route
            .shares
            .iter()
            .flat_map(|share| share.addresses.iter().filter_map(|a| Some((a.parse().ok()?, share.version.clone()))));
        let mut known = versions.write();
        known.extend(all);
    }
}

/// Prints what comes: the last second on a terminal, a line every five elsewhere. Never ends by itself.
async fn print(s: &Session, handle: &ProbeHandle, people: bool) -> Result<(), CliError> {
    let bar = s.out.live().then(|| {
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        ProgressBar::new_spinner().with_style(style)
    });
    let seconds = if bar.is_some() { 1 } else { LINE_EVERY };
    let mut every = tokio::time::interval(Duration::from_secs(seconds));
    every.tick().await;
    loop {
        every.tick().await;
        let now = handle.now_ms() / 1000 * 1000;
        let seen = handle.between(now.saturating_sub(seconds * 1000), now);
        let since = now.saturating_sub(handle.started_ms()) / 1000;
        let line = probe::line(since, seconds, &seen);
        match &bar {
            Some(bar) => {
                let all = probe::tables(&handle.summary(), &[]);
                bar.set_message(format!("{line}\n\n{all}"));
            }
            None if people => s.out.line(&line)?,
            None => console::note(&line),
        }
    }
}
