//! Samples in, findings out: what each check of a step concludes, and what follows from all of them. A test is one file
//! here, with its line of [`tester`], and a variant of [`Test`]; nothing else knows its name.
//!
//! Integer arithmetic only for now, as both tests hold exactly. Not here: how long is waited and what an absence of
//! data does (`bake`).

mod ceiling;
pub(super) mod health;

use std::collections::BTreeMap;

use strum::VariantArray as _;

use super::prelude::*;

/// A test: of which settings its check is made, and how that is judged.
struct Tester {
    /// The check, or why a rollout has none.
    make: fn(&Asked<'_>) -> Result<Check, &'static str>,
    judge: fn(&Case<'_>, &Check) -> Finding,
}

/// The registry.
fn tester(test: Test) -> Tester {
    match test {
        Test::Health => health::TESTER,
        Test::Ceiling => ceiling::TESTER,
    }
}

/// From what a rollout's checks are made.
pub(super) struct Asked<'a> {
    pub params: &'a RolloutParams,
    pub spec: &'a Spec,
    /// Whether something ran before it.
    pub before: bool,
}

impl Asked<'_> {
    /// The checks that the settings ask for.
    pub fn checks(&self) -> Vec<Check> {
        Test::VARIANTS.iter().filter_map(|test| (tester(*test).make)(self).ok()).collect()
    }

    /// Why the settings ask for none that needs traffic.
    pub fn left_out(&self) -> Option<&'static str> {
        Test::VARIANTS.iter().find_map(|test| (tester(*test).make)(self).err())
    }
}

/// What is judged: a pair, by what was seen of it since a step began.
pub(super) struct Case<'a> {
    pub view: &'a View<'a>,
    pub pair: &'a Pair,
    pub step: Option<StepId>,
}

impl Case<'_> {
    /// What workers count for the step.
    fn counts(&self) -> Option<&BTreeMap<WorkerName, StepCounts>> {
        self.view.seen.counts.get(&(self.view.id().clone(), self.step?))
    }

    /// What each check concludes.
    pub fn findings<'c>(&self, checks: &'c [Check]) -> Vec<(&'c Check, Finding)> {
        checks.iter().map(|check| (check, (tester(check.test).judge)(self, check))).collect()
    }

    /// What follows from all of them: the first of the worst.
    pub fn worst(&self, checks: &[Check]) -> Finding {
        let all = self.findings(checks).into_iter().map(|(_, finding)| finding);
        let worse = |a: Finding, b: Finding| if b.rank() > a.rank() { b } else { a };
        all.reduce(worse).unwrap_or(Finding::Unjudged)
    }
}

/// What a check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing for or against: it has nothing to compare.
    Unjudged,
    /// Within its limit, with enough data from everyone.
    NotWorse,
    /// Too little of this metric was seen to say.
    Data { metric: MetricName, have: u64, need: u64 },
    /// What these workers counted is not known, for some with a reason that time does not mend.
    Missing { workers: Vec<WorkerName>, uncounted: Vec<(WorkerName, String)> },
    /// Beyond its limit.
    Worse(Reason),
}

impl Finding {
    fn rank(&self) -> u8 {
        match self {
            Self::Unjudged => 0,
            Self::NotWorse => 1,
            Self::Data { .. } => 2,
            Self::Missing { .. } => 3,
            Self::Worse(_) => 4,
        }
    }

    /// As evidence has it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Unjudged => Verdict::Unjudged,
            Self::NotWorse => Verdict::NotWorse,
            Self::Data { .. } | Self::Missing { .. } => Verdict::Undecided,
            Self::Worse(_) => Verdict::Worse,
        }
    }
}
