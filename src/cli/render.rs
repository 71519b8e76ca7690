//! Replies as text for people: pure functions, so that tests hold the words.

mod deployment;
mod rollout;

pub use deployment::{deployment, deployments, route, trace, tracks};

pub(super) use rollout::judged;
pub use rollout::{explain, plan, rollout, ways_out};

use super::output::table;
use crate::{
    model::{BasisPoints, Millis, Version, lacking},
    wire::v1,
};

/// A moment as a person reads it: `12.3 s` becomes `12.3 s`, and nothing for zero.
fn since(from_ms: u64, to_ms: u64) -> String {
    Millis(to_ms.saturating_sub(from_ms)).to_string()
}

/// The first digits of a digest.
pub fn digest(hex: &str) -> String {
    format!("sha256:{}", hex.get(..12).unwrap_or(hex))
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

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

/// `cluster status`.
pub fn cluster(s: &v1::StatusReply) -> String {
    let leader = s.nodes.iter().find(|n| n.id == s.leader_id && s.leader_id != 0);
    let leader = leader.map_or_else(|| "no leader".to_string(), |n| format!("led by {}", n.name));
    let me = s.nodes.iter().find(|n| n.id == s.node_id).map_or("-", |n| n.name.as_str());
    if s.cluster_id.is_empty() {
        let warnings: String = s.warnings.iter().map(|w| format!("\nwarning: {w}")).collect();
        return format!(
            "no cluster yet: `slipway cluster init` makes one here, `slipway cluster join MEMBER` takes this node into one{warnings}"
        );
    }
    let quorum = if s.quorum { "quorum" } else { "NO QUORUM: nothing can be changed until a majority is back" };
    let mut text = format!(
        "cluster {} ({}), zone {}: {leader}, term {}, {quorum}\nasked {me}, applied {}, feature level {}\n\n{}",
        or_dash(&s.name),
        or_dash(&s.cluster_id),
        s.zone,
        s.term,
        s.applied,
        s.level,
        nodes(&s.nodes),
    );
    if s.dns_cookie_index > 0 {
        text += &format!("\nDNS cookies: the secret of entry {}", s.dns_cookie_index);
    }
    for n in s.nodes.iter().filter(|n| n.role == "joining") {
        text += &format!("\n{0} was admitted and has not come yet: `slipway cluster leave {0}` forgets it", n.name);
    }
    text += &s.packages.as_ref().map(packages).unwrap_or_default();
    for warning in &s.warnings {
        text += &format!("\nwarning: {warning}");
    }
    text
}

/// How many copies the releases' packages have.
fn packages(p: &v1::Packages) -> String {
    if p.all == 0 {
        return String::new();
    }
    let mut text = format!("\npackages: {} of {} on all {} voters", p.complete, p.all, p.voters);
    for one in &p.incomplete {
        let fix = if one.holders == 0 { ": push it again" } else { "" };
        text += &format!("\n  {} ({}) on {} of {}{fix}", one.release, digest(&one.digest), one.holders, p.voters);
    }
    let left_out = (p.all - p.complete) as usize - p.incomplete.len();
    if left_out > 0 {
        text += &format!("\n  and {left_out} more: `slipway release list`");
    }
    text
}

/// `node list`.
pub fn nodes(nodes: &[v1::Node]) -> String {
    let row = |n: &v1::Node| {
        let dns = if n.dns_silent { format!("{} (silent)", n.dns_addr) } else { n.dns_addr.clone() };
        let served = if n.served_index == 0 { "-".into() } else { n.served_index.to_string() };
        let mut role = if n.leader { "leader".to_string() } else { n.role.clone() };
        if n.drained {
            role += " (drained)";
        }
        let matched = if n.matched == 0 { "-".into() } else { n.matched.to_string() };
        let lag = if n.matched == 0 { "-".into() } else { n.lag.to_string() };
        vec![
            n.id.to_string(),
            n.name.clone(),
            role,
            or_dash(&n.reachable),
            n.client_addr.clone(),
            n.peer_addr.clone(),
            dns,
            matched,
            lag,
            served,
            or_dash(&n.version),
            span(n),
        ]
    };
    let header =
        ["ID", "NAME", "ROLE", "REACHABLE", "CLIENT", "PEER", "DNS", "LOG", "LAG", "SERVED", "VERSION", "LEVELS"];
    table(&header, nodes.iter().map(row).collect(), "no cluster yet: `slipway cluster init`")
}

/// The feature levels a node's program supports.
fn span(n: &v1::Node) -> String {
    format!("{}-{}", n.min_level, n.max_level)
}

/// `cluster upgrade status`.
pub fn levels(s: &v1::StatusReply) -> String {
    let here: Vec<&v1::Node> = s.nodes.iter().filter(|n| n.role != "removed").collect();
    let row = |n: &&v1::Node| vec![n.id.to_string(), n.name.clone(), or_dash(&n.version), span(n)];
    let list = table(&["ID", "NAME", "VERSION", "LEVELS"], here.iter().map(row).collect(), "no cluster yet");
    let able = here.iter().map(|n| n.max_level).min().unwrap_or(s.level);
    let most = here.iter().map(|n| n.max_level).max().unwrap_or(s.level);
    let next = if able > s.level {
        "every node supports the next one: `slipway cluster upgrade finalize` raises it; until then every node can be taken back"
            .to_string()
    } else if most > s.level {
        let old: Vec<&str> = here.iter().filter(|n| n.max_level <= s.level).map(|n| n.name.as_str()).collect();
        format!("not upgraded yet: {}; until all are, every node can be taken back", old.join(", "))
    } else {
        "nothing to raise".to_string()
    };
    format!("feature level {}: {next}\n\n{list}", s.level)
}

/// `worker list`.
pub fn workers(items: &[v1::Worker], wide: bool) -> String {
    let row = |w: &v1::Worker| {
        let mut row = vec![
            w.name.clone(),
            w.presence.clone(),
            format!("{}/{}", w.instances, w.capacity),
            format!("{}/{}", w.pool_free, w.pool_size),
        ];
        if wide {
            let keeping = w.keeping.split(':').next().unwrap_or_default();
            row.extend([or_dash(&w.host), or_dash(&w.build), or_dash(keeping), labels(w.meta.as_ref())]);
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

/// `release show`.
pub fn release(r: &v1::Release, deployments: &[v1::Deployment]) -> String {
    let build = r.build.clone().unwrap_or_default();
    let on = deployments.iter().flat_map(|d| {
        let here = d.tracks.iter().filter(|t| t.pair.as_ref().is_some_and(|p| p.version == r.version));
        here.map(move |t| format!("{} as {}", d.id, t.name))
    });
    let components = build.components.iter().map(|(name, version)| format!("{name}={version}"));
    let rows = [
        ("release", format!("{} {}", r.service, r.version)),
        ("status", r.status.clone()),
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

/// `release list`.
pub fn releases(items: &[v1::Release], wide: bool) -> String {
    let row = |r: &v1::Release| {
        let mut row = vec![
            r.service.clone(),
            r.version.clone(),
            r.status.clone(),
            digest(&r.digest),
            size(r.size),
            format!("{}/{}", r.holders, r.voters),
        ];
        if wide {
            let build = r.build.clone().unwrap_or_default();
            row.extend([or_dash(&build.commit), or_dash(&build.toolchain), labels(r.meta.as_ref())]);
        }
        row
    };
    let mut header = vec!["SERVICE", "VERSION", "STATUS", "DIGEST", "SIZE", "COPIES"];
    if wide {
        header.extend(["COMMIT", "TOOLCHAIN", "LABELS"]);
    }
    table(&header, items.iter().map(row).collect(), "no release yet: `slipway release push SERVICE VERSION DIR`")
}

/// `environment list`.
pub fn environments(items: &[v1::Environment]) -> String {
    let row = |e: &v1::Environment| vec![e.name.clone(), e.default_strategy.clone(), e.on_no_data.clone()];
    table(
        &["NAME", "STRATEGY", "WITHOUT DATA"],
        items.iter().map(row).collect(),
        "no environment yet: `slipway apply -f FILE` makes it",
    )
}

/// `service list`.
pub fn services(items: &[v1::Service]) -> String {
    let row = |s: &v1::Service| vec![s.name.clone(), s.releases.to_string(), or_dash(&s.deployments.join(", "))];
    let empty = "no service yet: `slipway apply -f FILE` makes it";
    table(&["NAME", "RELEASES", "DEPLOYMENTS"], items.iter().map(row).collect(), empty)
}

/// `rollout history`.
pub fn history(items: &[v1::Rollout], wide: bool) -> String {
    let row = |r: &v1::Rollout| {
        let took = if r.ended_at_ms > 0 { since(r.started_at_ms, r.ended_at_ms) } else { "-".into() };
        let mut row = vec![
            r.id.clone(),
            version(r.from.as_ref()).to_string(),
            version(r.to.as_ref()).to_string(),
            r.strategy.clone(),
            r.status.clone(),
            wall(r.started_wall_ms),
            took,
            or_dash(&r.reason),
        ];
        if wide {
            row.extend([r.kind.clone(), r.principal.clone(), or_dash(&r.undoes), or_dash(&r.undone_by)]);
        }
        row
    };
    let mut header = vec!["ROLLOUT", "FROM", "TO", "STRATEGY", "STATUS", "STARTED", "TOOK", "REASON"];
    if wide {
        header.extend(["KIND", "BY", "UNDOES", "UNDONE BY"]);
    }
    table(&header, items.iter().map(row).collect(), "no rollout yet: `slipway rollout start DEPLOYMENT --to VERSION`")
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

/// An event's line.
pub fn event(e: &v1::Event) -> String {
    let fields: Vec<String> = e.fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let what = if e.text.is_empty() { format!("{} {}", e.kind, fields.join(" ")) } else { e.text.clone() };
    // Whoever is no operator is said in JSON alone; some lines name the operator themselves.
    let named = e.actor.starts_with("operator:") && !what.contains(&e.actor);
    let by = if named { format!(", by {}", e.actor) } else { String::new() };
    format!("{:>6}.{}  {}  {}  {what}{by}", e.index, e.ordinal, wall(e.wall_ms), or_dash(&e.deployment))
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
