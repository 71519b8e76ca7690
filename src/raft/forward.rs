//! Proposing from any node: the leader proposes, the others pass the command on to it.
//!
//! Invariants: principal and request id travel with the command, so a retry through another node is the same request; a transport
//! failure after sending is an unknown outcome, never a refusal; when this node has the answer, its own view contains the effect
//! (within the call's limit).
//!
//! Deliberately not here: retrying, who may ask, and refusals as gRPC statuses (`rpc`).

use tokio::time::timeout;
use tonic::Code;

use super::{Applied, Consensus, PeerAddress, PeerError, ProposeError};
use crate::{
    model::{Millis, Principal, RequestId},
    state::{self, Command, Fence, codec, command::DigestProbe},
    wire::v1::{ProposeReply, ProposeRequest, Receipt, RequestMeta},
};

impl Consensus {
    /// [`Consensus::propose`] if this node leads, otherwise through the leader. With no leader known, or a silent one, it says so at once. The answer
    /// of another node carries no events.
    pub async fn submit(
        &self,
        principal: Principal,
        request: Option<Fence>,
        body: Command,
    ) -> Result<Applied, ProposeError> {
        if self.leader().borrow().is_me {
            return self.propose(principal, request, body).await;
        }
        let Some(leader) = self.leader_at_hand() else { return Err(ProposeError::NotLeader { leader: None }) };
        let applied = self.pass_on(&leader, principal, request, body).await?;
        if let Err(lag) = self.wait_applied(applied.index, self.config().call_timeout).await {
            tracing::warn!(%lag, "a forwarded command took effect, but this node's view does not show it yet");
        }
        Ok(applied)
    }

    async fn pass_on(
        &self,
        leader: &PeerAddress,
        principal: Principal,
        request: Option<Fence>,
        body: Command,
    ) -> Result<Applied, ProposeError> {
        let nobody = || ProposeError::NotLeader { leader: Some(leader.clone()) };
        let mut client = self.peer_client(leader.id).ok_or_else(nobody)?;
        let meta = request.as_ref().map(|f| RequestMeta { request_id: f.id.to_string(), not_after_ms: f.not_after.0 });
        let command = self.bounded(codec::encode_body(&body))?;
        let header = Some(self.peer_header(leader.id));
        let sent = client.propose(ProposeRequest { header, principal: principal.to_string(), request: meta, command });
        // The leader keeps its own limit; a little more here lets its answer arrive.
        let limit = self.config().call_timeout.saturating_add(self.config().timing.rpc);
        let reply = match timeout(limit, sent).await {
            Ok(Ok(reply)) => reply.into_inner(),
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => return Err(ProposeError::NoQuorum),
            Ok(Err(status)) if status.code() == Code::ResourceExhausted => {
                return Err(ProposeError::Refusing { reason: status.message().into() });
            }
            // Nobody listens there: the command was not sent, and who leads now is not known.
            Ok(Err(status)) if never_sent(&status) => return Err(ProposeError::NotLeader { leader: None }),
            Ok(Err(status)) => {
                return Err(ProposeError::Unknown {
                    reason: format!("the leader's answer is lost: {}", status.message()),
                });
            }
            Err(_) => {
                return Err(ProposeError::Unknown { reason: format!("the leader did not answer within {limit:?}") });
            }
        };
        if reply.not_leader {
            return Err(ProposeError::NotLeader { leader: self.address(reply.leader_id) });
        }
        let Some(receipt) = reply.receipt else {
            return Err(ProposeError::Unknown { reason: "the leader's answer has no receipt".into() });
        };
        let result = if reply.rejection.is_empty() {
            Ok(state::Applied { index: receipt.index, events: Vec::new(), repeated: receipt.repeated })
        } else {
            let refusal = codec::decode_refusal(&reply.rejection);
            Err(refusal.map_err(|e| ProposeError::Unknown { reason: format!("unreadable refusal: {e}") })?)
        };
        Ok(Applied { index: receipt.index, now: Millis(receipt.now_ms), result })
    }

    /// `Peer.Propose`: a command passed on by another node.
    pub async fn handle_propose(&self, message: ProposeRequest) -> Result<ProposeReply, PeerError> {
        self.check_peer(message.header.as_ref())?;
        let malformed = |e: &dyn std::error::Error| PeerError::Malformed { reason: e.to_string() };
        let principal = Principal::new(&message.principal).map_err(|e| malformed(&e))?;
        let request = message
            .request
            .filter(|r| !r.request_id.is_empty())
            .map(|r| Ok(Fence { id: RequestId::new(&r.request_id)?, not_after: Millis(r.not_after_ms) }))
            .transpose()
            .map_err(|e: crate::model::ModelError| malformed(&e))?;
        let body = codec::decode_body(&message.command).map_err(|e| malformed(&e))?;
        // Only the digests of others may pass a leader that differs: they are what judges it.
        if self.diverged().is_some()
            && !matches!(body, Command::DigestReported(_) | Command::DigestProbe(DigestProbe {}))
        {
            return Err(PeerError::NoQuorum);
        }
        match self.propose(principal, request, body).await {
            Ok(applied) => {
                let (index, repeated) =
                    applied.result.as_ref().map_or((applied.index, false), |a| (a.index, a.repeated));
                let rejection = match &applied.result {
                    Ok(_) => Vec::new(),
                    Err(refused) => codec::encode_refusal(refused).map_err(|e| malformed(&e))?,
                };
                let receipt = Some(Receipt { index, now_ms: applied.now.0, repeated });
                Ok(ProposeReply { receipt, rejection, not_leader: false, leader_id: 0 })
            }
            Err(ProposeError::NotLeader { leader }) => {
                let leader_id = leader.map_or(0, |at| at.id);
                Ok(ProposeReply { receipt: None, rejection: Vec::new(), not_leader: true, leader_id })
            }
            Err(ProposeError::NoQuorum) => Err(PeerError::NoQuorum),
            Err(ProposeError::Refusing { reason }) => Err(PeerError::Refusing { reason }),
            Err(refused @ (ProposeError::TooLarge { .. } | ProposeError::Encoding { .. })) => {
                Err(PeerError::Malformed { reason: refused.to_string() })
            }
            Err(failed @ (ProposeError::Unknown { .. } | ProposeError::Stopped { .. })) => {
                Err(PeerError::Failed { reason: failed.to_string() })
            }
        }
    }
}

/// Whether the connection itself was refused, so that the call cannot have reached anyone.
fn never_sent(status: &tonic::Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        cause = e.source();
    }
    false
}
