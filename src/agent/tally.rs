//! Counting a step: what instances count themselves, made whole over their restarts and ends.
//!
//! Instances show counters that begin at zero with each start. A tally adds up by how much they grew, per pair, for ever; a mark
//! keeps the totals as they were when a step began, and a step's counts are the difference. All of it is journalled, so the
//! death of an instance loses what it counted since its last scrape at most, and the death of the agent nothing while the
//! instance lives. Not here: scraping (`scrape`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{InstanceId, Pair};

/// Requests and errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub requests: u64,
    pub errors: u64,
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            errors: self.errors.saturating_add(other.errors),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            errors: self.errors.saturating_sub(other.errors),
        }
    }
}

/// How much a counter grew; one that fell began anew.
fn growth(before: u64, now: u64) -> u64 {
    if now >= before { now - before } else { now }
}

/// What an instance showed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raw {
    pub run: u32,
    /// Its counters.
    pub shown: Counts,
}

/// A running step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub step: u64,
    /// Totals when it began.
    #[serde(with = "super::ledger::pairs")]
    pub bases: BTreeMap<Pair, Counts>,
}

/// Everything counted for one deployment on this worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// By pair, since the journal began.
    #[serde(with = "super::ledger::pairs")]
    pub totals: BTreeMap<Pair, Counts>,
    #[serde(with = "super::ledger::pairs")]
    pub raws: BTreeMap<InstanceId, Raw>,
    /// The running step.
    pub mark: Option<Mark>,
    /// Pairs scraped since the mark: those that are known, even when they counted nothing.
    #[serde(skip)]
    pub heard: BTreeSet<Pair>,
    /// How the newest looks at each instance's page went, since the agent began.
    #[serde(skip)]
    pub looks: BTreeMap<InstanceId, Look>,
}

/// How looking at an instance's page went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It was read.
    Fine,
    /// So many times in a row it was of no use; why, the last time.
    Vain { times: u32, why: String },
}

/// Looks in vain after which what was read before no longer speaks for an instance: a page may fail once.
const PATIENCE: u32 = 3;

impl Tally {
    /// Takes what an instance shows now; whether a total changed.
    pub fn sample(&mut self, id: InstanceId, run: u32, pair: &Pair, shown: Counts) -> bool {
        self.looks.insert(id, Look::Fine);
        let last = self.raws.get(&id).filter(|r| r.run == run).map_or(Counts::default(), |r| r.shown);
        let grown =
            Counts { requests: growth(last.requests, shown.requests), errors: growth(last.errors, shown.errors) };
        self.raws.insert(id, Raw { run, shown });
        let total = self.totals.entry(pair.clone()).or_default();
        let before = *total;
        *total = total.plus(grown);
        let changed = before != *total;
        self.heard.insert(pair.clone()) || changed
    }

    /// A step begins: its totals count from here, and nobody was heard in it yet.
    pub fn begin(&mut self, step: u64) {
        self.mark = Some(Mark { step, bases: self.totals.clone() });
        self.heard.clear();
    }

    /// No step runs any more.
    pub fn end(&mut self) {
        self.mark = None;
        self.heard.clear();
    }

    /// Forgets an instance that is gone; what it counted stays in the totals.
    pub fn forget(&mut self, id: InstanceId) {
        self.raws.remove(&id);
        self.looks.remove(&id);
    }

    /// A page was read and counts no requests: nothing to add, and nothing that is hidden.
    pub fn empty(&mut self, id: InstanceId) {
        self.looks.insert(id, Look::Fine);
    }

    /// A page could not be read, or does not tell its errors.
    pub fn in_vain(&mut self, id: InstanceId, why: String) {
        let before = match self.looks.get(&id) {
            Some(Look::Vain { times, .. }) => *times,
            Some(Look::Fine) | None => 0,
        };
        self.looks.insert(id, Look::Vain { times: before.saturating_add(1), why });
    }

