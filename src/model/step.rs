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
    /// Stay as it is until a person promotes.
    Pause {
        /// By what the version is judged meanwhile.
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

/// What a step is, whatever its kind: the law, the CLI and the planner ask for this and not for the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Whether `promote` passes over it.
    pub skip: Skip,
    /// Whether it is there to judge: only then does "undecided" say something.
    pub judges: bool,
    /// Whether the rollout's deadline bounds it.
    pub deadline: bool,
    /// Whether its outcome has an event of its own.
    pub announced: bool,
    /// By what the version is judged meanwhile, and at the end of one that is there to judge.
    pub checks: &'a [Check],
    /// Whether only a person ends it.
    pub held: bool,
    /// For how long it lasts at least.
    pub hold: Option<Period>,
    /// Whether the workers of the rollout's order unpack the release in it.
    pub stages: bool,
    /// The share of the desired instances that pass at its end, and how room for them is made.
    pub installs: Option<(BasisPoints, BatchMode)>,
    /// The most that the candidate's weight rises to in it, and who sets it: the step at once, or its batches.
    pub raises: Option<(BasisPoints, Routing)>,
    /// Whether roles and all traffic move in it, in one entry.
    pub switches: bool,
    /// What its smoke test asks for.
    pub asks: Option<&'a str>,
    /// Whether the promotion ends it.
    pub promotes: bool,
    /// After what time the arm that is left goes; zero: it goes in the step.
    pub retires: Option<Period>,
}

impl StepKind {
    /// The facts of its kind.
    pub fn facts(&self) -> Facts<'_> {
        const PLAIN: Facts<'static> = Facts {
            skip: Skip::Never,
            judges: false,
            deadline: true,
            announced: false,
            checks: &[],
            held: false,
            hold: None,
            stages: false,
            installs: None,
            raises: None,
            switches: false,
            asks: None,
            promotes: false,
            retires: None,
        };
        match self {
            Self::Stage => Facts { stages: true, ..PLAIN },
            Self::Install { share, mode, routing, checks, .. } => {
                let raises = (*routing == Routing::ByCapacity).then_some((*share, *routing));
                Facts { skip: Skip::ButTheLast, checks, installs: Some((*share, *mode)), raises, ..PLAIN }
            }
            Self::Route { weight } => {
                Facts { skip: Skip::ButTheLast, raises: Some((*weight, Routing::Explicit)), ..PLAIN }
            }
            Self::Switch => Facts { switches: true, ..PLAIN },
            Self::Bake { hold, checks } => {
                Facts { skip: Skip::Alone, judges: true, deadline: false, checks, hold: Some(*hold), ..PLAIN }
            }
            Self::Pause { checks } => Facts { skip: Skip::Alone, deadline: false, checks, held: true, ..PLAIN },
            Self::Smoke { path } => Facts { skip: Skip::Alone, announced: true, asks: Some(path), ..PLAIN },
            Self::Promote => Facts { promotes: true, ..PLAIN },
            Self::Retire { delay } => Facts { retires: Some(*delay), ..PLAIN },
        }
    }

    /// By what a step of this kind judges.
    pub fn checks(&self) -> &[Check] {
        self.facts().checks
    }

    /// How an installation makes room; `None`: it is another kind of step.
    pub fn mode(&self) -> Option<BatchMode> {
        self.facts().installs.map(|(_, mode)| mode)
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
            Self::Pause { .. } => f.write_str("pause until promoted"),
            Self::Stage | Self::Switch | Self::Promote | Self::Retire { .. } => f.write_str(self.name()),
        }
    }
}
