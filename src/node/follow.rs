//! What follows the published State on this node: DNS views, and when DNS may answer.

use std::{sync::Arc, time::Duration};

use super::start::Parts;
use crate::raft::Consensus;

const RETRY: Duration = Duration::from_millis(100);

/// Publishes every State to DNS as it is applied.
pub(super) async fn dns(parts: Arc<Parts>, consensus: Consensus) {
    let mut views = consensus.view_changes();
    loop {
        views.borrow_and_update();
        parts.dns.publish(&consensus.view());
        if views.changed().await.is_err() {
            return;
        }
    }
}

/// Lets DNS answer once its view holds everything that was committed when this node came up.
pub(super) async fn ready(parts: Arc<Parts>, consensus: Consensus) {
    let index = loop {
        match consensus.read_index().await {
            Ok(index) if consensus.view().cluster.is_some() => break index,
            Ok(_) | Err(_) => tokio::time::sleep(RETRY).await,
        }
    };
    let mut served = parts.dns.served_index();
    if served.wait_for(|at| *at >= index).await.is_err() {
        return;
    }
    if consensus.diverged().is_some() {
        return;
    }
    parts.dns_since.get_or_init(|| parts.clock.mono());
    parts.dns.set_ready(true);
    tracing::info!(index, "ready: DNS answers");
}
