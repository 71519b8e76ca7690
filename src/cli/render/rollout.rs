//! A rollout as text: its steps, what was seen in them, what it waits for and how it can be ended.

use super::{since, version, words};
use crate::console::table;
use crate::wire::{
    convert_rollout::{counted, has_counts},
    v1,
};

fn mark(status: &str) -> &'static str {
    match status {
        "running" | "active" | "started" => "●",
        "passed" | "done" | "completed" => "✓",
        "failed" => "✗",
        "skipped" => "-",
        _ => " ",
    }
}

/// Whether a verdict says something: installs and routes are not there to judge, and end before there is much to judge
/// by.
pub(in crate::cli) fn judged(s: &v1::Step, verdict: &str) -> bool {
    verdict == "worse" || (s.judges && !matches!(verdict, "" | "unjudged"))
}

/// One step's line.
fn step(s: &v1::Step, now_ms: u64) -> Vec<String> {
    let mut notes = Vec::new();
    let running = matches!(s.status.as_str(), "running" | "active" | "started");
    if running && s.until_ms > now_ms && now_ms > 0 {
        notes.push(format!("{} left", since(now_ms, s.until_ms)));
    }
    if let Some(b) = &s.batch {
        let passed = if b.passed { ", passed" } else { "" };
        notes.push(format!("batch {}: {} new{passed}", b.n, b.added.len()));
    }
    if let Some(e) = &s.evidence {
        let totals = e.totals.iter().filter(|t| has_counts(t));
        notes.extend(totals.map(|t| format!("{}: {}", t.version, counted(t).join(", "))));
        notes.extend(Some(e.verdict.clone()).filter(|v| judged(s, v)));
        notes.extend(Some(e.note.clone()).filter(|v| !v.is_empty()));
    }
    if s.attempt > 1 {
        notes.push(format!("attempt {}", s.attempt));
    }
    // What was passed over never began.
    let took = if s.started_at_ms > 0 && s.ended_at_ms > s.started_at_ms {
        since(s.started_at_ms, s.ended_at_ms)
    } else {
        String::new()
    };
    let what = if s.detail.is_empty() { s.kind.clone() } else { s.detail.clone() };
    vec![mark(&s.status).into(), s.group.clone(), what, s.status.clone(), took, notes.join("; ")]
}

/// A list of steps.
pub fn steps(steps: &[v1::Step], now_ms: u64) -> String {
    table(&["", "GROUP", "STEP", "STATUS", "TOOK", ""], steps.iter().map(|s| step(s, now_ms)).collect(), "no steps yet")
}

/// `rollout status`, and the live view. `now_ms` is cluster time.
pub fn rollout(r: &v1::Rollout, now_ms: u64) -> String {
    let undo = if r.phase == "undo" && !r.terminal { ", undoing" } else { "" };
    let kind = if r.kind == "return" { ", a return" } else { "" };
    let mut text = format!(
        "{}  {}  {} -> {}  {}{kind}  {}{undo}\n\n",
        r.id,
        r.deployment,
        version(r.from.as_ref()),
        version(r.to.as_ref()),
        r.strategy,
        words(&r.status),
    );
    if !r.forward_steps.is_empty() {
        text += &format!("{}\n\nundo:\n", steps(&r.forward_steps, now_ms));
    }
    text += &steps(&r.steps, now_ms);
    if !r.reason.is_empty() {
        text += &format!("\n\nreason: {}", r.reason);
    }
    if r.traffic_back_at_ms > 0 {
        text += &format!("\ntraffic was back {} after the start", since(r.started_at_ms, r.traffic_back_at_ms));
    }
    text += &r.back.as_ref().map(back).unwrap_or_default();
    if !r.without.is_empty() {
        text += &format!("\nwithout: {} (lost)", r.without.join(", "));
    }
    if !r.rollback_estimate.is_empty() {
        text += &format!("\ngoing back: {}", r.rollback_estimate);
    }
    for wait in &r.waits {
        text += &format!("\nwaiting: {wait}");
    }
    if !r.waits.is_empty() {
        text += &ways_out(&r.ways_out);
    }
    text
}

/// What a person can do, one command a line.
pub fn ways_out(all: &[String]) -> String {
    all.iter().map(|verb| format!("\ncan be ended by: {verb}")).collect()
}

/// How the servers stand to a rollback.
fn back(b: &v1::TrafficBack) -> String {
    let after = |at: u64| since(b.at_ms, at);
    if !b.ended {
        return format!("\nfence: the servers' word that none answers with {} is still out", b.from_version);
    }
    let servers = b.servers.iter().map(|n| match n.status.as_str() {
        "served" => format!("{} {} ms", n.node, n.at_ms.saturating_sub(b.at_ms)),
        "lease-over" => format!("{} by the end of its lease", n.node),
        "may-hold" => format!("{} unheard, its lease not over", n.node),
        _ => format!("{} unheard", n.node),
    });
    let servers = servers.collect::<Vec<_>>().join(", ");
    if b.fenced {
        let clear = after(b.clear_at_ms);
        format!(
            "\nfenced {} after that: no server answers with {} ({servers}); caches clear after {clear}",
            after(b.fenced_at_ms),
            b.from_version
        )
    } else {
        format!("\nfenced=false: {} ({servers})", b.note)
    }
}

/// `rollout plan`.
pub fn plan(p: &v1::PlanReply) -> String {
    let from = if p.from_version.is_empty() { "nothing" } else { &p.from_version };
    let row = |(n, s): (usize, &v1::Step)| {
        let what = if s.detail.is_empty() { s.kind.clone() } else { s.detail.clone() };
        vec![(n + 1).to_string(), s.group.clone(), what]
    };
    let steps = table(&["", "GROUP", "STEP"], p.steps.iter().enumerate().map(row).collect(), "no steps");
    let mut text = format!("{from} -> {}, {}, {}\n\n{steps}", p.to_version, p.strategy, count(p.desired));
    for note in &p.notes {
        text += &format!("\nnote: {note}");
    }
    text + &format!(
        "\nseen at revision {0}: `rollout start --expect {0}` is refused if the deployment has changed since",
        p.revision
    )
}

fn count(n: u32) -> String {
    if n == 1 { "1 instance".into() } else { format!("{n} instances") }
}

/// `rollout explain`.
pub fn explain(e: &v1::ExplainReply) -> String {
    let mut text = format!("{}: {}", e.deployment, e.summary);
    for wait in &e.waits {
        text += &format!("\nwaiting: {wait}");
    }
    if e.waits.is_empty() && !e.rollout.is_empty() && !e.terminal {
        text += "\nwaiting for nothing: the next step starts at once";
    }
    if !e.waits.is_empty() {
        text += &ways_out(&e.ways_out);
    }
    if !e.rollback_estimate.is_empty() {
        text += &format!("\ngoing back: {}", e.rollback_estimate);
    }
    for decision in &e.decisions {
        text += &format!("\ndecided: {decision}");
    }
    text
}
