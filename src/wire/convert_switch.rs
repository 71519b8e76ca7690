//! Switches and the settings of leases as messages, and their words read back.

use super::v1;
use crate::{
    model::{ModelError, Period},
    state::{LeaseMode, OnExpiry, ServerEnd, State, Switch, TrafficBack, WaitLevel},
};

/// A switch.
pub fn switch(state: &State, s: &Switch) -> v1::Switch {
    let end = s.end.as_ref();
    let phase = match (end, s.moved) {
        (None, None) => "arming",
        (None, Some(_)) => "moved",
        (Some(e), _) if e.switched => "ended",
        (Some(_), _) => "taken-back",
    };
    let (index, moved_at_ms) = s.moved.map_or((0, 0), |(index, at)| (index, at.0));
    v1::Switch {
        id: format!("s-{}", s.id),
        targets: s
            .targets
            .iter()
            .map(|t| v1::SwitchTarget {
                deployment: t.deployment.to_string(),
                from_version: t.from.version.to_string(),
                to_version: t.to.version.to_string(),
            })
            .collect(),
        wait: s.wait.to_string(),
        phase: phase.into(),
        asked_at_ms: s.asked_at.0,
        asked_wall_ms: state.wall.saturating_sub(state.now.since(s.asked_at).0),
        index,
        moved_at_ms,
        ended: end.is_some(),
        ended_at_ms: end.map_or(0, |e| e.at.0),
        fenced: end.is_some_and(|e| e.fenced_at.is_some()),
        fenced_at_ms: end.and_then(|e| e.fenced_at).map_or(0, |at| at.0),
        clear_at_ms: end.and_then(|e| e.clear_at).map_or(0, |at| at.0),
        servers: end.map(|e| e.servers.iter().map(server).collect()).unwrap_or_default(),
        note: end.map(|e| e.note.clone()).unwrap_or_default(),
        undoes: s.undoes.map(|id| format!("s-{id}")).unwrap_or_default(),
    }
}

fn server((node, name, how): &(u64, String, ServerEnd)) -> v1::SwitchServer {
    let (status, at_ms) = match how {
        ServerEnd::Served(at) => ("served", at.0),
        ServerEnd::Expired => ("lease-over", 0),
        ServerEnd::Holds => ("may-hold", 0),
        ServerEnd::Unbound => ("unknown", 0),
    };
    v1::SwitchServer { node_id: *node, node: name.clone(), status: status.into(), at_ms }
}

/// What is known after traffic was taken back.
pub fn back(b: &TrafficBack) -> v1::TrafficBack {
    let end = b.end.as_ref();
    v1::TrafficBack {
        index: b.index,
        at_ms: b.at.0,
        from_version: b.left.to_string(),
        ended: end.is_some(),
        fenced: end.is_some_and(|e| e.fenced_at.is_some()),
        fenced_at_ms: end.and_then(|e| e.fenced_at).map_or(0, |at| at.0),
        clear_at_ms: end.and_then(|e| e.clear_at).map_or(0, |at| at.0),
        servers: end.map(|e| e.servers.iter().map(server).collect()).unwrap_or_default(),
        note: end.map(|e| e.note.clone()).unwrap_or_default(),
    }
}

/// The settings of leases, and what is armed.
pub fn lease(state: &State) -> v1::Lease {
    let f = &state.fences;
    let name = |id: &u64| state.nodes.get(id).map_or_else(|| id.to_string(), |n| n.name.clone());
    v1::Lease {
        mode: f.mode.to_string(),
        duration_ms: f.terms.duration.0,
        drift_ppm: f.terms.drift_ppm,
        margin_ms: f.terms.margin.0,
        bound_ms: f.waited().bound().0,
        armed: f.armed.keys().map(ToString::to_string).collect(),
        policies: f
            .on_expiry
            .iter()
            .map(|(d, p)| v1::LeasePolicy { deployment: d.to_string(), on_expiry: expiry(*p) })
            .collect(),
        removed_servers: f.left.keys().map(name).collect(),
        switches: f.switches.values().rev().map(|s| switch(state, s)).collect(),
        now_ms: state.now.0,
    }
}

fn expiry(p: OnExpiry) -> String {
    match p {
        OnExpiry::Fail => "fail".into(),
        OnExpiry::Stale { max } => format!("stale:{max}"),
    }
}

fn bad(value: &str, expected: &'static str) -> ModelError {
    ModelError::BadValue { value: value.into(), expected }
}

/// What a switch waits for; fenced when nothing is said.
pub fn read_wait(text: &str) -> Result<WaitLevel, ModelError> {
    if text.is_empty() {
        return Ok(WaitLevel::Fenced);
    }
    text.parse().map_err(|_| bad(text, "what a switch waits for (quorum, fenced or caches)"))
}

/// A mode; none when nothing is said.
pub fn read_mode(text: &str) -> Result<Option<LeaseMode>, ModelError> {
    let mode = Some(text).filter(|text| !text.is_empty()).map(str::parse).transpose();
    mode.map_err(|_| bad(text, "a mode of leases (armed or always)"))
}

/// A policy; none for the default.
pub fn read_expiry(text: &str) -> Result<Option<OnExpiry>, ModelError> {
    match (text, text.strip_prefix("stale:")) {
        ("default", _) => Ok(None),
        ("fail", _) => Ok(Some(OnExpiry::Fail)),
        (_, Some(max)) => Ok(Some(OnExpiry::Stale { max: max.parse::<Period>()? })),
        (other, None) => Err(bad(other, "what happens at a lease's end (fail, default, or stale:DURATION)")),
    }
}
