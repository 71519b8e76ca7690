//! What operations ask of other nodes, over gRPC.
//!
//! Not here: how long they wait for it, and what they make of the answer (`api`).

use std::time::Duration;

use futures_util::StreamExt as _;
use tonic::{
    Request, Response, Status, Streaming, async_trait,
    transport::{Channel, Endpoint},
};

use super::door::HOP;
use crate::{
    api::{ApiError, Flow, Remote},
    model::{DeploymentId, Digest, NodeId, WorkerName},
    raft::Consensus,
    wire::v1::{self, artifacts_client::ArtifactsClient, cluster_client::ClusterClient, peer_client::PeerClient},
};

/// Longest wait for a connection: to the leader, while a client waits; to the holder of a package.
const LEADER: Duration = Duration::from_secs(1);
const HOLDER: Duration = Duration::from_secs(2);

/// The other nodes, by gRPC.
#[derive(Debug, Clone, Copy)]
pub struct Nodes;

async fn channel(addr: &str, limit: Duration) -> Result<Channel, ApiError> {
    let away = |e: tonic::transport::Error| ApiError::unavailable(format!("{addr}: {e}"));
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).map_err(away)?;
    endpoint.connect_timeout(limit).connect().await.map_err(away)
}

/// The leader's services at its listener for clients; one that cannot be reached leads nobody.
async fn leader(addr: &str) -> Result<ClusterClient<Channel>, ApiError> {
    channel(addr, LEADER).await.map(ClusterClient::new).map_err(|_| ApiError::no_leader())
}

fn peer(at: &Consensus, to: NodeId) -> Result<PeerClient<Channel>, ApiError> {
    at.peer_client(to).ok_or_else(|| ApiError::unavailable(format!("no connection to node {to}")))
}

fn flow<T: Send + 'static>(stream: Response<Streaming<T>>) -> Flow<T> {
    stream.into_inner().map(|chunk| chunk.map_err(ApiError::from)).boxed()
}

#[async_trait]
impl Remote for Nodes {
    async fn status(&self, addr: &str) -> Result<v1::StatusReply, ApiError> {
        let mut request = Request::new(v1::StatusRequest {});
        request.metadata_mut().insert(HOP, tonic::metadata::MetadataValue::from_static("1"));
        said(leader(addr).await?.status(request).await)
    }

    async fn leave(&self, addr: &str, request: v1::LeaveRequest) -> Result<v1::LeaveReply, ApiError> {
        said(leader(addr).await?.leave(request).await)
    }

    async fn transfer_leader(
        &self,
        addr: &str,
        request: v1::TransferLeaderRequest,
    ) -> Result<v1::TransferLeaderReply, ApiError> {
        said(leader(addr).await?.transfer_leader(request).await)
    }

    async fn fetch(&self, addr: &str, digest: &Digest, offset: u64) -> Result<Flow<v1::FetchChunk>, ApiError> {
        let request = v1::FetchRequest { digest: digest.to_string(), offset };
        Ok(flow(ArtifactsClient::new(channel(addr, HOLDER).await?).fetch(request).await?))
    }

    async fn waits(&self, at: &Consensus, to: NodeId, deployment: &DeploymentId) -> Result<v1::WaitsReply, ApiError> {
        let request = v1::WaitsRequest { header: Some(at.peer_header(to)), deployment: deployment.to_string() };
        said(peer(at, to)?.waits(request).await)
    }

    async fn have_blob(&self, at: &Consensus, to: NodeId, digest: &Digest, size: u64) -> Result<(), ApiError> {
        let header = Some(at.peer_header(to));
        let request = v1::HaveBlobRequest { header, digest: digest.to_string(), size };
        said(peer(at, to)?.have_blob(request).await).map(drop)
    }

    async fn tail_logs(
        &self,
        at: &Consensus,
        to: NodeId,
        worker: &WorkerName,
        ask: v1::TailLogs,
    ) -> Result<Flow<v1::LogChunk>, ApiError> {
        let header = Some(at.peer_header(to));
        let request = v1::PeerTailRequest { header, worker: worker.to_string(), tail: Some(ask) };
        Ok(flow(peer(at, to)?.tail_logs(request).await?))
    }
}

fn said<T>(answer: Result<Response<T>, Status>) -> Result<T, ApiError> {
    Ok(answer?.into_inner())
}
