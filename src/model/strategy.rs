//! Strategies and the parameters of one rollout. A strategy only *compiles* to steps (`engine/strategy`).

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

use super::{BasisPoints, BatchMode, ModelError, Period, WHOLE, fields, nearest, one_of};

/// How a rollout moves to its new pair.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Display,
    strum::VariantArray,
    VariantNames,
)]
#[strum(serialize_all = "kebab-case")]
pub enum Strategy {
    /// All at once, then check.
    Direct,
    /// In batches, by capacity.
    Rolling,
    /// By rising weights with a bake at each.
    Canary,
    /// Beside, smoke-tested, then switched at once.
    BlueGreen,
}

impl Strategy {
    /// All strategies, for messages and completions.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;
}

impl FromStr for Strategy {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let folded = s.to_ascii_lowercase().replace('_', "-");
        if folded == "bluegreen" {
            return Ok(Self::BlueGreen);
        }
        Self::ALL.iter().copied().find(|x| x.to_string() == folded).ok_or_else(|| {
            let near = nearest(&folded, Self::VARIANTS).map(|k| format!("; did you mean {k}?"));
            ModelError::Document(format!(
                "unknown strategy {s:?}{}; known: {}",
                near.unwrap_or_default(),
                Self::VARIANTS.join(", ")
            ))
        })
    }
}

/// What a failing batch or verdict does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, EnumString, VariantNames,
)]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = one_of::<Self>)]
pub enum FailureAction {
    /// Hold where it is until an operator decides.
    Pause,
    /// Unwind everything, traffic first.
    Rollback,
    /// Count the failed instances as failed and go on.
    Continue,
}

/// What a bake without enough data does at its end.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantNames,
)]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = one_of::<Self>)]
pub enum OnNoData {
    /// Wait for data: silence is never health.
    Hold,
    /// Take the absence of data for good (an operator's explicit choice).
    Pass,
    /// Take it for a failure.
    Fail,
}

fields! {
    json
    /// Everything that shapes one rollout, complete: defaults are filled in when the rollout starts.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RolloutParams {
        /// The strategy. `None` only in a spec: the environment's default.
        1 pub strategy: Option<Strategy>,
        /// Canary weights, rising, each at most the whole. 100 % is added when missing.
        2 pub steps: Vec<BasisPoints>,
        /// Stability window of each canary step and after a direct installation.
        3 pub bake: Period,
        /// Absolute ceiling of the new pair's error rate; `None` switches the check off.
        4 pub max_error_rate: Option<BasisPoints>,
        /// Requests the new pair must have had before its error rate is judged.
        5 pub min_requests: u64,
        /// What to do at the end of a bake without that many, or with a worker that is lost. `None` only in a spec: the environment's
        /// default.
        6 pub on_no_data: Option<OnNoData>,
        /// Instances of one batch at most; 1 or more.
        7 pub parallelism: u32,
        /// Wait between batches.
        8 pub delay: Period,
        /// Instances above the desired count while updating.
        9 pub max_surge: u32,
        /// Instances below the desired count while updating.
        10 pub max_unavailable: u32,
        /// What a failure does.
        11 [required] pub failure_action: FailureAction,
        /// Consecutive failed health checks of a candidate that count as a failure.
        12 pub max_health_failures: u32,
        /// Longest time of one batch from its start until its instances pass, drains in place not counted. `None`: the spec's
        /// `health.start_within` with a little time for reports. The worker itself gives up after `health.start_within`.
        13 pub health_timeout: Option<Period>,
        /// Blue-green: time between all healthy and the smoke test.
        14 pub warm_up: Period,
        /// Blue-green: path of the smoke test; `None` leaves it out.
        15 pub smoke: Option<String>,
        /// Blue-green: time watched after the switch.
        16 pub monitor: Period,
        /// How long the old pair is kept running after completion.
        17 pub grace: Period,
        /// Longest time a step may take before it counts as failed (bakes and delays not counted).
        18 pub deadline: Period,
    }
}

impl Default for RolloutParams {
    fn default() -> Self {
        Self {
            strategy: None,
            steps: [10, 25, 50, 100].map(BasisPoints::percent).to_vec(),
            bake: Period::minutes(5),
            max_error_rate: Some(BasisPoints::percent(5)),
            min_requests: 500,
            on_no_data: None,
            parallelism: 1,
            delay: Period(0),
            max_surge: 1,
            max_unavailable: 0,
            failure_action: FailureAction::Rollback,
            max_health_failures: 3,
            health_timeout: None,
            warm_up: Period::seconds(10),
            smoke: None,
            monitor: Period::minutes(5),
            grace: Period::minutes(60),
            deadline: Period::minutes(30),
        }
    }
}

impl RolloutParams {
    /// What the absence of data does; to hold where neither the rollout nor its environment said anything.
    pub fn no_data(&self) -> OnNoData {
        self.on_no_data.unwrap_or(OnNoData::Hold)
    }

    /// Instances of one batch where room is made in this way; beside all of `desired` at once.
    pub fn batch(&self, mode: BatchMode, desired: u32) -> u32 {
        let most = match mode {
            BatchMode::Beside => desired,
            BatchMode::Replace => self.parallelism.min(self.max_surge.saturating_add(self.max_unavailable)),
            BatchMode::InPlace => self.parallelism.min(self.max_unavailable.max(1)),
        };
        most.max(1)
    }

    /// Checks ranges and sums. `field` is put in front of field names, such as `rollout`.
    pub fn check(&self, field: &str) -> Result<(), ModelError> {
        let err = |name: &str, problem: String| Err(ModelError::field(format!("{field}.{name}"), problem));
        let mut last = BasisPoints(0);
        for step in &self.steps {
            if *step > WHOLE {
                return err("steps", format!("{step} is over 100 %"));
            }
            if *step <= last {
                return err(
                    "steps",
                    format!("{step} does not rise above {last}: write rising percentages such as 10,25,50,100"),
                );
            }
            last = *step;
        }
        if self.steps.is_empty() || self.steps.len() > 50 {
            return err("steps", "needs 1 to 50 percentages".into());
        }
        if self.parallelism == 0 || self.parallelism > 1000 {
            return err("parallelism", "must be from 1 to 1000".into());
        }
        if self.max_surge == 0 && self.max_unavailable == 0 {
            return err(
                "max_surge",
                "max_surge and max_unavailable are both 0, so no instance could ever be replaced: set one of them"
                    .into(),
            );
        }
        if self.max_surge > 1000 || self.max_unavailable > 1000 {
            return err("max_surge", "max_surge and max_unavailable are at most 1000".into());
        }
        if self.max_health_failures == 0 {
            return err("max_health_failures", "must be 1 or more".into());
        }
        if self.health_timeout == Some(Period(0)) {
            return err("health_timeout", "must be longer than 0".into());
        }
        if self.deadline == Period(0) {
            return err("deadline", "must be longer than 0".into());
        }
        for (name, p) in [
            ("bake", self.bake),
            ("delay", self.delay),
            ("warm_up", self.warm_up),
            ("monitor", self.monitor),
            ("grace", self.grace),
            ("deadline", self.deadline),
            ("health_timeout", self.health_timeout.unwrap_or_default()),
        ] {
            if p > Period::minutes(60 * 24 * 30) {
                return err(name, "must be at most 30 days".into());
            }
        }
        match &self.smoke {
            Some(p) if !p.starts_with('/') || p.len() > 256 => {
                err("smoke", format!("{p:?} is not a path starting with / of at most 256 characters"))
            }
            Some(_) | None => Ok(()),
        }
    }
}
