//! What the journal says: its records, and the state they add up to.
//!
//! Invariants: the state is a function of the records alone; a record is written and fsynced before the act it
//! announces; a generation never goes back, and the same generation with other content is never obeyed. Not here: the
//! file (`journal`), who writes and reads it (`book`), the acts (`reconcile`, `instance`).

mod book;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    assignment::{Assigned, Entry, Next, Offer},
    kin::Identity,
    tally::{Mark, Raw, Tally},
};
use crate::model::{Digest, InstanceId, Pair, Permit, Samples, Spec};

pub use book::Book;

/// Ended instances kept so that reports go on naming them.
const ENDED_KEPT: usize = 64;

/// What the journal holds: each changes what the agent knows, and is on disk before the agent acts on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// An assignment, or a higher permit for the same one.
    Accepted {
        /// Its content.
        assigned: Assigned,
        /// The specs it names.
        specs: BTreeMap<u64, Spec>,
    },
    /// A package is in place.
    Staged {
        digest: Digest,
    },
    /// A package cannot be had.
    Refused {
        generation: u64,
        digest: Digest,
        reason: String,
    },
    /// A run begins.
    Starting {
        /// Its instance.
        entry: Entry,
        /// Its number, from 1.
        run: u32,
    },
    /// Its process is known.
    Running {
        id: InstanceId,
        /// Its process.
        identity: Identity,
    },
    /// It passed its first check.
    Passing {
        id: InstanceId,
    },
    /// A run ended; the instance starts again.
    Restarting {
        id: InstanceId,
        /// How it ended.
        exit: String,
    },
    Stopping {
        id: InstanceId,
    },
    /// It has no process any more and gets no other.
    Gone {
        id: InstanceId,
        /// How it ended.
        exit: String,
        /// Whether that was not wanted.
        failed: bool,
    },
    /// An instance that had been replaced is put back.
    Reverting {
        id: InstanceId,
    },
    /// Probation is over.
    Committed {
        generation: u64,
    },
    /// A step begins, or none runs.
    Marked {
        /// The step and the totals it begins with.
        mark: Option<Mark>,
    },
    /// What is counted.
    Totals {
        #[serde(with = "pairs")]
        totals: BTreeMap<Pair, Samples>,
        #[serde(with = "pairs")]
        raws: BTreeMap<InstanceId, Raw>,
    },
    /// The deployment is no longer assigned to this worker.
    Removed,
    /// Everything so far.
    Whole(Box<Ledger>),
}

/// What is known of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its entry, as it was started.
    pub entry: Entry,
    /// Number of its newest run; 0: none began.
    pub run: u32,
    /// Whether it ever passed.
    pub passed: bool,
    pub restarts: u32,
    /// Whether it is being stopped.
    pub stopping: bool,
    /// How its last run ended.
    pub exit: String,
    /// Whether it has ended for good; and whether that was a failure.
    pub ended: Option<bool>,
}

/// The state of a deployment on this worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// What was accepted.
    pub assigned: Option<Assigned>,
    /// Specs of what is assigned or not gone.
    pub specs: BTreeMap<u64, Spec>,
    /// Instances that began, or were assigned and then no longer.
    #[serde(with = "pairs")]
    pub instances: BTreeMap<InstanceId, Known>,
    /// Highest generation whose probation is over.
    pub committed: u64,
    /// Packages of a generation that cannot be had, with the reason of each.
    pub refused: (u64, BTreeMap<Digest, String>),
    pub tally: Tally,
    /// Whether it is no longer assigned.
    pub removed: bool,
}

impl Ledger {
    /// Packages that the present generation cannot have.
    pub fn refused(&self) -> Option<&BTreeMap<Digest, String>> {
        let generation = self.assigned.as_ref()?.generation;
        (self.refused.0 == generation && !self.refused.1.is_empty()).then_some(&self.refused.1)
    }
}

/// What to do about an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// It is newer, or raises the permit: accept.
    Accept,
    /// It is what was accepted.
    Same,
    /// It is older: refuse.
    Older,
    /// Same generation, other content: refuse, and say so.
    Conflict,
}

impl Ledger {
    /// Compares an offer with what was accepted.
    pub fn judge(&self, offer: &Assigned) -> Acceptance {
        let Some(have) = &self.assigned else { return Acceptance::Accept };
        match offer.generation.cmp(&have.generation) {
            std::cmp::Ordering::Less => Acceptance::Older,
            std::cmp::Ordering::Greater => Acceptance::Accept,
            std::cmp::Ordering::Equal if offer.content_digest != have.content_digest => Acceptance::Conflict,
            // It was taken away and given back.
            std::cmp::Ordering::Equal if offer.permit > have.permit || self.removed => Acceptance::Accept,
            std::cmp::Ordering::Equal => Acceptance::Same,
        }
    }

