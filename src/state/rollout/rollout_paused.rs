//! `RolloutPaused`: a policy holds it; the running step failed and may be tried again.

use super::{operator, turn};
use crate::state::{base::prelude::*, fleet::assign};

fields! {
    /// A policy holds the rollout.
    #[derive(Debug, Clone, PartialEq)]
    pub struct RolloutPaused {
        1 [required] pub rollout: RolloutId,
        /// Its revision seen.
        2 pub seen: u64,
        3 [required] pub reason: Reason,
        4 pub evidence: Option<Evidence>,
    }
}

impl Apply for RolloutPaused {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { rollout: id, seen, ref reason, .. } = self;
        let evidence = self.evidence.as_ref();
        let mut r = cx.rollout_seen(id, seen)?;
        if r.is_rollback() {
            return guard(format!("{id} is being rolled back, which no policy holds"));
        }
        turn::fail_running(cx, &mut r, evidence)?;
        r.reason = Some(reason.clone());
        operator::hold(cx, &mut r)?;
        cx.put_rollout(r.clone());
        assign::refresh(cx, &r.deployment);
        Ok(())
    }
}
