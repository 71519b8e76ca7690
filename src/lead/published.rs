//! The last plan's reasons for waiting, which `rollout explain` shows.
//!
//! Invariant: a reason keeps the time since when it has held. Not here: the reasons themselves (`engine`).

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;

use crate::model::{DeploymentId, Millis, Wait};

/// What the planner last said.
#[derive(Debug, Clone, Default)]
pub struct LastPlan {
    /// The term it was made in.
    pub term: u64,
    /// Cluster time of the pass.
    pub now: Millis,
    /// Reasons by deployment, each with the cluster time since when this leader has had to give one of its kind.
    pub waits: BTreeMap<DeploymentId, Vec<(Wait, Millis)>>,
    /// Why nothing is planned for any of them.
    pub stopped: Option<String>,
}

/// The new reasons, those that go on from the last pass with the time since which they do.
pub(super) fn aged(
    last: &LastPlan,
    term: u64,
    now: Millis,
    waits: BTreeMap<DeploymentId, Vec<Wait>>,
) -> BTreeMap<DeploymentId, Vec<(Wait, Millis)>> {
    let kind = std::mem::discriminant::<Wait>;
    let age = |id: &DeploymentId, wait: &Wait| {
        let old = last.waits.get(id).filter(|_| last.term == term)?;
        old.iter().find(|(w, _)| kind(w) == kind(wait)).map(|(_, since)| *since)
    };
    let aged = |(id, all): (DeploymentId, Vec<Wait>)| {
        let all = all.into_iter().map(|w| (age(&id, &w).unwrap_or(now), w)).map(|(since, w)| (w, since)).collect();
        (id, all)
    };
    waits.into_iter().map(aged).collect()
}

/// Where the leader's loop puts it and others read it.
#[derive(Debug, Clone, Default)]
pub struct PlanBoard(Arc<ArcSwap<LastPlan>>);

impl PlanBoard {
    pub(super) fn publish(&self, plan: LastPlan) {
        self.0.store(Arc::new(plan));
    }

    /// The newest.
    pub fn last(&self) -> Arc<LastPlan> {
        self.0.load_full()
    }
}
