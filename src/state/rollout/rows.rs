//! A rollout's row: compiled steps, cursor, evidence.
//!
//! Invariant: the row holds all that a new leader needs to go on with the rollout. Not here: transitions
//! (`base::lifecycle`), what a command does to the row (the commands' own files).

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        Check, DeploymentId, InstanceId, Millis, Pair, RolloutId, RolloutParams, Samples, Step, StepId, StrategyName,
        Version, WorkerName, fields,
    },
    state::{base::rows::Meta, traffic::rows::RouteForm},
};

/// How many instances there may be above and below the desired count while a rollout goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    pub surge: u32,
    /// Below, of those that pass.
    pub unavailable: u32,
}

/// Why a rollout exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutKind {
    /// To a new pair.
    Forward,
    /// Back from a completed rollout, whose id it names.
    Return { undoes: RolloutId },
}

/// Which way the steps run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum RolloutPhase {
    /// Towards the new pair.
    Forward,
    /// Back to the old one.
    Undo,
}

/// Life cycle (table in `base::lifecycle`). `Display` is for people, [`RolloutStatus::code`] for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum RolloutStatus {
    /// Accepted; steps are not compiled yet.
    Pending,
    /// Steps run.
    Active,
    /// An operator or a policy holds it.
    Paused,
    /// All gates passed; only clean-up is left.
    Promoting,
    /// Traffic is back on stable; workers follow.
    RollingBack,
    /// Done.
    Completed,
    /// Undone.
    RolledBack,
    /// Could not start or could not return.
    Failed,
    /// Stopped by an operator; candidates are kept for a while.
    Aborted,
}

impl fmt::Display for RolloutStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code().replace('_', " "))
    }
}

impl RolloutStatus {
    /// Its word on the wire, in the fields of events and in metrics, such as `rolled_back`.
    pub fn code(self) -> &'static str {
        self.into()
    }

    /// A terminal rollout never changes again (invariant 8).
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Active | Self::Paused | Self::Promoting | Self::RollingBack => false,
            Self::Completed | Self::RolledBack | Self::Failed | Self::Aborted => true,
        }
    }
}

/// Why a rollout turned back or was held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The new pair's own error rate passed the ceiling.
    ErrorRate {
        /// Errors seen.
        errors: u64,
        /// Requests seen.
        requests: u64,
        /// The ceiling, in basis points.
        limit: u32,
    },
    /// A candidate failed its checks, exited, or never passed.
    HealthCheck {
        instance: InstanceId,
        /// What it did.
        detail: String,
    },
    /// A worker could not stage or activate.
    Worker {
        worker: WorkerName,
        detail: String,
    },
    /// A step took longer than its deadline.
    Deadline,
    /// A smoke test failed.
    Hook {
        /// What it answered.
        detail: String,
    },
    /// No data by the end of a bake, and the policy says fail.
    NoData,
    /// None of its instances is left that could be judged.
    NobodyLeft {
        /// What became of them.
        detail: String,
    },
    Operator {
        principal: String,
    },
    /// The steps could not be compiled.
    Compile {
        detail: String,
    },
}

impl Reason {
    /// All values that [`Reason::label`] has.
    pub const ROLLBACKS: [&'static str; 4] = ["health_check", "error_rate", "deadline", "manual"];

    /// The value of the `reason` label of `slipway_rollbacks_total`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ErrorRate { .. } => "error_rate",
            Self::HealthCheck { .. }
            | Self::Worker { .. }
            | Self::Hook { .. }
            | Self::NoData
            | Self::NobodyLeft { .. } => "health_check",
            Self::Deadline => "deadline",
            Self::Operator { .. } | Self::Compile { .. } => "manual",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ErrorRate { errors, requests, limit } => {
                // A worker may say any number.
                let tenths = (u128::from(*errors) * 1000).checked_div(u128::from(*requests)).unwrap_or(0);
                write!(
                    f,
                    "error rate {}.{} % > {} ({errors} of {requests} requests since the step began)",
                    tenths / 10,
                    tenths % 10,
                    crate::model::BasisPoints(*limit)
                )
            }
            Self::HealthCheck { instance, detail } => write!(f, "instance {instance}: {detail}"),
            Self::Worker { worker, detail } => write!(f, "worker {worker}: {detail}"),
            Self::Deadline => f.write_str("the step passed its deadline"),
            Self::Hook { detail } => write!(f, "smoke test: {detail}"),
            Self::NoData => f.write_str("no data by the end of the bake"),
            Self::NobodyLeft { detail } => write!(f, "no instance of it is left to judge: {detail}"),
            Self::Operator { principal } => write!(f, "by {principal}"),
            Self::Compile { detail } => f.write_str(detail),
        }
    }
}

