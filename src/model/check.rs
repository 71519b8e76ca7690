//! Checks: by what a step judges its version, each with the metric, the test and the limit.
//!
//! A strategy's compiler makes them of the rollout's settings, the planner judges by them and the law reads them in the
//! step; nobody asks which settings they came from. A new test is a variant of [`Test`] with its file in
//! `engine/analysis`, which is also where it says of which settings its checks are made. Not here: the tests
//! themselves.

use serde::{Deserialize, Serialize};

use super::{MetricName, fields};

/// How a metric is judged. Checks stand in a step in this order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Test {
    /// What an instance's own checks and its life say.
    Health,
    /// The new version's own share, whatever the old one does.
    Ceiling,
}

fields! {
    /// One thing that a step judges its version by.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Check {
        1 [required] pub test: Test,
        /// What is judged.
        2 [required] pub metric: MetricName,
        /// What it is a share of, such as the errors of the requests; `None`: it is judged by itself.
        3 pub over: Option<MetricName>,
        /// The most that is allowed: of a share in basis points.
        4 pub limit: u64,
        /// How much of `over` there must be before anything is said.
        5 pub min: u64,
    }
}

impl Check {
    /// Whether it needs counts of traffic, so that it says nothing before there is some.
    pub fn needs_traffic(&self) -> bool {
        self.over.is_some()
    }

    /// Whether a share is above the limit, exactly, with enough to say so. The law asks this too: no test may overlook
    /// it.
    pub fn exceeded(&self, seen: u64, of: u64) -> bool {
        let (seen, of) = (u128::from(seen), u128::from(of));
        of >= u128::from(self.min) && seen.saturating_mul(10_000) > of.saturating_mul(u128::from(self.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_itself_is_allowed_and_little_says_nothing() {
        let over = Some(MetricName::REQUESTS);
        let check =
            |limit, min| Check { test: Test::Ceiling, metric: MetricName::ERRORS, over: over.clone(), limit, min };
        assert!(!check(500, 0).exceeded(5, 100));
        assert!(check(500, 0).exceeded(6, 100));
        assert!(!check(500, 101).exceeded(100, 100));
        assert!(!check(0, 0).exceeded(0, 0));
        assert!(check(0, 0).exceeded(1, u64::MAX));
        assert!(!check(10_000, 0).exceeded(u64::MAX, u64::MAX));
    }
}
