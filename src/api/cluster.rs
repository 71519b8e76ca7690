//! What a node knows of the cluster, and making one. Not here: what happens to members (`membership`, `transfer`).

use std::{collections::BTreeMap, time::Duration};

use super::{Answer, Api, Caller, Reply, membership};
use crate::{
    raft::{Consensus, Member},
    state::{Command, command::CookieAsked},
    wire::{convert, v1},
};

/// A node that has not answered the leader for so long is shown as not reachable.
const SILENT: Duration = Duration::from_secs(3);
/// Longest wait for the leader's part of a status.
const ASK: Duration = Duration::from_millis(500);

impl Api {
    /// Makes a cluster of this node.
    pub async fn init(&self, by: &Caller, ask: v1::InitRequest) -> Reply<v1::InitReply> {
        self.backend.init(&by.principal, ask).await.map(Answer::from)
    }

    /// Joins the cluster that the seed belongs to.
    pub async fn join(&self, _: &Caller, ask: v1::JoinRequest) -> Reply<v1::JoinReply> {
        self.backend.join(ask).await.map(Answer::from)
    }

    /// As this node knows it. The leader is asked for its part, unless another node asks (`hop`).
    pub async fn status(&self, _: &Caller, hop: bool) -> Reply<v1::StatusReply> {
        let mut reply = v1::StatusReply {
            version: env!("CARGO_PKG_VERSION").into(),
            warnings: self.backend.warnings(),
            wall_ms: self.clock.wall_ms(),
            ..v1::StatusReply::default()
        };
        let Some(consensus) = self.consensus.get() else { return Ok(reply.into()) };
        let state = consensus.view();
        let metrics = consensus.metrics();
        let leader = consensus.leader().borrow().clone();
        reply.cluster_id = consensus.cluster().into();
        reply.node_id = consensus.node_id();
        reply.leader_id = leader.leader.as_ref().map_or(0, |l| l.id);
        reply.term = metrics.term;
        reply.applied_index = state.applied.index;
        reply.now_ms = consensus.cluster_now().unwrap_or(state.now).0;
        reply.quorum = consensus.has_quorum().unwrap_or(reply.leader_id != 0 && self.backend.confirmed());
        if let Some(cluster) = &state.cluster {
            reply.name = cluster.name.clone();
            reply.zone = cluster.zone.clone();
            reply.wall_ms = state.wall;
        }
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
        Ok(reply.into())
    }

    /// Asks for another secret of DNS cookies.
    pub async fn rotate_dns_cookie(
        &self,
        by: &Caller,
        ask: v1::RotateDnsCookieRequest,
    ) -> Reply<v1::RotateDnsCookieReply> {
        let done = self.change(by, ask.request.as_ref(), Command::CookieAsked(CookieAsked {})).await?;
        Ok(v1::RotateDnsCookieReply { receipt: done.receipt() }.into())
    }

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
                    reachable: Some(heard),
                    ..v1::Node::default()
                };
                (m.id, known)
            };
            return metrics.members.iter().map(one).collect();
        }
        if hop {
            return BTreeMap::new();
        }
        let ask = async { self.remote.status(&membership::leader(consensus).ok()??).await.ok() };
        let said = tokio::time::timeout(ASK, ask).await.ok().flatten().map(|r| r.nodes);
        said.unwrap_or_default().into_iter().map(|n| (n.node_id, n)).collect()
    }
}
