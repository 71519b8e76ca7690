//! One transition table per state machine. Every writer asks here; what is not listed does not happen.

use crate::{
    model::Life,
    state::{
        base::rejection::Rejection,
        cluster::rows::NodeRole,
        rollout::rows::{Rollout, RolloutStatus, StepStatus},
    },
};

/// Moves of a rollout.
pub const ROLLOUT: &[(RolloutStatus, RolloutStatus)] = {
    use RolloutStatus::{Aborted, Active, Completed, Failed, Paused, Pending, Promoting, RolledBack, RollingBack};
    &[
        (Pending, Active),
        (Pending, Failed),
        (Pending, Aborted),
        (Active, Paused),
        (Active, Promoting),
        (Active, RollingBack),
        (Active, Aborted),
        (Paused, Active),
        (Paused, RollingBack),
        (Paused, Aborted),
        (Promoting, RollingBack),
        (Promoting, Completed),
        (RollingBack, RolledBack),
        (RollingBack, Failed),
        (RollingBack, Aborted),
    ]
};

/// Moves of a step. A retry is the next attempt of a failed one, never a second row.
pub const STEP: &[(StepStatus, StepStatus)] = {
    use StepStatus::{Cancelled, Failed, Passed, Running, Skipped, Undone, Waiting};
    &[
        (Waiting, Running),
        (Waiting, Passed),
        (Waiting, Skipped),
        (Running, Passed),
        (Running, Failed),
        (Running, Skipped),
        (Running, Cancelled),
        (Failed, Running),
        (Failed, Skipped),
        (Passed, Undone),
    ]
};

/// Moves of a node's role.
pub const ROLE: &[(NodeRole, NodeRole)] = {
    use NodeRole::{Joining, Learner, Leaving, Removed, Voter};
    &[
        (Joining, Learner),
        (Learner, Voter),
        (Joining, Removed),
        (Learner, Leaving),
        (Voter, Leaving),
        (Leaving, Removed),
    ]
};

/// Moves of an instance's life. Back from draining only when a rollback wants it again.
pub const LIFE: &[(Life, Life)] = {
    use Life::{Draining, Failed, Gone, Running, Starting, Stopping};
    &[
        (Starting, Running),
        (Starting, Draining),
        (Starting, Gone),
        (Starting, Failed),
        (Running, Draining),
        (Running, Failed),
        (Draining, Starting),
        (Draining, Running),
        (Draining, Stopping),
        (Draining, Gone),
        (Draining, Failed),
        (Stopping, Gone),
    ]
};

/// Whether a rollout may move so.
pub fn rollout(from: RolloutStatus, to: RolloutStatus) -> bool {
    ROLLOUT.contains(&(from, to))
}

/// Why a rollout cannot be moved so (`verb` is a past participle), and what can be done about it as it is.
pub(in crate::state) fn refused(r: &Rollout, verb: &str) -> Rejection {
    let (id, to) = (r.id, format!("`slipway rollout start {} --to VERSION`", r.deployment));
    let next = match r.status {
        RolloutStatus::Pending => format!("it begins in a moment, or `slipway rollout abort {id}` stops it"),
        RolloutStatus::Active => format!("`slipway rollout explain {id}` says what it waits for and what ends it"),
        RolloutStatus::Paused => {
            format!("`slipway rollout resume {id}` goes on, `slipway rollout explain {id}` says what else ends it")
        }
        RolloutStatus::Promoting => {
            format!("it completes by itself, or `slipway rollout rollback {id}` takes it back")
        }
        RolloutStatus::RollingBack => {
            format!("it goes back by itself, or `slipway rollout abort {id} --as-is` ends it where it stands")
        }
        RolloutStatus::Completed => {
            format!("`slipway rollout rollback {id}` takes it back, {to} starts another")
        }
        RolloutStatus::RolledBack | RolloutStatus::Failed | RolloutStatus::Aborted => {
            format!("{to} starts another")
        }
    };
    Rejection::Lifecycle { rollout: id, status: r.status.to_string(), verb: verb.into(), next }
}

/// Whether a step may move so.
pub fn step(from: StepStatus, to: StepStatus) -> bool {
    STEP.contains(&(from, to))
}

/// Whether a node's role may move so.
pub fn role(from: NodeRole, to: NodeRole) -> bool {
    ROLE.contains(&(from, to))
}

/// Whether an instance's life may move so.
pub fn life(from: Life, to: Life) -> bool {
    LIFE.contains(&(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_rollouts_have_no_way_out() {
        for (from, to) in ROLLOUT {
            assert!(!from.is_terminal(), "{from} -> {to}");
        }
    }

    #[test]
    fn every_terminal_status_and_every_live_one_is_reached() {
        use RolloutStatus::*;
        for s in [Active, Paused, Promoting, RollingBack, Completed, RolledBack, Failed, Aborted] {
            assert!(ROLLOUT.iter().any(|(_, to)| *to == s), "{s} is never reached");
        }
        for s in [Pending, Active, Paused, Promoting, RollingBack] {
            assert!(ROLLOUT.iter().any(|(from, _)| *from == s), "{s} is never left");
        }
    }

    #[test]
    fn statuses_are_words_for_people_and_codes_for_programs() {
        let all = ROLLOUT.iter().flat_map(|(from, to)| [*from, *to]);
        assert!(all.into_iter().all(|s| !s.to_string().contains('_')));
        assert_eq!(RolloutStatus::RolledBack.to_string(), "rolled back");
        assert_eq!(RolloutStatus::RolledBack.code(), "rolled_back");
    }

    #[test]
    fn ends_are_ends() {
        for l in [Life::Gone, Life::Failed] {
            assert!(LIFE.iter().all(|(from, _)| *from != l));
        }
        assert!(ROLE.iter().all(|(from, _)| *from != NodeRole::Removed));
        for s in [StepStatus::Skipped, StepStatus::Cancelled, StepStatus::Undone] {
            assert!(STEP.iter().all(|(from, _)| *from != s));
        }
        assert!(!life(Life::Stopping, Life::Running), "a stop that was permitted is not taken back");
    }
}