    /// The entries to run.
    pub fn entries(&self) -> &[Entry] {
        match &self.assigned {
            Some(a) if !self.removed => &a.entries,
            Some(_) | None => &[],
        }
    }

    /// What is to run here next.
    pub fn next(&self) -> Option<&Next> {
        self.assigned.as_ref().filter(|_| !self.removed)?.next.as_ref()
    }

    /// How far to go.
    pub fn permit(&self) -> Permit {
        self.assigned.as_ref().map_or(Permit::Stage, |a| a.permit)
    }

    /// Digests that must stay on disk.
    pub fn needs(&self) -> std::collections::BTreeSet<Digest> {
        let held = self.assigned.iter().filter(|_| !self.removed).flat_map(|a| a.hold.iter().map(|h| h.digest.clone()));
        let listed = self.entries().iter().map(|e| e.pair.digest.clone());
        let live = self.instances.values().filter(|k| k.ended.is_none()).map(|k| k.entry.pair.digest.clone());
        held.chain(listed).chain(live).collect()
    }

    /// Takes a record.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Accepted { assigned, specs } => {
                self.never_started(&assigned);
                self.assigned = Some(assigned);
                self.removed = false;
                self.specs.extend(specs);
                self.prune();
            }
            Record::Staged { .. } => {}
            Record::Refused { generation, digest, reason } => {
                if self.refused.0 < generation {
                    self.refused = (generation, BTreeMap::new());
                }
                // A late word about an earlier generation says nothing about this one.
                if self.refused.0 == generation {
                    self.refused.1.insert(digest, reason);
                }
            }
            Record::Starting { entry, run } => {
                let known = self.instances.entry(entry.id).or_insert_with(|| Known::new(entry));
                known.run = run;
            }
            Record::Running { .. } => {}
            Record::Passing { id } => self.change(id, |k| k.passed = true),
            Record::Restarting { id, exit } => self.change(id, |k| {
                k.restarts = k.restarts.saturating_add(1);
                k.exit = exit;
            }),
            Record::Stopping { id } => self.change(id, |k| k.stopping = true),
            Record::Gone { id, exit, failed } => {
                self.change(id, |k| {
                    k.exit = exit;
                    k.ended = Some(failed);
                });
                self.tally.forget(id);
                self.prune();
            }
            Record::Reverting { id } => self.change(id, |k| {
                k.stopping = false;
                k.ended = None;
            }),
            Record::Committed { generation } => self.committed = self.committed.max(generation),
            Record::Marked { mark } => self.tally.mark = mark,
            Record::Totals { totals, raws } => {
                self.tally.totals = totals;
                self.tally.raws = raws;
            }
            Record::Removed => {
                self.never_started_at_all();
                self.removed = true;
            }
            Record::Whole(ledger) => *self = *ledger,
        }
    }

    fn change(&mut self, id: InstanceId, with: impl FnOnce(&mut Known)) {
        if let Some(known) = self.instances.get_mut(&id) {
            with(known);
        }
    }

    /// Entries that are given up before they began are gone too, and reports must say so.
    fn never_started(&mut self, next: &Assigned) {
        let dropped: Vec<Entry> =
            self.entries().iter().filter(|e| !next.entries.iter().any(|n| n.id == e.id)).cloned().collect();
        self.give_up(dropped);
    }

    fn never_started_at_all(&mut self) {
        self.give_up(self.entries().to_vec());
    }

    fn give_up(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let id = entry.id;
            self.instances.entry(id).or_insert_with(|| Known {
                ended: Some(false),
                exit: "never started".into(),
                ..Known::new(entry)
            });
        }
    }

    /// Drops specs that nothing names and the oldest ended instances.
    fn prune(&mut self) {
        let entries: Vec<(InstanceId, u64)> = self.entries().iter().map(|e| (e.id, e.pair.spec)).collect();
        let replaced: Vec<InstanceId> = self.entries().iter().filter_map(|e| e.replaces).collect();
        let keep = |id: &InstanceId| entries.iter().any(|(e, _)| e == id) || replaced.contains(id);
        let ended: Vec<InstanceId> =
            self.instances.iter().filter(|(id, k)| k.ended.is_some() && !keep(id)).map(|(id, _)| *id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(ENDED_KEPT)) {
            self.instances.remove(id);
        }
        let used: Vec<u64> = self
            .instances
            .iter()
            .filter(|(id, k)| k.ended.is_none() || keep(id))
            .map(|(_, k)| k.entry.pair.spec)
            .chain(entries.iter().map(|(_, spec)| *spec))
            .chain(self.next().map(|n| n.pair.spec))
            .collect();
        self.specs.retain(|revision, _| used.contains(revision));
    }
}

