//! `Collected`: every deployment forgets what is beyond retention.

use super::collect;
use crate::state::base::prelude::*;

fields! {
    /// Forgets terminal rollouts, unnamed specs and ended instances beyond retention.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Collected {
        /// The incarnation seen.
        1 pub incarnation: u64,
    }
}

impl Apply for Collected {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { incarnation } = self;
        if incarnation != cx.s.incarnation {
            return guard(format!("incarnation {incarnation} is over"));
        }
        let ids: Vec<DeploymentId> = cx.s.deployments.keys().cloned().collect();
        for id in ids {
            collect::deployment(cx, &id);
        }
        Ok(())
    }
}
