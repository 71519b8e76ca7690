//! Evidence: the compact record of what was seen that is committed with a step's end, so that history explains itself.
//!
//! Invariant: it stays far below 16 KiB whatever the fleet's size; what was left out is summed in its note.

use std::collections::BTreeMap;

use super::prelude::*;

/// Workers listed one by one; the rest is summed.
const WORKERS: usize = 40;

/// What was seen in a step until now.
pub(super) fn of(view: &View<'_>, r: &Rollout, row: &StepRow, verdict: Verdict, note: String) -> Evidence {
    let mut evidence = Evidence {
        from: row.started_at.unwrap_or(view.now),
        to: view.now,
        counts: BTreeMap::new(),
        limit: judged(verdict).then_some(r.params.max_error_rate.0).flatten().map(|l| l.0),
        verdict,
        note,
    };
    let known = row.step_id.and_then(|id| view.seen.counts.get(&(view.id().clone(), id)));
    let mut rest = (0_usize, 0_u64, 0_u64);
    for (worker, counts) in known.into_iter().flatten() {
        let pairs: Vec<PairCounts> = counts.pairs.iter().filter(|c| of_rollout(r, &c.pair)).cloned().collect();
        if pairs.is_empty() {
            continue;
        }
        if evidence.counts.len() < WORKERS {
            evidence.counts.insert(worker.clone(), pairs);
        } else {
            let to = pairs.iter().filter(|c| c.pair == r.to);
            let (requests, errors) = to.fold((rest.1, rest.2), add);
            rest = (rest.0 + 1, requests, errors);
        }
    }
    if rest.0 > 0 {
        let more = format!("{} more workers: {} requests of the new pair, {} errors", rest.0, rest.1, rest.2);
        evidence.note = if evidence.note.is_empty() { more } else { format!("{}; {more}", evidence.note) };
    }
    evidence
}

/// A worker may say any number.
fn add((requests, errors): (u64, u64), c: &PairCounts) -> (u64, u64) {
    (requests.saturating_add(c.requests), errors.saturating_add(c.errors))
}

fn of_rollout(r: &Rollout, pair: &Pair) -> bool {
    pair == &r.to || r.from.as_ref() == Some(pair)
}

fn judged(verdict: Verdict) -> bool {
    match verdict {
        Verdict::NotWorse | Verdict::Worse | Verdict::Undecided => true,
        Verdict::Unjudged => false,
    }
}
