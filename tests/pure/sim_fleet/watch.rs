//! What must hold after every entry, and which transitions were walked.

use std::collections::BTreeSet;

use slipway::model::{Life, StepKind, StrategyName};
use slipway::state::{Command, RolloutStatus, State, StepStatus, invariants};

/// Moves of rollouts and steps that happened.
#[derive(Default, Clone)]
pub struct Walked {
    pub rollouts: BTreeSet<(RolloutStatus, RolloutStatus)>,
    pub steps: BTreeSet<(&'static str, StepStatus, StepStatus)>,
}

impl Walked {
    pub fn note(&mut self, before: &State, after: &State) {
        for (id, new) in &after.rollouts {
            let Some(old) = before.rollouts.get(id) else { continue };
            if old.status != new.status {
                self.rollouts.insert((old.status, new.status));
            }
            // When an undo is compiled the forward steps move aside.
            let rows = if new.undo_compiled && !old.undo_compiled { &new.forward_steps } else { &new.steps };
            for (a, b) in old.steps.iter().zip(rows) {
                if a.status != b.status {
                    self.steps.insert((b.step.kind.name(), a.status, b.status));
                }
            }
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.rollouts.extend(other.rollouts.iter().copied());
        self.steps.extend(other.steps.iter().copied());
    }
}

/// Bounds that no entry may break.
pub fn check(before: &State, after: &State, body: &Command) {
    let held = invariants::check(after).and_then(|()| invariants::check_step(before, after));
    if let Err(broken) = held {
        panic!("{broken} after {body:?}");
    }
    for d in after.deployments.values() {
        if let Some(route) = &d.route {
            assert_eq!(d.arms.weights().sum(), 10_000, "weights after {body:?}");
            let old = before.deployments.get(&d.id).and_then(|d| d.route.as_ref());
            if let Some(old) = old {
                assert!(route.generation >= old.generation, "the route went back after {body:?}");
            }
        }
        let live = after.rollouts.values().filter(|r| r.deployment == d.id && !r.status.is_terminal()).count();
        assert!(live <= 1, "two live rollouts after {body:?}");
        rolling(after, d, body);
    }
    for (id, old) in &before.rollouts {
        if old.status.is_terminal() {
            let Some(new) = after.rollouts.get(id) else { continue };
            assert_eq!((old.status, &old.steps), (new.status, &new.steps), "{id} changed after its end: {body:?}");
        }
    }
    let mut addresses = BTreeSet::new();
    for i in after.instances.values().filter(|i| i.life.is_live()) {
        let waits = i.replaces.is_some_and(|old| after.instances.get(&old).is_some_and(|o| o.life.is_live()));
        if !waits {
            assert!(addresses.insert(&i.address), "{} has another's address {} after {body:?}", i.id, i.address);
        }
    }
}

/// A rolling update stays within surge, and its own entries within unavailable.
fn rolling(after: &State, d: &slipway::state::Deployment, body: &Command) {
    let Some(r) = d.live.and_then(|id| after.rollouts.get(&id)) else { return };
    let installs = r.running().is_some_and(|(_, s)| matches!(s.step.kind, StepKind::Install { .. }));
    if r.strategy != StrategyName::ROLLING || r.is_rollback() || r.from.is_none() || !installs || d.as_is.is_some() {
        return;
    }
    // What a worker brings that came back in its midst is not on its bill.
    let of = |f: &dyn Fn(Life) -> bool| {
        after.instances_of(&d.id).filter(|i| f(i.life) && r.order.contains(&i.worker)).count()
    };
    let waiting = after.instances_of(&d.id).filter(|i| {
        i.life == Life::Starting
            && i.replaces.is_some_and(|o| after.instances.get(&o).is_some_and(|o| o.life.is_live()))
    });
    let live = of(&Life::is_live) - waiting.count();
    assert!(live <= (r.desired + r.params.surge(r.desired)) as usize, "{live} processes may run after {body:?}");
    let serving = after.instances_of(&d.id).filter(|i| i.serves()).count();
    let floor = r.desired.saturating_sub(r.params.unavailable(r.desired)) as usize;
    let planned = matches!(body, Command::BatchStarted(_) | Command::BatchPassed(_));
    assert!(!planned || serving >= floor, "{serving} of at least {floor} serve after {body:?}");
}
