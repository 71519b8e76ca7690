//! What the planner does about each kind of step: one file a kind, with its line of [`runner`]. What the law asks of a
//! kind stands in its facts (`model::step`).
//!
//! Not here: which step comes next, and what a failure leads to (`executor`).

mod bake;
mod install;
mod pause;
mod promote;
mod retire;
mod route;
mod smoke;
mod stage;
mod switch;

use super::prelude::*;

/// What the planner does about one kind.
pub(super) struct Runner {
    /// Begins the step, or notes what that waits for.
    pub start: fn(&Turn<'_>, &mut Notes) -> Option<Command>,
    /// Carries the running step on, ends it, or notes what it waits for.
    pub next: fn(&Turn<'_>, &mut Notes) -> Option<Command>,
}

/// The registry.
pub(super) fn runner(kind: &StepKind) -> Runner {
    match kind {
        StepKind::Stage => stage::RUNNER,
        StepKind::Install { .. } => install::RUNNER,
        StepKind::Route { .. } => route::RUNNER,
        StepKind::Switch => switch::RUNNER,
        StepKind::Bake { .. } => bake::RUNNER,
        StepKind::Pause { .. } => pause::RUNNER,
        StepKind::Smoke { .. } => smoke::RUNNER,
        StepKind::Promote => promote::RUNNER,
        StepKind::Retire { .. } => retire::RUNNER,
    }
}

/// The start of a kind that waits for nothing of its own.
fn begin(turn: &Turn<'_>, _: &mut Notes) -> Option<Command> {
    let at = StepRef { rollout: turn.r.id, seen: turn.r.meta.revision, step: turn.step };
    Some(Command::StepStarted(StepStarted { at, attempt: turn.row.attempt.saturating_add(1) }))
}
