//! Proposing from any node: here when this node leads, else at the leader, with the original principal and request id.
//!
//! Invariants: one request has one id from the first node on, so a retry anywhere takes effect once; the whole is
//! bounded by [`TOTAL`]; after success this node's own State holds the effect, unless it lags behind the cluster.

use std::time::Duration;

use tokio::time::timeout;

use super::{Access, Api, ApiError, Caller, Kind};
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
pub(super) fn fence(consensus: &Consensus, meta: Option<&v1::RequestMeta>) -> Result<Fence, ApiError> {
    let (id, not_after) = meta.map_or(("", 0), |m| (m.request_id.as_str(), m.not_after_ms));
    let id = if id.is_empty() { fresh_id() } else { id.to_string() };
    let now = consensus.cluster_now().unwrap_or_else(|| consensus.view().now);
    let not_after = if not_after == 0 { now.plus(DEFAULT_AHEAD) } else { Millis(not_after) };
    Ok(Fence { id: RequestId::new(&id)?, not_after })
}

/// What the leader answered: the place, or a refusal.
type Outcome = Result<Done, Rejection>;

impl Api {
    /// Whether a caller's request has a first result already, so that what this node would say of it now does not
    /// matter.
    pub(super) fn known_request(&self, by: &Caller, state: &State, meta: Option<&v1::RequestMeta>) -> bool {
        let id = meta.and_then(|m| RequestId::new(&m.request_id).ok());
        id.is_some_and(|id| state.requests.contains_key(&(by.principal.clone(), id)))
    }

    /// A caller's change.
    pub(super) async fn change(
        &self,
        by: &Caller,
        meta: Option<&v1::RequestMeta>,
        command: Command,
    ) -> Result<Done, ApiError> {
        if by.operation.access != Access::Change {
            return Err(ApiError::internal(format!("{} may change nothing", by.operation.name)));
        }
        let fence = fence(self.consensus()?, meta)?;
        self.submit(by.principal.clone(), fence, command).await
    }

    /// A change that this node itself asks for.
    pub async fn node_change(&self, command: Command) -> Result<u64, ApiError> {
        let consensus = self.consensus()?;
        let fence = fence(consensus, None)?;
        self.submit(Principal::node(consensus.node_id()), fence, command).await.map(|d| d.index)
    }

    async fn submit(&self, principal: Principal, fence: Fence, command: Command) -> Result<Done, ApiError> {
        let name = command.name();
        self.counts.add("proposal", name);
        let outcome = timeout(TOTAL, self.submit_now(&principal, &fence, command)).await.unwrap_or_else(|_| {
            let text = "the outcome is unknown (no answer in time); retry with the same request id";
            Err(ApiError::new(Kind::Unavailable, "unknown_outcome", text))
        })?;
        outcome.map_err(|r| {
            self.counts.add("rejection", r.code());
            r.into()
        })
    }

    async fn submit_now(&self, principal: &Principal, fence: &Fence, command: Command) -> Result<Outcome, ApiError> {
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
            Err(unproposed) => Err(unproposed.into()),
        }
    }
}