impl Known {
    fn new(entry: Entry) -> Self {
        Self { entry, run: 0, passed: false, restarts: 0, stopping: false, exit: String::new(), ended: None }
    }
}

impl From<&Offer> for Record {
    fn from(offer: &Offer) -> Self {
        Self::Accepted { assigned: offer.assigned.clone(), specs: offer.specs.clone() }
    }
}

/// Maps whose keys are no text, as lists of pairs.
pub mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes one.
    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(map: &BTreeMap<K, V>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(map)
    }

    /// Reads one.
    pub fn deserialize<'d, K, V, D>(d: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'d> + Ord,
        V: Deserialize<'d>,
        D: Deserializer<'d>,
    {
        Ok(Vec::<(K, V)>::deserialize(d)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::scrape::{Reading, Said},
        model::{Histogram, Sample},
    };

    fn entry(n: u32) -> Entry {
        Entry {
            id: InstanceId { index: 5, ordinal: n },
            pair: Pair { version: "1.0.0".parse().unwrap(), digest: Digest::new(&"a".repeat(64)).unwrap(), spec: 1 },
            address: "127.0.0.1".parse().unwrap(),
            ports: BTreeMap::from([("http".into(), 80)]),
            replaces: None,
        }
    }

    fn assigned(generation: u64, permit: Permit, entries: Vec<Entry>) -> Assigned {
        Assigned {
            generation,
            content_digest: 1,
            permit,
            hold: vec![],
            entries,
            current: None,
            previous: None,
            next: None,
        }
    }

    fn accept(ledger: &mut Ledger, a: Assigned) {
        ledger.apply(Record::Accepted { assigned: a, specs: BTreeMap::new() });
    }

    #[test]
    fn generations_never_go_back_and_permits_only_rise() {
        let mut ledger = Ledger::default();
        let offer = assigned(5, Permit::Activate, vec![]);
        assert_eq!(ledger.judge(&offer), Acceptance::Accept);
        accept(&mut ledger, offer.clone());
        assert_eq!(ledger.judge(&offer), Acceptance::Same);
        assert_eq!(ledger.judge(&assigned(5, Permit::Stage, vec![])), Acceptance::Same);
        assert_eq!(ledger.judge(&assigned(5, Permit::Commit, vec![])), Acceptance::Accept);
        assert_eq!(ledger.judge(&assigned(4, Permit::Commit, vec![])), Acceptance::Older);
        assert_eq!(ledger.judge(&Assigned { content_digest: 2, ..offer.clone() }), Acceptance::Conflict);
        ledger.apply(Record::Removed);
        assert_eq!(ledger.judge(&offer), Acceptance::Accept);
    }

    #[test]
    fn an_entry_that_is_given_up_before_it_began_is_gone() {
        let mut ledger = Ledger::default();
        accept(&mut ledger, assigned(1, Permit::Activate, vec![entry(0), entry(1)]));
        ledger.apply(Record::Starting { entry: entry(0), run: 1 });
        accept(&mut ledger, assigned(2, Permit::Activate, vec![]));
        let ended = |n| ledger.instances.get(&entry(n).id).map(|k| k.ended);
        assert_eq!((ended(0), ended(1)), (Some(None), Some(Some(false))));
    }

    fn shows() -> Said {
        Said::Shows(Sample::Histogram(Histogram::new(vec![(5_000, 1), (10_000, 7)], 90_000, 9).unwrap()))
    }

    #[tokio::test]
    async fn the_book_reads_back_what_was_written_also_after_compaction() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let book = Book::open(&path).unwrap();
        let offered = assigned(3, Permit::Commit, vec![entry(0)]);
        book.write(Record::Accepted { assigned: offered, specs: BTreeMap::new() }).await.unwrap();
        book.write(Record::Starting { entry: entry(0), run: 2 }).await.unwrap();
        let mut tally = Tally::default();
        tally.sample(entry(0).id, 2, &entry(0).pair, Reading::from([("latency".parse().unwrap(), shows())]));
        for _ in 0..40 {
            let (digest, reason) = (entry(0).pair.digest, "x".repeat(10_000));
            book.write(Record::Refused { generation: 3, digest, reason }).await.unwrap();
        }
        book.write(Record::Totals { totals: tally.totals, raws: tally.raws }).await.unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < 256 << 10, "it was compacted");
        let before = book.read(Clone::clone);
        let after = Book::open(&path).unwrap().read(Clone::clone);
        assert_eq!(before, after);
        assert_eq!(after.instances.get(&entry(0).id).unwrap().run, 2);
        let counted = after.tally.totals.values().next().unwrap().count(&"latency".parse().unwrap());
        assert_eq!(counted, Some(9));
    }
}
