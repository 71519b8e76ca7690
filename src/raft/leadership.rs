//! Who leads, and the time anchor of a term.
//!
//! Invariants: an anchor is taken once a term, after the term's own blank entry is applied, so that cluster time goes
//! on from what every earlier leader has stamped; within a term cluster time follows the monotonic clock alone.
//!
//! Deliberately not here: what a leader does with its term (`lead`).

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use openraft::{ServerState, async_runtime::WatchReceiver};
use tokio::sync::watch;

use super::{
    PeerAddress,
    machine::Published,
    types::{Raft, TypeConfig},
};
use crate::{
    clock::{Clock, Mono},
    model::Millis,
    supervise,
};

/// Who leads, as this node knows it. A leader that is cut off goes on believing in itself until it hears otherwise:
/// what it commits, not what it believes, counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The newest term this node knows.
    pub term: u64,
    /// The term's leader, once known.
    pub leader: Option<PeerAddress>,
    /// Whether it is this node.
    pub is_me: bool,
    /// Whether this node leads and has its time anchor, so that proposals are taken; `lead` starts here.
    pub ready: bool,
}

/// Where a term's cluster time begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) term: u64,
    pub(super) now: Millis,
    pub(super) at: Mono,
}

impl Anchor {
    /// Cluster time at a point of the monotonic clock.
    pub(super) fn time(&self, at: Mono) -> Millis {
        Millis(self.now.0.saturating_add(at.since(self.at)))
    }
}

/// Follows openraft and the view; ends when openraft does.
pub(super) struct Follower {
    pub(super) raft: Raft,
    pub(super) view: Arc<Published>,
    pub(super) clock: Clock,
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) anchor: watch::Sender<Option<Anchor>>,
    pub(super) failure: watch::Sender<Option<String>>,
}

/// Runs the follower; should it panic, that is why consensus has failed on this node.
pub(super) async fn watched(follower: impl Future<Output = ()>, failure: watch::Sender<Option<String>>) {
    if let Err(panic) = AssertUnwindSafe(follower).catch_unwind().await {
        let why = format!("the task \"raft follower\" panicked ({})", supervise::words(panic.as_ref()));
        failure.send_if_modified(|known| known.is_none().then(|| *known = Some(why)).is_some());
    }
}

impl Follower {
    pub(super) async fn run(self, mut poisoned: watch::Receiver<Option<String>>) {
        // These change with the role alone, the whole of the metrics with every entry.
        let mut server = self.raft.server_metrics();
        let mut applied = self.view.changes();
        loop {
            let leadership = look(&server.borrow_and_update());
            // Only a term without an anchor waits for an entry: its own first one.
            let waits = self.update(leadership);
            if let Some(reason) = poisoned.borrow_and_update().clone() {
                self.fail(reason);
                return;
            }
            tokio::select! {
                changed = server.changed() => if changed.is_err() {
                    let stopped = self.raft.metrics().borrow_watched().running_state.as_ref().err().map(ToString::to_string);
                    self.fail(stopped.unwrap_or_else(|| "the consensus task ended".into()));
                    return;
                },
                _ = applied.changed(), if waits => {}
                _ = poisoned.changed() => {}
            }
        }
    }

    /// Whether this node leads and has no anchor yet.
    fn update(&self, mut seen: Leadership) -> bool {
        if !seen.is_me {
            self.anchor.send_if_modified(|anchor| anchor.take().is_some());
        } else if self.anchor.borrow().is_some_and(|anchor| anchor.term == seen.term) {
            seen.ready = true;
        } else {
            let state = self.view.load();
            if state.applied.term == seen.term {
                self.anchor.send_replace(Some(Anchor { term: seen.term, now: state.now, at: self.clock.mono() }));
                seen.ready = true;
            }
        }
        let waits = seen.is_me && !seen.ready;
        self.leadership.send_if_modified(|known| {
            let new = *known != seen;
            let who = |l: &Leadership| l.leader.as_ref().map(|at| (l.term, at.id));
            if who(&seen).is_some() && who(&seen) != who(known) {
                self.view.meters.leaders.inc();
            }
            if new {
                *known = seen;
            }
            new
        });
        waits
    }

    fn fail(&self, reason: String) {
        self.anchor.send_replace(None);
        self.leadership.send_modify(|known| *known = Leadership { term: known.term, ..Leadership::default() });
        self.failure.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(reason);
            }
            first
        });
    }
}

fn look(metrics: &openraft::metrics::RaftServerMetrics<TypeConfig>) -> Leadership {
    let leader = metrics.current_leader.map(|id| {
        let addr = metrics.membership_config.get_node(&id).map(|node| node.addr.clone()).unwrap_or_default();
        PeerAddress { id, addr }
    });
    let is_me = metrics.state == ServerState::Leader && metrics.current_leader == Some(metrics.id);
    Leadership { term: metrics.vote.leader_id.term, leader, is_me, ready: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_follower_that_panics_is_why_consensus_has_failed() {
        let (failure, seen) = watch::channel(None);
        watched(async { panic!("broken") }, failure.clone()).await;
        assert_eq!(seen.borrow().as_deref(), Some("the task \"raft follower\" panicked (broken)"));
        watched(async { panic!("later") }, failure).await;
        assert!(seen.borrow().as_ref().is_some_and(|why| why.contains("broken")), "the first reason stays");
    }

    #[test]
    fn cluster_time_goes_on_from_the_anchor() {
        let anchor = Anchor { term: 4, now: Millis(195_900), at: Mono(1_000) };
        assert_eq!(anchor.time(Mono(1_000)), Millis(195_900));
        assert_eq!(anchor.time(Mono(3_500)), Millis(198_400));
        // A clock that went back may not take cluster time back.
        assert_eq!(anchor.time(Mono(10)), Millis(195_900));
    }
}
