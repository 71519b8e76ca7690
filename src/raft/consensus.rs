//! The handle of consensus: start, initialise, inspect, stop.
//!
//! Invariants: it starts only on a directory that belongs to this node; dropping all clones does not stop Raft,
//! `shutdown` does.
//!
//! Not here: proposing, reading, membership and the peer calls, which have files of their own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use openraft::{BasicNode, async_runtime::WatchReceiver};
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    ConsensusConfig, ConsensusError, Leadership, PeerAddress,
    leadership::{Anchor, Follower, watched},
    log_store::LogStore,
    machine::{ApplyCounts, Machine, Published},
    meters::Meters,
    network::Network,
    peers::Peers,
    types::Raft,
};
use crate::{
    clock::{Clock, Mono},
    model::NodeId,
    state::State,
    storage::{DataDir, Identity, LogDb},
    wire::v1::{PeerHeader, peer_client::PeerClient},
};

const POLL_CLOSED: Duration = Duration::from_millis(5);
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// This node's part in the cluster; clones share it.
#[derive(Clone)]
pub struct Consensus {
    inner: Arc<Inner>,
}

struct Inner {
    raft: Raft,
    identity: Identity,
    config: ConsensusConfig,
    clock: Clock,
    view: Arc<Published>,
    peers: Peers,
    leadership: watch::Receiver<Leadership>,
    anchor: watch::Receiver<Option<Anchor>>,
    failure: watch::Receiver<Option<String>>,
    follower: Mutex<Option<JoinHandle<()>>>,
    log_held: Weak<LogDb>,
    standing: Mutex<Eligibility>,
    /// Who last sent entries or a heartbeat that this node took, and when.
    heard: Mutex<Option<(NodeId, Mono)>>,
    /// Counts the streams of appends that peers have opened to this node.
    streams: watch::Sender<u64>,
}

/// Reasons that keep this node from leading. Different parts set them; one place combines them.
struct Eligibility {
    electable: bool,
    refusing: Option<String>,
}

impl Consensus {
    /// Claims the directory for `identity` (durably, if it is nobody's yet), loads the newest snapshot and the
    /// committed entries and takes part in the cluster. Serve nothing before [`Consensus::wait_for_recovery`] unless
    /// the cluster is about to be made.
    pub async fn start(
        config: ConsensusConfig,
        dir: &DataDir,
        identity: Identity,
        clock: Clock,
    ) -> Result<Self, ConsensusError> {
        let raft_config = Arc::new(config.openraft(&identity.cluster)?);
        let (log, wanted) = (dir.log().clone(), identity.clone());
        let joined = dir.clone();
        tokio::task::spawn_blocking(move || log.claim(&wanted).and_then(|()| joined.check_joined()))
            .await
            .map_err(std::io::Error::other)??;

        let poisoned = dir.log().poisoned();
        let store = LogStore::new(dir.log().clone());
        let log_held = store.held();
        let machine = Machine::new(dir.snapshots().clone()).reading(config.reads);
        let view = machine.view();
        let peers = Peers::new(&identity.cluster, identity.node);
        let network = Network { peers: peers.clone(), append_limit: config.timing.rpc };
        let raft = Raft::new(identity.node, raft_config, network, store, machine)
            .await
            .map_err(|e| ConsensusError::Stopped { reason: e.to_string() })?;

        let (leadership, leadership_seen) = watch::channel(Leadership::default());
        let (anchor, anchor_seen) = watch::channel(None);
        let (failure, failure_seen) = watch::channel(None);
        let told = failure.clone();
        let follower =
            Follower { raft: raft.clone(), view: view.clone(), clock: clock.clone(), leadership, anchor, failure };
        let follower = tokio::spawn(watched(follower.run(poisoned), told));
        Ok(Self {
            inner: Arc::new(Inner {
                raft,
                identity,
                config,
                clock,
                view,
                peers,
                leadership: leadership_seen,
                anchor: anchor_seen,
                failure: failure_seen,
                follower: Mutex::new(Some(follower)),
                log_held,
                standing: Mutex::new(Eligibility { electable: true, refusing: None }),
                heard: Mutex::default(),
                streams: watch::Sender::new(0),
            }),
        })
    }

