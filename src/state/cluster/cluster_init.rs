//! `ClusterInit`: the cluster, its four environments and its first node.

use std::sync::Arc;

use super::members;
use crate::state::base::prelude::*;

/// Environments that every cluster begins with, in the order of promotion.
const ENVIRONMENTS: [(&str, StrategyName); 4] = [
    ("development", StrategyName::DIRECT),
    ("qa", StrategyName::ROLLING),
    ("staging", StrategyName::ROLLING),
    ("production", StrategyName::CANARY),
];

fn check_zone(zone: &str) -> Done {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    // Room for the longest name below it within 255 octets is the reason for the cap.
    if zone.len() <= 63 && zone.split('.').all(label) {
        return Ok(());
    }
    Err(Rejection::Invalid(format!(
        "zone {zone:?} is not a lower-case DNS name of at most 63 characters without a final dot, such as slipway.internal"
    )))
}

/// Whether a cluster could be made with these: whoever makes one asks before anything is durable.
pub fn check_init(name: &str, zone: &str, node: &NewNode) -> Result<(), Rejection> {
    members::check_node(node)?;
    check_zone(zone)?;
    if name.is_empty() || name.len() > 63 || name.chars().any(char::is_control) {
        return Err(Rejection::Invalid(format!(
            "cluster name {name:?} is not 1 to 63 characters long, without control characters"
        )));
    }
    Ok(())
}

fields! {
    /// Makes the cluster; refused when there is one.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ClusterInit {
        1 [required] pub id: ClusterId,
        2 pub name: String,
        /// Its DNS zone.
        3 pub zone: String,
        /// The first node, id 1.
        4 [required] pub node: NewNode,
    }
}

impl Apply for ClusterInit {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { id, name, zone, node } = self;
        check_init(name, zone, node)?;
        cx.s.incarnation = cx.s.incarnation.max(1);
        // A new cluster begins at the level of its first node; it has nobody else to wait for.
        cx.s.level = cx.s.level.max(node.level).max(1);
        cx.s.cluster = Some(Arc::new(Cluster {
            meta: cx.new_meta(),
            id: id.clone(),
            name: name.into(),
            zone: zone.into(),
            next_node_id: 2,
            settings: Settings::default(),
            parted: Parted::default(),
        }));
        for (order, (name, default_strategy)) in (0u32..).zip(ENVIRONMENTS) {
            // The four names are labels and no prefixes of ours; a refusal here would be the same on every node.
            let name = Name::environment(name).map_err(|e| Rejection::Invalid(e.to_string()))?;
            // Where people depend on it, silence is never taken for health.
            let on_no_data = if name.as_str() == "production" { OnNoData::Hold } else { OnNoData::Pass };
            let row = Environment { meta: cx.new_meta(), name: name.clone(), default_strategy, order, on_no_data };
            cx.s.environments.insert(name, row);
        }
        cx.emit(EventBody::ClusterCreated { name: name.into() });
        let first = members::row(cx.new_meta(), 1, node, NodeRole::Voter);
        members::changed(cx, &first);
        cx.s.nodes.insert(1, first);
        Ok(())
    }
}
