//! `preview`: the steps a rollout would have, for `rollout plan`: the same compilers on a copy of State, nothing is changed.

use super::strategy::{self, Subject};
use crate::model::{Pair, Step, Strategy};
use crate::state::{RolloutPhase, StartRollout, State};

/// The steps that `start` would compile to now, or why it would not run.
pub fn preview(state: &State, start: &StartRollout) -> Result<Vec<Step>, String> {
    let deployment = state
        .deployments
        .get(&start.deployment)
        .ok_or_else(|| format!("deployment {} does not exist: `slipway apply -f` its spec first", start.deployment))?;
    let service = &start.deployment.service;
    let release = state.releases.get(&(service.clone(), start.version.clone())).ok_or_else(|| {
        format!("release {service} {} does not exist: `slipway release push` it first", start.version)
    })?;
    let from = deployment.tracks.stable.as_ref().map(|t| t.pair.clone());
    let environment = state.environments.get(&start.deployment.environment);
    let strategy = match (&from, start.params.strategy) {
        (None, _) => Strategy::Direct,
        (Some(_), Some(strategy)) => strategy,
        (Some(_), None) => environment.map_or(Strategy::Rolling, |e| e.default_strategy),
    };
    start.params.check("rollout").map_err(|e| e.to_string())?;
    let subject = Subject {
        deployment: start.deployment.clone(),
        forward: true,
        from,
        to: Pair { version: start.version.clone(), digest: release.digest.clone(), spec: deployment.spec },
        strategy,
        params: start.params.clone(),
        switched: false,
    };
    strategy::compile(state, &subject, RolloutPhase::Forward).map(|c| c.steps)
}
