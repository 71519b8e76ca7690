//! `preview`: the steps a rollout would have, for `rollout plan`: the same law and the same compilers on a copy of State.

use super::place::Freed;
use super::strategy::{self, Subject};
use crate::model::{RolloutId, Step};
use crate::state::{Command, Rollout, RolloutPhase, StartRollout, State, rehearse};

/// The steps that `start` would compile to now, or why it would be refused.
pub fn preview(state: &State, start: &StartRollout) -> Result<Vec<Step>, String> {
    planned(state, start).map(|(_, steps)| steps)
}

/// The rollout that `start` would make, and its steps.
pub(super) fn planned(state: &State, start: &StartRollout) -> Result<(Rollout, Vec<Step>), String> {
    let copy = rehearse(state, Command::StartRollout(start.clone())).map_err(|e| e.to_string())?;
    let Some(rollout) = copy.rollouts.get(&RolloutId(copy.applied.index)) else {
        return Err(format!("{} started no rollout", start.deployment));
    };
    let compiled = strategy::compile(&copy, &Subject::of(rollout), RolloutPhase::Forward, Freed::Soon)?;
    Ok((rollout.clone(), compiled.steps))
}
