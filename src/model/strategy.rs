//! The name of a strategy, and the words of its policies. What a strategy does stands in its file in `engine/strategy`.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

use super::{ModelError, one_of};

/// The name of a strategy, such as `blue-green`: 1 to 40 of a-z, 0-9 and `-`. Whether there is such a strategy is asked
/// where one starts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StrategyName(Cow<'static, str>);

impl StrategyName {
    /// All at once, then check; the form of every first rollout.
    pub const DIRECT: Self = Self(Cow::Borrowed("direct"));
    /// In batches, by capacity.
    pub const ROLLING: Self = Self(Cow::Borrowed("rolling"));
    /// By rising weights with a bake at each.
    pub const CANARY: Self = Self(Cow::Borrowed("canary"));
    /// Beside, smoke-tested, then switched at once.
    pub const BLUE_GREEN: Self = Self(Cow::Borrowed("blue-green"));

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StrategyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StrategyName {
    type Err = ModelError;

    fn from_str(s: &str) -> Result<Self, ModelError> {
        let folded = s.to_ascii_lowercase().replace('_', "-");
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match folded.as_str() {
            "bluegreen" => Ok(Self::BLUE_GREEN),
            text if (1..=40).contains(&text.len()) && text.chars().all(known) => Ok(Self(Cow::Owned(folded))),
            _ => Err(ModelError::BadValue {
                value: s.chars().take(63).collect(),
                expected: "the name of a strategy (1 to 40 of a-z, 0-9 and -, such as canary)",
            }),
        }
    }
}

/// What a failing batch or verdict does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, EnumString, VariantNames,
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
