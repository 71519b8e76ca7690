//! `preview`: the steps a rollout would have, for `rollout plan`: the same law and the same compilers on a copy of State.

use super::strategy::{self, Subject};
use crate::model::{Principal, RolloutId, Step};
use crate::state::{Command, LogId, Rollout, RolloutPhase, Stamped, StartRollout, State, apply};

/// The steps that `start` would compile to now, or why it would be refused.
pub fn preview(state: &State, start: &StartRollout) -> Result<Vec<Step>, String> {
    planned(state, start).map(|(_, steps)| steps)
}

/// The rollout that `start` would make, and its steps.
pub(super) fn planned(state: &State, start: &StartRollout) -> Result<(Rollout, Vec<Step>), String> {
    let mut copy = state.clone();
    let at = LogId { term: state.applied.term, index: state.applied.index.saturating_add(1) };
    let stamped = Stamped {
        at: state.now,
        wall: state.wall,
        term: at.term,
        principal: Principal::local_operator(),
        request: None,
        body: Command::StartRollout(start.clone()),
    };
    apply(&mut copy, at, &stamped).map_err(|e| e.to_string())?;
    let Some(rollout) = copy.rollouts.get(&RolloutId(at.index)) else {
        return Err(format!("{} started no rollout", start.deployment));
    };
    let compiled = strategy::compile(&copy, &Subject::of(rollout), RolloutPhase::Forward)?;
    Ok((rollout.clone(), compiled.steps))
}
