//! The cluster and its nodes as a person reads them.

use serde::Serialize;

use super::*;

/// `cluster status`.
pub fn cluster(s: &v1::StatusReply, wide: bool) -> String {
    let leader = s.nodes.iter().find(|n| n.node_id == s.leader_id && s.leader_id != 0);
    let leader = leader.map_or_else(|| "no leader".to_string(), |n| format!("led by {}", n.name));
    let me = s.nodes.iter().find(|n| n.node_id == s.node_id).map_or("-", |n| n.name.as_str());
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
        s.applied_index,
        s.level,
        nodes(&s.nodes, wide),
    );
    if wide && s.dns_cookie_index > 0 {
        text += &format!("\nDNS cookies: signed with the secret that entry {} of the log made", s.dns_cookie_index);
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
    if p.total == 0 {
        return String::new();
    }
    let mut text = format!("\npackages: {} of {} on all {} voters", p.complete, p.total, p.voters);
    for one in &p.incomplete {
        let fix = if one.holders == 0 { ": push it again" } else { "" };
        text += &format!("\n  {} ({}) on {} of {}{fix}", one.release, digest(&one.digest), one.holders, p.voters);
    }
    let left_out = (p.total - p.complete) as usize - p.incomplete.len();
    if left_out > 0 {
        text += &format!("\n  and {left_out} more: `slipway release list`");
    }
    text
}

/// `node list`.
pub fn nodes(nodes: &[v1::Node], wide: bool) -> String {
    let row = |n: &v1::Node| {
        let dns = if n.dns_silent { format!("{} (silent)", n.dns_addr) } else { n.dns_addr.clone() };
        let mut role = if n.leader { "leader".to_string() } else { n.role.clone() };
        if n.drained {
            role += " (drained)";
        }
        let mut row = vec![
            n.node_id.to_string(),
            n.name.clone(),
            role,
            reachable(n).into(),
            n.client_addr.clone(),
            n.peer_addr.clone(),
            dns,
            or_dash(&n.version),
        ];
        if wide {
            row.extend([known(n.matched), if n.matched == 0 { "-".into() } else { n.lag.to_string() }]);
            row.extend([known(n.served_index), span(n)]);
        }
        row
    };
    let mut header = vec!["ID", "NAME", "ROLE", "REACHABLE", "CLIENT", "PEER", "DNS", "VERSION"];
    if wide {
        header.extend(["LOG", "LAG", "SERVED", "LEVELS"]);
    }
    table(&header, nodes.iter().map(row).collect(), "no cluster yet: `slipway cluster init`")
}

fn reachable(n: &v1::Node) -> &'static str {
    n.reachable.map_or("-", |is| if is { "yes" } else { "no" })
}

/// An index that is 0 while it is not known.
fn known(index: u64) -> String {
    if index == 0 { "-".into() } else { index.to_string() }
}

/// `node show`.
pub fn node(n: &v1::Node) -> String {
    let role = if n.leader { "leader" } else { n.role.as_str() };
    let rows = [
        ("node", format!("{} ({})", n.name, n.node_id)),
        ("role", if n.drained { format!("{role}, drained") } else { role.into() }),
        ("reachable", reachable(n).into()),
        ("clients", n.client_addr.clone()),
        ("peers", n.peer_addr.clone()),
        ("dns", if n.dns_silent { format!("{} (silent)", n.dns_addr) } else { n.dns_addr.clone() }),
        ("log", format!("{}, {} behind the leader", known(n.matched), n.lag)),
        ("dns serves", known(n.served_index)),
        ("version", or_dash(&n.version)),
        ("levels", span(n)),
    ];
    rows.map(|(name, value)| format!("{name:<11} {value}")).join("\n")
}

/// The feature levels a node's program supports.
fn span(n: &v1::Node) -> String {
    format!("{}-{}", n.min_level, n.max_level)
}

/// The feature level, and whether it can rise.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Levels {
    /// The active one.
    level: u32,
    /// Whether every node supports the next one.
    can_rise: bool,
    /// Nodes that keep it from rising, while others could.
    old: Vec<String>,
    /// Members that were not removed.
    nodes: Vec<v1::Node>,
}

impl Levels {
    /// Of the members as they are.
    pub fn of(s: &v1::StatusReply) -> Self {
        let nodes: Vec<v1::Node> = s.nodes.iter().filter(|n| n.role != "removed").cloned().collect();
        let able = nodes.iter().map(|n| n.max_level).min().unwrap_or(s.level);
        let most = nodes.iter().map(|n| n.max_level).max().unwrap_or(s.level);
        let old = nodes.iter().filter(|n| most > s.level && n.max_level <= s.level).map(|n| n.name.clone());
        Self { level: s.level, can_rise: able > s.level, old: old.collect(), nodes }
    }
}

/// `cluster upgrade status`.
pub fn levels(l: &Levels) -> String {
    let row = |n: &v1::Node| vec![n.node_id.to_string(), n.name.clone(), or_dash(&n.version), span(n)];
    let list = table(&["ID", "NAME", "VERSION", "LEVELS"], l.nodes.iter().map(row).collect(), "no cluster yet");
    let next = if l.can_rise {
        "every node supports the next one: `slipway cluster upgrade finalize` raises it; until then every node can be taken back"
            .to_string()
    } else if l.old.is_empty() {
        "nothing to raise".to_string()
    } else {
        format!("not upgraded yet: {}; until all are, every node can be taken back", l.old.join(", "))
    };
    format!("feature level {}: {next}\n\n{list}", l.level)
}
