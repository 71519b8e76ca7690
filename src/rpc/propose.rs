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
    state::{Applied, Command, Fence, Rejection, State},
    wire::v1,
};

/// Limit of a whole proposal, forwarding included.
const TOTAL: Duration = Duration::from_secs(3);
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
    /// Whether an operator's request has a first result already, so that what this node would say of it now does not matter.
    pub(super) fn known_request(&self, state: &State, meta: Option<&v1::RequestMeta>) -> bool {
        let id = meta.and_then(|m| RequestId::new(&m.request_id).ok());
        id.is_some_and(|id| state.requests.contains_key(&(Principal::local_operator(), id)))
    }

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
        let consensus = self.trusted()?;
        let submit = |command| consensus.submit(principal.clone(), Some(fence.clone()), command);
        let mut outcome = submit(command.clone()).await;
        if let Err(ProposeError::NotLeader { leader: Some(_) }) = &outcome {
            // Leadership has just moved, and it is known where to.
            outcome = submit(command).await;
        }
        match outcome {
            Ok(applied) => {
                let done = |a: Applied| Done { index: a.index, now: applied.now, repeated: a.repeated };
                Ok(applied.result.map(done))
            }
            Err(ProposeError::NotLeader { .. }) => Err(error::no_leader()),
            Err(other) => Err(unproposed(&other)),
        }
    }
}
