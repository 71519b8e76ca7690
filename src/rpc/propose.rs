//! Proposing from any node: here when this node leads, else at the leader, with the original principal and request id.
//!
//! Invariants: one request has one id from the first node on, so a retry anywhere takes effect once; the whole is bounded by
//! [`TOTAL`]; after success this node's own State holds the effect, unless it lags behind the cluster.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Status;

use super::{
    Shared,
    error::{self, refusal, unproposed},
};
use crate::{
    model::{Millis, Period, Principal, RequestId},
    raft::{Consensus, ProposeError},
    state::{Command, Fence, Rejection, Stamped, codec},
    wire::v1,
};

/// Limit of a whole proposal, forwarding included.
const TOTAL: Duration = Duration::from_secs(3);
/// How long a node waits for its own State after the leader answered.
const CATCH_UP: Duration = Duration::from_millis(500);
/// `not_after` when the request leaves it to the node.
const DEFAULT_AHEAD: Period = Period::seconds(60);

/// A change that took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) index: u64,
    pub(super) now: Millis,
    pub(super) repeated: bool,
}

impl Done {
    pub(super) fn receipt(self) -> Option<v1::Receipt> {
        Some(v1::Receipt { index: self.index, now_ms: self.now.0, repeated: self.repeated })
    }
}

/// 128 random bits as text.
pub(super) fn fresh_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The fence of a request; an empty id gets a fresh one.
pub(super) fn fence(consensus: &Consensus, meta: Option<&v1::RequestMeta>) -> Result<Fence, Status> {
    let (id, not_after) = meta.map_or(("", 0), |m| (m.request_id.as_str(), m.not_after_ms));
    let id = if id.is_empty() { fresh_id() } else { id.to_string() };
    let now = consensus.cluster_now().unwrap_or_else(|| consensus.view().now);
    let not_after = if not_after == 0 { now.plus(DEFAULT_AHEAD) } else { Millis(not_after) };
    Ok(Fence { id: RequestId::new(&id).map_err(|e| error::invalid(&e))?, not_after })
}

/// What the leader answered: the place, or a refusal.
type Answer = Result<Done, Rejection>;

impl Shared {
    /// An operator's change.
    pub(super) async fn change(&self, meta: Option<&v1::RequestMeta>, command: Command) -> Result<Done, Status> {
        let fence = fence(self.consensus()?, meta)?;
        self.submit(Principal::local_operator(), fence, command).await
    }

    /// A change that this node itself asks for.
    pub async fn node_change(&self, command: Command) -> Result<u64, Status> {
        let consensus = self.consensus()?;
        let fence = fence(consensus, None)?;
        self.submit(Principal::node(consensus.node_id()), fence, command).await.map(|d| d.index)
    }

    async fn submit(&self, principal: Principal, fence: Fence, command: Command) -> Result<Done, Status> {
        let name = command.name();
        self.counts.add("proposal", name);
        let outcome = timeout(TOTAL, self.submit_now(&principal, &fence, command)).await.unwrap_or_else(|_| {
            let text = "the outcome is unknown (no answer in time); retry with the same request id";
            Err(error::status(tonic::Code::Unavailable, "unknown_outcome", text))
        })?;
        outcome.map_err(|r| {
            self.counts.add("rejection", r.code());
            refusal(&r)
        })
    }

    async fn submit_now(&self, principal: &Principal, fence: &Fence, command: Command) -> Result<Answer, Status> {
        let consensus = self.consensus()?;
        let hint = match consensus.propose(principal.clone(), Some(fence.clone()), command.clone()).await {
            Ok(applied) => {
                let done = |a: crate::state::Applied| Done { index: a.index, now: applied.now, repeated: a.repeated };
                return Ok(applied.result.map(done));
            }
            Err(ProposeError::NotLeader { leader }) => leader.ok_or_else(error::no_leader)?.id,
            Err(other) => return Err(unproposed(&other)),
        };
        let mut reply = forward(consensus, hint, principal, fence, &command).await?;
        if reply.not_leader {
            if reply.leader_id == 0 || reply.leader_id == hint || reply.leader_id == consensus.node_id() {
                return Err(error::no_leader());
            }
            reply = forward(consensus, reply.leader_id, principal, fence, &command).await?;
        }
        if reply.not_leader {
            return Err(error::no_leader());
        }
        if !reply.rejection.is_empty() {
            let read = serde_json::from_slice::<Rejection>(&reply.rejection);
            return read.map(Err).map_err(|e| Status::internal(format!("the leader's refusal is not readable: {e}")));
        }
        let receipt = reply.receipt.ok_or_else(|| Status::internal("the leader's answer has no receipt"))?;
        if consensus.wait_applied(receipt.index, CATCH_UP).await.is_err() {
            tracing::debug!(index = receipt.index, "this node lags behind the change that it passed on");
        }
        Ok(Ok(Done { index: receipt.index, now: Millis(receipt.now_ms), repeated: receipt.repeated }))
    }

    /// `Peer.Propose`: on the leader only, never passed on again.
    pub(super) async fn proposed_by_peer(&self, request: v1::ProposeRequest) -> Result<v1::ProposeReply, Status> {
        let consensus = self.consensus()?;
        let principal = Principal::new(&request.principal).map_err(|e| error::invalid(&e))?;
        let fence = fence(consensus, request.request.as_ref())?;
        let stamped = codec::decode_command(&request.command).map_err(|e| error::bad(e.to_string()))?;
        match consensus.propose(principal, Some(fence), stamped.body).await {
            Ok(applied) => match applied.result {
                Ok(a) => {
                    let done = Done { index: a.index, now: applied.now, repeated: a.repeated };
                    Ok(v1::ProposeReply { receipt: done.receipt(), ..v1::ProposeReply::default() })
                }
                Err(r) => {
                    let rejection = serde_json::to_vec(&r).map_err(|e| Status::internal(e.to_string()))?;
                    Ok(v1::ProposeReply { rejection, ..v1::ProposeReply::default() })
                }
            },
            Err(ProposeError::NotLeader { leader }) => {
                let leader_id = leader.map_or(0, |l| l.id);
                Ok(v1::ProposeReply { not_leader: true, leader_id, ..v1::ProposeReply::default() })
            }
            Err(other) => Err(unproposed(&other)),
        }
    }
}

async fn forward(
    consensus: &Consensus,
    leader: u64,
    principal: &Principal,
    fence: &Fence,
    command: &Command,
) -> Result<v1::ProposeReply, Status> {
    let mut client = consensus.peer_client(leader).ok_or_else(error::no_leader)?;
    // The leader stamps it; time and term here are only the form's.
    let form = Stamped {
        at: Millis(0),
        wall: 0,
        term: 0,
        principal: principal.clone(),
        request: Some(fence.clone()),
        body: command.clone(),
    };
    let encoded = codec::encode_command(&form).map_err(|e| Status::internal(e.to_string()))?;
    let request = v1::ProposeRequest {
        header: Some(consensus.peer_header(leader)),
        principal: principal.to_string(),
        request: Some(v1::RequestMeta { request_id: fence.id.to_string(), not_after_ms: fence.not_after.0 }),
        command: encoded,
    };
    match client.propose(request).await {
        Ok(reply) => Ok(reply.into_inner()),
        Err(status) if status.code() == tonic::Code::Unavailable && status.metadata().get(error::REASON).is_none() => {
            tracing::debug!(leader, %status, "the leader does not answer");
            Err(error::no_leader())
        }
        Err(status) => Err(status),
    }
}
