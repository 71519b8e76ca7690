//! How the DNS servers stand, as far as State knows.
//!
//! Not here: what they said lately (`observed`), and what of it is evidence (`traffic`, `engine`).

use crate::{
    model::NodeId,
    state::{State, cluster::rows::NodeRole},
};

/// Whether a server's State differs from the majority's: it answers nobody, and its word about what it serves is no
/// evidence.
pub fn differs(s: &State, node: NodeId) -> bool {
    // One that was removed is named until the next probe; of that only its lease counts.
    s.replicas.diverged.contains_key(&node) && s.nodes.get(&node).is_some_and(|n| n.role != NodeRole::Removed)
}
