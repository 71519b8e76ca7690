//! What the leader has heard: the second argument of `plan`. Not replicated, empty at term start; it stands here
//! because `observe` fills it and `engine` reads it, and both may import `state`.

use std::collections::BTreeMap;

use crate::{
    model::{DeploymentId, MetricName, Millis, NodeId, Pair, Samples, StepId, WorkerName},
    state::fleet::rows::WorkerFacts,
    traffic::lease::Left,
};

/// Unknown, silent and known differ; the planner never reads silence as healthy or as dead.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Seen<T> {
    /// Nothing heard in this term.
    #[default]
    Unknown,
    /// Heard once, or not within the grace of a new term.
    Silent {
        /// Cluster time of the last word, or of the term's start.
        since: Millis,
    },
    /// Heard.
    Known {
        /// Cluster time of the word.
        at: Millis,
        /// What was said.
        value: T,
    },
}

impl<T> Seen<T> {
    /// The value, if known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known { value, .. } => Some(value),
            Self::Unknown | Self::Silent { .. } => None,
        }
    }
}

/// What a node's DNS said of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// Index its DNS view serves: applied and swapped.
    pub served_index: u64,
    /// Largest TTL handed out per deployment within the last TTL's time, milliseconds. Absent: nothing handed out.
    pub ttls: BTreeMap<DeploymentId, u64>,
    /// Cluster time since when its DNS has served without a break; a server just started may not know what it handed
    /// out.
    pub serving_since: Millis,
    /// Cluster time since when it has been heard to answer nobody: it has not caught up, or its State is wrong. `None`:
    /// it answers.
    pub unready_since: Option<Millis>,
}

/// Whole-step totals of one worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepCounts {
    /// Totals by pair since the step's mark, also of instances that are gone.
    pub pairs: BTreeMap<Pair, Samples>,
    /// Metrics whose totals are not known, or not the whole, and why: never read as zero.
    pub unknown: BTreeMap<Pair, BTreeMap<MetricName, String>>,
}

impl StepCounts {
    /// Why a metric's total is not all that this worker saw of a pair; `None` when it is.
    pub fn why_unknown(&self, pair: &Pair, metric: &MetricName) -> Option<&str> {
        self.unknown.get(pair)?.get(metric).map(String::as_str)
    }
}

/// A worker's report, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// What is committed of it where it differs.
    pub facts: WorkerFacts,
    /// What it counts for running steps.
    pub counts: Vec<(DeploymentId, StepId, StepCounts)>,
}

/// Everything the leader has heard in its term.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observations {
    /// Cluster time of the term's anchor.
    pub leader_since: Millis,
    /// Newest report of each worker, whole; `facts` compares it with State.
    pub workers: BTreeMap<WorkerName, Seen<WorkerFacts>>,
    /// Counts of running steps.
    pub counts: BTreeMap<(DeploymentId, StepId), BTreeMap<WorkerName, StepCounts>>,
    /// DNS views by node.
    pub nodes: BTreeMap<NodeId, Seen<NodeSeen>>,
    /// How long servers may still hold leases; `None` when this leader keeps no book of them.
    pub leases: Option<Left>,
}
