//! `traffic`: show, switch, history, lease.
//!
//! Invariant: the exit code says what is known, not what was hoped for: 0 only when what was asked for was reached.

use super::{dns, probe};
use crate::{
    cli::{
        CliError, Session,
        args::{LeaseArgs, SwitchArgs, TrafficVerb, WaitFor},
        error::{DONE, FAILED, ROLLED_BACK},
        render,
    },
    console::table,
    model::Period,
    wire::v1,
};

/// How long one call waits for the end; the client's own limit of an attempt is a little longer.
const WAIT_MS: u64 = 1500;

pub async fn run(s: &Session, verb: TrafficVerb) -> Result<u8, CliError> {
    match verb {
        TrafficVerb::Show(what) => {
            let reply = dns::everywhere(s, s.deployment_of(&what.target).await?).await?;
            s.out.show(&reply, render::route)?;
            Ok(DONE)
        }
        TrafficVerb::Switch(args) => switch(s, args).await,
        TrafficVerb::History { deployment, limit } => history(s, deployment.as_deref(), limit).await,
        TrafficVerb::Lease(args) => lease(s, args).await,
        TrafficVerb::Probe(args) => probe::run(s, args).await,
    }
}

async fn history(s: &Session, deployment: Option<&str>, limit: Option<usize>) -> Result<u8, CliError> {
    let mut all = s.client.lease(v1::GetLeaseRequest {}).await?.switches;
    if let Some(deployment) = deployment {
        let id = s.deployment(&s.deployment_id(deployment)?).await?.id;
        all.retain(|x| x.targets.iter().any(|t| t.deployment == id));
    }
    all.truncate(limit.unwrap_or(usize::MAX));
    s.out.show(&all, |all| switches(all))?;
    Ok(DONE)
}

async fn switch(s: &Session, args: SwitchArgs) -> Result<u8, CliError> {
    let deployments = args.deployments.iter().map(|d| s.deployment_id(d)).collect::<Result<Vec<_>, _>>()?;
    let request = v1::SwitchRequest {
        request: None,
        deployments,
        to: args.to.unwrap_or_default(),
        back: args.back.unwrap_or_default(),
        wait: args.wait.to_string(),
        take_back: args.or_take_back,
        within_ms: args.within.0,
        wait_ms: WAIT_MS,
    };
    let reply = s.client.switch_traffic(request).await?;
    let mut switch = reply.switch.unwrap_or_default();
    // It ends by itself, whatever becomes of this command: by its policy, within the servers' time and a lease.
    while !switch.ended {
        let ask = v1::GetSwitchRequest { switch: switch.id.clone(), wait_ms: WAIT_MS };
        switch = s.client.switch(ask).await?;
    }
    s.out.show(&switch, told)?;
    Ok(match (switch.phase.as_str(), args.wait) {
        ("taken-back", _) => ROLLED_BACK,
        (_, WaitFor::Fenced | WaitFor::Caches) if !switch.fenced => FAILED,
        (_, WaitFor::Quorum | WaitFor::Fenced | WaitFor::Caches) => DONE,
    })
}

/// A switch, as a person reads it.
fn told(s: &v1::Switch) -> String {
    let moves: Vec<String> =
        s.targets.iter().map(|t| format!("{} {} -> {}", t.deployment, t.from_version, t.to_version)).collect();
    let moves = moves.join(", ");
    if s.phase == "taken-back" {
        return format!("{}: taken back, nothing moved ({moves}): {}", s.id, s.note);
    }
    let since = |at: u64| Period(at.saturating_sub(s.moved_at_ms)).to_string();
    let mut lines = vec![format!("{}: switched at entry {}: {moves}", s.id, s.index)];
    let servers = s.servers.iter().map(|n| {
        let what = match n.status.as_str() {
            "served" => format!("answers with the new version since {}", since(n.at_ms)),
            "lease-over" => "unheard; its lease is over, so it answers nothing old".into(),
            "may-hold" => "unheard; may answer with the old version until its lease is over".into(),
            _ => "unheard; may answer with the old version".into(),
        };
        vec![n.node.clone(), what]
    });
    let servers: Vec<Vec<String>> = servers.collect();
    if !servers.is_empty() {
        lines.push(table(&["SERVER", "AFTER THE ENTRY"], servers, ""));
    }
    lines.push(if s.fenced {
        format!("fenced after {}: no server answers with the old version", since(s.fenced_at_ms))
    } else {
        format!("fenced=false: {}", s.note)
    });
    if s.clear_at_ms > 0 {
        lines.push(format!("caches that keep to TTLs are clear after {}; open connections stay", since(s.clear_at_ms)));
    }
    lines.push(format!("back: slipway traffic switch --back {}", s.id));
    lines.join("\n")
}

