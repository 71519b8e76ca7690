//! What operations need of the node behind them, and of other nodes: two traits, which `node` and `rpc` implement.
//!
//! Not here: Raft's own calls between nodes (`raft`).

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::ApiError;
use crate::{
    model::{DeploymentId, Digest, Millis, NodeId, Principal, WHOLE, WorkerName},
    raft::Consensus,
    wire::v1,
};

/// Messages as they come, until the first error.
pub type Flow<T> = BoxStream<'static, Result<T, ApiError>>;

/// What this node's DNS has really answered of a deployment lately, and what its instances have counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Realised {
    /// Answers by role and version, and their share in basis points.
    pub answers: BTreeMap<(String, String), (u64, Option<u32>)>,
    /// Requests of a version.
    pub requests: BTreeMap<String, u64>,
    pub clients: u32,
    pub largest_client_bp: u32,
    pub spread_bp: u32,
}

impl Realised {
    /// A route with what came of it.
    pub(super) fn beside(&self, reply: v1::GetRouteReply) -> v1::GetRouteReply {
        let all: u64 = self.requests.values().fold(0, |sum, n| sum.saturating_add(*n));
        let share = |s: v1::VersionShare| {
            let answers = self.answers.get(&(s.role.clone(), s.version.clone())).copied();
            let (answer_count, answered_bp) = answers.unwrap_or((s.answer_count, s.answered_bp));
            let request_count = self.requests.get(&s.version).copied();
            let bp = request_count.and_then(|n| n.saturating_mul(u64::from(WHOLE.0)).checked_div(all));
            let requested_bp = bp.and_then(|bp| u32::try_from(bp).ok());
            v1::VersionShare { answer_count, answered_bp, request_count, requested_bp, ..s }
        };
        v1::GetRouteReply {
            shares: reply.shares.into_iter().map(share).collect(),
            clients: self.clients,
            largest_client_bp: self.largest_client_bp,
            spread_bp: self.spread_bp,
            ..reply
        }
    }
}

/// The node behind the operations.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Makes a cluster of this node.
    async fn init(&self, by: &Principal, request: v1::InitRequest) -> Result<v1::InitReply, ApiError>;
    /// Joins the cluster that the seed belongs to.
    async fn join(&self, request: v1::JoinRequest) -> Result<v1::JoinReply, ApiError>;
    /// Takes a relayed word; refused when this node does not lead in its term.
    fn relayed(&self, from: NodeId, item: &v1::RelayItem) -> Result<(), ApiError>;
    /// Takes in what another node knows of panics of leaders' loops.
    fn panicked(&self, panics: &[v1::PlannerPanic]);
    /// Grants a serving lease; refused when this node does not lead.
    async fn renew(&self, from: NodeId, request: v1::RenewRequest) -> Result<v1::RenewReply, ApiError>;
    /// The node that holds a worker's session, as the leader knows.
    fn holder(&self, worker: &WorkerName) -> Option<NodeId>;
    /// The planner's last reasons for waiting, their time and term.
    fn waits(&self, deployment: &DeploymentId) -> (Vec<String>, Millis, u64);
    /// What each node's DNS was last heard to serve.
    fn served(&self) -> BTreeMap<NodeId, u64>;
    /// Whether a majority of the nodes confirmed a read of this node lately.
    fn confirmed(&self) -> bool;
    /// What this node's DNS really answered; `None` before it has.
    fn realised(&self, id: &DeploymentId) -> Option<Realised>;
    /// What is worth knowing about the DNS clients of a deployment before its weights move in these steps (basis
    /// points).
    fn coarse(&self, id: &DeploymentId, weights: &[u32]) -> Vec<String>;
    /// What this node's DNS would answer about a name, and why.
    fn trace(&self, request: &v1::TraceRequest) -> Result<v1::TraceReply, ApiError>;
    /// Standing warnings, such as listeners that are open to others.
    fn warnings(&self) -> Vec<String>;
}

/// What is asked of other nodes. Addresses are those of their listeners for clients; the other calls name nodes.
#[async_trait]
pub trait Remote: Send + Sync + 'static {
    /// What the leader knows of the nodes.
    async fn status(&self, addr: &str) -> Result<v1::StatusReply, ApiError>;
    /// The leader takes this on.
    async fn leave(&self, addr: &str, request: v1::LeaveRequest) -> Result<v1::LeaveReply, ApiError>;
    /// The leader takes this on.
    async fn transfer_leader(
        &self,
        addr: &str,
        request: v1::TransferLeaderRequest,
    ) -> Result<v1::TransferLeaderReply, ApiError>;
    /// A package's bytes from an offset on.
    async fn fetch(&self, addr: &str, digest: &Digest, offset: u64) -> Result<Flow<v1::FetchChunk>, ApiError>;
    /// The leader's reasons for waiting.
    async fn waits(&self, at: &Consensus, to: NodeId, deployment: &DeploymentId) -> Result<v1::WaitsReply, ApiError>;
    /// Says that this node has a package; the answer comes when the other one has it too.
    async fn have_blob(&self, at: &Consensus, to: NodeId, digest: &Digest, size: u64) -> Result<(), ApiError>;
    /// Lines of an instance whose worker's session the other node holds, or finds.
    async fn tail_logs(
        &self,
        at: &Consensus,
        to: NodeId,
        worker: &WorkerName,
        ask: v1::TailLogs,
    ) -> Result<Flow<v1::LogChunk>, ApiError>;
}
