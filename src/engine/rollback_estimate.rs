//! How long going back takes: at once where the old set still runs, else an estimate by batches.
//!
//! Invariant: an estimate and never a bound; it counts what a batch must wait for (drain, caches, checks), not what a
//! program takes to start. Not here: going back (`back`).

use std::fmt;

use super::drain::DEFAULT_TTL;
use super::prelude::*;
use super::preview::planned;
use super::strategy::Subject;

/// What a batch waits for beside the spec's times: a process, reports, an entry or two.
const OVERHEAD: Period = Period::seconds(1);

/// How a rollout can be gone back from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackEstimate {
    /// The old set runs: the traffic goes back in one entry.
    AtOnce {
        /// For how long after the completion it is kept running.
        kept: Option<Period>,
    },
    /// So many batches, each with a start, and with a drain where room must be made first.
    InBatches {
        /// How many instances.
        instances: u32,
        /// In how many batches.
        batches: u32,
        /// About how long in all.
        about: Period,
    },
}

impl fmt::Display for RollbackEstimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtOnce { kept: None } => f.write_str("at once: the old instances run"),
            Self::AtOnce { kept: Some(kept) } => {
                write!(f, "at once while the old instances are kept, for {kept} after the rollout completes")
            }
            Self::InBatches { instances, batches: 1, about } => {
                write!(f, "about {about}: {instances} instances are started again")
            }
            Self::InBatches { instances, batches, about } => {
                write!(f, "about {about}: {instances} instances are replaced again, in {batches} batches")
            }
        }
    }
}

/// Of a rollout that is only planned; `None`: there is nothing to go back to.
pub fn planned_rollback_estimate(state: &State, by: &Principal, start: &StartRollout) -> Option<RollbackEstimate> {
    let (rollout, steps) = planned(state, by, start).ok()?;
    let subject = Subject::of(&rollout);
    let from = subject.from.as_ref()?;
    let spec = state.spec(&subject.deployment, from.spec)?;
    let desired = state.deployments.get(&subject.deployment)?.desired;
    let mode = steps.iter().find_map(|s| s.kind.mode())?;
    let grace = steps.iter().find_map(|s| s.kind.facts().retires.filter(|delay| delay.0 > 0));
    Some(match grace {
        Some(kept) => RollbackEstimate::AtOnce { kept: Some(kept) },
        None => in_batches(desired, mode, &subject.params, spec),
    })
}

/// Of a live rollout, or of the newest one that completed.
pub fn rollback_estimate(state: &State, r: &Rollout) -> Option<RollbackEstimate> {
    let d = state.deployments.get(&r.deployment)?;
    let newest = d.live == Some(r.id) || d.live.is_none() && state.undoable(d).is_some_and(|u| u.id == r.id);
    let from = r.from.as_ref().filter(|_| newest && !(r.is_rollback() && r.status.is_terminal()))?;
    let pair = if r.is_rollback() { r.target()? } else { from };
    let spec = state.spec(&r.deployment, pair.spec)?;
    let here = passing(state, &r.deployment, pair);
    let desired = r.desired.max(d.desired);
    if here >= desired {
        return Some(RollbackEstimate::AtOnce { kept: None });
    }
    let mode = Subject::of(r).mode.unwrap_or(BatchMode::Beside);
    Some(in_batches(desired - here, mode, &r.params, spec))
}

fn in_batches(instances: u32, mode: BatchMode, p: &RolloutParams, spec: &Spec) -> RollbackEstimate {
    let batches = instances.div_ceil(p.batch(mode, instances));
    let start = spec.health.interval.0.saturating_mul(u64::from(spec.health.healthy_after)).saturating_add(OVERHEAD.0);
    let drain = match mode {
        BatchMode::Beside => 0,
        BatchMode::Replace | BatchMode::InPlace => {
            spec.drain.0.0.max(spec.ttl.unwrap_or(DEFAULT_TTL).0.saturating_add(DRAIN_MARGIN.0))
        }
    };
    let about = Period(u64::from(batches).saturating_mul(start.saturating_add(drain)));
    RollbackEstimate::InBatches { instances, batches, about }
}
