//! A request to start a rollout: what it says, and what the caller should know of it.
//!
//! Invariant: nothing that was asked for is ignored. Not here: what the law refuses (`state/rollout/start_rollout.rs`),
//! what has no room (`engine::preview`).

use super::{ApiError, catalog::known, rollouts::deployment};
use crate::{
    engine::{Strategy, strategy},
    model::{AddressMode, BatchMode, OnNoData, Overrides, RolloutParams, Setting, Spec, StrategyName},
    state::{Deployment, Role, StartRollout, State, rollout_defaults, strategy_of},
    wire::{convert_rollout::overrides, v1},
};

/// A start that was asked for, with what it would be.
pub(super) struct Asked<'a> {
    pub(super) start: StartRollout,
    pub(super) row: &'a Deployment,
    spec: Option<&'a Spec>,
    params: RolloutParams,
    pub(super) strategy: StrategyName,
}

/// What a request asks for.
pub(super) fn read_start<'a>(state: &'a State, ask: &v1::StartRequest) -> Result<Asked<'a>, ApiError> {
    let id = deployment(&ask.deployment)?;
    let row = known(state, &id)?;
    let spec = state.spec(&id, row.spec).map(AsRef::as_ref);
    let overrides = overrides(&ask.settings)?;
    let params = overrides.over(spec.map_or_else(RolloutParams::default, |s| rollout_defaults(state, s)));
    // Each by itself was looked at by whoever asks; laid over the spec's they may not go together.
    params.check("rollout").map_err(|e| ApiError::precondition(e.to_string()))?;
    let version = if ask.version.is_empty() && ask.restart {
        row.arms
            .pair(Role::Stable)
            .map(|pair| pair.version.clone())
            .ok_or_else(|| ApiError::precondition(format!("nothing runs as {id} yet: name a version")))?
    } else {
        ask.version.parse()?
    };
    // A first rollout is direct; what is said of the settings is for the strategy that comes after it.
    let default = state.environments.get(&id.environment).map(|e| e.default_strategy.clone());
    let named = params.strategy.clone().or(default).unwrap_or(StrategyName::ROLLING);
    check_used(strategy(&named).map_err(ApiError::bad)?, spec, &overrides)?;
    let strategy = strategy_of(state, row, &params);
    let expected = (ask.expected > 0).then_some(ask.expected);
    let start =
        StartRollout { deployment: id, version, overrides, restart: ask.restart, replace: ask.replace, expected };
    Ok(Asked { start, row, spec, params, strategy })
}

/// Refuses settings that were asked for and that the strategy does not read: nothing that a person says is ignored.
/// What the spec says may be meant for another strategy; `plan` lists it.
fn check_used(asked: &Strategy, spec: Option<&Spec>, given: &Overrides) -> Result<(), ApiError> {
    let mode = spec.map_or(AddressMode::Pool, |s| s.address);
    let given: Vec<&Setting> = given.said().into_iter().map(|(setting, _)| setting).collect();
    let unused: Vec<String> = unread(asked, mode, &given).map(|s| s.flag()).collect();
    if unused.is_empty() {
        return Ok(());
    }
    let reads: Vec<String> = asked.reads(mode).iter().map(|s| s.flag()).collect();
    Err(ApiError::precondition(format!(
        "{} does not use {} (address: {mode}), only {} of the settings that are not every strategy's: leave it out, or choose \
         another --strategy",
        asked.name,
        unused.join(", "),
        reads.join(", ")
    )))
}

/// Those of the settings that only other strategies read.
fn unread<'a>(
    s: &'a Strategy,
    mode: AddressMode,
    of: &'a [&'static Setting],
) -> impl Iterator<Item = &'static Setting> + 'a {
    let some = Strategy::of_some();
    of.iter().copied().filter(move |x| some.contains(x) && !s.reads(mode).contains(x))
}

impl Asked<'_> {
    /// What the spec says for other strategies than this one.
    pub(super) fn unused(&self) -> Option<String> {
        let (spec, strategy) = (self.spec?, strategy(&self.strategy).ok()?);
        let default = RolloutParams::default();
        let said = spec.said.rollout.over(default.clone()).differs(&default);
        let unused: Vec<String> =
            unread(strategy, spec.address, &said).map(|s| format!("rollout.{}", s.name)).collect();
        (!unused.is_empty())
            .then(|| format!("{} does not use what the spec says of {}", strategy.name, unused.join(", ")))
    }

    /// What the caller should know although nothing is wrong.
    pub(super) fn notes(&self, state: &State) -> Vec<String> {
        let (p, mut said) = (&self.params, Vec::new());
        if p.strategy.as_ref().is_some_and(|asked| asked != &self.strategy) {
            said.push(format!("nothing is stable yet, so this first rollout is {}", self.strategy));
        }
        let bounded = strategy(&self.strategy).is_ok_and(|s| s.bounded);
        let desired = self.row.desired;
        let batch = p.batch(BatchMode::Replace, desired);
        if bounded && batch < p.parallelism.of_rounded_up(desired) {
            said.push(format!(
                "a batch is {batch}, less than the parallelism of {}: max_surge {} + max_unavailable {} bound it",
                p.parallelism, p.max_surge, p.max_unavailable
            ));
        }
        let environment = state.environments.get(&self.start.deployment.environment);
        if let (Some(e), None, true) = (environment, p.on_no_data, self.spec.is_some_and(|s| s.metrics.is_some()))
            && e.on_no_data == OnNoData::Pass
        {
            said.push(format!(
                "without enough requests it is promoted unjudged, as on_no_data is pass in {}: set rollout.on_no_data to hold or fail",
                e.name
            ));
        }
        said
    }
}
