//! Which deployment a command is about, read from the field that says so.
//!
//! A line of `commands!` names the field (`of rollout`); what can stand there says here which deployment that is. Not
//! here: what is made of it, which is that one stuck deployment hinders no other one (`lead`).

use super::prelude::*;

/// What names a deployment.
pub(in crate::state) trait About {
    /// The deployment; `None` when it is not known.
    fn deployment(&self, s: &State) -> Option<DeploymentId>;
}

impl About for DeploymentId {
    fn deployment(&self, _: &State) -> Option<DeploymentId> {
        Some(self.clone())
    }
}

impl About for Spec {
    fn deployment(&self, _: &State) -> Option<DeploymentId> {
        Some(self.deployment.clone())
    }
}

impl About for RolloutId {
    fn deployment(&self, s: &State) -> Option<DeploymentId> {
        s.rollouts.get(self).map(|r| r.deployment.clone())
    }
}

impl About for StepRef {
    fn deployment(&self, s: &State) -> Option<DeploymentId> {
        self.rollout.deployment(s)
    }
}
