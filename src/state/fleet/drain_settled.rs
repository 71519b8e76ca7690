//! `DrainSettled`: every DNS server has served the removal, or is silent: caches decide from here. It also records what
//! each node has served, which frees addresses for other deployments.

use super::drain::{self, MARGIN, MAX_TTL};
use crate::state::base::{prelude::*, servers::differs};

fields! {
    /// Every DNS server has served the removal (or is silent): caches decide from here.
    #[derive(Debug, Clone, PartialEq)]
    pub struct DrainSettled {
        1 [required] pub deployment: DeploymentId,
        /// Drain index settled.
        2 pub index: u64,
        /// Nodes that served it, with the index each has served.
        3 pub confirmed: Vec<(NodeId, u64)>,
        /// Nodes counted as silent.
        4 pub silent: Vec<NodeId>,
        /// Nodes that were heard to answer nobody.
        5 pub unready: Vec<NodeId>,
        /// Largest TTL that may be in caches, milliseconds.
        6 pub ttl_ms: u64,
    }
}

impl Apply for DrainSettled {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { ref deployment, index, ref confirmed, ref silent, ref unready, ttl_ms } = self;
        cx.deployment(deployment)?;
        for node in cx.s.nodes.values().filter(|n| n.role.serves_dns()) {
            let odd = differs(cx.s, node.id);
            let served = !odd && confirmed.iter().any(|(id, at)| *id == node.id && *at >= index);
            let quiet = silent.contains(&node.id) && (odd || node.silent_since.is_some());
            if !served && !quiet && !unready.contains(&node.id) {
                return guard(format!("node {} has not served index {index} and is not silent", node.id));
            }
        }
        let mut changed = drain::raise_served(cx, confirmed);
        let ttl = Period(ttl_ms.min(MAX_TTL.0));
        let after_ttl = cx.now().plus(ttl).plus(MARGIN);
        let open: Vec<Instance> =
            cx.s.instances_of(deployment)
                .filter(|i| i.life == Life::Draining)
                .filter(|i| i.drain.is_some_and(|d| d.index <= index && d.clear_at.is_none()))
                .cloned()
                .collect();
        for mut i in open {
            let Some(mut drain) = i.drain else { continue };
            let least = cx.s.spec(deployment, i.pair.spec).map_or(Period(0), |s| s.drain.0);
            drain.clear_at = Some(after_ttl.max(drain.since.plus(least)));
            i.drain = Some(drain);
            cx.put_instance(i);
            changed = true;
        }
        if changed { Ok(()) } else { guard(format!("nothing drains at or before index {index}")) }
    }
}
