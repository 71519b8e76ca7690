//! Two tasks that follow the published State on this node: one gives each State to DNS as a view, one decides when DNS
//! may answer.
//!
//! Invariant: DNS answers only once its view holds what was committed before this node started. Not here: how a view is
//! made (`dns::view`).

use std::{sync::Arc, time::Duration};

use super::start::Parts;
use crate::raft::Consensus;

const RETRY: Duration = Duration::from_millis(100);
/// Entries committed within this time before DNS answers may be missing from its view: a drain waits for longer than
/// that.
const LATELY_MS: u64 = 500;
/// A machine that is too slow for that answers after so many tries anyway.
const TRIES: u32 = 5;

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

/// Lets DNS answer once its view holds everything that was committed when this node came up. While it waits, drains
/// count this server as one that answers nobody. So when the wait was long, it asks again for what was committed
/// meanwhile.
pub(super) async fn ready(parts: Arc<Parts>, consensus: Consensus) {
    let mut served = parts.dns.served_index();
    let mut tries = 0;
    let index = loop {
        let asked = parts.clock.mono();
        match consensus.read_index().await {
            Ok(index) if consensus.view().cluster.is_some() => {
                if served.wait_for(|at| *at >= index).await.is_err() {
                    return;
                }
                tries += 1;
                if parts.clock.mono().since(asked) < LATELY_MS || tries == TRIES {
                    break index;
                }
            }
            Ok(_) | Err(_) => tokio::time::sleep(RETRY).await,
        }
    };
    if consensus.diverged().is_some() {
        return;
    }
    parts.dns_since.get_or_init(|| parts.clock.mono());
    parts.dns.set_ready(true);
    tracing::info!(index, "ready: DNS answers");
}
