//! `EnvironmentRemoved`: a stage without deployments goes; the last one never does.

use super::environments;
use crate::state::base::{names, prelude::*};

fields! {
    /// Removes an environment that has no deployments.
    #[derive(Debug, Clone, PartialEq)]
    pub struct EnvironmentRemoved {
        1 [required] pub name: Name,
    }
}

impl Apply for EnvironmentRemoved {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { name } = self;
        environments::named(cx, name)?;
        // Deployments sort by environment first.
        let first = DeploymentId { environment: name.clone(), service: Name::least() };
        let mine = cx.s.deployments.range(first..).map(|(id, _)| id).take_while(|id| &id.environment == name);
        if let Some(some) = names::some(mine) {
            return Err(Rejection::Precondition(format!(
                "environment {name} has deployments ({some}): `slipway deployment remove` takes each away"
            )));
        }
        if cx.s.environments.len() <= 1 {
            return Err(Rejection::Precondition(format!(
                "{name} is the last environment: `slipway environment create` makes another one first"
            )));
        }
        cx.s.environments.remove(name);
        environments::announce(cx, name, "removed");
        Ok(())
    }
}
