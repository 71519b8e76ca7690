//! `preview`: the steps a rollout would have, for `rollout plan` and before a start is proposed: the same law and the
//! same compilers on a copy of State.

use super::place::Freed;
use super::prelude::*;
use super::strategy::{self, Subject};

/// Why nothing would come of a start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The law would refuse it.
    #[error("{0}")]
    Law(Rejection),
    /// The law would take it, and no step could be compiled: there is no room, no worker, no such strategy.
    #[error("{0}")]
    Plan(String),
}

/// What a start would come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// Instances that the new version would have.
    pub desired: u32,
    pub steps: Vec<Step>,
}

/// What `start` would compile to now, or why it would be refused.
pub fn preview(state: &State, by: &Principal, start: &StartRollout) -> Result<Preview, Refused> {
    planned(state, by, start).map(|(rollout, steps)| Preview { desired: rollout.desired, steps })
}

/// The rollout that `start` would make, and its steps.
pub(super) fn planned(state: &State, by: &Principal, start: &StartRollout) -> Result<(Rollout, Vec<Step>), Refused> {
    let copy = rehearse(state, by, Command::StartRollout(start.clone())).map_err(Refused::Law)?;
    // A start that the law takes makes the rollout of its entry.
    let rollout = &copy.rollouts[&RolloutId(copy.applied.index)];
    let compiled = strategy::compile(&copy, &Subject::of(rollout), RolloutPhase::Forward, Freed::Soon);
    let with = |c: strategy::Compiled| (Rollout { desired: c.desired, ..rollout.clone() }, c.steps);
    compiled.map(with).map_err(Refused::Plan)
}
