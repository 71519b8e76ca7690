//! What the leader has heard: the second argument of `plan`. Not replicated, empty at term start; it stands here because
//! `observe` fills it and `engine` reads it, and both may import `state`.

use std::collections::BTreeMap;

use crate::{
    model::{DeploymentId, Millis, NodeId, Pair, StepId, WorkerName},
    state::{fleet::rows::WorkerFacts, rollout::rows::PairCounts},
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
    /// Cluster time since when its DNS has served without a break; a server just started may not know what it handed out.
    pub serving_since: Millis,
    /// Cluster time since when it has been heard to answer nobody: it has not caught up, or its State is wrong. `None`: it answers.
    pub unready_since: Option<Millis>,
}

/// Whole-step totals of one worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepCounts {
    /// Totals by pair since the step's mark, also of instances that are gone.
    pub pairs: Vec<PairCounts>,
    /// Pairs whose totals are not known, or not the whole, and why: never read as zero.
    pub unknown: BTreeMap<Pair, String>,
}

impl StepCounts {
    /// Whether the totals of a pair are all that this worker saw of it.
    pub fn knows(&self, pair: &Pair) -> bool {
        !self.unknown.contains_key(pair)
    }
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