fields! {
    /// What was counted of one pair since its step began.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PairSeen {
        1 [required] pub pair: Pair,
        /// By worker, as far as they are told one by one.
        2 pub workers: BTreeMap<WorkerName, Samples>,
        /// By all other workers together.
        3 pub rest: Samples,
    }
}

impl PairSeen {
    /// By all workers together.
    pub fn total(&self) -> Samples {
        self.workers.values().fold(self.rest.clone(), |mut sum, of_one| {
            sum.add(of_one);
            sum
        })
    }
}

/// What a check concluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Verdict {
    /// Below every ceiling with enough data.
    #[strum(to_string = "not worse")]
    NotWorse,
    /// Above a ceiling.
    Worse,
    /// Not enough data to say.
    Undecided,
    /// The step has no check.
    Unjudged,
}

fields! {
    /// What one check of a step concluded from what was seen.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CheckRecord {
        1 [required] pub check: Check,
        2 [required] pub verdict: Verdict,
    }
}

fields! {
    /// Compact record of what was seen when a step ended (16 KiB at most), so that history explains itself.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Evidence {
        1 pub from: Millis,
        2 pub to: Millis,
        /// The step's checks, in its order.
        3 pub checks: Vec<CheckRecord>,
        /// What all of them were judged from: everything that is counted, also what no check asks for.
        4 pub seen: Vec<PairSeen>,
        /// What follows from all checks together.
        5 [required] pub verdict: Verdict,
        /// Free line: which node served a switch when, what a hook answered.
        6 pub note: String,
    }
}

impl Evidence {
    /// What was counted, by version.
    pub fn by_version(&self) -> BTreeMap<&Version, Samples> {
        let mut all: BTreeMap<&Version, Samples> = BTreeMap::new();
        for seen in &self.seen {
            all.entry(&seen.pair.version).or_default().add(&seen.total());
        }
        all
    }
}

/// A step's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum StepStatus {
    /// Not yet.
    Waiting,
    /// Now.
    Running,
    /// Done.
    Passed,
    /// Over a ceiling, past its deadline, or could not.
    Failed,
    /// `promote` passed over it.
    Skipped,
    /// `abort` or `rollback` came before its end.
    Cancelled,
    /// Was passed, then unwound.
    Undone,
}

impl StepStatus {
    /// What became of a step, behind its name.
    pub fn said(self) -> &'static str {
        match self {
            Self::Waiting => "waits",
            Self::Running => "began",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "was skipped",
            Self::Cancelled => "was cancelled",
            Self::Undone => "was undone",
        }
    }
}

fields! {
    /// A batch of an installation.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Batch {
        /// Number within the step, from 1.
        1 pub n: u32,
        /// Instances it made (filled when they exist).
        2 pub added: Vec<InstanceId>,
        /// Instances it replaces.
        3 pub replaced: Vec<InstanceId>,
        /// When it began.
        4 pub started_at: Millis,
        /// When it counts as failed.
        5 pub deadline: Millis,
        /// Whether it passed; the next one may start at `next_at`.
        6 pub passed: bool,
        /// End of the delay after it.
        7 pub next_at: Millis,
        /// Whether the new ones wait for those they replace, at their addresses.
        8 pub in_place: bool,
    }
}

fields! {
    /// A step with what happened to it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct StepRow {
        /// The compiled step.
        1 [required] pub step: Step,
        /// Where it stands.
        2 [required] pub status: StepStatus,
        /// Which attempt, from 1 (0 before the first).
        3 pub attempt: u32,
        /// Index of its newest `StepStarted`.
        4 pub step_id: Option<StepId>,
        /// When it began.
        5 pub started_at: Option<Millis>,
        /// End of a bake.
        6 pub until: Option<Millis>,
        /// When it counts as failed.
        7 pub deadline: Option<Millis>,
        /// The newest batch of an installation.
        8 pub batch: Option<Batch>,
        /// Outcome of a smoke test's current attempt: answered well, and what it said.
        9 pub hook: Option<(bool, String)>,
        /// Index and time of the entry that switched or set the route.
        10 pub routed: Option<(u64, Millis)>,
        11 pub evidence: Option<Evidence>,
        12 pub ended_at: Option<Millis>,
    }
}

fields! {
    /// What an engine command about a step names: the rollout at the revision that was seen, and the place of the step.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct StepRef {
        1 [required] pub rollout: RolloutId,
        /// Its revision seen.
        2 pub seen: u64,
        /// Place of the step in its list.
        3 pub step: u32,
    }
}

