//! Replies as text for people.
//!
//! Invariant: pure functions, so that tests hold the words. Not here: printing (`output`), JSON for scripts.

mod deployment;
mod nodes;
mod past;
mod rollout;

pub use deployment::{arms, deployment, deployments, instances, route, trace};
pub use nodes::{Levels, cluster, levels, node, nodes};

pub use past::{Past, event, events, history, switch_phase};
pub(super) use rollout::judged;
pub use rollout::{explain, plan, rollout, ways_out};

use crate::console::table;
use crate::{
    model::{BasisPoints, Millis, Version, WHOLE, lacking},
    wire::v1,
};

/// The time between two moments, as a person reads it.
fn since(from_ms: u64, to_ms: u64) -> String {
    Millis(to_ms.saturating_sub(from_ms)).to_string()
}

/// The first digits of a digest.
pub fn digest(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}

/// Bytes in the unit that fits.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} kB", bytes / 1000),
        10_000_000..=9_999_999_999 => format!("{} MB", bytes / 1_000_000),
        10_000_000_000.. => format!("{} GB", bytes / 1_000_000_000),
    }
}

/// A share of the traffic.
pub fn share(bp: u32) -> String {
    BasisPoints(bp).to_string()
}

/// A version, or a dash for none.
pub fn version(pair: Option<&v1::Pair>) -> &str {
    pair.map_or("-", |p| p.version.as_str())
}

/// A host before a port: an IPv6 address in brackets.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.into() }
}

/// The text, or a dash for none.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

/// `worker list`.
pub fn workers(items: &[v1::Worker], wide: bool) -> String {
    let row = |w: &v1::Worker| {
        let mut row = vec![
            w.name.clone(),
            w.status.clone(),
            format!("{}/{}", w.instance_count, w.capacity),
            format!("{}/{}", w.pool_free, w.pool_size),
        ];
        if wide {
            let keeping = w.keeping.split(':').next().unwrap_or_default();
            row.extend([or_dash(&w.host), or_dash(&w.agent_version), or_dash(keeping), labels(w.meta.as_ref())]);
        }
        row
    };
    let mut header = vec!["NAME", "STATUS", "INSTANCES", "ADDRESSES FREE"];
    if wide {
        header.extend(["HOST", "BUILD", "KEPT BY", "LABELS"]);
    }
    let mut text =
        table(&header, items.iter().map(row).collect(), "no worker yet: start `slipwayd agent` on a machine");
    for (w, absent) in items.iter().filter_map(|w| Some((w, absent(w)?))) {
        text.push_str(&format!("\n{}: {absent}", w.name));
    }
    for w in items.iter().filter(|w| w.rekey_until_ms > 0) {
        text.push_str(&format!("\n{}: another machine may take its place", w.name));
    }
    text
}

/// Which of a worker's configured addresses its machine does not have.
fn absent(w: &v1::Worker) -> Option<String> {
    let pool: Vec<String> = w.absent.iter().filter(|a| **a != w.host).cloned().collect();
    let host = (pool.len() < w.absent.len()).then_some(w.host.as_str());
    lacking(w.pool_size as usize, &pool, host)
}

fn labels(meta: Option<&v1::Meta>) -> String {
    let all = meta.map(|m| m.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","));
    or_dash(&all.unwrap_or_default())
}

/// A status, a reason or a phase of the wire as people read it.
pub fn words(code: &str) -> String {
    code.replace(['_', '-'], " ")
}

/// How long ago a moment was, in the unit that fits.
fn ago(at_ms: u64, now_ms: u64) -> String {
    let s = now_ms.saturating_sub(at_ms) / 1000;
    match s {
        0..=119 => format!("{s} s ago"),
        120..=7_199 => format!("{} min ago", s / 60),
        7_200..=172_799 => format!("{} h ago", s / 3600),
        172_800.. => format!("{} d ago", s / 86_400),
    }
}

/// What became of a release, and in which rollout if that was nothing good.
fn became(r: &v1::Release) -> String {
    let is = match r.status.as_str() {
        "loading" | "ready" => "stored",
        "active" => "running",
        "canary" => "candidate",
        "deprecated" => "kept",
        other => other,
    };
    let how = if r.reason_label == "manual" { "rolled back" } else { "failed" };
    match (r.failed_in.as_str(), is) {
        ("", _) | (_, "running" | "retired") => is.into(),
        (rollout, "candidate") => format!("candidate, {how} in {rollout}"),
        (rollout, _) => format!("{how} in {rollout}"),
    }
}

