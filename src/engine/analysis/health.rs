//! Failing fast: what a candidate's own committed life and health say, without waiting for a deadline.
//!
//! An exit before the first pass, or `max_health_failures` failed checks in a row, is a failure at once.
//! `failure_action: continue` counts such instances instead (`tolerated`).

use super::{Asked, Case, Finding, Tester};
use crate::engine::prelude::*;
use crate::engine::view::fell_over;

pub(super) const TESTER: Tester = Tester { make, judge };

fn make(asked: &Asked<'_>) -> Result<Check, &'static str> {
    let limit = asked.params.max_health_failures.into();
    Ok(Check { test: Test::Health, metric: MetricName::HEALTH, over: None, limit, min: 0 })
}

/// That nothing failed compares nothing: it never says "not worse".
fn judge(case: &Case<'_>, check: &Check) -> Finding {
    let most = u32::try_from(check.limit).unwrap_or(u32::MAX);
    first(case.view, most, case.pair, case.step.map_or(0, |s| s.0)).map_or(Finding::Unjudged, Finding::Worse)
}

/// Whether an instance counts as failed, with so many failed checks in a row.
fn has_failed(most: u32, i: &Instance) -> bool {
    fell_over(i) || (i.life.is_wanted() && i.health == Health::Failing && i.failures >= most)
}

/// The first failure among instances of `pair`, as far as it happened at or after entry `since`.
pub(in crate::engine) fn failure(view: &View<'_>, r: &Rollout, pair: &Pair, since: u64) -> Option<Reason> {
    first(view, r.params.max_health_failures, pair, since)
}

fn first(view: &View<'_>, most: u32, pair: &Pair, since: u64) -> Option<Reason> {
    let mine = view.instances.iter().filter(|i| &i.pair == pair);
    let bad = mine.filter(|i| has_failed(most, i)).find(|i| {
        // What ended in an earlier attempt was judged there; what still runs and fails is judged now.
        i.life.is_wanted() || i.meta.updated_index >= since
    })?;
    Some(Reason::HealthCheck { instance: bad.id, detail: describe(bad) })
}

/// What an instance did, for people.
pub(in crate::engine) fn describe(i: &Instance) -> String {
    match (&i.exit, i.passed_once) {
        (Some(exit), false) => format!("on {} ended before it first passed its checks: {exit}", i.worker),
        (Some(exit), true) if !i.life.is_wanted() => format!("on {} ended: {exit}", i.worker),
        (Some(_) | None, _) if i.health == Health::Failing => {
            format!("on {} failed {} health checks in a row", i.worker, i.failures)
        }
        (Some(_) | None, true) => format!("on {} ended", i.worker),
        (None, false) => format!("on {} never passed its checks", i.worker),
    }
}

/// A worker that could not do the present generation for `pair`, among those that `of` takes. A package that it only
/// keeps is no reason.
pub(in crate::engine) fn refused(
    view: &View<'_>,
    pair: &Pair,
    of: impl Fn(&crate::model::WorkerName) -> bool,
) -> Option<Reason> {
    let all = &view.state.assignments;
    all.workers_of(view.id()).filter(|w| of(w)).find_map(|w| {
        let a = all.get(&(w.clone(), view.id().clone()))?;
        match &a.reached {
            Some((generation, Reached::Failed(detail))) if *generation == a.generation => {
                Some(Reason::Worker { worker: w.clone(), detail: detail.clone() })
            }
            Some((generation, Reached::Refused { packages, detail }))
                if *generation == a.generation && packages.contains(&pair.digest) =>
            {
                Some(Reason::Worker { worker: w.clone(), detail: detail.clone() })
            }
            Some((
                _,
                Reached::Accepted
                | Reached::Staged
                | Reached::Active
                | Reached::Committed
                | Reached::Failed(_)
                | Reached::Refused { .. },
            ))
            | None => None,
        }
    })
}