    /// Why the counts of a running instance are not known, if they are not: unknown is never zero.
    pub fn unknown(&self, id: InstanceId, pair: &Pair) -> Option<String> {
        match self.looks.get(&id) {
            None => Some(format!("{id}: its metrics page was not read yet")),
            Some(Look::Vain { times, why }) if *times >= PATIENCE || !self.heard.contains(pair) => {
                Some(format!("{id}: {why}"))
            }
            Some(Look::Fine | Look::Vain { .. }) => None,
        }
    }

    /// The running step's counts by pair, as far as they are known.
    pub fn counts(&self) -> Option<(u64, Vec<(Pair, Counts)>)> {
        let mark = self.mark.as_ref()?;
        let since = |pair: &Pair, total: &Counts| {
            (pair.clone(), total.minus(mark.bases.get(pair).copied().unwrap_or_default()))
        };
        let pairs = self.totals.iter().map(|(p, t)| since(p, t));
        let known = pairs.filter(|(p, c)| self.heard.contains(p) || *c != Counts::default());
        Some((mark.step, known.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn pair(version: &str) -> Pair {
        Pair { version: version.parse().unwrap(), digest: Digest::new(&"a".repeat(64)).unwrap(), spec: 1 }
    }

    fn id(n: u32) -> InstanceId {
        InstanceId { index: 1, ordinal: n }
    }

    fn shown(requests: u64, errors: u64) -> Counts {
        Counts { requests, errors }
    }

    #[test]
    fn a_step_counts_from_its_mark_over_resets_restarts_and_ends() {
        let (mut tally, one) = (Tally::default(), pair("1.0.0"));
        tally.sample(id(0), 1, &one, shown(100, 5));
        assert_eq!(tally.counts(), None);
        tally.begin(7);
        assert_eq!(tally.counts(), Some((7, vec![])), "nothing heard since the mark is not zero");
        tally.sample(id(0), 1, &one, shown(110, 5));
        tally.sample(id(0), 1, &one, shown(3, 1)); // the counter began anew within a run
        tally.sample(id(0), 2, &one, shown(50, 0)); // a new run that has counted more than the old one showed
        tally.forget(id(0));
        tally.sample(id(1), 1, &one, shown(4, 4));
        assert_eq!(tally.counts(), Some((7, vec![(one.clone(), shown(10 + 3 + 50 + 4, 1 + 4))])));
        tally.begin(8);
        tally.sample(id(1), 1, &one, shown(4, 4));
        assert_eq!(tally.counts(), Some((8, vec![(one, shown(0, 0))])));
        tally.end();
        assert_eq!(tally.counts(), None);
    }

    #[test]
    fn counts_that_cannot_be_read_are_unknown_and_one_slip_is_not() {
        let (mut tally, one) = (Tally::default(), pair("1.0.0"));
        tally.begin(7);
        assert!(tally.unknown(id(0), &one).unwrap().contains("not read yet"));
        tally.in_vain(id(0), "no label".into());
        assert!(tally.unknown(id(0), &one).unwrap().contains("no label"), "nothing else is known of this step");
        tally.sample(id(0), 1, &one, shown(10, 0));
        assert_eq!(tally.unknown(id(0), &one), None);
        for slips in 1..=3 {
            tally.in_vain(id(0), "did not answer".into());
            assert_eq!(tally.unknown(id(0), &one).is_some(), slips == 3, "{slips} slips");
        }
        tally.empty(id(0));
        assert_eq!(tally.unknown(id(0), &one), None, "no requests yet is no secret");
        tally.forget(id(0));
        assert!(tally.looks.is_empty());
    }

    #[test]
    fn an_agent_that_restarts_counts_on_from_its_journal() {
        let (mut tally, one) = (Tally::default(), pair("1.0.0"));
        tally.begin(7);
        tally.sample(id(0), 1, &one, shown(20, 2));
        let text = serde_json::to_string(&tally).unwrap();
        let mut again: Tally = serde_json::from_str(&text).unwrap();
        assert_eq!(again.counts(), Some((7, vec![(one.clone(), shown(20, 2))])));
        again.sample(id(0), 1, &one, shown(25, 2));
        assert_eq!(again.counts(), Some((7, vec![(one, shown(25, 2))])));
    }
}
