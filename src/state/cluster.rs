//! The cluster and its nodes: init, admissions, roles, silence.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Cluster, Environment, EventBody, Meta, NodeRole, NodeRow, Rejection, Settings,
    context::{Cx, Done, guard},
    copies, lifecycle, nodes, switches,
};
use crate::model::{ClusterId, Name, NodeId, OnNoData, Strategy};

/// A node that joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewNode {
    /// Its name.
    pub name: String,
    /// Peer address, `host:port`.
    pub peer_addr: String,
    /// Client address, `host:port`.
    pub client_addr: String,
    /// DNS address, `ip:port`.
    pub dns_addr: String,
    /// Highest feature level.
    pub level: u32,
}

/// Most nodes ever admitted that are not removed.
const MAX_NODES: usize = 31;

/// Environments that every cluster begins with, in the order of promotion.
const ENVIRONMENTS: [(&str, Strategy); 4] = [
    ("development", Strategy::Direct),
    ("qa", Strategy::Rolling),
    ("staging", Strategy::Rolling),
    ("production", Strategy::Canary),
];

fn check_node(node: &NewNode) -> Done {
    let bad = |what: &str, v: &str, want: &str| Err(Rejection::Invalid(format!("{what} {v:?} is not {want}")));
    let label = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
    if node.name.is_empty() || node.name.len() > 63 || !node.name.bytes().all(label) {
        return bad("node name", &node.name, "1 to 63 letters, digits, '-', '.' or '_'");
    }
    check_address("peer address", &node.peer_addr)?;
    check_address("client address", &node.client_addr)?;
    check_address("DNS address", &node.dns_addr)
}

pub(super) fn check_address(what: &str, a: &str) -> Done {
    let ok = a.len() <= 255 && a.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok());
    if ok { Ok(()) } else { Err(Rejection::Invalid(format!("{what} {a:?} is not HOST:PORT"))) }
}

fn check_zone(zone: &str) -> Done {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    // Room for the longest name below it within 255 octets is the reason for the cap.
    if zone.len() <= 63 && zone.split('.').all(label) {
        return Ok(());
    }
    Err(Rejection::Invalid(format!(
        "zone {zone:?} is not a lower-case DNS name of at most 63 characters without a final dot, such as slipway.internal"
    )))
}

/// A new node's row.
pub(super) fn row(meta: Meta, id: NodeId, node: &NewNode, role: NodeRole) -> NodeRow {
    let served = meta.created_index;
    NodeRow {
        meta,
        id,
        name: node.name.clone(),
        peer_addr: node.peer_addr.clone(),
        client_addr: node.client_addr.clone(),
        dns_addr: node.dns_addr.clone(),
        level: node.level,
        role,
        silent_since: None,
        // It begins with a view that is newer than its own admission.
        served,
        version: String::new(),
        min_level: 1,
        drained: false,
    }
}

pub(super) fn role_name(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Joining => "joining",
        NodeRole::Learner => "learner",
        NodeRole::Voter => "voter",
        NodeRole::Leaving => "leaving",
        NodeRole::Removed => "removed",
    }
}

fn changed(cx: &mut Cx<'_>, row: &NodeRow) {
    let role = role_name(row.role).to_string();
    cx.emit(EventBody::NodeChanged { node: row.id, name: row.name.clone(), role });
}

/// Whether a cluster could be made with these: whoever makes one asks before anything is durable.
pub fn check_init(name: &str, zone: &str, node: &NewNode) -> Result<(), Rejection> {
    check_node(node)?;
    check_zone(zone)?;
    if name.is_empty() || name.len() > 63 || name.chars().any(char::is_control) {
        return Err(Rejection::Invalid(format!(
            "cluster name {name:?} is not 1 to 63 characters long, without control characters"
        )));
    }
    Ok(())
}

