//! A rollout's row: compiled steps, cursor, evidence. Its transitions stand in `state::lifecycle`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Meta;
use crate::model::{
    DeploymentId, InstanceId, Millis, Pair, Period, RolloutId, RolloutParams, Step, StepId, Strategy, WorkerName,
};

/// Why a rollout exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutKind {
    /// To a new pair.
    Forward,
    /// Back from a completed rollout, whose id it names.
    Return {
        /// The rollout it undoes.
        undoes: RolloutId,
    },
}

/// Which way the steps run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutPhase {
    /// Towards the new pair.
    Forward,
    /// Back to the old one.
    Undo,
}

/// Life cycle (table in `state::lifecycle`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

impl RolloutStatus {
    /// A terminal rollout never changes again (invariant 8).
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Active | Self::Paused | Self::Promoting | Self::RollingBack => false,
            Self::Completed | Self::RolledBack | Self::Failed | Self::Aborted => true,
        }
    }
}

impl fmt::Display for RolloutStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Promoting => "promoting",
            Self::RollingBack => "rolling_back",
            Self::Completed => "completed",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        })
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
        /// Which one.
        instance: InstanceId,
        /// What it did.
        detail: String,
    },
    /// A worker could not stage or activate.
    Worker {
        /// Which one.
        worker: WorkerName,
        /// What it said.
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
    /// An operator.
    Operator {
        /// Who.
        principal: String,
    },
    /// The steps could not be compiled.
    Compile {
        /// Why not.
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

/// Requests and errors of one pair within a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCounts {
    /// The pair.
    pub pair: Pair,
    /// Requests since the step began.
    pub requests: u64,
    /// Errors among them.
    pub errors: u64,
}

/// What a check concluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Below every ceiling with enough data.
    NotWorse,
    /// Above a ceiling.
    Worse,
    /// Not enough data to say.
    Undecided,
    /// The step has no check.
    Unjudged,
}

/// Compact record of what was seen when a step ended (16 KiB at most), so that history explains itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// From when.
    pub from: Millis,
    /// To when.
    pub to: Millis,
    /// Totals by worker.
    pub counts: BTreeMap<WorkerName, Vec<PairCounts>>,
    /// Ceiling applied, in basis points.
    pub limit: Option<u32>,
    /// The conclusion.
    pub verdict: Verdict,
    /// Free line: which node served a switch when, what a hook answered.
    pub note: String,
}

/// A step's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// A batch of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Number within the step, from 1.
    pub n: u32,
    /// Instances it made (filled when they exist).
    pub added: Vec<InstanceId>,
    /// Instances it replaces.
    pub replaced: Vec<InstanceId>,
    /// When it began.
    pub started_at: Millis,
    /// When it counts as failed.
    pub deadline: Millis,
    /// Whether it passed; the next one may start at `next_at`.
    pub passed: bool,
    /// End of the delay after it.
    pub next_at: Millis,
    /// Whether the new ones wait for those they replace, at their addresses.
    pub in_place: bool,
}

/// A step with what happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRow {
    /// The compiled step.
    pub step: Step,
    /// Where it stands.
    pub status: StepStatus,
    /// Which attempt, from 1 (0 before the first).
    pub attempt: u32,
    /// Index of its newest `StepStarted`.
    pub step_id: Option<StepId>,
    /// When it began.
    pub started_at: Option<Millis>,
    /// End of a bake.
    pub until: Option<Millis>,
    /// When it counts as failed.
    pub deadline: Option<Millis>,
    /// The newest batch of an installation.
    pub batch: Option<Batch>,
    /// Outcome of a smoke test's current attempt: answered well, and what it said.
    pub hook: Option<(bool, String)>,
    /// Index and time of the entry that switched or set the route.
    pub routed: Option<(u64, Millis)>,
    /// What was seen.
    pub evidence: Option<Evidence>,
    /// When it ended.
    pub ended_at: Option<Millis>,
}

/// A rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Row data.
    pub meta: Meta,
    /// Its id.
    pub id: RolloutId,
    /// What it moves.
    pub deployment: DeploymentId,
    /// Forward or return.
    pub kind: RolloutKind,
    /// What was stable when it began.
    pub from: Option<Pair>,
    /// Where it goes.
    pub to: Pair,
    /// How.
    pub strategy: Strategy,
    /// With which parameters, complete.
    pub params: RolloutParams,
    /// Desired instances, from `StepsCompiled`.
    pub desired: u32,
    /// Order in which workers get instances, from `StepsCompiled`.
    pub order: Vec<WorkerName>,
    /// Workers that the placement chooses and that it goes without, as they were lost when its steps were compiled or counted out since.
    pub without: Vec<WorkerName>,
    /// Steps of the present phase.
    pub steps: Vec<StepRow>,
    /// Forward steps, kept for history once an undo has its own.
    pub forward_steps: Vec<StepRow>,
    /// First step that has not ended.
    pub cursor: u32,
    /// Forward or undo.
    pub phase: RolloutPhase,
    /// Whether the undo's steps are compiled.
    pub undo_compiled: bool,
    /// Life cycle.
    pub status: RolloutStatus,
    /// Unused rest of a running bake while paused.
    pub remainder: Option<Period>,
    /// Unused rest of the running step's deadline while paused.
    pub deadline_remainder: Option<Period>,
    /// When it was paused, while it is: what runs out is moved on by the pause's length.
    pub paused_at: Option<Millis>,
    /// Whether a `Switch` moved tracks and traffic.
    pub switched: bool,
    /// Why it turned back, was held or failed.
    pub reason: Option<Reason>,
    /// When it was started.
    pub started_at: Millis,
    /// When traffic was back on stable, in a rollback.
    pub traffic_back_at: Option<Millis>,
    /// When it ended.
    pub ended_at: Option<Millis>,
    /// The return rollout that undid it.
    pub undone_by: Option<RolloutId>,
    /// Who started it.
    pub principal: String,
    /// Wall-clock milliseconds of its start, for display.
    pub started_wall: u64,
    /// Wall-clock milliseconds of its end, for display; 0 while it lives.
    pub ended_wall: u64,
}

impl Rollout {
    /// Whether it goes back: the undo of what it did itself, or a return from one that completed. Such a one never turns and never gives
    /// up by itself.
    pub fn is_way_back(&self) -> bool {
        match (self.phase, self.kind) {
            (RolloutPhase::Undo, _) | (RolloutPhase::Forward, RolloutKind::Return { .. }) => true,
            (RolloutPhase::Forward, RolloutKind::Forward) => false,
        }
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