    /// Makes this node the only voter of a new cluster; refused when its log is not empty.
    pub async fn init_single(&self, peer_addr: &str) -> Result<(), ConsensusError> {
        let members = BTreeMap::from([(self.node_id(), BasicNode::new(peer_addr))]);
        self.limited("initialising the cluster", async {
            self.raft()
                .initialize(members)
                .await
                .map_err(|e| ConsensusError::Refused { what: "initialising the cluster", reason: e.to_string() })
        })
        .await
    }

    /// Whether this node's log has ever held anything.
    pub async fn is_initialized(&self) -> Result<bool, ConsensusError> {
        self.raft().is_initialized().await.map_err(|e| ConsensusError::Stopped { reason: e.to_string() })
    }

    /// Waits until the state holds everything this node may have served before it was restarted. Needs a working
    /// cluster.
    pub async fn wait_for_recovery(&self, limit: Duration) -> Result<(), ConsensusError> {
        match self.raft().wait_for_recovery(Some(limit)).await {
            Ok(_) => Ok(()),
            Err(openraft::metrics::WaitError::Timeout(..)) => Err(ConsensusError::TimedOut { what: "recovery", limit }),
            Err(openraft::metrics::WaitError::ShuttingDown) => {
                Err(ConsensusError::Stopped { reason: "it is shutting down".into() })
            }
        }
    }

    /// The newest published State: a value, not a lock.
    #[must_use]
    pub fn view(&self) -> Arc<State> {
        self.inner.view.load()
    }

    /// Length of the newest snapshot that this process made or read; 0 before the first.
    #[must_use]
    pub fn snapshot_bytes(&self) -> u64 {
        self.inner.view.snapshot_bytes()
    }

    /// Carries the applied index of the published State; `view` is at least that new when it changes.
    #[must_use]
    pub fn view_changes(&self) -> watch::Receiver<u64> {
        self.inner.view.changes()
    }

    /// The State as of the newest digest probe, once for each; for one taker.
    pub async fn probed(&self) -> Arc<State> {
        self.inner.view.probed().await
    }

    /// What `apply` has done on this node.
    #[must_use]
    pub fn apply_counts(&self) -> ApplyCounts {
        self.inner.view.counts()
    }

    /// How long commits, `apply` and snapshots take here.
    #[must_use]
    pub fn meters(&self) -> Meters {
        self.inner.view.meters.clone()
    }

    /// Whether this node may ask for votes. A node whose State differs from the majority's must not. One that refuses
    /// proposals does not either.
    pub fn set_electable(&self, may: bool) {
        self.change_standing(|standing| standing.electable = may);
    }

    /// From now on, takes no proposals as a leader and does not ask for votes, for this reason; with `None` it does
    /// again.
    pub fn refuse_proposals(&self, reason: Option<String>) {
        self.change_standing(|standing| standing.refusing = reason);
    }

    /// Why no proposals are taken here.
    #[must_use]
    pub fn refusing(&self) -> Option<String> {
        self.inner.standing.lock().refusing.clone()
    }

    /// Whether this node may ask for votes.
    pub(super) fn may_lead(&self) -> bool {
        let standing = self.inner.standing.lock();
        standing.electable && standing.refusing.is_none()
    }

    fn change_standing(&self, change: impl FnOnce(&mut Eligibility)) {
        let mut standing = self.inner.standing.lock();
        change(&mut standing);
        self.raft().runtime_config().elect(standing.electable && standing.refusing.is_none());
    }

    /// Why this node can do nothing for a worker: its consensus has stopped, or its State is wrong.
    #[must_use]
    pub fn out_of_work(&self) -> Option<String> {
        self.failure().borrow().clone().or_else(|| self.diverged())
    }

    /// Why this node serves nothing: its State differs from the majority's.
    #[must_use]
    pub fn diverged(&self) -> Option<String> {
        let found = self.view().replicas.diverged.get(&self.node_id()).map(ToString::to_string)?;
        Some(format!(
            "the State of node {} differs from the majority's {found}: it serves nothing; replace it (docs/operations.md, \"A replica that differs\")",
            self.node_id()
        ))
    }

