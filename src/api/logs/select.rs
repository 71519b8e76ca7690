//! Which instances' logs are meant, and in which order.
//!
//! Invariant: what was asked for and does not exist is refused with what there is. Pure.

use crate::{
    api::{ApiError, catalog, rollouts},
    model::{DeploymentId, InstanceId, Life, RolloutId},
    state::{Instance, State},
    wire::v1,
};

/// Instances that a refusal names at most.
const NAMED: usize = 8;

/// The instances that a request means: failed ones first, then by number.
pub(super) fn instances<'a>(state: &'a State, ask: &v1::LogsRequest) -> Result<Vec<&'a Instance>, ApiError> {
    if ask.previous && ask.follow {
        return Err(ApiError::bad(
            "what has ended writes no more: follow, or ask for the previous instances, not both",
        ));
    }
    let mut found = match (ask.rollout.as_str(), ask.deployment.as_str()) {
        ("", "") => one(state, &ask.instance)?,
        ("", id) => of_deployment(state, ask, &id.parse()?)?,
        (id, _) => of_rollout(state, ask, id.parse()?)?,
    };
    found.sort_by_key(|i| (i.life != Life::Failed, i.id));
    Ok(found)
}

fn one<'a>(state: &'a State, id: &str) -> Result<Vec<&'a Instance>, ApiError> {
    let id: InstanceId = id.parse()?;
    let row = state.instances.get(&id);
    row.map(|i| vec![i]).ok_or_else(|| ApiError::not_found(format!("instance {id} does not exist (any more)")))
}

fn of_deployment<'a>(
    state: &'a State,
    ask: &v1::LogsRequest,
    id: &DeploymentId,
) -> Result<Vec<&'a Instance>, ApiError> {
    catalog::known(state, id)?;
    let all: Vec<_> = state.instances_of(id).collect();
    if !ask.instance.is_empty() {
        return named(state, &all, &id.to_string(), &ask.instance);
    }
    // A failed instance is what people read logs for, also after it was replaced.
    let meant =
        |i: &&&Instance| if ask.previous { !i.life.is_live() } else { i.life.is_live() || i.life == Life::Failed };
    let found: Vec<_> = all.iter().filter(meant).copied().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    Err(ApiError::not_found(match (ask.previous, all.is_empty()) {
        (true, true) => format!("{id} has no instance, and none that ended is known any more"),
        (true, false) => format!("no instance of {id} that ended is known: without --previous there is {}", told(&all)),
        (false, true) => format!("{id} has no instance: `slipway rollout start {id} --to VERSION` makes some"),
        (false, false) => format!("no instance of {id} runs: --previous shows those that ended, {}", told(&all)),
    }))
}

fn of_rollout<'a>(state: &'a State, ask: &v1::LogsRequest, id: RolloutId) -> Result<Vec<&'a Instance>, ApiError> {
    let rollout = rollouts::find(state, id)?;
    let of = &rollout.deployment;
    let made = |i: &&Instance| i.made_by == Some(id);
    let before = |i: &&Instance| i.made_by != Some(id) && rollout.from.as_ref() == Some(&i.pair);
    let found: Vec<_> = state.instances_of(of).filter(|i| if ask.previous { before(i) } else { made(i) }).collect();
    if !ask.instance.is_empty() {
        return named(state, &found, &id.to_string(), &ask.instance);
    }
    if found.is_empty() {
        let what = if ask.previous { "no instance of the version before" } else { "no instance that it made" };
        return Err(ApiError::not_found(format!(
            "of {id} {what} is known (any more): `slipway logs {of}` shows those of its deployment"
        )));
    }
    Ok(found)
}

/// The one of these that has a name; they are of `what`.
fn named<'a>(state: &State, all: &[&'a Instance], what: &str, id: &str) -> Result<Vec<&'a Instance>, ApiError> {
    let id: InstanceId = id.parse()?;
    if let Some(found) = all.iter().find(|i| i.id == id) {
        return Ok(vec![found]);
    }
    let other = state.instances.get(&id).map(|i| format!(" (it is of {})", i.deployment)).unwrap_or_default();
    let known = if all.is_empty() { "there is none".to_string() } else { format!("there is {}", told(all)) };
    Err(ApiError::not_found(format!("{what} has no instance {id}{other}: {known}")))
}

/// The newest of them, each with where it is in its life.
fn told(all: &[&Instance]) -> String {
    let mut newest: Vec<_> = all.to_vec();
    newest.sort_by_key(|i| std::cmp::Reverse(i.id));
    let more = newest.len().saturating_sub(NAMED);
    let words: Vec<_> = newest.iter().take(NAMED).map(|i| format!("{} ({})", i.id, i.life)).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", words.join(", "))
}
