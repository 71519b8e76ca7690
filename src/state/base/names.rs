//! Words for names that are not known: what is near, what there is, and which command makes it.
//!
//! Not here: the refusals themselves (`rejection`).

use std::{collections::BTreeSet, fmt::Display};

use super::rejection::Rejection;
use crate::{
    model::{DeploymentId, nearest},
    state::State,
};

/// `; did you mean X?` for the nearest of the known names, or what is known, or nothing.
pub(in crate::state) fn hint<T: Display>(wanted: &str, known: impl Iterator<Item = T>) -> String {
    let mut known: Vec<String> = known.map(|k| k.to_string()).collect();
    known.sort();
    known.dedup();
    match nearest(wanted, &known) {
        Some(k) => format!("; did you mean {k}?"),
        None if (1..=8).contains(&known.len()) => format!("; known: {}", known.join(", ")),
        None => String::new(),
    }
}

/// Which part of a deployment's name is unknown.
pub(in crate::state) fn unknown_deployment(s: &State, id: &DeploymentId) -> Rejection {
    if !s.environments.contains_key(&id.environment) {
        let near = hint(id.environment.as_str(), s.environments.keys());
        return Rejection::not_found("environment", &id.environment, near);
    }
    if !s.services.contains_key(&id.service) {
        let near = hint(id.service.as_str(), s.services.keys());
        let near = if near.is_empty() { "; `slipway apply -f` makes it".into() } else { near };
        return Rejection::not_found("service", &id.service, near);
    }
    let near = hint(&id.to_string(), s.deployments.keys());
    let near = if near.is_empty() { "; `slipway apply -f` makes it".into() } else { near };
    Rejection::not_found("deployment", id, near)
}

/// Names for a refusal, each once: the first few, and how many more; `None` when there is none.
pub(in crate::state) fn some<T: Display + Ord>(all: impl Iterator<Item = T>) -> Option<String> {
    const NAMED: usize = 3;
    let all: BTreeSet<T> = all.collect();
    let first: Vec<String> = all.iter().take(NAMED).map(ToString::to_string).collect();
    match all.len().saturating_sub(NAMED) {
        _ if all.is_empty() => None,
        0 => Some(first.join(", ")),
        more => Some(format!("{} and {more} more", first.join(", "))),
    }
}

pub(in crate::state) fn exhausted(what: &str, limit: u32) -> Rejection {
    Rejection::Exhausted { what: what.into(), limit: u64::from(limit), fix: "remove one that is not used".into() }
}
