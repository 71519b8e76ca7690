//! What nodes are able to and asked to: feature levels, drains, and when a node may leave.
//!
//! Invariants: the active level only rises, by one, and never above what a node that is not removed supports.
//!
//! Deliberately not here: Raft's own membership (`raft`), and which nodes answer at the moment, which the leader knows.

use super::{
    Command, NodeRole, NodeRow, Rejection, RolloutStatus, State, StepStatus,
    cluster::{check_address, role_name},
    context::{Cx, Done, guard},
};
use crate::model::{NodeId, StepKind};

/// Longest version of a program.
const MAX_VERSION: usize = 64;

/// A command that nodes at the active level cannot read.
pub fn too_new(command: &Command, level: u32) -> Rejection {
    Rejection::Precondition(format!(
        "{} needs feature level {}, the cluster is at {level}: upgrade every node, then `slipway cluster upgrade finalize`",
        command.name(),
        command.level()
    ))
}

/// Refuses a program that cannot take part at the active level.
pub(super) fn check_level(cx: &Cx<'_>, name: &str, min: u32, max: u32) -> Done {
    let level = cx.s.level;
    if max < level {
        return Err(Rejection::Precondition(format!(
            "node {name} is too old: it supports feature levels {min} to {max}, the cluster is at {level}: install a newer version there"
        )));
    }
    if min > level {
        return Err(Rejection::Precondition(format!(
            "node {name} is too new: it supports feature levels {min} to {max}, the cluster is at {level}: install the version \
             before it there, and `slipway cluster upgrade finalize` once every node has it"
        )));
    }
    Ok(())
}

/// What switches traffic right now: the nodes that must confirm it stay the same until it is over. A rollout that is paused in its
/// switch has nothing armed, and asks whoever is there once it is resumed.
pub fn switching(state: &State) -> Option<String> {
    let rollout = state.rollouts.values().find(|r| {
        r.status == RolloutStatus::Active
            && r.steps.iter().any(|s| s.step.kind == StepKind::Switch && s.status == StepStatus::Running)
    });
    let of_rollout = rollout.map(|r| format!("rollout {} of {}", r.id, r.deployment));
    of_rollout.or_else(|| state.fences.open().next().map(|s| format!("switch s-{}", s.id)))
}

/// Refuses a change of members while traffic is switched.
pub(super) fn check_no_switch(cx: &Cx<'_>, what: &str) -> Done {
    match switching(&cx.s) {
        Some(busy) => {
            Err(Rejection::Conflict { what: format!("{busy} is switching: {what} until that is over; try again") })
        }
        None => Ok(()),
    }
}

/// What must hold before a node begins to leave; whether the others answer, the leader has looked at.
pub(super) fn check_leave(cx: &Cx<'_>, node: &NodeRow) -> Done {
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
                other.name,
                other.id,
                role_name(other.role)
            ),
        });
    }
    check_no_switch(cx, "no node can leave")
}

/// `NodeAnnounced`. Its peer address stays as it was admitted: Raft's own membership has it too.
pub(super) fn announced(
    cx: &mut Cx<'_>,
    id: NodeId,
    version: &str,
    (min, max): (u32, u32),
    (client_addr, dns_addr): (&str, &str),
) -> Done {
    let mut n = cx.node(id)?;
    if n.role == NodeRole::Removed {
        return guard(format!("node {id} was removed"));
    }
    if version.len() > MAX_VERSION || min == 0 || min > max {
        return Err(Rejection::Invalid(format!(
            "version {version:?} with feature levels {min} to {max} makes no sense"
        )));
    }
    check_level(cx, &n.name, min, max)?;
    check_address("client address", client_addr)?;
    check_address("DNS address", dns_addr)?;
    n.level = max;
    n.client_addr = client_addr.into();
    n.dns_addr = dns_addr.into();
    n.version = version.into();
    n.min_level = min;
    cx.put_node(n);
    Ok(())
}

/// `NodeDrained`.
pub(super) fn drained(cx: &mut Cx<'_>, id: NodeId, on: bool) -> Done {
    let mut n = cx.node(id)?;
    if n.role == NodeRole::Removed {
        return Err(Rejection::Precondition(format!("node {} ({id}) was removed", n.name)));
    }
    let leads = |o: &NodeRow| o.id != id && o.role == NodeRole::Voter && !o.drained;
    if on && !cx.s.nodes.values().any(leads) {
        return Err(Rejection::Precondition(format!(
            "node {} ({id}) is the last that may lead: `slipway cluster drain --undo` another first",
            n.name
        )));
    }
    // Asked twice, done once.
    if n.drained != on {
        n.drained = on;
        cx.put_node(n);
    }
    Ok(())
}

/// `LevelRaised`.
pub(super) fn level_raised(cx: &mut Cx<'_>, to: u32, seen: u32) -> Done {
    let level = cx.s.level;
    if level != seen || Some(to) != level.checked_add(1) {
        return guard(format!("the feature level is {level}; it rises by one, not from {seen} to {to}"));
    }
    let old: Vec<String> =
        cx.s.nodes
            .values()
            .filter(|n| n.role != NodeRole::Removed && n.level < to)
            .map(|n| format!("{} (node {}, up to level {})", n.name, n.id, n.level))
            .collect();
    if !old.is_empty() {
        return Err(Rejection::Precondition(format!(
            "not every node supports feature level {to}: {}; upgrade them first, or remove them with `slipway cluster leave`",
            old.join(", ")
        )));
    }
    cx.s.level = to;
    Ok(())
}
