//! The `Cluster` service.

use std::collections::BTreeMap;

use tonic::{Request, Response, Status, async_trait};

use super::{Shared, error};
use crate::{
    raft::{Consensus, ConsensusError},
    state::NodeRole,
    wire::{convert, v1},
};

/// Marks a status asked by another node, which is not passed on again.
const HOP: &str = "slipway-hop";
/// Longest wait for the leader's part of a status.
const ASK: std::time::Duration = std::time::Duration::from_millis(500);

#[async_trait]
impl v1::cluster_server::Cluster for Shared {
    async fn init(&self, request: Request<v1::InitRequest>) -> Result<Response<v1::InitReply>, Status> {
        self.backend.init(request.into_inner()).await.map(Response::new)
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinReply>, Status> {
        self.backend.join(request.into_inner()).await.map(Response::new)
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        let mut reply = v1::StatusReply {
            version: env!("CARGO_PKG_VERSION").into(),
            warnings: self.backend.warnings(),
            wall_ms: self.clock.wall_ms(),
            ..v1::StatusReply::default()
        };
        let Some(consensus) = self.consensus.get() else { return Ok(Response::new(reply)) };
        let state = consensus.view();
        let metrics = consensus.metrics();
        let leader = consensus.leader().borrow().clone();
        reply.cluster_id = consensus.cluster().into();
        reply.node_id = consensus.node_id();
        reply.leader_id = leader.leader.as_ref().map_or(0, |l| l.id);
        reply.term = metrics.term;
        reply.applied = state.applied.index;
        reply.now_ms = consensus.cluster_now().unwrap_or(state.now).0;
        reply.quorum = consensus.has_quorum().unwrap_or(reply.leader_id != 0);
        if let Some(cluster) = &state.cluster {
            reply.name = cluster.name.clone();
            reply.zone = cluster.zone.clone();
            reply.wall_ms = state.wall;
        }
        let hop = request.metadata().contains_key(HOP);
        let served = self.served(consensus, hop).await;
        reply.nodes = state
            .nodes
            .values()
            .map(|n| convert::node(n, n.id == reply.leader_id, served.get(&n.id).copied().unwrap_or(0)))
            .collect();
        Ok(Response::new(reply))
    }

    async fn digest(&self, _: Request<v1::DigestRequest>) -> Result<Response<v1::DigestReply>, Status> {
        self.digests().await.map(Response::new)
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderReply>, Status> {
        let consensus = self.consensus()?;
        let leadership = consensus.leader().borrow().clone();
        let leader = leadership.leader.ok_or_else(error::no_leader)?;
        let state = consensus.view();
        let asked = request.into_inner().to;
        if !leadership.is_me {
            // Only the leader can hand over; its client listener takes the same request.
            let row = state.nodes.get(&leader.id).ok_or_else(error::no_leader)?;
            let mut client = v1::cluster_client::ClusterClient::connect(format!("http://{}", row.client_addr))
                .await
                .map_err(|_| error::no_leader())?;
            return client.transfer_leader(v1::TransferLeaderRequest { to: asked }).await;
        }
        let mut voters = state.nodes.values().filter(|n| n.role == NodeRole::Voter && n.id != leader.id);
        let to = match asked {
            0 => voters.next().map(|n| n.id).ok_or_else(|| {
                error::status(
                    tonic::Code::FailedPrecondition,
                    "precondition",
                    "there is no other voter to hand over to",
                )
            })?,
            id => id,
        };
        consensus.transfer_leader(to).await.map_err(|e| administration(&e))?;
        let after = consensus.leader().borrow().clone();
        Ok(Response::new(v1::TransferLeaderReply { leader_id: after.leader.map_or(0, |l| l.id), term: after.term }))
    }
}

/// An administrative error as a status.
fn administration(e: &ConsensusError) -> Status {
    let text = e.to_string();
    match e {
        ConsensusError::NotLeader { .. } => error::no_leader(),
        ConsensusError::TimedOut { .. } | ConsensusError::Stopped { .. } => {
            error::status(tonic::Code::Unavailable, "unavailable", text)
        }
        ConsensusError::Refused { .. } | ConsensusError::Config { .. } | ConsensusError::Storage(_) => {
            error::status(tonic::Code::FailedPrecondition, "precondition", text)
        }
    }
}

impl Shared {
    /// What each node's DNS serves: the leader hears all and is asked; nothing when it does not answer.
    async fn served(&self, consensus: &Consensus, hop: bool) -> BTreeMap<u64, u64> {
        let leadership = consensus.leader().borrow().clone();
        if leadership.is_me {
            return self.backend.served();
        }
        let row = leadership.leader.and_then(|l| consensus.view().nodes.get(&l.id).cloned());
        let Some(row) = row.filter(|_| !hop) else { return BTreeMap::new() };
        let ask = async {
            let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", row.client_addr)).ok()?;
            let mut client = v1::cluster_client::ClusterClient::new(channel.connect().await.ok()?);
            let mut request = Request::new(v1::StatusRequest {});
            request.metadata_mut().insert(HOP, tonic::metadata::MetadataValue::from_static("1"));
            client.status(request).await.ok()
        };
        let said = tokio::time::timeout(ASK, ask).await.ok().flatten().map(|r| r.into_inner().nodes);
        said.unwrap_or_default().into_iter().map(|n| (n.id, n.served_index)).collect()
    }
}
