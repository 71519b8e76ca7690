//! `pause`: the rollout stays as it is, judged all the while, until a person promotes it.

use super::{Runner, begin};
use crate::engine::{analysis::Finding, prelude::*};

pub(super) const RUNNER: Runner = Runner { start: begin, next };

fn next(turn: &Turn<'_>, notes: &mut Notes) -> Option<Command> {
    if let Finding::Worse(reason) = turn.judged(turn.r.target()?) {
        return turn.fail(reason, Verdict::Worse);
    }
    notes.wait(Wait::Promotion);
    None
}
