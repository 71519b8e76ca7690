//! The last plan's reasons for waiting, for `rollout explain`.

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
    /// Reasons by deployment.
    pub waits: BTreeMap<DeploymentId, Vec<Wait>>,
    /// Why nothing is planned for any of them.
    pub stopped: Option<String>,
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