/// Where a release has a part: environments, with its share of the traffic where that is not all.
fn runs_in(r: &v1::Release) -> String {
    let place = |u: &v1::ReleaseUse| {
        let environment = u.deployment.split('/').next().unwrap_or_default();
        if u.weight_bp == WHOLE.0 { environment.into() } else { format!("{environment} ({})", share(u.weight_bp)) }
    };
    or_dash(&r.runs_in.iter().map(place).collect::<Vec<_>>().join(", "))
}

/// `release show`. `now_ms` is cluster time.
pub fn release(r: &v1::Release, now_ms: u64) -> String {
    let build = r.build.clone().unwrap_or_default();
    let on = r.runs_in.iter().map(|u| format!("{} as {} with {}", u.deployment, u.role, share(u.weight_bp)));
    let why = if r.failed_in.is_empty() || r.reason.is_empty() { String::new() } else { format!(": {}", r.reason) };
    let components = build.components.iter().map(|(name, version)| format!("{name}={version}"));
    let rows = [
        ("release", format!("{} {}", r.service, r.version)),
        ("status", became(r) + if r.status == "active" { "" } else { &why }),
        ("pushed", ago(r.registered_at_ms, now_ms)),
        ("digest", r.digest.clone()),
        ("size", size(r.size)),
        ("copies", format!("on {} of {} nodes", r.holders, r.voters)),
        ("dns name", r.version.parse::<Version>().map_or_else(|_| "-".into(), |v| format!("v-{}", v.slug()))),
        ("runs in", or_dash(&on.collect::<Vec<_>>().join(", "))),
        ("commit", or_dash(&build.commit)),
        ("built at", or_dash(&build.built_at)),
        ("toolchain", or_dash(&build.toolchain)),
        ("components", or_dash(&components.collect::<Vec<_>>().join(", "))),
        ("labels", labels(r.meta.as_ref())),
    ];
    rows.map(|(name, value)| format!("{name:<11} {value}")).join("\n")
}

/// `release list`. `now_ms` is cluster time.
pub fn releases(items: &[v1::Release], now_ms: u64, wide: bool) -> String {
    let row = |r: &v1::Release| {
        let mut row = vec![
            r.service.clone(),
            r.version.clone(),
            became(r),
            runs_in(r),
            ago(r.registered_at_ms, now_ms),
            format!("{}/{}", r.holders, r.voters),
        ];
        if wide {
            let build = r.build.clone().unwrap_or_default();
            row.extend([digest(&r.digest).into(), size(r.size)]);
            let said = [&build.commit, &build.built_at, &build.toolchain].map(|text| or_dash(text));
            row.extend(said.into_iter().chain([labels(r.meta.as_ref()), or_dash(&r.reason)]));
        }
        row
    };
    let mut header = vec!["SERVICE", "VERSION", "STATUS", "RUNS IN", "PUSHED", "COPIES"];
    if wide {
        header.extend(["DIGEST", "SIZE", "COMMIT", "BUILT AT", "TOOLCHAIN", "LABELS", "REASON"]);
    }
    table(&header, items.iter().map(row).collect(), "no release yet: `slipway release push SERVICE VERSION DIR`")
}

/// `environment list`.
pub fn environments(items: &[v1::Environment], wide: bool) -> String {
    let row = |e: &v1::Environment| {
        let mut row = vec![e.name.clone(), e.default_strategy.clone(), e.on_no_data.clone()];
        if wide {
            row.extend([e.order.to_string(), labels(e.meta.as_ref())]);
        }
        row
    };
    let mut header = vec!["NAME", "STRATEGY", "WITHOUT DATA"];
    if wide {
        header.extend(["ORDER", "LABELS"]);
    }
    table(&header, items.iter().map(row).collect(), "no environment yet: `slipway apply -f FILE` makes it")
}

