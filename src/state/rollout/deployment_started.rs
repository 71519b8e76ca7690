//! `DeploymentStarted`: a stopped deployment comes back with the versions and weights that it had.
//!
//! What still drains goes on serving. The rest is the keeper's (`arm_adjusted`): it adds instances as it replaces what
//! failed, and DNS names each once it passes its checks. Not here: when the start is over, which `arm_adjusted` says.

use crate::state::{base::prelude::*, fleet::drain};

fields! {
    /// Starts a deployment that was stopped.
    #[derive(Debug, Clone, PartialEq)]
    pub struct DeploymentStarted {
        1 [required] pub deployment: DeploymentId,
    }
}

impl Apply for DeploymentStarted {
    fn steers(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let id = &self.deployment;
        let mut d = cx.lasting(id)?;
        let Some(stop) = d.stop.take_if(|s| !s.starting) else {
            if d.live.is_none() && d.arms.get(Role::Stable).is_none() {
                return Err(Rejection::Precondition(format!(
                    "no version of {id} was rolled out: `slipway rollout start {id} --to VERSION` starts the first"
                )));
            }
            return Ok(());
        };
        d.stop = Some(Stop { starting: true, ..stop });
        let back: Vec<Pair> = d.arms.iter().filter(|a| d.holds(a, cx.now())).map(|a| a.pair.clone()).collect();
        cx.put_deployment(d);
        for pair in back {
            drain::revive(cx, id, &pair);
        }
        let what = "is being started: it comes back with the versions and weights that it had".into();
        cx.emit(EventBody::DeploymentChanged { deployment: id.clone(), what });
        Ok(())
    }
}
