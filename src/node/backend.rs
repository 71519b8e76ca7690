//! What the services ask of this node beyond State: init and join, transfers of leadership, and what only the leader
//! knows.
//!
//! Not here: the services (`rpc`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::timeout;
use tonic::Code;

use super::{
    clock_watch, fall, lease,
    relay::{self, Word},
    start::Parts,
};
use crate::{
    api::{ApiError, Backend, Kind, Realised},
    model::{ClusterId, DeploymentId, Millis, NodeId, Principal, WorkerName},
    raft::Consensus,
    state::{Command, Fence, NodeRole, Rejection, check_init, command::ClusterInit},
    storage::Identity,
    wire::v1::{self, cluster_client::ClusterClient, peer_client::PeerClient, relay_item},
};

const LEAD_LIMIT: Duration = Duration::from_secs(10);
const CALL_LIMIT: Duration = Duration::from_secs(5);
const JOIN_LIMIT: Duration = Duration::from_secs(30);
const ZONE: &str = "slipway.internal";

/// The services' view of the node.
pub(super) struct NodeBackend(pub(super) Arc<Parts>);

/// Waits until this node leads and takes proposals.
async fn leading(consensus: &Consensus) -> Result<(), ApiError> {
    let mut leadership = consensus.leader();
    match timeout(LEAD_LIMIT, leadership.wait_for(|l| l.ready)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => {
            Err(ApiError::unavailable("this node did not become leader of its new cluster in time: try again"))
        }
    }
}

impl NodeBackend {
    async fn make(&self, by: Principal, request: &v1::InitRequest) -> Result<v1::InitReply, ApiError> {
        let parts = &self.0;
        let name = if request.name.is_empty() { "slipway" } else { &request.name };
        let zone = if request.zone.is_empty() { ZONE } else { request.zone.strip_suffix('.').unwrap_or(&request.zone) };
        // Before the directory belongs to a cluster: what is refused leaves nothing behind.
        check_init(name, zone, &parts.as_new_node())?;
        let _making = parts.making.lock().await;
        let consensus = match parts.slot.get() {
            Some(c) if c.view().cluster.is_some() || c.node_id() != 1 => {
                return Err(Rejection::AlreadyInitialised.into());
            }
            // An earlier init was cut off between its steps: go on with it.
            Some(c) => c.clone(),
            None => {
                let cluster = format!("c-{:012x}", rand::random::<u64>() >> 16);
                let started = parts.start_consensus(Identity { cluster, node: 1 }).await;
                started.map_err(ApiError::internal)?
            }
        };
        let failed = |e: crate::raft::ConsensusError| ApiError::internal(e);
        if !consensus.is_initialized().await.map_err(failed)? {
            consensus.init_single(&parts.as_new_node().peer_addr).await.map_err(failed)?;
        }
        leading(&consensus).await?;
        let id = ClusterId::new(consensus.cluster()).map_err(ApiError::internal)?;
        let (name, zone) = (name.to_string(), zone.to_string());
        let command = Command::ClusterInit(ClusterInit { id, name, zone, node: parts.as_new_node() });
        let no_fence: Option<Fence> = None;
        let applied = consensus.propose(by, no_fence, command).await;
        applied.map_err(|e| ApiError::unavailable(e.to_string()))?.result?;
        tracing::info!(cluster = consensus.cluster(), "cluster made");
        Ok(v1::InitReply { cluster_id: consensus.cluster().into(), node_id: consensus.node_id() })
    }

    /// Admitted and running, but perhaps not voting yet.
    async fn enter(&self, request: &v1::JoinRequest) -> Result<Consensus, ApiError> {
        let parts = &self.0;
        let _making = parts.making.lock().await;
        let (cluster, peer) = ask_seed(&request.seed).await?;
        match parts.slot.get() {
            Some(c) if c.cluster() != cluster => Err(ApiError::new(
                Kind::Exists,
                "other_cluster",
                format!(
                    "this node belongs to cluster {}, {} to {cluster}: start it on an empty data directory to join that one",
                    c.cluster(),
                    request.seed
                ),
            )),
            Some(c) => Ok(c.clone()),
            None => {
                let node = admit(parts, &cluster, &peer).await?;
                let started = parts.start_consensus(Identity { cluster, node }).await;
                started.map_err(ApiError::internal)
            }
        }
    }

    /// Runs a step to its end although the client that asked for it may go away, which would leave it half done.
    async fn whole<T: Send + 'static, F>(&self, step: impl FnOnce(Self) -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>> + Send + 'static,
    {
        let done = tokio::spawn(step(Self(self.0.clone()))).await;
        done.map_err(ApiError::internal)?
    }
}

/// The seed's cluster and peer address.
async fn ask_seed(seed: &str) -> Result<(String, String), ApiError> {
    if seed.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
        return Err(ApiError::bad(format!("{seed:?} is not the client address (HOST:PORT) of a member")));
    }
    let dead = |why: String| ApiError::unavailable(format!("{seed} does not answer: {why}"));
    let ask = async {
        let mut client = ClusterClient::connect(format!("http://{seed}")).await.map_err(|e| dead(e.to_string()))?;
        client.status(v1::StatusRequest {}).await.map_err(|e| match e.code() {
            Code::Unimplemented => ApiError::precondition(format!(
                "{seed} is not the client address of a member: what answers there is something else, perhaps its peer or HTTP listener \
                 (the client's is port 7652 by default)"
            )),
            _ => ApiError::from(e),
        })
    };
    let status = timeout(CALL_LIMIT, ask).await.map_err(|_| dead(format!("no answer within {CALL_LIMIT:?}")))??;
    let status = status.into_inner();
    let row = status.nodes.iter().find(|n| n.node_id == status.node_id);
    let row = row.ok_or_else(|| {
        ApiError::precondition(format!("{seed} belongs to no cluster yet: `slipway cluster init` there first"))
    })?;
    Ok((status.cluster_id.clone(), row.peer_addr.clone()))
}

