//! What a deployment counts: the marks of steps, what scrapes bring, and what is reported of it.
//!
//! Invariant: what is not known is reported as unknown, with the reason, beside what is; never as zero. Not here:
//! adding up (`tally`), reading pages (`scrape`).

use std::{collections::BTreeMap, time::Duration};

use super::{Deployment, NewMark};
use crate::{
    agent::{
        instance::Shown,
        journal::JournalError,
        ledger::{Ledger, Record},
    },
    model::{Health, InstanceId, Life, MetricName, Pair},
    wire::{convert, v1},
};

/// Longest time a new step waits for the scrapes that give its bases.
const MARK_WITHIN: Duration = Duration::from_millis(1200);

impl Deployment {
    /// A new step: every running instance is scraped first, as its totals are the step's bases.
    pub(super) async fn mark(&mut self, step: Option<u64>) -> Result<(), JournalError> {
        let running = self.tally.mark.as_ref().map(|m| m.step);
        let coming = self.new_mark.as_ref().map(|m| m.step);
        if coming.or(running) == step {
            return Ok(());
        }
        self.new_mark = None;
        let Some(step) = step else {
            self.tally.end();
            self.save().await?;
            self.shared.book.write(Record::Marked { mark: None }).await?;
            self.order(|o| o.marked = false);
            return Ok(());
        };
        let waiting = self.live.iter().filter(|(_, l)| l.status.life == Life::Running).map(|(id, _)| *id).collect();
        self.new_mark = Some(NewMark { step, waiting, timer: Box::pin(tokio::time::sleep(MARK_WITHIN)) });
        self.order(|o| {
            o.marked = true;
            o.poke = o.poke.wrapping_add(1);
        });
        Ok(())
    }

    pub(super) async fn begin_mark(&mut self) -> Result<(), JournalError> {
        let Some(NewMark { step, .. }) = self.new_mark.take() else { return Ok(()) };
        // Whether a pair was heard just now counts for the new step too.
        self.save().await?;
        let heard = std::mem::take(&mut self.tally.heard);
        self.tally.begin(step);
        self.tally.heard = heard;
        self.shared.book.write(Record::Marked { mark: self.tally.mark.clone() }).await
    }

    pub(super) async fn save(&mut self) -> Result<(), JournalError> {
        if self.tally.totals == self.saved.totals && self.tally.raws == self.saved.raws {
            return Ok(());
        }
        let (totals, raws) = (self.tally.totals.clone(), self.tally.raws.clone());
        if self.shared.book.write_if_room(Record::Totals { totals, raws }).await? {
            self.saved = self.tally.clone();
        }
        Ok(())
    }

    pub(super) fn scraped(&mut self, id: InstanceId, run: u32, pair: &Pair, shown: Shown) {
        let declared = self.declared(pair);
        let whys: BTreeMap<&str, &MetricName> = match &shown {
            Ok(reading) => reading.iter().filter_map(|(name, said)| Some((said.why()?, name))).collect(),
            Err(why) => declared.first().map(|name| (why.as_str(), name)).into_iter().collect(),
        };
        let told = whys.iter().map(|(why, name)| format!("its {name} cannot be counted: {why}"));
        let told = told.collect::<Vec<_>>().join("; ");
        match shown {
            Ok(reading) => self.tally.sample(id, run, pair, reading),
            Err(why) => self.tally.in_vain(id, declared.iter(), &why),
        }
        // While it starts nobody expects a page.
        let passes = self.live.get(&id).is_some_and(|l| l.status.health == Health::Passing);
        if told.is_empty() {
            self.uncounted.remove(&id);
        } else if passes && self.uncounted.insert(id, told.clone()).as_ref() != Some(&told) {
            tracing::warn!(instance = %id, "{told}");
        }
    }

    /// What the spec of a pair declares.
    fn declared(&self, pair: &Pair) -> Vec<MetricName> {
        self.read(|ledger| declared(ledger, pair).cloned().collect())
    }

    /// The running step's counts, and of which metrics they are not the whole.
    pub(super) fn counts(&self, ledger: &Ledger) -> Option<v1::StepCounts> {
        let (step_id, pairs) = self.tally.counts()?;
        let pairs = pairs.into_iter().map(|(pair, samples)| v1::PairCounts {
            pair: Some(convert::pair(pair)),
            metrics: convert::metrics(&samples),
        });
        let unknown = self.unknown(ledger).into_iter().map(|((pair, metric), why)| v1::Uncounted {
            pair: Some(convert::pair(pair)),
            metric: metric.to_string(),
            why,
        });
        Some(v1::StepCounts {
            deployment: self.shared.deployment.to_string(),
            step_id,
            pairs: pairs.collect(),
            uncounted: unknown.collect(),
        })
    }

    /// Metrics of pairs with a running instance that are not known; why, of the first one.
    fn unknown<'a>(&'a self, ledger: &'a Ledger) -> BTreeMap<(&'a Pair, &'a MetricName), String> {
        let mut all = BTreeMap::new();
        for (id, live) in self.live.iter().filter(|(_, l)| l.status.life == Life::Running) {
            let pair = &live.entry.pair;
            for name in declared(ledger, pair) {
                if let Some(why) = self.tally.unknown(*id, pair, name) {
                    all.entry((pair, name)).or_insert(why);
                }
            }
        }
        all
    }
}

fn declared<'a>(ledger: &'a Ledger, pair: &Pair) -> impl Iterator<Item = &'a MetricName> {
    let metrics = ledger.specs.get(&pair.spec).and_then(|spec| spec.metrics.as_ref());
    metrics.into_iter().flat_map(|m| m.declared()).map(|(name, _)| name)
}