async fn lease(s: &Session, args: LeaseArgs) -> Result<u8, CliError> {
    let changes = args.mode.is_some()
        || args.duration.is_some()
        || args.drift.is_some()
        || args.margin.is_some()
        || args.on_expiry.is_some();
    let lease = if changes {
        let deployment = args.deployment.as_deref().map(|d| s.deployment_id(d)).transpose()?;
        let request = v1::SetLeaseRequest {
            request: None,
            mode: args.mode.map(|m| m.to_string()).unwrap_or_default(),
            duration_ms: args.duration.map_or(0, |p| p.0),
            drift_ppm: args.drift.unwrap_or(0),
            margin_ms: args.margin.map_or(0, |p| p.0),
            deployment: deployment.unwrap_or_default(),
            on_expiry: args.on_expiry.unwrap_or_default(),
        };
        s.client.set_lease(request).await?.lease.unwrap_or_default()
    } else {
        s.client.lease(v1::GetLeaseRequest {}).await?
    };
    s.out.show(&lease, |l| shown(l, changes || s.out.wide()))?;
    Ok(DONE)
}

fn shown(l: &v1::Lease, wide: bool) -> String {
    let period = |ms: u64| Period(ms).to_string();
    let when = if l.mode == "armed" { "only while traffic is switched" } else { "at all times" };
    let mut lines = vec![
        format!("mode {}: DNS servers answer under leases {when}", l.mode),
        format!(
            "a lease lasts {}; a switch waits at most {} for a silent server",
            period(l.duration_ms),
            period(l.bound_ms)
        ),
    ];
    if wide {
        lines.push(format!("allowed for clocks: drift {} ppm, margin {}", l.drift_ppm, period(l.margin_ms)));
    }
    if !l.armed.is_empty() {
        lines.push(format!("answered under leases now: {}", l.armed.join(", ")));
    }
    for p in &l.policies {
        lines.push(format!("at a lease's end, {}: {}", p.deployment, p.on_expiry));
    }
    if !l.removed_servers.is_empty() {
        lines.push(format!("removed, may still hold a lease: {}", l.removed_servers.join(", ")));
    }
    lines.push(
        "`slipway traffic history` shows the switches so far, `slipway rollout history` those of rollouts".into(),
    );
    lines.join("\n")
}

/// Switches that were asked for; those of rollouts are steps of theirs.
fn switches(all: &[v1::Switch]) -> String {
    let period = |ms: u64| Period(ms).to_string();
    let row = |s: &v1::Switch| {
        let targets: Vec<String> =
            s.targets.iter().map(|t| format!("{} {} -> {}", t.deployment, t.from_version, t.to_version)).collect();
        let fenced = match (s.ended, s.fenced) {
            (true, true) => period(s.fenced_at_ms.saturating_sub(s.moved_at_ms)),
            (true, false) => "no".into(),
            (false, _) => "-".into(),
        };
        vec![s.id.clone(), targets.join(", "), s.wait.clone(), render::switch_phase(s).into(), fenced]
    };
    table(
        &["SWITCH", "WHAT", "WAITS FOR", "STATUS", "NO OLD ANSWER AFTER"],
        all.iter().map(row).collect(),
        "no `traffic switch` yet; `slipway rollout history` shows the rollouts, which switch by themselves",
    )
}
