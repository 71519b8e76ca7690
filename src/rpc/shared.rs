//! What all services share: the consensus handle once there is one, the blobs, the sessions, and the node behind them.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, metadata::MetadataValue};

use super::{Sessions, error, freshness};
use crate::{
    clock::Clock,
    model::{DeploymentId, Millis, NodeId, WorkerName},
    raft::{Consensus, ReadError},
    state::State,
    storage::BlobStore,
    wire::{APPLIED, v1},
};

/// Longest wait of a read for the leader's confirmation.
const READ_LIMIT: Duration = Duration::from_secs(1);

/// The node behind the services.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Makes a cluster of this node.
    async fn init(&self, request: v1::InitRequest) -> Result<v1::InitReply, Status>;
    /// Joins the cluster that the seed belongs to.
    async fn join(&self, request: v1::JoinRequest) -> Result<v1::JoinReply, Status>;
    /// Takes a relayed word; refused when this node does not lead in its term.
    fn relayed(&self, from: NodeId, item: &v1::RelayItem) -> Result<(), Status>;
    /// Takes in what another node knows of panics of leaders' loops.
    fn panicked(&self, panics: &[v1::PlannerPanic]);
    /// Grants a serving lease; refused when this node does not lead.
    async fn renew(&self, from: NodeId, request: v1::RenewRequest) -> Result<v1::RenewReply, Status>;
    /// The node that holds a worker's session, as the leader knows.
    fn holder(&self, worker: &WorkerName) -> Option<NodeId>;
    /// The planner's last reasons for waiting, their time and term.
    fn waits(&self, deployment: &DeploymentId) -> (Vec<String>, Millis, u64);
    /// What each node's DNS was last heard to serve.
    fn served(&self) -> BTreeMap<NodeId, u64>;
    /// Whether a majority of the nodes confirmed a read of this node lately.
    fn confirmed(&self) -> bool;
    /// Adds what this node's DNS really answered to a route.
    fn realised(&self, id: &DeploymentId, reply: &mut v1::GetRouteReply);
    /// What is worth knowing about the DNS clients of a deployment before its weights move in these steps (basis points).
    fn coarse(&self, id: &DeploymentId, weights: &[u32]) -> Vec<String>;
    /// What this node's DNS would answer about a name, and why.
    fn trace(&self, request: &v1::TraceRequest) -> Result<v1::TraceReply, Status>;
    /// Standing warnings, such as listeners that are open to others.
    fn warnings(&self) -> Vec<String>;
}

/// Counters for metrics.
#[derive(Debug, Default)]
pub struct Counts(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl Counts {
    pub(super) fn add(&self, what: &'static str, label: &'static str) {
        *self.0.lock().entry((what, label)).or_default() += 1;
    }

    /// All counters: (`proposal` or `rejection`, label) and value.
    pub fn all(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.0.lock().clone()
    }
}

/// Handles that all services share; clones share them.
#[derive(Clone)]
pub struct Shared {
    /// Set once this node belongs to a cluster.
    pub consensus: Arc<OnceLock<Consensus>>,
    pub blobs: BlobStore,
    /// Workers' sessions at this node.
    pub sessions: Arc<Sessions>,
    pub clock: Clock,
    /// Ends streams when the node stops.
    pub stop: CancellationToken,
    pub counts: Arc<Counts>,
    pub backend: Arc<dyn Backend>,
}

impl Shared {
    pub(super) fn consensus(&self) -> Result<&Consensus, Status> {
        self.consensus.get().ok_or_else(error::no_cluster)
    }

    /// The same, unless this node's State differs from the majority's and nothing may be answered from it.
    pub(super) fn trusted(&self) -> Result<&Consensus, Status> {
        let consensus = self.consensus()?;
        match consensus.diverged() {
            Some(why) => Err(error::status(tonic::Code::Unavailable, "diverged", why)),
            None => Ok(consensus),
        }
    }

    /// The State as of now, confirmed by the leader; the local one, with a warning, if the request takes that.
    pub(super) async fn read(&self) -> Result<Read, Status> {
        if freshness::takes_stale() {
            return self.local(Some("stale reads were asked for".into()));
        }
        let consensus = self.trusted()?;
        let alone = || consensus.has_quorum() == Some(false);
        if consensus.lacks_quorum().await {
            return Err(error::unconfirmed(true, "this node leads without a majority"));
        }
        match timeout(READ_LIMIT, consensus.read_index()).await {
            Ok(Ok(_)) => self.local(None),
            Ok(Err(e)) => Err(error::unconfirmed(matches!(e, ReadError::NoQuorum), &e.to_string())),
            Err(_) => Err(error::unconfirmed(alone(), "the leader did not answer in time")),
        }
    }

    /// The State as of now, or the local one with a warning when no leader confirms it: for watches and for what helps to find out
    /// why there is no leader.
    pub(super) async fn read_or_older(&self) -> Result<Read, Status> {
        match timeout(READ_LIMIT, self.trusted()?.read_index()).await {
            Ok(Ok(_)) => self.local(None),
            Ok(Err(e)) => self.local(Some(e.to_string())),
            Err(_) => self.local(Some("the leader did not confirm the read in time".into())),
        }
    }

    fn local(&self, warning: Option<String>) -> Result<Read, Status> {
        let state = self.trusted()?.view();
        if state.cluster.is_none() {
            return Err(warning.map_or_else(error::no_cluster, |_| error::no_leader()));
        }
        Ok(Read { state, warning })
    }
}

/// A State to answer from.
pub(super) struct Read {
    pub(super) state: Arc<State>,
    pub(super) warning: Option<String>,
}

impl Read {
    /// Wraps an answer, with a warning header when the State may be old.
    pub(super) fn answer<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        response.metadata_mut().insert(APPLIED, MetadataValue::from(self.state.applied.index));
        if let Some(why) = &self.warning {
            let text = format!("this answer may be old: {why}");
            if let Ok(value) = MetadataValue::try_from(text) {
                response.metadata_mut().insert(error::WARNING, value);
            }
        }
        response
    }
}
