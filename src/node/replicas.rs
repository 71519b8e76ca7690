//! This node's part in proving that the replicas agree: it hashes its State at every probe and reports. When it is
//! named as different from the majority, it stops serving.
//!
//! Invariants: hashing runs off the apply path, over a State that no longer changes. A node that differs answers no
//! DNS, takes no request, keeps no worker and asks for no votes. It follows the log, so that it learns when it agrees
//! again. Not here: the verdict (`state::cluster`), the request for probes (`lead`).

use std::{sync::Arc, time::Duration};

use super::{follow, run::hand_over, start::Parts};
use crate::{
    model::Principal,
    raft::Consensus,
    state::{Command, DigestReport, command::DigestReported, digest},
};

const RETRY: Duration = Duration::from_millis(200);
/// How often a leader that differs tries to hand over.
const LEAVE: Duration = Duration::from_secs(1);

/// Hashes and reports, for ever.
pub(super) async fn report(consensus: Consensus) {
    loop {
        let state = consensus.probed().await;
        let index = state.replicas.probe;
        let Ok(hashes) = tokio::task::spawn_blocking(move || digest(&state)).await else { continue };
        let tables = hashes.tables.iter().map(|(name, hash)| ((*name).to_string(), *hash)).collect();
        let report = DigestReport { all: hashes.all, tables };
        let node = consensus.node_id();
        // A newer probe makes this one worthless.
        while consensus.view().replicas.probe == index {
            let command = Command::DigestReported(DigestReported { node, index, report: report.clone() });
            match consensus.submit(Principal::node(node), None, command).await {
                Ok(_) => break,
                Err(error) => tracing::debug!(%error, index, "digest not reported yet"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Stops serving while this node is named as different.
pub(super) async fn quarantine(parts: Arc<Parts>, consensus: Consensus) {
    let mut views = consensus.view_changes();
    let mut out = false;
    loop {
        views.borrow_and_update();
        match (consensus.diverged(), out) {
            (Some(why), was) => {
                parts.dns.set_ready(false);
                if !was {
                    tracing::error!(node = consensus.node_id(), reason = why, "stopped serving");
                }
                out = true;
                hand_over(&consensus).await;
            }
            (None, true) => {
                out = false;
                tracing::info!(node = consensus.node_id(), "serving again");
                tokio::spawn(follow::ready(parts.clone(), consensus.clone()));
            }
            (None, false) => {}
        }
        let leads = out && consensus.leader().borrow().is_me;
        let changed = async {
            if leads {
                tokio::time::timeout(LEAVE, views.changed()).await.unwrap_or(Ok(()))
            } else {
                views.changed().await
            }
        };
        if changed.await.is_err() {
            return;
        }
    }
}
