//! The `Cluster` service.

use crate::state::command::CookieAsked;
use std::collections::BTreeMap;

use tonic::{Request, Response, Status, async_trait};

use super::{Shared, membership};
use crate::{
    raft::{Consensus, Member},
    state::Command,
    wire::{convert, v1},
};

/// Marks a status asked by another node, which is not passed on again.
const HOP: &str = "slipway-hop";
/// A node that has not answered the leader for so long is shown as not reachable.
const SILENT: std::time::Duration = std::time::Duration::from_secs(3);
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
        reply.quorum = consensus.has_quorum().unwrap_or(reply.leader_id != 0 && self.backend.confirmed());
        if let Some(cluster) = &state.cluster {
            reply.name = cluster.name.clone();
            reply.zone = cluster.zone.clone();
            reply.wall_ms = state.wall;
        }
        let hop = request.metadata().contains_key(HOP);
        let heard = self.heard(consensus, hop).await;
        reply.level = state.level;
        reply.dns_cookie_index = state.cookies.index;
        reply.packages = Some(convert::packages(&state));
        reply.nodes = state
            .nodes
            .values()
            .map(|n| {
                let known = heard.get(&n.id).cloned().unwrap_or_default();
                v1::Node {
                    matched: known.matched,
                    lag: known.lag,
                    reachable: known.reachable,
                    ..convert::node(n, n.id == reply.leader_id, known.served_index)
                }
            })
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
        self.transfer_now(request.into_inner()).await.map(Response::new)
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveReply>, Status> {
        self.leave_now(request.into_inner()).await.map(Response::new)
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<v1::DrainReply>, Status> {
        self.drain_now(request.into_inner()).await.map(Response::new)
    }

    async fn finalize(&self, request: Request<v1::FinalizeRequest>) -> Result<Response<v1::FinalizeReply>, Status> {
        self.finalize_now(&request.into_inner()).await.map(Response::new)
    }

    async fn rotate_dns_cookie(
        &self,
        request: Request<v1::RotateDnsCookieRequest>,
    ) -> Result<Response<v1::RotateDnsCookieReply>, Status> {
        let done = self.change(request.into_inner().request.as_ref(), Command::CookieAsked(CookieAsked {})).await?;
        Ok(Response::new(v1::RotateDnsCookieReply { receipt: done.receipt() }))
    }
}

impl Shared {
    /// What the leader knows of each node: it hears all and is asked; nothing when it does not answer.
    async fn heard(&self, consensus: &Consensus, hop: bool) -> BTreeMap<u64, v1::Node> {
        let leadership = consensus.leader().borrow().clone();
        if leadership.is_me {
            let served = self.backend.served();
            let metrics = consensus.metrics();
            let last = metrics.last_log.unwrap_or(0);
            let one = |m: &Member| {
                let me = m.id == metrics.node;
                let matched = if me { last } else { m.matched.unwrap_or(0) };
                let heard = me || m.heard.is_some_and(|age| age < SILENT);
                let known = v1::Node {
                    served_index: served.get(&m.id).copied().unwrap_or(0),
                    matched,
                    lag: if matched == 0 { 0 } else { last.saturating_sub(matched) },
                    reachable: if heard { "yes" } else { "no" }.into(),
                    ..v1::Node::default()
                };
                (m.id, known)
            };
            return metrics.members.iter().map(one).collect();
        }
        if hop {
            return BTreeMap::new();
        }
        let ask = async {
            let mut client = membership::leader(consensus).await.ok()??;
            let mut request = Request::new(v1::StatusRequest {});
            request.metadata_mut().insert(HOP, tonic::metadata::MetadataValue::from_static("1"));
            client.status(request).await.ok()
        };
        let said = tokio::time::timeout(ASK, ask).await.ok().flatten().map(|r| r.into_inner().nodes);
        said.unwrap_or_default().into_iter().map(|n| (n.id, n)).collect()
    }
}
