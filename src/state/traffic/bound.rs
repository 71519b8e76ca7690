//! Which DNS servers a fence waits for, and which of them a lease binds.

use std::collections::BTreeSet;

use crate::state::base::{prelude::*, servers::differs};

/// The servers that a fence is about: every node that is not removed, and those that were and may hold a lease.
pub fn fence_set(state: &State) -> Vec<NodeId> {
    let rows = state.nodes.values().filter(|n| n.role != NodeRole::Removed).map(|n| n.id);
    let all: BTreeSet<NodeId> = rows.chain(state.fences.left.keys().copied()).collect();
    all.into_iter().collect()
}

/// Whether a server's view is known to bind it under this arming, with what it was heard to serve. A node admitted
/// after the arming answers only once it has caught up with its own admission. One that was removed answers for nobody
/// any more; only its lease counts.
pub fn knows(state: &State, arming: &Arming, node: NodeId, served: u64) -> bool {
    let removed = state.fences.left.contains_key(&node);
    let later = state.nodes.get(&node).is_some_and(|n| n.meta.created_index > arming.index);
    removed || later || served >= arming.index || arming.confirmed.contains(&node)
}

/// Whether a server is bound for a deployment. Of one whose State differs from the majority's nobody knows what it
/// knows.
pub fn bound(state: &State, deployment: &DeploymentId, node: NodeId, served: u64) -> bool {
    let f = &state.fences;
    let mut armings = f.armed.get(deployment).into_iter().chain(&f.always);
    !differs(state, node) && armings.any(|arming| knows(state, arming, node, served))
}
