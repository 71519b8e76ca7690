//! Free room on this node's disk. Below the low-water mark a node does not lead and takes no proposals. On a full disk
//! its Raft stops, it answers DNS and stale reads from its last State, and it restarts itself once there is room. A
//! node that is started on a full disk waits for room.
//!
//! Invariants: a node takes proposals again only well above the mark, so that it does not go back and forth; a node
//! that failed for another reason than a full disk never waits here. Not here: measuring, and which failures mean a
//! full disk (`storage::space`).

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{net::TcpListener, time::sleep};

use super::{
    NodeError,
    gate::{Gate, GateLimits, Speaks},
    run::hand_over,
    start::Parts,
};
use crate::{clock::Mono, config::NodeConfig, http, raft::Consensus, storage::space};

const LOOK: Duration = Duration::from_secs(1);
/// A leader without room asks another node to take over; after this time it asks the next one, as that node may have no
/// room either.
const AGAIN: Duration = Duration::from_secs(10);
/// A start that found no room is tried again no sooner: there may be room that is not this node's to take.
const RETRY: Duration = Duration::from_secs(3);
const MIB: u64 = 1 << 20;
/// Room that a start takes at least, whatever the mark.
const START: u64 = 8 * MIB;

/// Where proposals are taken again, in bytes: a quarter above the mark.
fn enough(low: u64) -> u64 {
    (low + low / 4).max(START)
}

/// Whether there is too little room, given whether there was.
fn is_low(free: u64, low: u64, was: bool) -> bool {
    free < if was { enough(low) } else { low }
}

fn free(dir: &Path) -> Option<u64> {
    space::free(dir).inspect_err(|error| tracing::warn!(%error, "free space of the data directory is not known")).ok()
}

/// Keeps a node with too little room from leading and from taking proposals, for ever.
pub(super) async fn guard(parts: Arc<Parts>, consensus: Consensus) {
    let low = parts.config.disk_low_mib.saturating_mul(MIB);
    let mut leads = consensus.leader();
    let (mut was, mut asked) = (false, None::<Mono>);
    loop {
        if let Some(free) = free(parts.dir.path()) {
            let is = is_low(free, low, was);
            if is != was {
                let (node, free_mib, low_mib) = (consensus.node_id(), free / MIB, low / MIB);
                if is {
                    tracing::error!(
                        node,
                        free_mib,
                        low_mib,
                        "disk is nearly full: takes no proposals and does not lead"
                    );
                } else {
                    tracing::info!(node, free_mib, "room on the disk again");
                    asked = None;
                }
            }
            was = is;
            consensus.refuse_proposals(is.then(|| {
                format!(
                    "the disk of the leading node {} has {} MiB left, under its mark of {} MiB (`disk_low_mib`): make room in {}",
                    consensus.node_id(),
                    free / MIB,
                    low / MIB,
                    parts.dir.path().display()
                )
            }));
        }
        let leading = was && leads.borrow_and_update().is_me;
        if leading && asked.is_none_or(|at| Duration::from_millis(parts.clock.mono().since(at)) >= AGAIN) {
            asked = Some(parts.clock.mono());
            hand_over(&consensus).await;
        }
        sleep(LOOK).await;
    }
}

/// Waits until there is room enough to start anew.
pub(super) async fn room(parts: &Parts) {
    let dir = parts.dir.path();
    let wanted = enough(parts.config.disk_low_mib.saturating_mul(MIB));
    tracing::error!(
        dir = %dir.display(),
        wanted_mib = wanted / MIB,
        "the disk is full: this node takes part in nothing, answers DNS and stale reads from its last State, and goes on by itself \
         once there is room"
    );
    while free(dir).is_none_or(|free| free < wanted) {
        sleep(LOOK).await;
    }
}

/// Waits until a node that found no room at its start, which is `why`, may try again: its pages say so meanwhile, and
/// nothing else answers.
pub async fn wait_for_room(config: &NodeConfig, why: &NodeError) {
    let dir = &config.data_dir;
    let why = format!("it found no room at its start and tries again once {} MiB are free ({why})", START / MIB);
    tracing::error!(dir = %dir.display(), "this node waits: {why}");
    let pages = async {
        let listener = TcpListener::bind(config.http_listen).await?;
        let limits = GateLimits::for_node(config.max_connections);
        http::serve_waiting(Gate::new(listener, "HTTP", Speaks::Http, limits)?, &why).await
    };
    let room = async {
        sleep(RETRY).await;
        while free(dir).is_none_or(|free| free < START) {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = room => {}
        () = async {
            // Without its pages it waits all the same.
            if let Err(error) = pages.await {
                tracing::warn!(%error, "its HTTP pages are not served meanwhile");
            }
            std::future::pending::<()>().await
        } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_does_not_waver_at_its_mark() {
        let low = 100 * MIB;
        assert!(!is_low(low, low, false));
        assert!(is_low(low - 1, low, false));
        assert!(is_low(low + 1, low, true));
        assert!(!is_low(125 * MIB, low, true));
        // Without a mark there is no low, but a start needs some room.
        assert!(!is_low(0, 0, false));
        assert_eq!(enough(0), START);
    }
}
