//! `NodeRoleSet`: a node's role moves one step along the table.

use super::members;
use crate::state::{
    base::{lifecycle, prelude::*},
    catalog::copies,
    traffic::switches,
};

fields! {
    /// Moves a node's role one step.
    #[derive(Debug, Clone, PartialEq)]
    pub struct NodeRoleSet {
        1 pub node: NodeId,
        2 [required] pub role: NodeRole,
        3 [required] pub seen: NodeRole,
        /// Whether it may leave although it holds the last copy of a package.
        4 pub lose_packages: bool,
    }
}

impl Apply for NodeRoleSet {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { node: id, role: to, seen, lose_packages } = self;
        let mut n = cx.node(id)?;
        if n.role != seen {
            return guard(format!("node {id} is {}, not {}", n.role, seen));
        }
        if !lifecycle::role(n.role, to) {
            return guard(format!("node {id} cannot go from {} to {}", n.role, to));
        }
        let voters = cx.s.nodes.values().filter(|n| n.role == NodeRole::Voter).count();
        if n.role == NodeRole::Voter && voters <= 1 {
            return Err(Rejection::Precondition(format!(
                "node {id} is the last voter: add another node before it leaves"
            )));
        }
        if to == NodeRole::Leaving {
            members::check_leave(cx, &n)?;
            if !lose_packages {
                copies::check_stay(cx.s, &n)?;
            }
        }
        n.role = to;
        members::changed(cx, &n);
        cx.put_node(n);
        if to == NodeRole::Removed {
            switches::removed(cx, id);
            copies::removed(cx, id);
        }
        Ok(())
    }
}
