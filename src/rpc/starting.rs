//! A request to start a rollout: read over what the spec and the environment say, and what the caller should know of it.
//!
//! Invariant: nothing that was asked for is ignored. Not here: what the law refuses (`state::start`).

use tonic::{Code, Status};

use super::{catalog::known, error, rollouts::deployment};
use crate::{
    model::{AddressMode, DeploymentId, OnNoData, RolloutParams, Setting, Strategy},
    state::{Deployment, StartRollout, State},
    wire::{
        convert_rollout::{given, params_over},
        v1,
    },
};

/// The request's fields over the spec's rollout defaults.
pub(super) fn read_start(state: &State, ask: &v1::StartRequest) -> Result<StartRollout, Status> {
    let id = deployment(&ask.deployment)?;
    let row = known(state, &id)?;
    let defaults = state.spec(&id, row.spec).map_or_else(RolloutParams::default, |s| s.rollout.clone());
    let none = v1::Params::default();
    let params = params_over(ask.params.as_ref().unwrap_or(&none), defaults).map_err(|e| error::invalid(&e))?;
    params.check("rollout").map_err(|e| error::invalid(&e))?;
    check_used(state, &id, row, &params, &given(ask.params.as_ref().unwrap_or(&none)))?;
    let version = if ask.version.is_empty() && ask.restart {
        row.tracks.stable.as_ref().map(|t| t.pair.version.clone()).ok_or_else(|| {
            error::status(Code::FailedPrecondition, "precondition", format!("nothing runs as {id} yet: name a version"))
        })?
    } else {
        ask.version.parse().map_err(|e| error::invalid(&e))?
    };
    let expected = (ask.expected > 0).then_some(ask.expected);
    Ok(StartRollout { deployment: id, version, params, restart: ask.restart, replace: ask.replace, expected })
}

/// Refuses settings that were asked for and that the strategy does not read: nothing that a person says is ignored. What the spec says
/// may be meant for another strategy; `plan` lists it.
fn check_used(
    state: &State,
    id: &DeploymentId,
    row: &Deployment,
    params: &RolloutParams,
    given: &[Setting],
) -> Result<(), Status> {
    let asked = asked(state, id, params);
    let mode = state.spec(id, row.spec).map_or(AddressMode::Pool, |s| s.address);
    let unused: Vec<String> = given.iter().filter(|s| !asked.reads(mode).contains(s)).map(|s| s.flag()).collect();
    if unused.is_empty() {
        return Ok(());
    }
    let reads: Vec<String> = asked.reads(mode).iter().map(|s| s.flag()).collect();
    let text = format!(
        "{asked} does not use {} (address: {mode}), only {} of the settings that are not every strategy's: leave it out, or choose \
         another --strategy",
        unused.join(", "),
        reads.join(", ")
    );
    Err(error::status(Code::InvalidArgument, "invalid", text))
}

/// The strategy that is asked for: by the request, the spec or the environment.
fn asked(state: &State, id: &DeploymentId, params: &RolloutParams) -> Strategy {
    let environment = state.environments.get(&id.environment);
    params.strategy.or(environment.map(|e| e.default_strategy)).unwrap_or(Strategy::Rolling)
}

/// What a spec says for other strategies than this one.
pub(super) fn unused(state: &State, start: &StartRollout, chosen: Strategy) -> Option<String> {
    let spec = state.deployments.get(&start.deployment).and_then(|d| state.spec(&start.deployment, d.spec))?;
    let defaults = RolloutParams::default();
    let said = Setting::ALL.iter().filter(|s| s.differs(&spec.rollout, &defaults));
    let unused: Vec<String> =
        said.filter(|s| !chosen.reads(spec.address).contains(s)).map(|s| format!("rollout.{s}")).collect();
    (!unused.is_empty()).then(|| format!("{chosen} does not use what the spec says of {}", unused.join(", ")))
}

/// The strategy that a start would use.
pub(super) fn strategy(state: &State, start: &StartRollout) -> Strategy {
    let first = state.deployments.get(&start.deployment).is_none_or(|d| d.tracks.stable.is_none());
    if first {
        return Strategy::Direct;
    }
    asked(state, &start.deployment, &start.params)
}

/// What the caller should know although nothing is wrong.
pub(super) fn notes(state: &State, start: &StartRollout) -> Vec<String> {
    let (p, mut said) = (&start.params, Vec::new());
    let chosen = strategy(state, start);
    if start.params.strategy.is_some_and(|asked| asked != chosen) {
        said.push(format!("nothing is stable yet, so this first rollout is {chosen}"));
    }
    let batch = p.max_surge.saturating_add(p.max_unavailable).min(p.parallelism);
    if chosen == Strategy::Rolling && batch < p.parallelism {
        said.push(format!(
            "a batch is {batch}, less than the parallelism of {}: max_surge {} + max_unavailable {} bound it",
            p.parallelism, p.max_surge, p.max_unavailable
        ));
    }
    let spec = state.deployments.get(&start.deployment).and_then(|d| state.spec(&start.deployment, d.spec));
    let environment = state.environments.get(&start.deployment.environment);
    if let (Some(e), None, true) = (environment, p.on_no_data, spec.is_some_and(|s| s.metrics.is_some()))
        && e.on_no_data == OnNoData::Pass
    {
        said.push(format!(
            "without enough requests it is promoted unjudged, as on_no_data is pass in {}: set rollout.on_no_data to hold or fail",
            e.name
        ));
    }
    said
}
