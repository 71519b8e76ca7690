//! Counting a step: what instances count themselves, made whole over their restarts and ends.
//!
//! Instances show counters and histograms that begin at zero with each start. A tally adds up by how much they grew,
//! per pair, for ever; a mark keeps the totals as they were when a step began, and a step's counts are the difference.
//! All of it is journalled, so the death of an instance loses what it counted since its last scrape at most, and the
//! death of the agent nothing while the instance lives. Not here: scraping (`scrape`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::scrape::{Reading, Said};
use crate::model::{InstanceId, MetricName, Pair, Sample, Samples};

/// What an instance showed last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raw {
    pub run: u32,
    /// Each metric as it was shown last.
    pub shown: Samples,
}

/// A running step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub step: u64,
    /// Totals when it began.
    #[serde(with = "super::ledger::pairs")]
    pub bases: BTreeMap<Pair, Samples>,
}

/// Everything counted for one deployment on this worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// By pair, since the journal began.
    #[serde(with = "super::ledger::pairs")]
    pub totals: BTreeMap<Pair, Samples>,
    #[serde(with = "super::ledger::pairs")]
    pub raws: BTreeMap<InstanceId, Raw>,
    /// The running step.
    pub mark: Option<Mark>,
    /// What was scraped since the mark: it is known, even when it counted nothing.
    #[serde(skip)]
    pub heard: BTreeSet<(Pair, MetricName)>,
    /// How the newest looks for each metric of an instance went, since the agent began.
    #[serde(skip)]
    pub looks: BTreeMap<InstanceId, BTreeMap<MetricName, Look>>,
}

/// How looking for a metric on an instance's page went.
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
    /// Takes what an instance's page says now.
    pub fn sample(&mut self, id: InstanceId, run: u32, pair: &Pair, reading: Reading) {
        let raw = self.raws.entry(id).or_default();
        if raw.run != run {
            *raw = Raw { run, shown: Samples::default() };
        }
        let (total, looks) = (self.totals.entry(pair.clone()).or_default(), self.looks.entry(id).or_default());
        let mut grown = Samples::default();
        for (name, said) in reading {
            match said {
                Said::Shows(now) => {
                    let last = raw.shown.0.insert(name.clone(), now.clone());
                    grown.0.insert(name.clone(), last.map_or_else(|| now.clone(), |last| now.growth(&last)));
                    self.heard.insert((pair.clone(), name.clone()));
                    looks.insert(name, Look::Fine);
                }
                // Nothing to add, and nothing that is hidden.
                Said::Nothing(_) => {
                    looks.insert(name, Look::Fine);
                }
                Said::Unknown(why) => vain(looks, name, why),
            }
        }
        total.add(&grown);
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

    /// A page could not be read.
    pub fn in_vain<'a>(&mut self, id: InstanceId, names: impl Iterator<Item = &'a MetricName>, why: &str) {
        let looks = self.looks.entry(id).or_default();
        names.for_each(|name| vain(looks, name.clone(), why.into()));
    }

    /// Why a running instance's count of a metric is not known, if it is not: unknown is never zero.
    pub fn unknown(&self, id: InstanceId, pair: &Pair, name: &MetricName) -> Option<String> {
        match self.looks.get(&id).and_then(|looks| looks.get(name)) {
            None => Some(format!("{id}: its metrics page was not read yet")),
            Some(Look::Vain { times, why })
                if *times >= PATIENCE || !self.heard.contains(&(pair.clone(), name.clone())) =>
            {
                Some(format!("{id}: {why}"))
            }
            Some(Look::Fine | Look::Vain { .. }) => None,
        }
    }

    /// The running step's counts by pair, as far as they are known.
    pub fn counts(&self) -> Option<(u64, BTreeMap<&Pair, Samples>)> {
        let mark = self.mark.as_ref()?;
        let since = |(pair, total): (&'_ Pair, &Samples)| {
            let base = mark.bases.get(pair);
            let grown = total.0.iter().map(|(name, now)| {
                let then = base.and_then(|b| b.0.get(name));
                (name.clone(), then.map_or_else(|| now.clone(), |then| now.minus(then)))
            });
            let grown: BTreeMap<MetricName, Sample> = grown.collect();
            // Requests are counted only where their errors are known, also before this agent started.
            let asked = grown.get(&MetricName::REQUESTS).is_some_and(|s| s.count() > 0);
            let known = |n: &MetricName, s: &Sample| {
                s.count() > 0 || asked && *n == MetricName::ERRORS || self.heard.contains(&(pair.clone(), n.clone()))
            };
            grown.into_iter().filter(|(n, s)| known(n, s)).collect::<Samples>()
        };
        let pairs = self.totals.iter().map(|(pair, total)| (pair, since((pair, total))));
        Some((mark.step, pairs.filter(|(_, samples)| !samples.0.is_empty()).collect()))
    }
}

