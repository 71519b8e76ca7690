//! Steps: what strategies compile to and the one executor runs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{BasisPoints, Check, Period};

/// How an installation makes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchMode {
    /// Start new ones next to the old ones; the old ones stay until a `Retire`.
    Beside,
    /// Each batch starts new ones and, once they pass, drains as many old ones (needs surge).
    Replace,
    /// Each batch drains and stops old ones first, then starts new ones at their addresses (needs unavailable).
    InPlace,
}

/// Who sets the weights while instances are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Routing {
    /// Explicit `Route` or `Switch` steps.
    Explicit,
    /// Each passed batch commits weights by healthy capacity.
    ByCapacity,
}

/// One step's kind and parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum StepKind {
    /// The artifact is verified and unpacked on the chosen workers.
    Stage,
    /// Bring the target arm's instances to a share of the desired count, in batches.
    Install {
        /// Share of the desired count that must pass at the end.
        share: BasisPoints,
        /// How room is made.
        mode: BatchMode,
        /// Who sets weights.
        routing: Routing,
        /// Instances a batch adds at most (parallelism, surge and unavailable already considered).
        batch: u32,
        /// Wait between batches.
        delay: Period,
        /// By what the version is judged meanwhile.
        checks: Vec<Check>,
    },
    /// Set the candidate's weight; stable has the rest.
    Route {
        /// The candidate's weight.
        weight: BasisPoints,
    },
    /// Atomic cut-over of roles and weights in one entry.
    Switch,
    /// Hold for cluster time while the checks run.
    Bake {
        /// How long.
        hold: Period,
        /// By what the version is judged meanwhile and at the end.
        checks: Vec<Check>,
    },
    /// Call the smoke path of every candidate through the outbox.
    Smoke {
        /// Path asked with GET.
        path: String,
    },
    /// All gates passed: the rollout becomes `promoting` and roles move unless a switch moved them.
    Promote,
    /// Drain, stop and remove the previous arm (or a leftover one), after a delay.
    Retire {
        /// Zero: the step waits until none is left. Else `retire_at` is set on the arm and the keeper does it.
        delay: Period,
    },
}

/// What `promote` may pass over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// The step by itself, as it only waits.
    Alone,
    /// With `--full`, unless it is the last of its kind.
    ButTheLast,
    Never,
}

/// What holds of every step of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether `promote` passes over it.
    pub skip: Skip,
    /// Whether it is there to judge: only then does "undecided" say something.
    pub judges: bool,
    /// Whether the rollout's deadline bounds it.
    pub deadline: bool,
    /// Whether its outcome has an event of its own.
    pub announced: bool,
}

impl StepKind {
    /// The facts of its kind.
    pub fn facts(&self) -> Facts {
        let (skip, judges, deadline, announced) = match self {
            Self::Bake { .. } => (Skip::Alone, true, false, false),
            Self::Smoke { .. } => (Skip::Alone, false, true, true),
            Self::Install { .. } | Self::Route { .. } => (Skip::ButTheLast, false, true, false),
            Self::Stage | Self::Switch | Self::Promote | Self::Retire { .. } => (Skip::Never, false, true, false),
        };
        Facts { skip, judges, deadline, announced }
    }

    /// By what a step of this kind judges.
    pub fn checks(&self) -> &[Check] {
        match self {
            Self::Install { checks, .. } | Self::Bake { checks, .. } => checks,
            Self::Stage
            | Self::Route { .. }
            | Self::Switch
            | Self::Smoke { .. }
            | Self::Promote
            | Self::Retire { .. } => &[],
        }
    }

    /// How an installation makes room; `None`: it is another kind of step.
    pub fn mode(&self) -> Option<BatchMode> {
        match self {
            Self::Install { mode, .. } => Some(*mode),
            Self::Stage
            | Self::Route { .. }
            | Self::Switch
            | Self::Bake { .. }
            | Self::Smoke { .. }
            | Self::Promote
            | Self::Retire { .. } => None,
        }
    }
}

/// A compiled step: what, and under which heading a person sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Heading for people, as in the spec: `25 %`, `install`, `switch`.
    pub group: String,
    /// What it does.
    pub kind: StepKind,
}

impl fmt::Display for Step {
    /// "stage: stage" says no more than "stage".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.to_string();
        if kind.contains(&self.group) { f.write_str(&kind) } else { write!(f, "{}: {kind}", self.group) }
    }
}

impl StepKind {
    /// The kind's name in tables and transcripts.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Install { share, .. } => write!(f, "install {share}"),
            Self::Route { weight } => write!(f, "route {weight}"),
            Self::Bake { hold, .. } => write!(f, "bake {hold}"),
            Self::Smoke { path } => write!(f, "smoke {path}"),
            Self::Retire { delay } if delay.0 > 0 => write!(f, "retire after {delay}"),
            Self::Stage | Self::Switch | Self::Promote | Self::Retire { .. } => f.write_str(self.name()),
        }
    }
}
