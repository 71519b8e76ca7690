//! `NodeAnnounced`: a node says what its program is and where it is reached. Its peer address stays as it was admitted:
//! Raft's own membership has it too.

use super::{levels, members::check_address};
use crate::state::base::prelude::*;

/// Longest version of a program.
const MAX_VERSION: usize = 64;

fields! {
    /// A node says at its start what its program is.
    #[derive(Debug, Clone, PartialEq)]
    pub struct NodeAnnounced {
        1 pub node: NodeId,
        /// Its program's version.
        2 pub version: String,
        /// Lowest feature level supported.
        3 pub min: u32,
        /// Highest feature level supported.
        4 pub max: u32,
        /// Where clients and agents reach it.
        5 pub client_addr: String,
        /// Where its DNS listens.
        6 pub dns_addr: String,
    }
}

impl Apply for NodeAnnounced {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { node: id, ref version, .. } = self;
        let (min, max) = (self.min, self.max);
        let (client_addr, dns_addr) = (&self.client_addr, &self.dns_addr);
        let mut n = cx.node(id)?;
        if n.role == NodeRole::Removed {
            return guard(format!("node {id} was removed"));
        }
        if version.len() > MAX_VERSION || min == 0 || min > max {
            return Err(Rejection::Invalid(format!(
                "version {version:?} with feature levels {min} to {max} makes no sense"
            )));
        }
        levels::check_level(cx, &n.name, min, max)?;
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
}
