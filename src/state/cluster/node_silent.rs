//! `NodeSilent`: a node's DNS view has not been heard of.

use crate::state::base::prelude::*;

fields! {
    /// A node's DNS view has not been heard of.
    #[derive(Debug, Clone, PartialEq)]
    pub struct NodeSilent {
        1 pub node: NodeId,
    }
}

impl Apply for NodeSilent {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        set(cx, self.node, true)
    }
}

/// Notes that a node is silent, or heard again.
pub(in crate::state) fn set(cx: &mut Cx<'_>, id: NodeId, silent: bool) -> Done {
    let mut n = cx.node(id)?;
    if n.silent_since.is_some() == silent {
        return guard(format!("node {id} is {} already", if silent { "silent" } else { "heard" }));
    }
    n.silent_since = silent.then_some(cx.now());
    cx.emit(EventBody::NodeSilence { node: id, silent });
    cx.put_node(n);
    Ok(())
}
