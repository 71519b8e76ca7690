//! `NodeDrained`: a node is taken out for maintenance, or back.

use crate::state::base::prelude::*;

fields! {
    /// Takes a node out for maintenance, or back.
    #[derive(Debug, Clone, PartialEq)]
    pub struct NodeDrained {
        1 pub node: NodeId,
        /// Whether it is to be drained.
        2 pub on: bool,
    }
}

impl Apply for NodeDrained {
    fn steers(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { node: id, on } = self;
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
}
