//! Evidence: the compact record of what was seen that is committed with a step's end, so that history explains itself.
//!
//! Invariants: it stays below 16 KiB whatever the fleet's size and whatever workers say: what is too much is summed,
//! and histograms become coarser; only what the pair's spec declares is kept.

use std::collections::{BTreeMap, BTreeSet};

use super::analysis::Case;
use super::prelude::*;

/// Workers listed one by one at most; the rest is summed.
const WORKERS: usize = 40;
/// Bytes of the record, with some left to what the law takes.
const MOST: usize = 12 * 1024;

/// What was seen in a step until now.
pub(super) fn of(view: &View<'_>, r: &Rollout, row: &StepRow, verdict: Verdict, note: String) -> Evidence {
    let case = r.target().map(|pair| Case { view, pair, step: row.step_id });
    let findings = case.iter().flat_map(|c| c.findings(row.step.kind.checks()));
    let records = findings.map(|(check, f)| CheckRecord { check: check.clone(), verdict: f.verdict() });
    let known = row.step_id.and_then(|id| view.seen.counts.get(&(view.id().clone(), id)));
    let of_rollout: BTreeSet<&Pair> = r.from.iter().chain([&r.to]).collect();
    let counted: Vec<Counted<'_>> = of_rollout.into_iter().map(|pair| Counted::of(view, known, pair)).collect();
    let mut evidence = Evidence {
        from: row.started_at.unwrap_or(view.now),
        to: view.now,
        checks: records.collect(),
        seen: Vec::new(),
        verdict,
        note: String::new(),
    };
    let mut listed = WORKERS;
    let all: BTreeSet<&WorkerName> = counted.iter().flat_map(|c| c.workers.keys().copied()).collect();
    loop {
        let apart: BTreeSet<&WorkerName> = all.iter().take(listed).copied().collect();
        evidence.seen = counted.iter().filter(|c| !c.workers.is_empty()).map(|c| c.told(&apart)).collect();
        let more = all.len().saturating_sub(listed);
        let to = evidence.seen.iter().find(|s| s.pair == r.to).map(|s| s.rest.clone()).unwrap_or_default();
        evidence.note = with_rest(&note, more, view.spec(&r.to), &to);
        if listed == 0 || size(&evidence) <= MOST {
            break;
        }
        listed /= 2;
    }
    // Both pairs become coarser, so nothing stops at the first.
    while size(&evidence) > MOST && evidence.seen.iter_mut().filter_map(|s| s.rest.thin().then_some(())).count() > 0 {}
    evidence
}

/// What workers count of one pair.
struct Counted<'a> {
    pair: &'a Pair,
    workers: BTreeMap<&'a WorkerName, Samples>,
}

impl<'a> Counted<'a> {
    fn of(view: &View<'a>, known: Option<&'a BTreeMap<WorkerName, StepCounts>>, pair: &'a Pair) -> Self {
        let metrics = view.spec(pair).and_then(|spec| spec.metrics.as_ref());
        let declared: BTreeSet<&MetricName> = metrics.iter().flat_map(|m| m.declared()).map(|(name, _)| name).collect();
        let of_one = |(worker, counts): (&'a WorkerName, &StepCounts)| {
            let mine = counts.pairs.get(pair)?.0.iter().filter(|(name, _)| declared.contains(name));
            Some((worker, mine.map(|(name, sample)| (name.clone(), sample.clone())).collect::<Samples>()))
        };
        let workers = known.into_iter().flatten().filter_map(of_one).filter(|(_, s)| !s.0.is_empty());
        Self { pair, workers: workers.collect() }
    }

    /// These workers one by one, the others together.
    fn told(&self, apart: &BTreeSet<&WorkerName>) -> PairSeen {
        let (mut workers, mut rest) = (BTreeMap::new(), Samples::default());
        for (name, samples) in &self.workers {
            if apart.contains(name) {
                workers.insert((*name).clone(), samples.clone());
            } else {
                rest.add(samples);
            }
        }
        PairSeen { pair: self.pair.clone(), workers, rest }
    }
}

fn size(evidence: &Evidence) -> usize {
    codec::encode_plain(evidence).map_or(usize::MAX, |bytes| bytes.len())
}

/// The note with what the workers counted that are not listed.
fn with_rest(note: &str, more: usize, spec: Option<&Spec>, rest: &Samples) -> String {
    if more == 0 {
        return note.into();
    }
    let metrics = spec.and_then(|s| s.metrics.as_ref());
    let told = metrics.iter().flat_map(|m| m.declared()).enumerate().map(|(n, (name, _))| {
        let count = rest.0.get(name).cloned().unwrap_or(Sample::Counter(0));
        format!("{count} {name}{}", if n == 0 { " of the new pair" } else { "" })
    });
    let more = format!("{more} more workers: {}", told.collect::<Vec<_>>().join(", "));
    if note.is_empty() { more } else { format!("{note}; {more}") }
}
