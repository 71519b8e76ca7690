//! The committed part of what workers report of themselves.
//!
//! Not here: what it changes (`fleet`), requests and errors, which are never committed (`observed`).

use serde::{Deserialize, Serialize};

use super::Reached;
use crate::model::{DeploymentId, Digest, Health, InstanceId, Life, WorkerName};

/// What a worker's agent says of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceFact {
    /// Which one.
    pub id: InstanceId,
    /// `Starting`, `Running`, `Gone` or `Failed`; the others are State's own and are never reported.
    pub life: Life,
    /// After the agent's hysteresis.
    pub health: Health,
    /// Failed checks in a row.
    pub failures: u32,
    /// Restarts so far.
    pub restarts: u32,
    /// How it ended, if it did.
    pub exit: Option<String>,
}

/// How far a worker's agent got with one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachedFact {
    /// Which deployment.
    pub deployment: DeploymentId,
    /// Which generation.
    pub generation: u64,
    /// How far.
    pub reached: Reached,
}

/// Committed part of one worker's report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerFacts {
    /// Which worker.
    pub worker: WorkerName,
    /// Agent's epoch: one more at each of its starts.
    pub epoch: u64,
    /// Report's number within the epoch.
    pub seq: u64,
    /// Only what differs from State.
    pub instances: Vec<InstanceFact>,
    /// Only what differs from State.
    pub reached: Vec<ReachedFact>,
    /// Digests unpacked on the worker, ascending, when they differ from State.
    pub staged: Option<Vec<Digest>>,
}
