//! What stories reached: counts by name, so that it can be asserted that the model gets to what it claims to judge.

use std::collections::BTreeMap;

use slipway::model::{DeploymentId, Wait};
use slipway::state::{
    Command, RolloutKind, RolloutPhase, State,
    command::{Abort, Promote, Rollback},
};

#[derive(Clone, Default)]
pub struct Tally(pub BTreeMap<String, u64>);

impl Tally {
    pub fn note(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (what, n) in &other.0 {
            *self.0.entry(what.clone()).or_default() += n;
        }
    }

    /// What an entry did: a verb that was taken, a rollout that came to an end.
    pub fn entry(&mut self, before: &State, after: &State, body: &Command, ok: bool) {
        if !ok {
            return;
        }
        self.note(format!("entry {}", body.name()));
        match body {
            Command::StartRollout(s) if s.replace => self.note("taken start --replace"),
            Command::StartRollout(_) => self.note("taken start"),
            Command::Pause(_) => self.note("taken pause"),
            Command::Resume(_) => self.note("taken resume"),
            Command::Abort(Abort { as_is: true, .. }) => self.note("taken abort --as-is"),
            Command::Abort(_) => self.note("taken abort"),
            Command::Promote(Promote { full: true, .. }) => self.note("taken promote --full"),
            Command::Promote(_) => self.note("taken promote"),
            Command::Rollback(Rollback { rollout }) => {
                let live = before.rollouts.get(rollout).is_some_and(|r| !r.status.is_terminal());
                self.note(if live { "taken rollback" } else { "taken rollback of a completed one" });
            }
            _ => {}
        }
        for d in before.deployments.values() {
            let Some(old) = d.live.and_then(|id| before.rollouts.get(&id)) else { continue };
            let Some(new) = after.rollouts.get(&old.id) else { continue };
            if old.status == new.status {
                continue;
            }
            let way = match (new.kind, new.phase) {
                (RolloutKind::Return { .. }, _) => "return",
                (RolloutKind::Forward, RolloutPhase::Forward) => "forward",
                (RolloutKind::Forward, RolloutPhase::Undo) => "undo",
            };
            if new.status.is_terminal() {
                self.note(format!("end {} {way} {}", new.strategy, new.status));
            } else {
                self.note(format!("status {way} {}", new.status));
            }
        }
    }

    pub fn waits(&mut self, waits: &BTreeMap<DeploymentId, Vec<Wait>>) {
        for wait in waits.values().flatten() {
            let name = format!("{wait:?}");
            let name = name.split([' ', '{']).next().unwrap_or_default();
            self.note(format!("wait {name}"));
        }
    }
}
