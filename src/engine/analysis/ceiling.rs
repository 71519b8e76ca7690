//! The absolute ceiling of a pair's own error rate since the step began.
//!
//! Invariants: a ceiling is passed only by counts that are there, never by their absence; a worker whose counts are not known makes
//! "not worse" impossible, as does too small a number of requests. Not here: what a lost worker means (`bake`).

use crate::engine::prelude::*;

/// What the ceiling says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum Finding {
    /// No ceiling is configured, or the service has no counters.
    Unjudged,
    /// Above the ceiling, with enough requests.
    Worse { errors: u64, requests: u64, limit: u32 },
    /// Counts of these workers are not known.
    Missing(Vec<WorkerName>),
    /// Too few requests to say.
    Data { have: u64, need: u64 },
    /// Below the ceiling, with enough requests from everyone.
    NotWorse,
}

/// Judges `pair` by the whole-step totals known for `step`.
pub(in crate::engine) fn judge(view: &View<'_>, r: &Rollout, pair: &Pair, step: Option<StepId>) -> Finding {
    let metrics = view.spec(pair).is_some_and(|s| s.metrics.is_some());
    let (Some(limit), Some(step), true) = (r.params.max_error_rate.0, step, metrics) else { return Finding::Unjudged };
    let known = view.seen.counts.get(&(view.id().clone(), step));
    let (mut requests, mut errors) = (0_u64, 0_u64);
    for counts in known.into_iter().flat_map(|k| k.values()).flat_map(|c| &c.pairs).filter(|c| &c.pair == pair) {
        requests = requests.saturating_add(counts.requests);
        errors = errors.saturating_add(counts.errors);
    }
    let mut missing: Vec<WorkerName> = view
        .instances
        .iter()
        .filter(|i| &i.pair == pair && i.life == Life::Running && view.worker_ready(&i.worker))
        .map(|i| &i.worker)
        .filter(|w| known.is_none_or(|k| !k.get(*w).is_some_and(|c| c.knows(pair))))
        .cloned()
        .collect();
    missing.sort();
    missing.dedup();
    // A new leader hears everyone before it judges; later a silent worker must not hide what the others saw.
    let hear_first = !missing.is_empty() && view.awaiting(missing.iter());
    if !hear_first && above(errors.into(), requests.into(), limit.0) && requests >= r.params.min_requests {
        return Finding::Worse { errors, requests, limit: limit.0 };
    }
    if !missing.is_empty() {
        return Finding::Missing(missing);
    }
    if requests < r.params.min_requests {
        return Finding::Data { have: requests, need: r.params.min_requests };
    }
    Finding::NotWorse
}
