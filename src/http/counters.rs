//! Counters of rollouts (FEATURES W9), fed by the events in State.
//!
//! Invariant: each event is counted once in a process, also when several entries are applied between two looks.

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use crate::{
    model::{RolloutId, StepKind},
    state::{EventBody, EventKey, Reason, RolloutKind, RolloutStatus, State, StepStatus},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    strategy: String,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct By {
    strategy: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: String,
}

/// Counts what rollouts did since this process started.
#[derive(Debug)]
pub struct RolloutCounters {
    ended: Family<Ended, Counter>,
    duration: Family<By, Histogram>,
    promotions: Counter,
    rollbacks: Family<Why, Counter>,
    /// Events up to here are counted; `None` before the first look, which only takes the place.
    seen: Mutex<Option<EventKey>>,
}

/// From seconds to a day.
const DURATIONS: [f64; 10] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];

impl RolloutCounters {
    /// New counters, and their names in the registry; `strategies` are the names that series may have.
    pub fn register(registry: &mut Registry, strategies: impl Iterator<Item = String>) -> Self {
        let new = || Histogram::new(DURATIONS);
        let duration: Family<By, Histogram> = Family::new_with_constructor(new as fn() -> Histogram);
        let counters = Self {
            ended: Family::default(),
            duration,
            promotions: Counter::default(),
            rollbacks: Family::default(),
            seen: Mutex::new(None),
        };
        counters.begin(strategies);
        registry.register("slipway_deployments", "Ended rollouts", counters.ended.clone());
        registry.register("slipway_deployment_duration_seconds", "Length of ended rollouts", counters.duration.clone());
        registry.register(
            "slipway_canary_promotion_steps",
            "Passed weight steps of canaries",
            counters.promotions.clone(),
        );
        registry.register("slipway_rollbacks", "Rollbacks by reason", counters.rollbacks.clone());
        counters
    }

    /// Makes every series that may come, at 0: a rate needs to see the first step from it.
    fn begin(&self, strategies: impl Iterator<Item = String>) {
        let over = [RolloutStatus::Completed, RolloutStatus::RolledBack, RolloutStatus::Failed, RolloutStatus::Aborted];
        for strategy in strategies {
            for status in over {
                drop(self.ended.get_or_create(&Ended { strategy: strategy.clone(), status: status.code().into() }));
            }
            drop(self.duration.get_or_create(&By { strategy }));
        }
        for reason in Reason::ROLLBACKS {
            drop(self.rollbacks.get_or_create(&Why { reason: reason.into() }));
        }
    }

    /// Counts the events that are new in this State.
    pub fn follow(&self, state: &State) {
        let mut seen = self.seen.lock();
        let newest = state.events.get_max().map(|(key, _)| *key).unwrap_or_default();
        let Some(from) = seen.replace(newest) else { return };
        for (_, event) in state.events.range((std::ops::Bound::Excluded(from), std::ops::Bound::Unbounded)) {
            if let EventBody::RolloutChanged { rollout, status, .. } = &event.body {
                self.changed(state, *rollout, *status);
            }
            if let EventBody::StepChanged { step, status: StepStatus::Passed, .. } = &event.body {
                self.promotions.inc_by(u64::from(matches!(step.kind, StepKind::Route { .. })));
            }
        }
    }

    fn changed(&self, state: &State, id: RolloutId, status: RolloutStatus) {
        let Some(rollout) = state.rollouts.get(&id) else { return };
        let strategy = rollout.strategy.to_string();
        if status.is_terminal() {
            self.ended.get_or_create(&Ended { strategy: strategy.clone(), status: status.code().into() }).inc();
            let length = rollout.ended_at.map_or(0, |end| end.since(rollout.started_at).0);
            self.duration.get_or_create(&By { strategy }).observe(length as f64 / 1000.0);
        }
        let why = match (&rollout.kind, status) {
            (RolloutKind::Forward, RolloutStatus::RollingBack) => {
                rollout.reason.as_ref().map_or("manual", |r| r.label())
            }
            (RolloutKind::Return { .. }, RolloutStatus::Pending) => "manual",
            (RolloutKind::Forward | RolloutKind::Return { .. }, _) => return,
        };
        self.rollbacks.get_or_create(&Why { reason: why.to_string() }).inc();
    }
}
