//! `status`: what is wrong now, on one screen. Rollouts that run come first, as somebody waits for them; then what is
//! degraded or stopped, lost workers, and the nodes.

use serde::Serialize;

use crate::{
    cli::{CliError, Session, error::DONE, render},
    wire::v1,
};

/// A deployment that does not have what it should.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Degraded {
    deployment: String,
    /// What it lacks, in words.
    problem: String,
}

/// A deployment that somebody stopped.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Stopped {
    deployment: String,
    /// `stopping` or `stopped`.
    stop: String,
    /// Who stopped it.
    by: String,
    /// When, by the wall clock.
    stopped_wall_ms: u64,
}

/// What is wrong now.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Overview {
    /// Rollouts that run.
    rollouts: Vec<v1::Rollout>,
    /// Deployments that do not have what they should.
    degraded: Vec<Degraded>,
    /// Deployments that somebody stopped.
    stopped: Vec<Stopped>,
    /// Workers that are not heard of.
    lost_workers: Vec<v1::Worker>,
    /// Members that were not removed.
    nodes: Vec<v1::Node>,
    /// Whether a majority of the nodes follows a leader.
    quorum: bool,
    warnings: Vec<String>,
    /// How many deployments there are.
    deployment_count: usize,
    /// How many workers there are.
    worker_count: usize,
}

pub async fn run(s: &Session) -> Result<u8, CliError> {
    let status = s.client.status().await?;
    let environment = s.listed().await?.unwrap_or_default().to_string();
    let ask = v1::ListRequest { environment, ..Default::default() };
    let deployments = s.client.deployments(ask).await?.items;
    let workers = s.client.workers(v1::ListRequest::default()).await?.items;
    let mut rollouts = Vec::new();
    for d in deployments.iter().filter(|d| !d.live_rollout.is_empty()) {
        rollouts.push(s.rollout(&d.live_rollout).await?);
    }
    let overview = Overview {
        rollouts,
        degraded: deployments.iter().flat_map(degraded).collect(),
        stopped: deployments.iter().filter(|d| is_stopped(d)).map(stopped).collect(),
        deployment_count: deployments.len(),
        worker_count: workers.len(),
        lost_workers: workers.into_iter().filter(|w| w.status != "ready").collect(),
        nodes: status.nodes.into_iter().filter(|n| n.role != "removed").collect(),
        quorum: status.quorum,
        warnings: status.warnings,
    };
    s.out.show(&overview, shown)?;
    Ok(DONE)
}

fn is_stopped(d: &v1::Deployment) -> bool {
    ["stopping", "stopped"].contains(&d.stop.as_str())
}

fn stopped(d: &v1::Deployment) -> Stopped {
    let (deployment, stop, by) = (d.id.clone(), d.stop.clone(), d.stopped_by.clone());
    Stopped { deployment, stop, by, stopped_wall_ms: d.stopped_wall_ms }
}

fn degraded(d: &v1::Deployment) -> Vec<Degraded> {
    let mut all = Vec::new();
    let mut say = |problem| all.push(Degraded { deployment: d.id.clone(), problem });
    let lacks = |a: &&v1::Arm| a.weight_bp > 0 && a.serving < a.want;
    // What is stopped is meant to serve with none.
    for a in d.arms.iter().filter(lacks).filter(|_| !is_stopped(d)) {
        let version = render::version(a.pair.as_ref());
        say(format!("{version} serves with {} of {}", a.serving, a.want));
    }
    if !d.lost.is_empty() {
        say(format!("instances on lost workers: {}", d.lost.join(", ")));
    }
    if !d.as_is.is_empty() {
        say(format!("as it is since {}: two versions share it until the next rollout", d.as_is));
    }
    all
}

fn shown(o: &Overview) -> String {
    let mut lines = Vec::new();
    for r in &o.rollouts {
        let (from, to) = (render::version(r.from.as_ref()), render::version(r.to.as_ref()));
        lines.push(format!("{}  {}  {from} -> {to}  {}  {}", r.id, r.deployment, r.strategy, render::words(&r.status)));
        lines.extend(Some(&r.reason).filter(|x| !x.is_empty()).map(|reason| format!("    reason: {reason}")));
        lines.extend(r.waits.iter().map(|wait| format!("    waiting: {wait}")));
        if !r.waits.is_empty() {
            lines.extend(r.ways_out.iter().map(|way| format!("    can be ended by: {way}")));
        }
    }
    lines.extend(o.degraded.iter().map(|d| format!("degraded: {}: {}", d.deployment, d.problem)));
    lines.extend(o.stopped.iter().map(|d| {
        let (at, id) = (render::wall(d.stopped_wall_ms), &d.deployment);
        format!("{}: {id}, by {} at {at}: `slipway service start {id}` brings it back", d.stop, d.by)
    }));
    lines.extend(
        o.lost_workers
            .iter()
            .map(|w| format!("worker {} is {}, instances on it: {}", w.name, w.status, w.instance_count)),
    );
    if !o.quorum {
        lines.push("NO QUORUM: nothing can be changed until a majority of the nodes is back".into());
    }
    let bad = |n: &&v1::Node| n.reachable == Some(false) || n.dns_silent || n.drained || n.role != "voter";
    for n in o.nodes.iter().filter(bad) {
        let words = [
            (n.reachable == Some(false), "not reachable"),
            (n.dns_silent, "its DNS is silent"),
            (n.drained, "drained"),
        ];
        let mut words: Vec<&str> = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        if n.role != "voter" {
            words.push(&n.role);
        }
        lines.push(format!("node {}: {}", n.name, words.join(", ")));
    }
    lines.extend(o.warnings.iter().map(|w| format!("warning: {w}")));
    let leader =
        o.nodes.iter().find(|n| n.leader).map_or_else(|| "nobody leads".into(), |n| format!("{} leads", n.name));
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let here = [(o.deployment_count, "deployment"), (o.worker_count, "worker"), (o.nodes.len(), "node")];
    let here = format!("{}, {leader}", here.map(|(n, what)| count(n, what)).join(", "));
    lines.push(if lines.is_empty() { format!("nothing is wrong, and no rollout runs: {here}") } else { here });
    lines.join("\n")
}
