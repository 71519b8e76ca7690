//! Which strategy fits a deployment now: each with why, with what it would need before it could start, and with how
//! going back would go.
//!
//! Invariants: what is said to be able to start is what the law and the compilers take; each strategy says in its own
//! file when it fits. Not here: choosing one (`state::strategy_of` takes what flags, spec or environment name).

use super::prelude::*;
use super::preview::preview;
use super::rollback_estimate::{RollbackEstimate, planned_rollback_estimate};
use super::strategy::{STRATEGIES, Strategy};

/// What a strategy is told of the deployment when it says how well it fits.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// Nothing is stable yet.
    pub first: bool,
    /// Silence is no health here (`on_no_data` of the environment is no `pass`): people depend on it.
    pub depended_on: bool,
    /// Instances that the spec asks for on the workers that are ready now.
    pub instances: u32,
    /// Whether requests and errors are counted.
    pub counted: bool,
    /// Whether the spec names a smoke test.
    pub smoke: bool,
}

/// How well a strategy fits: 0 (a bad choice) to 10, and why.
pub struct Fit(pub u32, pub &'static str);

/// So many more for the one that the environment names.
const NAMED: u32 = 3;

/// What is said of one strategy.
pub struct Advice {
    pub strategy: &'static Strategy,
    /// Whether it is the one to take now.
    pub best: bool,
    /// Whether it is what the environment names.
    pub named: bool,
    pub why: &'static str,
    /// What stands against a start now; `None`: it could start.
    pub needs: Option<String>,
    /// How going back from it would go; `None`: there is nothing to go back to, or it could not start.
    pub back: Option<RollbackEstimate>,
}

/// What speaks for and against each strategy if `to` were rolled out now, the best first. Errors say what to do first.
pub fn advise(state: &State, by: &Principal, id: &DeploymentId, to: &Version) -> Result<Vec<Advice>, String> {
    let unknown = || format!("deployment {id} does not exist: `slipway apply -f` its spec first");
    let d = state.deployments.get(id).ok_or_else(unknown)?;
    let spec = state.spec(id, d.spec).ok_or_else(unknown)?;
    let environment = state.environments.get(&id.environment);
    let workers = u32::try_from(chosen(state, spec).count()).unwrap_or(u32::MAX);
    let situation = Situation {
        first: d.arms.get(Role::Stable).is_none(),
        depended_on: environment.is_none_or(|e| e.on_no_data != OnNoData::Pass),
        instances: workers.saturating_mul(spec.placement.per_worker),
        counted: spec.metrics.is_some(),
        smoke: rollout_defaults(state, spec).smoke.is_some(),
    };
    let mut all: Vec<(u32, Advice)> = Vec::new();
    for strategy in STRATEGIES {
        let start = StartRollout {
            deployment: id.clone(),
            version: to.clone(),
            overrides: Overrides { strategy: Some(Some(strategy.name.clone())), ..Overrides::default() },
            restart: false,
            replace: false,
            expected: None,
        };
        let named = environment.is_some_and(|e| e.default_strategy == strategy.name);
        let Fit(fits, why) = (strategy.suits)(&situation);
        let needs = preview(state, by, &start).err().map(|e| e.to_string());
        let back = planned_rollback_estimate(state, by, &start).filter(|_| needs.is_none());
        let fits = fits + if named { NAMED } else { 0 };
        all.push((fits, Advice { strategy, best: false, named, why, needs, back }));
    }
    all.sort_by_key(|(fits, a)| (a.needs.is_some(), std::cmp::Reverse(*fits)));
    let mut all: Vec<Advice> = all.into_iter().map(|(_, a)| a).collect();
    // Where none can start, none is the one to take.
    if let Some(first) = all.first_mut() {
        first.best = first.needs.is_none();
    }
    Ok(all)
}