/// `service list`.
pub fn services(items: &[v1::Service]) -> String {
    let row =
        |s: &v1::Service| vec![s.name.clone(), s.release_count.to_string(), or_dash(&s.deployment_ids.join(", "))];
    let empty = "no service yet: `slipway apply -f FILE` makes it";
    table(&["NAME", "RELEASES", "DEPLOYMENTS"], items.iter().map(row).collect(), empty)
}

/// Columns for the curious of a rollout.
const WHOSE: [&str; 4] = ["KIND", "BY", "UNDOES", "UNDONE BY"];

fn whose(r: &v1::Rollout) -> [String; 4] {
    [r.kind.clone(), or_dash(&r.principal), or_dash(&r.undoes), or_dash(&r.undone_by)]
}

/// `rollout list`.
pub fn rollouts(items: &[v1::Rollout], all: bool, wide: bool) -> String {
    let row = |r: &v1::Rollout| {
        let mut row = vec![
            r.id.clone(),
            r.deployment.clone(),
            version(r.from.as_ref()).to_string(),
            version(r.to.as_ref()).to_string(),
            r.strategy.clone(),
            words(&r.status),
            wall(r.started_wall_ms),
            or_dash(&r.reason),
        ];
        if wide {
            row.extend(whose(r));
        }
        row
    };
    let mut header = vec!["ROLLOUT", "DEPLOYMENT", "FROM", "TO", "STRATEGY", "STATUS", "STARTED", "REASON"];
    if wide {
        header.extend(WHOSE);
    }
    let none = if all { "no rollout yet: `slipway rollout start DEPLOYMENT --to VERSION`" } else { "no rollout runs" };
    table(&header, items.iter().map(row).collect(), none)
}

/// A wall-clock moment where the reader is (`TZ`, or the machine's zone), with the zone.
pub fn wall(ms: u64) -> String {
    wall_in(ms, &jiff::tz::TimeZone::system())
}

fn wall_in(ms: u64, zone: &jiff::tz::TimeZone) -> String {
    let stamp = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match stamp {
        Some(t) if ms > 0 => {
            let text = t.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string();
            text.strip_suffix("+00:00").map_or(text.clone(), |utc| format!("{utc}Z"))
        }
        Some(_) | None => "-".into(),
    }
}

/// When a line of a log was written: as RFC 3339 where the reader is, or the date and the clock alone for a screen.
pub fn written(ms: u64, short: bool) -> String {
    // Golden texts do not depend on somebody's zone.
    let zone = if cfg!(test) { jiff::tz::TimeZone::UTC } else { jiff::tz::TimeZone::system() };
    let stamp = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let Some(at) = stamp.filter(|_| ms > 0).map(|t| t.to_zoned(zone)) else { return "-".into() };
    if short {
        return at.strftime("%b %d %H:%M:%S%.3f").to_string();
    }
    let text = at.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string();
    text.strip_suffix("+00:00").map_or(text.clone(), |utc| format!("{utc}Z"))
}

/// Settings, each with its value, its default and its range.
pub fn settings(items: &[v1::Setting]) -> String {
    let row = |s: &v1::Setting| {
        let text = |t: &str| if t.is_empty() { "-".into() } else { t.to_string() };
        vec![s.name.clone(), s.value.clone(), text(&s.default), text(&s.range), s.about.clone()]
    };
    table(&["SETTING", "VALUE", "DEFAULT", "RANGE", "WHAT FOR"], items.iter().map(row).collect(), "nothing is set")
}

/// `apply`.
pub fn applied(r: &v1::ApplyReply, dry_run: bool) -> String {
    let would = if dry_run { "would be " } else { "" };
    let mut text = match (r.created, r.changed) {
        (true, _) => {
            let next =
                if dry_run { "nothing was changed" } else { "nothing runs yet: release push, then rollout start" };
            format!("{} {would}created (spec {}); {next}", r.deployment, r.spec)
        }
        (false, true) => {
            let next = if dry_run {
                "nothing was changed"
            } else {
                "what runs keeps its spec until the next rollout (rollout restart)"
            };
            format!("{} {would}changed (spec {}); {next}", r.deployment, r.spec)
        }
        (false, false) => format!("{} unchanged (spec {})", r.deployment, r.spec),
    };
    for change in &r.changes {
        text += &format!("\n  {change}");
    }
    for warning in &r.warnings {
        text += &format!("\nwarning: {warning}");
    }
    text
}

#[cfg(test)]
mod tests;
