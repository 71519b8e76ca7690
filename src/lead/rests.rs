//! Which deployments rest: a command that the law refused is proposed again later, and delays no other deployment.
//!
//! Invariant: a resting deployment is tried again within a second. Not here: proposals without an answer, after which
//! the whole loop pauses (`loop_`).

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::{Clock, Mono},
    model::{DeploymentId, RolloutId},
    state::{
        Command, State, StepRef,
        command::{
            Abort, ArmAdjusted, BatchPassed, BatchStarted, CookieAsked, CountedOut, DigestProbe, DrainSettled,
            ExpirySet, LevelProbe, OrderExtended, Pause, Promote, PromotionBegan, Resume, Rollback, RollbackBegan,
            RolloutFinished, RolloutPaused, RouteSet, SpecApplied, StepEnded, StepStarted, StepsCompiled,
            StopPermitted, Switched, Tick, TrafficBackSettled,
        },
    },
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
            let owner = owner(state, &command);
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

/// The deployment that a command of the planner is about.
fn owner(state: &State, command: &Command) -> Owner {
    let of = |rollout: &RolloutId| state.rollouts.get(rollout).map(|r| r.deployment.clone());
    match command {
        Command::StepsCompiled(StepsCompiled { rollout, .. })
        | Command::StepStarted(StepStarted { at: StepRef { rollout, .. }, .. })
        | Command::BatchStarted(BatchStarted { at: StepRef { rollout, .. }, .. })
        | Command::BatchPassed(BatchPassed { at: StepRef { rollout, .. }, .. })
        | Command::RouteSet(RouteSet { at: StepRef { rollout, .. }, .. })
        | Command::Switched(Switched { at: StepRef { rollout, .. }, .. })
        | Command::StepEnded(StepEnded { at: StepRef { rollout, .. }, .. })
        | Command::RollbackBegan(RollbackBegan { rollout, .. })
        | Command::RolloutPaused(RolloutPaused { rollout, .. })
        | Command::PromotionBegan(PromotionBegan { rollout, .. })
        | Command::RolloutFinished(RolloutFinished { rollout, .. })
        | Command::OrderExtended(OrderExtended { rollout, .. })
        | Command::TrafficBackSettled(TrafficBackSettled { rollout, .. })
        | Command::Pause(Pause { rollout })
        | Command::Resume(Resume { rollout })
        | Command::Abort(Abort { rollout, .. })
        | Command::Promote(Promote { rollout, .. })
        | Command::Rollback(Rollback { rollout }) => of(rollout),
        Command::DrainSettled(DrainSettled { deployment, .. })
        | Command::StopPermitted(StopPermitted { deployment, .. })
        | Command::ArmAdjusted(ArmAdjusted { deployment, .. })
        | Command::CountedOut(CountedOut { deployment, .. })
        | Command::ExpirySet(ExpirySet { deployment, .. }) => Some(deployment.clone()),
        Command::StartRollout(start) => Some(start.deployment.clone()),
        Command::SpecApplied(SpecApplied { spec, .. }) => Some(spec.deployment.clone()),
        Command::ClusterInit(_)
        | Command::NodeAdmitted(_)
        | Command::NodeRoleSet(_)
        | Command::BlobHeld(_)
        | Command::BlobDropped(_)
        | Command::ReleaseRegistered(_)
        | Command::ReleaseRetired(_)
        | Command::ReleaseRemoved(_)
        | Command::WorkerRegistered(_)
        | Command::Tick(Tick {})
        | Command::FactsRecorded(_)
        | Command::WorkerLost(_)
        | Command::WorkerReturned(_)
        | Command::NodeSilent(_)
        | Command::NodeHeard(_)
        | Command::ViewsServed(_)
        | Command::DeliverySettled(_)
        | Command::Collected(_)
        | Command::DigestProbe(DigestProbe {})
        | Command::DigestReported(_)
        | Command::NodeAnnounced(_)
        | Command::NodeDrained(_)
        | Command::LevelRaised(_)
        | Command::LeaseSet(_)
        | Command::SwitchAsked(_)
        | Command::ArmingConfirmed(_)
        | Command::SwitchMoved(_)
        | Command::SwitchEnded(_)
        | Command::LeasesSettled(_)
        | Command::CookieAsked(CookieAsked {})
        | Command::CookieRotated(_) => None,
        #[cfg(debug_assertions)]
        Command::LevelProbe(LevelProbe {}) => None,
    }
}
