//! `DeploymentStopped`: everything of a deployment drains and stops, and stays so until somebody starts it.
//!
//! Invariants: its arms, their weights and its route stay as they are, so that a start finds them; nothing of what is
//! stopped is wanted, and no rollout or switch is under way on it. The addresses that it frees stay its own
//! (`fleet::alloc`). Not here: going on with the drains (`fleet`), bringing it back (`deployment_started`).

use crate::state::{base::prelude::*, fleet::drain, traffic::switches};

fields! {
    /// Stops a deployment.
    #[derive(Debug, Clone, PartialEq)]
    pub struct DeploymentStopped {
        1 [required] pub deployment: DeploymentId,
    }
}

impl Apply for DeploymentStopped {
    fn steers(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let id = &self.deployment;
        let mut d = cx.lasting(id)?;
        if let Some(rollout) = d.live {
            return Err(Rejection::Busy { rollout });
        }
        switches::not_switching(cx, id)?;
        if d.is_stopped() {
            return Ok(());
        }
        if d.arms.get(Role::Stable).is_none() {
            return Err(Rejection::Precondition(format!(
                "no version of {id} serves, so there is nothing to stop; `slipway deployment remove {id} --stop` removes it"
            )));
        }
        // Where a start was not over yet, what it had not taken up stays kept.
        let index = d.stop.as_ref().map_or(cx.at.index, |s| s.index);
        let (since, wall, by) = (cx.now(), cx.s.wall, cx.principal.to_string());
        d.stop = Some(Stop { index, since, wall, by, starting: false });
        cx.put_deployment(d);
        drain::begin_all(cx, id);
        let what = "is being stopped: it leaves DNS, drains and stops".into();
        cx.emit(EventBody::DeploymentChanged { deployment: id.clone(), what });
        Ok(())
    }
}
