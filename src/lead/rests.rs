//! Which deployments rest: a command that the law refused is proposed again later, and delays no other deployment.
//!
//! Invariant: a resting deployment is tried again within a second. Not here: proposals without an answer, after which
//! the whole loop pauses (`loop_`).

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::{Clock, Mono},
    model::DeploymentId,
    state::{Command, State},
};

/// Rest after a first refusal; doubles up to the longest.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// Whose command it is: a deployment's, or everybody's.
type Owner = Option<DeploymentId>;

/// Those that rest.
#[derive(Debug, Default)]
pub(super) struct Rests(BTreeMap<Owner, (Mono, Duration)>);

impl Rests {
    /// Takes out what may be proposed now; returns it with its owners, and how long the next of the others rests.
    pub fn due(
        &self,
        state: &State,
        commands: Vec<Command>,
        clock: &Clock,
    ) -> (Vec<(Owner, Command)>, Option<Duration>) {
        let (mut due, mut next) = (Vec::new(), None::<Duration>);
        let now = clock.mono();
        for command in commands {
            let owner = command.about(state);
            let rest = self
                .0
                .get(&owner)
                .map_or(Duration::ZERO, |(since, rest)| rest.saturating_sub(Duration::from_millis(now.since(*since))));
            if rest.is_zero() {
                due.push((owner, command));
            } else {
                next = Some(next.map_or(rest, |n| n.min(rest)));
            }
        }
        (due, next)
    }

    /// Notes what became of an owner's command.
    pub fn note(&mut self, owner: Owner, took_effect: bool, clock: &Clock) {
        if took_effect {
            self.0.remove(&owner);
            return;
        }
        let rest = self.0.get(&owner).map_or(FIRST, |(_, rest)| rest.saturating_mul(2).min(LONGEST));
        self.0.insert(owner, (clock.mono(), rest));
    }
}