fields! {
    /// A rollout.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Rollout {
        1 pub meta: Meta,
        2 [required] pub id: RolloutId,
        /// What it moves.
        3 [required] pub deployment: DeploymentId,
        /// Forward or return.
        4 [required] pub kind: RolloutKind,
        /// What was stable when it began.
        5 pub from: Option<Pair>,
        /// Where it goes.
        6 [required] pub to: Pair,
        7 [required] pub strategy: StrategyName,
        /// With which parameters, complete.
        8 [required] pub params: RolloutParams,
        /// Desired instances, from `StepsCompiled`.
        9 pub desired: u32,
        /// Order in which workers get instances, from `StepsCompiled`.
        10 pub order: Vec<WorkerName>,
        /// Workers that the placement chooses and that it goes without, as they were lost when its steps were compiled
        /// or counted out since.
        11 pub without: Vec<WorkerName>,
        /// Steps of the present phase.
        12 pub steps: Vec<StepRow>,
        /// Forward steps, kept for history once an undo has its own.
        13 pub forward_steps: Vec<StepRow>,
        /// First step that has not ended.
        14 pub cursor: u32,
        /// Forward or undo.
        15 [required] pub phase: RolloutPhase,
        /// Whether the undo's steps are compiled.
        16 pub undo_compiled: bool,
        /// Life cycle.
        17 [required] pub status: RolloutStatus,
        /// When it was paused, while it is: what runs out is moved on by the pause's length.
        18 pub paused_at: Option<Millis>,
        /// Whether a `Switch` moved roles and traffic.
        19 pub switched: bool,
        /// Why it turned back, was held or failed.
        20 pub reason: Option<Reason>,
        21 pub started_at: Millis,
        /// When traffic was back on stable, in a rollback.
        22 pub traffic_back_at: Option<Millis>,
        23 pub ended_at: Option<Millis>,
        /// The return rollout that undid it.
        24 pub undone_by: Option<RolloutId>,
        /// Who started it.
        25 pub principal: String,
        /// Wall-clock milliseconds of its start, for display.
        26 pub started_wall: u64,
        /// Wall-clock milliseconds of its end, for display; 0 while it lives.
        27 pub ended_wall: u64,
        /// How its versions share the traffic, from `StepsCompiled`.
        28 pub form: RouteForm,
        /// What bounds its instances going forward, from `StepsCompiled`; absent: nothing does.
        29 pub budget: Option<Budget>,
    }
}

impl Rollout {
    /// The pair that the present phase installs.
    pub fn target(&self) -> Option<&Pair> {
        match self.phase {
            RolloutPhase::Forward => Some(&self.to),
            RolloutPhase::Undo => self.from.as_ref(),
        }
    }

    /// Whether it goes back: the undo of what it did itself, or a return from one that completed. Such a one never
    /// turns and never gives up by itself.
    pub fn is_rollback(&self) -> bool {
        match (self.phase, self.kind) {
            (RolloutPhase::Undo, _) | (RolloutPhase::Forward, RolloutKind::Return { .. }) => true,
            (RolloutPhase::Forward, RolloutKind::Forward) => false,
        }
    }

    /// What bounds its instances; a rollback and an unbounded plan have no such bounds.
    pub fn bounded_by(&self) -> Option<Budget> {
        self.budget.filter(|_| !self.is_rollback())
    }

    /// The running step with its place.
    pub fn running(&self) -> Option<(u32, &StepRow)> {
        let row = self.steps.get(self.cursor as usize)?;
        (row.status == StepStatus::Running).then_some((self.cursor, row))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_oneof, proptest};

    use super::Reason;

    fn extreme() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(u64::MAX / 1000 + 1), any::<u64>()]
    }

    proptest! {
        #[test]
        fn any_counts_of_a_worker_can_be_told(errors in extreme(), requests in extreme(), limit in any::<u32>()) {
            let told = Reason::ErrorRate { errors, requests, limit }.to_string();
            let counted = format!("({errors} of {requests} requests");
            prop_assert!(told.contains(&counted), "{}", told);
        }
    }
}

/// (log index, ordinal): the idempotency key of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeliveryKey {
    /// Index of the entry that made it.
    pub index: u64,
    /// Place in that entry.
    pub ordinal: u32,
}

fields! {
    /// A delivery the leader owes: at least once, keyed.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Delivery {
        1 pub meta: Meta,
        /// GET this path on every one of these targets; all must answer 2xx.
        2 pub path: String,
        /// `ip:port` of each candidate instance.
        3 pub targets: Vec<String>,
        /// The step that owns it.
        4 [required] pub rollout: RolloutId,
        /// Place of the step in its list.
        5 pub step: u32,
        /// Which attempt of the step.
        6 pub attempt: u32,
        /// Cluster time after which it counts as failed.
        7 pub expires: Millis,
    }
}
