//! `NodeHeard`: a silent node's DNS view is heard of again.

use super::node_silent;
use crate::state::base::prelude::*;

fields! {
    /// A silent node's DNS view is heard of again.
    #[derive(Debug, Clone, PartialEq)]
    pub struct NodeHeard {
        1 pub node: NodeId,
    }
}

impl Apply for NodeHeard {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        node_silent::set(cx, self.node, false)
    }
}