fn vain(looks: &mut BTreeMap<MetricName, Look>, name: MetricName, why: String) {
    let before = match looks.get(&name) {
        Some(Look::Vain { times, .. }) => *times,
        Some(Look::Fine) | None => 0,
    };
    looks.insert(name, Look::Vain { times: before.saturating_add(1), why });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, Histogram};

    fn pair(version: &str) -> Pair {
        Pair { version: version.parse().unwrap(), digest: Digest::new(&"a".repeat(64)).unwrap(), spec: 1 }
    }

    fn id(n: u32) -> InstanceId {
        InstanceId { index: 1, ordinal: n }
    }

    fn samples(requests: u64, errors: u64) -> Samples {
        let all = [(MetricName::REQUESTS, requests), (MetricName::ERRORS, errors)];
        all.into_iter().map(|(name, n)| (name, Sample::Counter(n))).collect()
    }

    fn shows(samples: Samples) -> Reading {
        samples.0.into_iter().map(|(name, s)| (name, Said::Shows(s))).collect()
    }

    fn shown(requests: u64, errors: u64) -> Reading {
        shows(samples(requests, errors))
    }

    fn latency(buckets: [u64; 2], sum: u64, count: u64) -> Samples {
        let buckets = [10, 20].into_iter().zip(buckets).collect();
        let histogram = Histogram::new(buckets, sum, count).unwrap();
        [("latency".parse().unwrap(), Sample::Histogram(histogram))].into_iter().collect()
    }

    fn counted(tally: &Tally) -> Option<(u64, Vec<Samples>)> {
        tally.counts().map(|(step, pairs)| (step, pairs.into_values().collect()))
    }

    #[test]
    fn a_step_counts_from_its_mark_over_resets_restarts_and_ends() {
        let (mut tally, one) = (Tally::default(), pair("1.0.0"));
        tally.sample(id(0), 1, &one, shown(100, 5));
        assert_eq!(counted(&tally), None);
        tally.begin(7);
        assert_eq!(counted(&tally), Some((7, vec![])), "nothing heard since the mark is not zero");
        tally.sample(id(0), 1, &one, shown(110, 5));
        tally.sample(id(0), 1, &one, shown(3, 1)); // the counter began anew within a run
        tally.sample(id(0), 2, &one, shown(50, 0)); // a new run that has counted more than the old one showed
        tally.forget(id(0));
        tally.sample(id(1), 1, &one, shown(4, 4));
        assert_eq!(counted(&tally), Some((7, vec![samples(10 + 3 + 50 + 4, 1 + 4)])));
        tally.begin(8);
        tally.sample(id(1), 1, &one, shown(4, 4));
        assert_eq!(counted(&tally), Some((8, vec![samples(0, 0)])));
        tally.end();
        assert_eq!(counted(&tally), None);
    }

    #[test]
    fn requests_without_an_error_count_after_a_restart_of_the_agent_too() {
        let (mut tally, one) = (Tally::default(), pair("1.0.0"));
        tally.begin(7);
        tally.sample(id(0), 1, &one, shown(20, 0));
        tally.sample(id(0), 1, &one, shown(1020, 0));
        let before = counted(&tally);
        assert_eq!(before, Some((7, vec![samples(1020, 0)])));
        let again: Tally = serde_json::from_str(&serde_json::to_string(&tally).unwrap()).unwrap();
        assert_eq!(counted(&again), before, "no errors of them is a count, not a silence");
    }

    #[test]
    fn histograms_count_from_the_mark_over_resets_restarts_and_ends_too() {
        let (mut tally, one) = (Tally::default(), pair("1.0.0"));
        let look = |tally: &mut Tally, n, run, all| tally.sample(id(n), run, &one, shows(all));
        look(&mut tally, 0, 1, latency([3, 5], 70, 6));
        tally.begin(7);
        look(&mut tally, 0, 1, latency([4, 8], 110, 10));
        look(&mut tally, 0, 1, latency([1, 1], 5, 1)); // began anew within a run
        look(&mut tally, 0, 2, latency([9, 90], 900, 100)); // a new run that has counted more than the old one showed
        tally.forget(id(0));
        look(&mut tally, 1, 1, latency([0, 2], 30, 3));
        let all = latency([1 + 1 + 9, 3 + 1 + 90 + 2], 40 + 5 + 900 + 30, 4 + 1 + 100 + 3);
        assert_eq!(counted(&tally), Some((7, vec![all.clone()])));
        let again: Tally = serde_json::from_str(&serde_json::to_string(&tally).unwrap()).unwrap();
        assert_eq!(counted(&again), Some((7, vec![all])), "from its journal");
        look(&mut tally, 1, 2, latency([u64::MAX, u64::MAX], u64::MAX, u64::MAX));
        let most = counted(&tally).unwrap().1.remove(0);
        assert!(most.count(&"latency".parse().unwrap()) > Some(u64::MAX / 2), "it stays at what fits: {most:?}");
    }

    #[test]
    fn counts_that_cannot_be_read_are_unknown_and_one_slip_is_not() {
        let (mut tally, one) = (Tally::default(), pair("1.0.0"));
        let unknown = |tally: &Tally| tally.unknown(id(0), &one, &MetricName::ERRORS);
        let names = [MetricName::REQUESTS, MetricName::ERRORS];
        tally.begin(7);
        assert!(unknown(&tally).unwrap().contains("not read yet"));
        tally.in_vain(id(0), names.iter(), "no label");
        assert!(unknown(&tally).unwrap().contains("no label"), "nothing else is known of this step");
        tally.sample(id(0), 1, &one, shown(10, 0));
        assert_eq!(unknown(&tally), None);
        for slips in 1..=3 {
            tally.in_vain(id(0), names.iter(), "did not answer");
            assert_eq!(unknown(&tally).is_some(), slips == 3, "{slips} slips");
        }
        let nothing = || Said::Nothing("none yet".into());
        tally.sample(id(0), 1, &one, names.iter().map(|name| (name.clone(), nothing())).collect());
        assert_eq!(unknown(&tally), None, "no requests yet is no secret");
        tally.forget(id(0));
        assert!(tally.looks.is_empty());
    }

    #[test]
    fn a_metric_that_is_unknown_leaves_the_others_known() {
        let (mut tally, one) = (Tally::default(), pair("1.0.0"));
        let latency: MetricName = "latency".parse().unwrap();
        tally.begin(7);
        let mut reading = shown(10, 1);
        reading.insert(latency.clone(), Said::Unknown("no such metric".into()));
        tally.sample(id(0), 1, &one, reading);
        assert_eq!(counted(&tally), Some((7, vec![samples(10, 1)])), "absent, and not zero");
        assert_eq!(tally.unknown(id(0), &one, &MetricName::REQUESTS), None);
        assert!(tally.unknown(id(0), &one, &latency).unwrap().ends_with(": no such metric"));
    }

    #[test]
    fn an_agent_that_restarts_counts_on_from_its_journal() {
        let (mut tally, one) = (Tally::default(), pair("1.0.0"));
        tally.begin(7);
        tally.sample(id(0), 1, &one, shown(20, 2));
        let text = serde_json::to_string(&tally).unwrap();
        let mut again: Tally = serde_json::from_str(&text).unwrap();
        assert_eq!(counted(&again), Some((7, vec![samples(20, 2)])));
        again.sample(id(0), 1, &one, shown(25, 2));
        assert_eq!(counted(&again), Some((7, vec![samples(25, 2)])));
    }
}
