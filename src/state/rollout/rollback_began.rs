//! `RollbackBegan`: a verdict turns the rollout back; it fails the step and moves the traffic in one entry.

use super::turn;
use crate::state::base::prelude::*;

fields! {
    /// A verdict turned the rollout back: fails the step and moves the traffic in one entry.
    #[derive(Debug, Clone, PartialEq)]
    pub struct RollbackBegan {
        1 [required] pub rollout: RolloutId,
        /// Its revision seen.
        2 pub seen: u64,
        3 [required] pub reason: Reason,
        4 pub evidence: Option<Evidence>,
    }
}

impl Apply for RollbackBegan {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { rollout: id, seen, ref reason, .. } = self;
        let evidence = self.evidence.as_ref();
        let mut r = cx.rollout_seen(id, seen)?;
        if r.is_rollback() {
            return guard(format!("{id} is being rolled back already"));
        }
        turn::fail_running(cx, &mut r, evidence)?;
        turn::turn_back(cx, r, reason.clone())
    }
}