/// `ClusterInit`.
pub(super) fn init(cx: &mut Cx<'_>, id: &ClusterId, name: &str, zone: &str, node: &NewNode) -> Done {
    check_init(name, zone, node)?;
    cx.s.incarnation = cx.s.incarnation.max(1);
    // A new cluster begins at the level of its first node; it has nobody else to wait for.
    cx.s.level = cx.s.level.max(node.level).max(1);
    cx.s.cluster = Some(Arc::new(Cluster {
        meta: cx.new_meta(),
        id: id.clone(),
        name: name.into(),
        zone: zone.into(),
        next_node_id: 2,
        settings: Settings::default(),
    }));
    for (order, (name, default_strategy)) in (0u32..).zip(ENVIRONMENTS) {
        // The four names are labels and no prefixes of ours; a refusal here would be the same on every node.
        let name = Name::environment(name).map_err(|e| Rejection::Invalid(e.to_string()))?;
        // Where people depend on it, silence is never taken for health.
        let on_no_data = if name.as_str() == "production" { OnNoData::Hold } else { OnNoData::Pass };
        let row = Environment { meta: cx.new_meta(), name: name.clone(), default_strategy, order, on_no_data };
        cx.s.environments.insert(name, row);
    }
    cx.emit(EventBody::ClusterCreated { name: name.into() });
    let first = row(cx.new_meta(), 1, node, NodeRole::Voter);
    changed(cx, &first);
    cx.s.nodes.insert(1, first);
    Ok(())
}

/// `NodeAdmitted`: the same name again while it is joining gets the same id.
pub(super) fn admitted(cx: &mut Cx<'_>, node: &NewNode) -> Done {
    check_node(node)?;
    nodes::check_level(cx, &node.name, 1, node.level)?;
    nodes::check_no_switch(cx, "no node can join")?;
    if let Some(n) = cx.s.nodes.values().find(|n| n.role == NodeRole::Leaving) {
        return Err(Rejection::Conflict {
            what: format!("node {} ({}) is leaving: join again once it has left", n.name, n.id),
        });
    }
    let known = cx.s.nodes.values().find(|n| n.name == node.name && n.role != NodeRole::Removed).cloned();
    if let Some(mut n) = known {
        if n.role != NodeRole::Joining {
            return Err(Rejection::Conflict {
                what: format!(
                    "node name {} is taken by node {} ({}): start this one with another name",
                    n.name,
                    n.id,
                    role_name(n.role)
                ),
            });
        }
        n.peer_addr = node.peer_addr.clone();
        n.client_addr = node.client_addr.clone();
        n.dns_addr = node.dns_addr.clone();
        n.level = node.level;
        cx.put_node(n);
        return Ok(());
    }
    if cx.s.nodes.values().filter(|n| n.role != NodeRole::Removed).count() >= MAX_NODES {
        return Err(Rejection::Exhausted {
            what: "nodes".into(),
            limit: MAX_NODES as u64,
            fix: "remove one with `slipway cluster leave` first".into(),
        });
    }
    let Some(mut cluster) = cx.s.cluster.as_deref().cloned() else { return Err(Rejection::NoCluster) };
    let id = cluster.next_node_id;
    cluster.next_node_id = id.saturating_add(1);
    cx.touch(&mut cluster.meta);
    cx.s.cluster = Some(Arc::new(cluster));
    let new = row(cx.new_meta(), id, node, NodeRole::Joining);
    changed(cx, &new);
    cx.s.nodes.insert(id, new);
    Ok(())
}

/// `NodeRoleSet`: one step along the table.
pub(super) fn role_set(cx: &mut Cx<'_>, id: NodeId, to: NodeRole, seen: NodeRole, lose_packages: bool) -> Done {
    let mut n = cx.node(id)?;
    if n.role != seen {
        return guard(format!("node {id} is {}, not {}", role_name(n.role), role_name(seen)));
    }
    if !lifecycle::role(n.role, to) {
        return guard(format!("node {id} cannot go from {} to {}", role_name(n.role), role_name(to)));
    }
    let voters = cx.s.nodes.values().filter(|n| n.role == NodeRole::Voter).count();
    if n.role == NodeRole::Voter && voters <= 1 {
        return Err(Rejection::Precondition(format!("node {id} is the last voter: add another node before it leaves")));
    }
    if to == NodeRole::Leaving {
        nodes::check_leave(cx, &n)?;
        if !lose_packages {
            copies::check_stay(&cx.s, &n)?;
        }
    }
    n.role = to;
    changed(cx, &n);
    cx.put_node(n);
    if to == NodeRole::Removed {
        switches::removed(cx, id);
        copies::removed(cx, id);
    }
    Ok(())
}

/// `NodeSilent` and `NodeHeard`.
pub(super) fn silence(cx: &mut Cx<'_>, id: NodeId, silent: bool) -> Done {
    let mut n = cx.node(id)?;
    if n.silent_since.is_some() == silent {
        return guard(format!("node {id} is {} already", if silent { "silent" } else { "heard" }));
    }
    n.silent_since = silent.then_some(cx.now());
    cx.emit(EventBody::NodeSilence { node: id, silent });
    cx.put_node(n);
    Ok(())
}
