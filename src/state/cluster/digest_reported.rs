//! `DigestReported`: a node's hashes of its State at a probe.

use std::sync::Arc;

use super::replicas::{self, MAX_NAME, MAX_TABLES};
use crate::state::base::prelude::*;

fields! {
    /// A node's hashes of its State at a probe.
    #[derive(Debug, Clone, PartialEq)]
    pub struct DigestReported {
        1 pub node: NodeId,
        /// The probe's entry.
        2 pub index: u64,
        /// The hashes.
        3 [required] pub report: DigestReport,
    }
}

impl Apply for DigestReported {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { node, index, .. } = self;
        let report = self.report.clone();
        if cx.node(node)?.role == NodeRole::Removed {
            return guard(format!("node {node} was removed"));
        }
        if index != cx.s.replicas.probe || index == 0 {
            return guard(format!("the newest digest probe is entry {}, not {index}", cx.s.replicas.probe));
        }
        if report.tables.len() > MAX_TABLES || report.tables.iter().any(|(name, _)| name.len() > MAX_NAME) {
            return Err(Rejection::Invalid(format!(
                "a digest names at most {MAX_TABLES} tables of {MAX_NAME} letters"
            )));
        }
        let before = cx.s.replicas.clone();
        let mut after = (*before).clone();
        after.reports.insert(node, report);
        replicas::judge(cx.s, &mut after);
        for (id, found) in &after.diverged {
            if before.diverged.get(id).is_none_or(|b| b.tables != found.tables) {
                cx.emit(EventBody::ReplicaDiverged { node: *id, index: found.index, tables: found.tables.clone() });
            }
        }
        for id in before.diverged.keys().filter(|id| !after.diverged.contains_key(id)) {
            cx.emit(EventBody::ReplicaAgrees { node: *id, index });
        }
        match (&before.split, &after.split) {
            (None, Some(split)) => cx.emit(EventBody::ReplicasSplit { index, tables: split.tables.clone() }),
            (Some(_), None) => cx.emit(EventBody::ReplicasSplit { index, tables: Vec::new() }),
            (None, None) | (Some(_), Some(_)) => {}
        }
        cx.s.replicas = Arc::new(after);
        Ok(())
    }
}
