//! Suspects a leader whose stream of appends ends without a new one. This node waits until its lease of that leader is
//! over, then asks for pre-votes at once instead of after another random election timeout. A killed process closes its
//! connections in the same moment, so this is the common way to lose a leader; a silent leader is still judged by the
//! election timeout alone.
//!
//! Invariants: this node asks for nothing while its own lease of the leader holds (openraft refuses it), nor after the
//! leader, its term or its stream has changed; it asks for pre-votes only, which disturb no node and which a node with
//! a valid lease refuses; voters ask one after the other, by rank, so that they do not split the votes.
//!
//! Not here: the election itself.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use openraft::async_runtime::WatchReceiver;
use tokio::{sync::watch, time::sleep};

use super::Consensus;
use crate::model::NodeId;

/// How often each voter asks before it leaves the rest to its election timeout.
const TRIES: u32 = 3;

/// Held by one stream of appends from a peer; its end is the peer's possible end.
pub(super) struct Inbound {
    consensus: Consensus,
    from: Arc<AtomicU64>,
}

impl Inbound {
    /// `from` becomes the peer with its first message.
    pub(super) fn opened(consensus: &Consensus, from: Arc<AtomicU64>) -> Self {
        consensus.streams().send_modify(|count| *count = count.wrapping_add(1));
        Self { consensus: consensus.clone(), from }
    }

    /// Who sends on it.
    pub(super) fn is_from(&self, peer: NodeId) {
        self.from.store(peer, Ordering::Relaxed);
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        let (consensus, from) = (self.consensus.clone(), self.from.load(Ordering::Relaxed));
        // Without a runtime the process is ending.
        if let (true, Ok(runtime)) = (from != 0, tokio::runtime::Handle::try_current()) {
            let streams = consensus.streams().subscribe();
            runtime.spawn(async move { consensus.suspect(from, streams).await });
        }
    }
}

impl Consensus {
    async fn suspect(&self, leader: NodeId, mut streams: watch::Receiver<u64>) {
        let before = self.leader().borrow().clone();
        if before.leader.as_ref().is_none_or(|l| l.id != leader) {
            return;
        }
        let Some(rank) = self.rank_without(leader) else { return };
        tracing::debug!(leader, rank, "the leader's stream of appends ended");
        let timing = self.config().timing;
        let step = timing.heartbeat.saturating_mul(2);
        let first = timing.election_max.saturating_add(timing.heartbeat / 5).saturating_add(step.saturating_mul(rank));
        for attempt in 0..TRIES {
            let wait = if attempt == 0 { first } else { step.saturating_mul(2) };
            tokio::select! {
                () = sleep(wait) => {}
                _ = streams.changed() => return,
            }
            if *self.leader().borrow() != before || !self.may_lead() {
                return;
            }
            if self.raft().trigger().elect(true).await.is_err() {
                return;
            }
        }
    }

    /// This node's place among the voters but the leader; `None` when it does not vote.
    fn rank_without(&self, leader: NodeId) -> Option<u32> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let me = self.node_id();
        let mut voters: Vec<NodeId> = metrics.membership_config.membership().voter_ids().collect();
        voters.sort_unstable();
        voters.dedup();
        let others = voters.into_iter().filter(|v| *v != leader);
        others.zip(0..).find_map(|(voter, rank)| (voter == me).then_some(rank))
    }
}