    /// Who leads.
    #[must_use]
    pub fn leader(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Becomes `Some(reason)` when Raft stops or the disk fails: the node must end then.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.inner.failure.clone()
    }

    /// This node's id.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.inner.identity.node
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.inner.identity.cluster
    }

    /// The clock that stamps this node's proposals.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The settings it was started with.
    #[must_use]
    pub fn config(&self) -> &ConsensusConfig {
        &self.inner.config
    }

    /// The header of a call to a peer.
    #[must_use]
    pub fn peer_header(&self, to: NodeId) -> PeerHeader {
        self.inner.peers.header(to)
    }

    /// A client for a node that need not be a member.
    pub(super) fn client_at(&self, id: NodeId, addr: &str) -> Result<PeerClient<tonic::transport::Channel>, String> {
        self.inner.peers.client(id, addr)
    }

    /// A client for a member of the cluster; it connects at its first call. `None` for a node that is no member.
    #[must_use]
    pub fn peer_client(&self, id: NodeId) -> Option<PeerClient<tonic::transport::Channel>> {
        let addr = self.address(id)?.addr;
        match self.client_at(id, &addr) {
            Ok(client) => Some(client),
            Err(reason) => {
                tracing::warn!(%reason, "no connection to a peer");
                None
            }
        }
    }

    /// Stops taking part and waits until Raft has let go of the log database; the directory's lock is free once the
    /// [`DataDir`] is dropped too.
    pub async fn shutdown(&self) -> Result<(), ConsensusError> {
        self.raft().shutdown().await.map_err(|e| ConsensusError::Stopped { reason: e.to_string() })?;
        let follower = self.inner.follower.lock().take();
        if let Some(follower) = follower {
            follower.abort();
            // An aborted task answers with a cancellation, which is what was asked for.
            drop(follower.await);
        }
        let closed = async {
            while self.inner.log_held.strong_count() > 0 {
                tokio::time::sleep(POLL_CLOSED).await;
            }
        };
        tokio::time::timeout(CLOSE_LIMIT, closed)
            .await
            .map_err(|_| ConsensusError::TimedOut { what: "closing the log database", limit: CLOSE_LIMIT })
    }

    pub(super) fn raft(&self) -> &Raft {
        &self.inner.raft
    }

    pub(super) fn streams(&self) -> &watch::Sender<u64> {
        &self.inner.streams
    }

    pub(super) fn anchor(&self) -> watch::Receiver<Option<Anchor>> {
        self.inner.anchor.clone()
    }

    pub(super) fn address(&self, id: NodeId) -> Option<PeerAddress> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.get_node(&id).map(|node| PeerAddress { id, addr: node.addr.clone() })
    }

    /// The leader to name to a caller: never this node.
    pub(super) fn other_leader(&self) -> Option<PeerAddress> {
        self.inner.leadership.borrow().leader.clone().filter(|leader| leader.id != self.node_id())
    }

    /// The leader to ask: another node, from which this one has heard since an election would have begun without it. A
    /// leader that is silent is not worth waiting for.
    pub(super) fn leader_at_hand(&self) -> Option<PeerAddress> {
        let leader = self.other_leader()?;
        let silent = self.config().timing.election_max * 2;
        let heard = *self.inner.heard.lock();
        let now = self.clock().mono();
        heard
            .is_some_and(|(from, at)| from == leader.id && Duration::from_millis(now.since(at)) < silent)
            .then_some(leader)
    }

    /// A leader's message was taken.
    pub(super) fn hear(&self, from: NodeId) {
        let now = self.clock().mono();
        *self.inner.heard.lock() = Some((from, now));
    }

    /// Runs an administrative step within five times the limit of a call: membership takes several commits.
    pub(super) async fn limited<T>(
        &self,
        what: &'static str,
        step: impl Future<Output = Result<T, ConsensusError>>,
    ) -> Result<T, ConsensusError> {
        let limit = self.config().call_timeout.saturating_mul(5);
        tokio::time::timeout(limit, step).await.map_err(|_| ConsensusError::TimedOut { what, limit })?
    }
}
