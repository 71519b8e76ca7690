//! `DigestProbe`: every node hashes its State as of this entry.

use std::sync::Arc;

use crate::state::base::prelude::*;

fields! {
    /// Asks every node to hash its State as of this entry.
    #[derive(Debug, Clone, PartialEq)]
    pub struct DigestProbe {}
}

impl Apply for DigestProbe {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let known: Vec<NodeId> = cx.s.nodes.values().filter(|n| n.role != NodeRole::Removed).map(|n| n.id).collect();
        let mut replicas = (*cx.s.replicas).clone();
        replicas.probe = cx.at.index;
        replicas.reports.clear();
        replicas.diverged.retain(|id, _| known.contains(id));
        cx.s.replicas = Arc::new(replicas);
        Ok(())
    }
}
