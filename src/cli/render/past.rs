//! What was: rollouts and switches of a deployment, and events.

use std::cmp::Reverse;

use serde::Serialize;

use super::{or_dash, since, version, wall, words};
use crate::{
    console::{harmless, table},
    wire::v1,
};

/// What moved a deployment, newest first; for scripts rollouts and switches lie apart.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Past {
    #[serde(skip)]
    deployment: String,
    /// Rollouts, the newest first.
    items: Vec<v1::Rollout>,
    /// Its switches of traffic.
    switches: Vec<v1::Switch>,
}

/// The index of the entry in an id such as `r-52` or `s-308`.
fn entry(id: &str) -> u64 {
    id.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or_default()
}

impl Past {
    /// The newest so many of a deployment.
    pub fn of(
        deployment: String,
        mut items: Vec<v1::Rollout>,
        mut switches: Vec<v1::Switch>,
        limit: Option<usize>,
    ) -> Self {
        switches.retain(|s| s.targets.iter().any(|t| t.deployment == deployment));
        let ids = items.iter().map(|r| &r.id).chain(switches.iter().map(|s| &s.id));
        let mut all: Vec<u64> = ids.map(|id| entry(id)).collect();
        all.sort_by_key(|n| Reverse(*n));
        all.truncate(limit.unwrap_or(usize::MAX));
        items.retain(|r| all.contains(&entry(&r.id)));
        switches.retain(|s| all.contains(&entry(&s.id)));
        Self { deployment, items, switches }
    }
}

fn took(from_ms: u64, to_ms: u64) -> String {
    if to_ms > 0 { since(from_ms, to_ms) } else { "-".into() }
}

fn rollout(r: &v1::Rollout) -> Vec<String> {
    vec![
        r.id.clone(),
        version(r.from.as_ref()).to_string(),
        version(r.to.as_ref()).to_string(),
        r.strategy.clone(),
        words(&r.status),
        wall(r.started_wall_ms),
        took(r.started_at_ms, r.ended_at_ms),
        or_dash(&r.reason),
        r.kind.clone(),
        r.principal.clone(),
        or_dash(&r.undoes),
        or_dash(&r.undone_by),
    ]
}

fn switch(s: &v1::Switch, deployment: &str) -> Vec<String> {
    let target = s.targets.iter().find(|t| t.deployment == deployment).cloned().unwrap_or_default();
    let note = if s.phase == "ended" && s.fenced { String::new() } else { s.note.clone() };
    vec![
        s.id.clone(),
        target.from_version,
        target.to_version,
        "switch".into(),
        switch_phase(s).into(),
        wall(s.asked_wall_ms),
        took(s.asked_at_ms, s.ended_at_ms),
        or_dash(&note),
        "switch".into(),
        "-".into(),
        or_dash(&s.undoes),
        "-".into(),
    ]
}

/// How far a switch is.
pub fn switch_phase(s: &v1::Switch) -> &str {
    match s.phase.as_str() {
        "arming" => "waits for the servers",
        "moved" => "moved, not confirmed yet",
        "ended" => "completed",
        "taken-back" => "taken back",
        other => other,
    }
}

/// `rollout history`.
pub fn history(past: &Past, wide: bool) -> String {
    let rollouts = past.items.iter().map(|r| (entry(&r.id), rollout(r)));
    let switches = past.switches.iter().map(|s| (entry(&s.id), switch(s, &past.deployment)));
    let mut rows: Vec<(u64, Vec<String>)> = rollouts.chain(switches).collect();
    rows.sort_by_key(|(n, _)| Reverse(*n));
    let mut header = vec!["ID", "FROM", "TO", "STRATEGY", "STATUS", "STARTED", "TOOK", "REASON"];
    if wide {
        header.extend(["KIND", "BY", "UNDOES", "UNDONE BY"]);
    }
    let columns = header.len();
    let cut = |(_, mut row): (u64, Vec<String>)| {
        row.truncate(columns);
        row
    };
    let none = format!("no rollout yet: `slipway rollout start {} --to VERSION` starts one", past.deployment);
    table(&header, rows.into_iter().map(cut).collect(), &none)
}

/// What stands over events: the log's entry that made each, when, of which deployment, and what.
pub fn events() -> String {
    format!("{:>6}  {:<25}  {:<20}  WHAT", "ENTRY", "TIME", "DEPLOYMENT")
}

/// An event's line.
pub fn event(e: &v1::Event) -> String {
    let fields: Vec<String> = e.fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let what = if e.text.is_empty() { format!("{} {}", e.kind, fields.join(" ")) } else { e.text.clone() };
    // Its deployment stands before it already.
    let what = what.strip_prefix(&format!("{}: ", e.deployment)).unwrap_or(&what);
    // Whoever is no operator is said in JSON alone; some lines name the operator themselves.
    let named = e.actor.starts_with("operator:") && !what.contains(&e.actor);
    let by = if named { format!(", by {}", e.actor) } else { String::new() };
    let what = harmless(what);
    format!("{:>6}  {:<25}  {:<20}  {what}{by}", e.index, wall(e.wall_ms), or_dash(&e.deployment))
}
