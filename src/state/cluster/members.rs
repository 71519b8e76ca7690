//! What the commands about nodes share: checks of a node, its row, and when members may change.
//!
//! Invariant: one change of members at a time, and none while traffic is switched. Not here: Raft's own membership
//! (`raft`), and which nodes answer at the moment, which the leader knows.

use crate::state::base::prelude::*;

pub(in crate::state) fn check_node(node: &NewNode) -> Done {
    let bad = |what: &str, v: &str, want: &str| Err(Rejection::Invalid(format!("{what} {v:?} is not {want}")));
    let label = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
    if node.name.is_empty() || node.name.len() > 63 || !node.name.bytes().all(label) {
        return bad("node name", &node.name, "1 to 63 letters, digits, '-', '.' or '_'");
    }
    check_address("peer address", &node.peer_addr)?;
    check_address("client address", &node.client_addr)?;
    check_address("DNS address", &node.dns_addr)
}

pub(in crate::state) fn check_address(what: &str, a: &str) -> Done {
    let ok = a.len() <= 255 && a.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok());
    if ok { Ok(()) } else { Err(Rejection::Invalid(format!("{what} {a:?} is not HOST:PORT"))) }
}

/// A new node's row.
pub(in crate::state) fn row(meta: Meta, id: NodeId, node: &NewNode, role: NodeRole) -> NodeRow {
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

pub(in crate::state) fn changed(cx: &mut Cx<'_>, row: &NodeRow) {
    let role = row.role.to_string();
    cx.emit(EventBody::NodeChanged { node: row.id, name: row.name.clone(), role });
}

/// What switches traffic right now: the nodes that must confirm it stay the same until it is over. A rollout that is
/// paused in its switch has nothing armed, and asks whoever is there once it is resumed.
pub fn switching(state: &State) -> Option<String> {
    let rollout = state.rollouts.values().find(|r| {
        r.status == RolloutStatus::Active
            && r.steps.iter().any(|s| s.step.kind == StepKind::Switch && s.status == StepStatus::Running)
    });
    let of_rollout = rollout.map(|r| format!("rollout {} of {}", r.id, r.deployment));
    of_rollout.or_else(|| state.fences.open().next().map(|s| format!("switch s-{}", s.id)))
}

/// Refuses a change of members while traffic is switched.
pub(in crate::state) fn check_no_switch(cx: &Cx<'_>, what: &str) -> Done {
    match switching(cx.s) {
        Some(busy) => {
            Err(Rejection::Conflict { what: format!("{busy} is switching: {what} until that is over; try again") })
        }
        None => Ok(()),
    }
}

/// What must hold before a node begins to leave; whether the others answer, the leader has looked at.
pub(in crate::state) fn check_leave(cx: &Cx<'_>, node: &NodeRow) -> Done {
    // One that was admitted and has not come changes nothing yet, and one that came and fell silent may never vote.
    let busy = |n: &&NodeRow| match n.role {
        NodeRole::Learner => n.silent_since.is_none(),
        NodeRole::Leaving => true,
        NodeRole::Joining | NodeRole::Voter | NodeRole::Removed => false,
    };
    if let Some(other) = cx.s.nodes.values().filter(|n| n.id != node.id).find(busy) {
        return Err(Rejection::Conflict {
            what: format!(
                "another change of members is running: node {} ({}) is {}; wait until it is over (`slipway cluster status`)",
                other.name, other.id, other.role
            ),
        });
    }
    check_no_switch(cx, "no node can leave")
}
