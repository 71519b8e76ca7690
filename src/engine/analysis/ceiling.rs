//! The absolute ceiling of a pair's own share since the step began: the errors of its requests.
//!
//! Invariants: a ceiling is passed only by counts that are there, never by their absence; a worker whose counts are not
//! known makes "not worse" impossible, as does too small a number of requests. Not here: what a lost worker means
//! (`bake`).

use super::{Asked, Case, Finding, Tester};
use crate::engine::prelude::*;

pub(super) const TESTER: Tester = Tester { make, judge };

fn make(asked: &Asked<'_>) -> Result<Check, &'static str> {
    match (&asked.spec.metrics, asked.params.max_error_rate.0, asked.before) {
        (None, _, _) => Err("the spec has no metrics"),
        (Some(_), None, _) => Err("no max_error_rate is set"),
        (Some(_), Some(_), false) => Err("nothing ran before it"),
        (Some(_), Some(limit), true) => Ok(Check {
            test: Test::Ceiling,
            metric: MetricName::ERRORS,
            over: Some(MetricName::REQUESTS),
            limit: limit.0.into(),
            min: asked.params.min_requests,
        }),
    }
}

/// Judges by the whole-step totals.
fn judge(case: &Case<'_>, check: &Check) -> Finding {
    let (view, pair, known) = (case.view, case.pair, case.counts());
    let Some(over) = &check.over else { return Finding::Unjudged };
    let (mut seen, mut of) = (0_u64, 0_u64);
    let counted = |samples: &Samples| samples.count(&check.metric).zip(samples.count(over));
    for (n, all) in known.into_iter().flatten().filter_map(|(_, c)| counted(c.pairs.get(pair)?)) {
        (seen, of) = (seen.saturating_add(n), of.saturating_add(all));
    }
    let why = |c: &StepCounts| {
        let unknown = [&check.metric, over].into_iter().find_map(|metric| c.why_unknown(pair, metric));
        // One without the other says nothing of a share.
        let half = c.pairs.get(pair).is_some_and(|s| s.count(&check.metric).is_some() != s.count(over).is_some());
        unknown
            .map(ToString::to_string)
            .or_else(|| half.then(|| format!("its {} and {over} do not come together", check.metric)))
    };
    let runs = |i: &&&Instance| &i.pair == pair && i.life == Life::Running && view.worker_ready(&i.worker);
    let mut workers: Vec<WorkerName> = view
        .instances
        .iter()
        .filter(runs)
        .map(|i| &i.worker)
        .filter(|w| known.and_then(|k| k.get(*w)).is_none_or(|c| why(c).is_some()))
        .cloned()
        .collect();
    workers.sort();
    workers.dedup();
    // A new leader hears everyone before it judges; later a silent worker must not hide what the others saw.
    let hear_first = !workers.is_empty() && view.awaiting(workers.iter());
    if !hear_first && check.exceeded(seen, of) {
        let limit = u32::try_from(check.limit).unwrap_or(u32::MAX);
        return Finding::Worse(Reason::ErrorRate { errors: seen, requests: of, limit });
    }
    if !workers.is_empty() {
        let uncounted = workers.iter().filter_map(|w| Some((w.clone(), why(known?.get(w)?)?))).collect();
        return Finding::Missing { workers, uncounted };
    }
    if of < check.min {
        return Finding::Data { metric: over.clone(), have: of, need: check.min };
    }
    Finding::NotWorse
}
