//! What may go wrong in the simulation beside what a test does by hand: proposals that get lost, are done twice or come
//! late, a leader that dies at a chosen command, words of agents that are late, partial and out of order. All of it is
//! drawn from seeds, so a run is exact.
//!
//! Invariant: the default is no fault at all, the fleet of the transcripts. Not here: servers that lag (`servers`),
//! agents (`agents`).

use std::collections::{BTreeMap, VecDeque};

use slipway::model::{Life, WorkerName};
use slipway::state::{Command, Rejection, Seen, State, StepCounts, WorkerFacts};

use super::Fleet;

/// Milliseconds without a leader when one dies at a command.
const OUTAGE: u64 = 700;
/// The longest time that a word of an agent takes.
const LATE: u64 = 4000;

/// At which command of the leaders, counted from 1 over the whole run, the leader dies: before it is committed, or
/// right after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    Before(usize),
    After(usize),
}

/// Numbers from a seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) % n
    }
}

/// What goes wrong.
#[derive(Clone, Default)]
pub struct Faults {
    pub death: Option<Death>,
    /// Draws what becomes of proposals.
    pub proposals: Option<Dice>,
    /// Draws how words of agents arrive.
    pub words: Option<Dice>,
    /// Commands that leaders came to so far.
    pub proposed: usize,
    /// Proposals without an answer that are committed later.
    late: VecDeque<(u64, Command)>,
    /// What occurred, so that nothing is claimed in vain.
    pub counts: BTreeMap<&'static str, usize>,
}

impl Faults {
    fn note(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}

/// How a pass goes on after a proposal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Went {
    On,
    /// It has no answer or was refused: the next pass plans anew.
    Again,
    /// The leader that made this plan is dead.
    Dead,
}

/// The same rows: all but position, time and the ring of events.
pub fn same_rows(a: &State, b: &State) -> bool {
    let mut a = a.clone();
    (a.applied, a.now, a.wall, a.events) = (b.applied, b.now, b.wall, b.events.clone());
    a == *b
}

impl Fleet {
    /// One command of the leader, as the faults have it.
    pub(super) fn propose(&mut self, c: Command) -> Went {
        self.faults.proposed += 1;
        let n = self.faults.proposed;
        if self.faults.death == Some(Death::Before(n)) {
            return self.dies();
        }
        let drawn = self.faults.proposals.as_mut().map(|dice| (dice.below(20), 250 * (1 + dice.below(3))));
        let went = match drawn {
            Some((0 | 1, _)) => {
                self.faults.note("lost");
                Went::Again
            }
            Some((2 | 3, after)) => {
                self.faults.note("late");
                self.faults.late.push_back((self.real + after, c));
                Went::Again
            }
            Some((4 | 5, _)) => {
                let went = self.takes(c.clone());
                self.repeats(c);
                went
            }
            Some(_) | None => self.takes(c),
        };
        if self.faults.death == Some(Death::After(n)) {
            return self.dies();
        }
        went
    }

    fn dies(&mut self) -> Went {
        self.faults.death = None;
        self.change_leader(OUTAGE, 0);
        Went::Dead
    }

    fn takes(&mut self, c: Command) -> Went {
        let name = c.name();
        match self.commit(c) {
            Ok(_) => Went::On,
            // What came late got between this plan and its entries.
            Err(Rejection::Stale { .. } | Rejection::Guard(_)) if self.faults.proposals.is_some() => {
                self.faults.note("refused");
                Went::Again
            }
            Err(e) => panic!("{name} was refused: {e}\n{}", self.transcript.join("\n")),
        }
    }

    /// The same command once more: whatever it is, its effects happen once.
    fn repeats(&mut self, c: Command) {
        self.faults.note("twice");
        let before = self.state.clone();
        let told = format!("{c:?}");
        let result = self.commit(c);
        assert!(
            result.is_err() || same_rows(&before, &self.state),
            "done twice: {told}\n{}",
            self.transcript.join("\n")
        );
    }

    /// Proposals that nobody waits for any more are committed all the same.
    pub(super) fn latecomers(&mut self) {
        let real = self.real;
        while let Some(n) = self.faults.late.iter().position(|(at, _)| *at <= real) {
            let Some((_, c)) = self.faults.late.remove(n) else { return };
            let told = format!("{c:?}");
            match self.commit(c) {
                Ok(_) => self.faults.note("late and done"),
                Err(Rejection::Stale { .. }) => self.faults.note("late and stale"),
                Err(Rejection::Guard(_)) => self.faults.note("late and refused"),
                Err(e) => panic!("{told}: {e}\n{}", self.transcript.join("\n")),
            }
        }
    }

    /// A word of an agent leaves it; how and when it arrives the faults say.
    pub(super) fn says(&mut self, name: &WorkerName, mut said: Word) {
        let Some(dice) = &mut self.faults.words else { return self.arrives(name, said) };
        let (delay, part) = (dice.below(2) * dice.below(LATE), dice.below(6));
        if part == 0 {
            // Nothing follows from what it leaves out: it does not say which assignment it has taken up.
            said.facts.reached.clear();
            said.facts.staged = None;
            said.facts.instances.retain(|f| f.life == Life::Running && dice.below(2) == 0);
            self.faults.note("partial words");
        }
        let at = self.real + delay;
        let post = self.post.entry(name.clone()).or_default();
        post.push((at, said));
    }

    /// Words whose time has come, whoever leads by now.
    pub(super) fn deliver_words(&mut self) {
        let (mut due, real) = (Vec::new(), self.real);
        for (name, post) in &mut self.post {
            let (now, later): (Vec<_>, Vec<_>) = post.drain(..).partition(|(at, _)| *at <= real);
            *post = later;
            due.extend(now.into_iter().map(|(at, said)| (at, name.clone(), said)));
        }
        due.sort_by_key(|(at, ..)| *at);
        for (_, name, said) in due {
            if self.leading {
                self.arrives(&name, said);
            }
        }
    }

    /// As the collector takes it in: the newest report of a worker counts.
    fn arrives(&mut self, name: &WorkerName, said: Word) {
        let newest = match self.seen.workers.get(name) {
            Some(Seen::Known { value, .. }) => (value.epoch, value.seq),
            Some(Seen::Silent { .. } | Seen::Unknown) | None => (0, 0),
        };
        if (said.facts.epoch, said.facts.seq) <= newest {
            return self.faults.note("words out of order");
        }
        if self.state.workers.get(name).is_some_and(|w| (said.facts.epoch, said.facts.seq) <= w.report) {
            self.faults.note("words older than the committed ones");
        }
        let at = self.now();
        self.seen.workers.insert(name.clone(), Seen::Known { at, value: said.facts });
        if let Some((key, counts)) = said.counts {
            self.seen.counts.entry(key).or_default().insert(name.clone(), counts);
        }
    }
}

/// What an agent says at once: facts, and counts of the running step.
#[derive(Clone)]
pub struct Word {
    pub facts: WorkerFacts,
    pub counts: Option<((slipway::model::DeploymentId, slipway::model::StepId), StepCounts)>,
}
