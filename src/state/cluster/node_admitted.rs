//! `NodeAdmitted`: a joining node gets its id. The same name again while it is joining gets the same id.

use std::sync::Arc;

use super::{levels, members};
use crate::state::base::prelude::*;

/// Most nodes ever admitted that are not removed.
const MAX_NODES: usize = 31;

fields! {
    /// Gives a joining node its id.
    #[derive(Debug, Clone, PartialEq)]
    pub struct NodeAdmitted {
        /// Who joins.
        1 [required] pub node: NewNode,
    }
}

impl Apply for NodeAdmitted {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { node } = self;
        members::check_node(node)?;
        levels::check_level(cx, &node.name, 1, node.level)?;
        members::check_no_switch(cx, "no node can join")?;
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
                        n.name, n.id, n.role
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
        let new = members::row(cx.new_meta(), id, node, NodeRole::Joining);
        members::changed(cx, &new);
        cx.s.nodes.insert(id, new);
        Ok(())
    }
}