async fn admit(parts: &Parts, cluster: &str, peer: &str) -> Result<NodeId, ApiError> {
    let me = parts.as_new_node();
    let request = v1::AdmitRequest {
        header: Some(v1::PeerHeader { cluster_id: cluster.into(), from: 0, to: 0 }),
        name: me.name,
        peer_addr: me.peer_addr,
        client_addr: me.client_addr,
        dns_addr: me.dns_addr,
        level: me.level,
        min_level: parts.levels().0,
    };
    let dead = |why: String| ApiError::unavailable(format!("peer {peer} does not answer: {why}"));
    let ask = async {
        let mut client = PeerClient::connect(format!("http://{peer}")).await.map_err(|e| dead(e.to_string()))?;
        Ok::<_, ApiError>(client.admit(request).await?)
    };
    let reply = timeout(CALL_LIMIT, ask).await.map_err(|_| dead(format!("no answer within {CALL_LIMIT:?}")))??;
    Ok(reply.into_inner().node_id)
}

/// Waits until this node votes.
async fn voting(consensus: &Consensus) -> Result<NodeRole, ApiError> {
    let mut views = consensus.view_changes();
    let me = consensus.node_id();
    let role = || consensus.view().nodes.get(&me).map(|n| n.role);
    let wait = async {
        while role() != Some(NodeRole::Voter) {
            if views.changed().await.is_err() {
                return;
            }
        }
    };
    if timeout(JOIN_LIMIT, wait).await.is_err() {
        return Err(ApiError::unavailable(format!(
            "admitted as node {me}, but it does not vote yet: is its peer address reachable? Run the same join again"
        )));
    }
    Ok(role().unwrap_or(NodeRole::Joining))
}

#[async_trait]
impl Backend for NodeBackend {
    async fn init(&self, by: &Principal, request: v1::InitRequest) -> Result<v1::InitReply, ApiError> {
        let by = by.clone();
        self.whole(|own| async move { own.make(by, &request).await }).await
    }

    async fn join(&self, request: v1::JoinRequest) -> Result<v1::JoinReply, ApiError> {
        let consensus = self.whole(|own| async move { own.enter(&request).await }).await?;
        let role = voting(&consensus).await?;
        tracing::info!(cluster = consensus.cluster(), node = consensus.node_id(), "joined");
        Ok(v1::JoinReply {
            cluster_id: consensus.cluster().into(),
            node_id: consensus.node_id(),
            node: self.0.config.name.clone(),
            role: role.to_string(),
        })
    }

    fn relayed(&self, from: NodeId, item: &v1::RelayItem) -> Result<(), ApiError> {
        let word = match &item.body {
            Some(relay_item::Body::Worker(seen)) => relay::read(seen).map(Word::Worker),
            Some(relay_item::Body::Node(seen)) => Ok(Word::Node(seen.clone())),
            None => return Ok(()),
        };
        relay::take(&self.0, from, item.term, word?)
    }

    fn panicked(&self, panics: &[v1::PlannerPanic]) {
        fall::told(&self.0, panics);
    }

    async fn renew(&self, from: NodeId, request: v1::RenewRequest) -> Result<v1::RenewReply, ApiError> {
        let consensus = self.0.slot.get().ok_or_else(|| ApiError::unavailable("this node belongs to no cluster"))?;
        lease::grant(&self.0, consensus, from, &request).await
    }

    fn holder(&self, worker: &WorkerName) -> Option<NodeId> {
        self.0.collector.holder(worker)
    }

    fn waits(&self, deployment: &DeploymentId) -> (Vec<String>, Millis, u64) {
        let last = self.0.board.last();
        // The pass may be seconds old: nothing changed since, but the time left did.
        let now = self.0.slot.get().and_then(|c| c.cluster_now()).unwrap_or_default().max(last.now);
        if let Some(why) = &last.stopped {
            return (vec![why.clone()], now, last.term);
        }
        let waits =
            last.waits.get(deployment).map(|all| all.iter().map(|(w, since)| w.told_since(now, *since)).collect());
        (waits.unwrap_or_default(), now, last.term)
    }

    fn served(&self) -> BTreeMap<NodeId, u64> {
        self.0.collector.served()
    }

    fn confirmed(&self) -> bool {
        self.0.confirmed.problem(self.0.clock.mono()).is_none()
    }

    fn realised(&self, id: &DeploymentId) -> Option<Realised> {
        super::trace::realised(&self.0, id)
    }

    fn coarse(&self, id: &DeploymentId, weights: &[u32]) -> Vec<String> {
        super::trace::coarse(&self.0, id, weights)
    }

    fn trace(&self, request: &v1::TraceRequest) -> Result<v1::TraceReply, ApiError> {
        super::trace::trace(&self.0, request)
    }

    fn warnings(&self) -> Vec<String> {
        let parts = &self.0;
        let open = parts.config.exposed().iter().map(open).collect::<Vec<_>>();
        let newest = parts.slot.get().map_or(0, |c| c.view().wall);
        let clocks = clock_watch::behind(newest, parts.clock.wall_ms());
        let now = parts.clock.mono();
        open.into_iter().chain(parts.panics.any_stopped(now)).chain(parts.jumped.lately(now)).chain(clocks).collect()
    }
}

/// The warning about one open listener.
pub(super) fn open(addr: &std::net::SocketAddr) -> String {
    format!("{addr} is open without TLS and tokens (insecure = true): anyone who reaches it can operate the cluster")
}
