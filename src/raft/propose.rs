//! Proposing commands on the leader: stamp, append in that very term, wait for the result.
//!
//! Invariants: a proposal is stamped only with the anchor of the term it is appended in (openraft refuses it otherwise); "not
//! proposed" and "outcome unknown" are never confused; nothing waits for longer than the call's limit; what openraft did not append
//! because the leader's lease had run out is proposed again once a majority has answered.
//!
//! Deliberately not here: retries, which are the caller's, under the same request id.

use std::sync::atomic::{AtomicBool, Ordering};

use openraft::{
    errors::{ClientWriteError, ForwardReason, ForwardToLeader},
    impls::ProgressResponder,
};
use tokio::time::timeout;

use super::{
    Consensus, PeerAddress, ProposeError,
    leadership::Anchor,
    meters::seconds,
    types::{Sealed, TypeConfig},
};
use crate::{
    model::{Millis, Principal},
    state::{self, Command, Fence, Rejection, Stamped, codec::CodecError},
};

/// A committed and applied proposal.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Its log index.
    pub index: u64,
    /// Cluster time after it.
    pub now: Millis,
    /// What `apply` said: the entry that took effect (an earlier one for a repeat) and its events, or why the command was refused.
    pub result: Result<state::Applied, Rejection>,
}

impl Consensus {
    /// Stamps the command, commits it and returns what `apply` answered. On the leader only; waits for the term's time anchor if the
    /// term has just begun. The published view contains its effect when this returns.
    pub async fn propose(
        &self,
        principal: Principal,
        request: Option<Fence>,
        body: Command,
    ) -> Result<Applied, ProposeError> {
        let limit = self.config().call_timeout;
        let handed_over = AtomicBool::new(false);
        match timeout(limit, self.propose_now(principal, request, body, &handed_over)).await {
            Ok(result) => result,
            Err(_) if handed_over.load(Ordering::Acquire) => {
                Err(ProposeError::Unknown { reason: format!("no majority confirmed it within {limit:?}") })
            }
            // Elected, but the term's first entry does not commit.
            Err(_) => Err(ProposeError::NoQuorum),
        }
    }

    async fn propose_now(
        &self,
        principal: Principal,
        request: Option<Fence>,
        body: Command,
        handed_over: &AtomicBool,
    ) -> Result<Applied, ProposeError> {
        if self.lacks_quorum().await {
            return Err(ProposeError::NoQuorum);
        }
        if let Some(reason) = self.refusing() {
            return Err(ProposeError::Refusing { reason });
        }
        let mut stamped = Stamped { at: Millis(0), wall: 0, term: 0, principal, request, body };
        loop {
            let anchor = self.wait_for_anchor().await?;
            let state = self.view();
            if stamped.body.level() > state.level.max(1) {
                // A node of an older build could not even read it, so it must not get into the log.
                let result = Err(state::too_new(stamped.body.name(), stamped.body.level(), state.level));
                return Ok(Applied { index: state.applied.index, now: state.now, result });
            }
            let clock = self.clock();
            (stamped.at, stamped.wall, stamped.term) = (anchor.time(clock.mono()), clock.wall_ms(), anchor.term);
            let sealed = Sealed(self.bounded(state::codec::encode_command(&stamped))?.into());
            let (responder, done) = ProgressResponder::complete_only();
            handed_over.store(true, Ordering::Release);
            let began = clock.micros();
            let write = self.raft().write(sealed).with_leader(anchor.term).responder(responder);
            write.await.map_err(|e| ProposeError::Stopped { reason: e.to_string() })?;
            // The other end goes away with a stopped Raft only.
            match done.await.map_err(|_| ProposeError::Unknown { reason: "consensus stopped on this node".into() })? {
                Ok(written) => {
                    self.meters().commit.observe(seconds(clock.micros().saturating_sub(began)));
                    let index = written.log_id.index;
                    // A command always has a result; only blank and membership entries have none.
                    let unchanged = state::Applied { index, events: Vec::new(), repeated: false };
                    let result = written.data.result.unwrap_or(Ok(unchanged));
                    return Ok(Applied { index, now: written.data.now, result });
                }
                Err(ClientWriteError::ForwardToLeader(forward)) => match forward.reason {
                    // It was not appended. Mostly everyone stood still for a moment, and the answers are on their way.
                    ForwardReason::LeaseExpired => {
                        handed_over.store(false, Ordering::Release);
                        if !self.lease_returns().await {
                            return Err(ProposeError::NoQuorum);
                        }
                    }
                    ForwardReason::NotLeader | ForwardReason::LeadershipTransfer => {
                        return Err(ProposeError::NotLeader { leader: self.named_leader(&forward) });
                    }
                },
                Err(ClientWriteError::LogEntryDiscarded(_)) => {
                    return Err(ProposeError::Unknown { reason: "the leader changed".into() });
                }
                Err(ClientWriteError::ChangeMembershipError(e)) => {
                    return Err(ProposeError::Unknown { reason: e.to_string() });
                }
                Err(ClientWriteError::PreconditionFailed(e)) => {
                    return Err(ProposeError::Unknown { reason: e.to_string() });
                }
            }
        }
    }

    /// A command's bytes, unless they are too many.
    pub(super) fn bounded(&self, encoded: Result<Vec<u8>, CodecError>) -> Result<Vec<u8>, ProposeError> {
        let encoded = encoded.map_err(|e| ProposeError::Encoding { reason: e.to_string() })?;
        let (size, limit) = (encoded.len(), self.config().max_command);
        if size > limit { Err(ProposeError::TooLarge { size, limit }) } else { Ok(encoded) }
    }

    async fn wait_for_anchor(&self) -> Result<Anchor, ProposeError> {
        let (mut anchors, mut leadership) = (self.anchor(), self.leader());
        loop {
            if let Some(reason) = &*self.failure().borrow() {
                return Err(ProposeError::Stopped { reason: reason.clone() });
            }
            if let Some(anchor) = *anchors.borrow_and_update() {
                return Ok(anchor);
            }
            if !leadership.borrow_and_update().is_me {
                return Err(ProposeError::NotLeader { leader: self.other_leader() });
            }
            let changed = async {
                tokio::select! {
                    seen = anchors.changed() => seen,
                    seen = leadership.changed() => seen,
                }
            };
            if changed.await.is_err() {
                return Err(ProposeError::Stopped { reason: "it was shut down".into() });
            }
        }
    }

    pub(super) fn named_leader(&self, forward: &ForwardToLeader<TypeConfig>) -> Option<PeerAddress> {
        let named = forward.leader_id.zip(forward.leader_node.as_ref());
        named.map(|(id, node)| PeerAddress { id, addr: node.addr.clone() }).filter(|leader| leader.id != self.node_id())
    }
}
