//! What a deployment counts: the marks of steps, what scrapes bring, and what is reported of it.
//!
//! Invariant: what is not known is reported as unknown, with the reason, beside what is; never as zero. Not here: adding up (`tally`),
//! reading pages (`scrape`).

use std::{collections::BTreeMap, time::Duration};

use super::{Deployment, NewMark};
use crate::{
    agent::{
        instance::Shown,
        journal::JournalError,
        ledger::{Ledger, Record},
        scrape::Reading,
    },
    model::{Health, InstanceId, Life, Pair},
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
        let why = match shown {
            Ok(Reading::Counts(counts)) => {
                self.tally.sample(id, run, pair, counts);
                self.uncounted.remove(&id);
                return;
            }
            Ok(Reading::NoRequests(why)) => {
                self.tally.empty(id);
                why
            }
            Ok(Reading::ErrorsUnknown(why)) | Err(why) => {
                self.tally.in_vain(id, why.clone());
                why
            }
        };
        // While it starts nobody expects a page.
        let passes = self.live.get(&id).is_some_and(|l| l.status.health == Health::Passing);
        if passes && self.uncounted.insert(id, why.clone()).as_ref() != Some(&why) {
            tracing::warn!(instance = %id, "its requests cannot be counted: {why}");
        }
    }

    /// The running step's counts, and of which pairs they are not the whole.
    pub(super) fn counts(&self, ledger: &Ledger) -> Option<v1::StepCounts> {
        let (step_id, pairs) = self.tally.counts()?;
        let pairs = pairs.into_iter().map(|(pair, c)| v1::PairCounts {
            pair: Some(convert::pair(&pair)),
            requests: c.requests,
            errors: c.errors,
        });
        let unknown =
            self.unknown(ledger).into_iter().map(|(pair, why)| v1::Uncounted { pair: Some(convert::pair(pair)), why });
        Some(v1::StepCounts {
            deployment: self.shared.deployment.to_string(),
            step_id,
            pairs: pairs.collect(),
            uncounted: unknown.collect(),
        })
    }

    /// Pairs with a running instance whose counters are not known; why, of the first one.
    fn unknown(&self, ledger: &Ledger) -> BTreeMap<&Pair, String> {
        let mut all = BTreeMap::new();
        for (id, live) in self.live.iter().filter(|(_, l)| l.status.life == Life::Running) {
            let pair = &live.entry.pair;
            let counts = ledger.specs.get(&pair.spec).is_some_and(|s| s.metrics.is_some());
            if let Some(why) = self.tally.unknown(*id, pair).filter(|_| counts) {
                all.entry(pair).or_insert(why);
            }
        }
        all
    }
}
