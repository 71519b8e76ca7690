//! The serving lease: what lets a DNS server answer for a service that is being switched, and what lets the leader say
//! that no server answers with the old version any more.
//!
//! A server notes the time on its own clock (`t0`), asks the leader, waits until its view has reached the index that it
//! is told, and may then serve until `t0 + D`. The leader records, before it asks a majority which index that is, that
//! the server may serve until `now + D(1 + r) + e` on *its* clock. No clocks are compared: only the rates of two clocks
//! may differ, by `r` at most.
//!
//! Invariants: a grant with an index below an entry was recorded before that entry was committed; a leader that knows
//! of no lease presumes one of everybody until `D(1 + r) + e` after it began; so a server that is neither heard to
//! serve an entry nor within a recorded or presumed lease answers nothing older. Pure: times are arguments, in
//! milliseconds of one machine's boottime clock. Deliberately not here: sockets and Raft (`node`), which services a
//! lease binds (`state`), what is answered without one (`dns`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{NodeId, Period};

/// Milliseconds of one machine's own clock that goes on in suspend. Never compared between machines.
pub type Boot = u64;

/// Shortest and longest lease.
const DURATIONS: (Period, Period) = (Period(500), Period(60_000));
/// Largest difference of rates, parts per million.
const MAX_DRIFT: u32 = 100_000;
/// Smallest and largest margin. Clocks are read in whole milliseconds, so some is always needed.
const MARGINS: (Period, Period) = (Period(5), Period(10_000));

/// How long a lease is, and what is added to it where it is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// `D`: how long a server may serve after it asked, on its clock.
    pub duration: Period,
    /// `r`: how much faster one node's clock may run than another's, parts per million.
    pub drift_ppm: u32,
    /// `e`: what is added to cover reading and rounding.
    pub margin: Period,
}

impl Default for Terms {
    fn default() -> Self {
        Self { duration: Period::seconds(5), drift_ppm: 1000, margin: Period(50) }
    }
}

impl Terms {
    /// `D(1 + r) + e`: how long the leader waits for a lease to be over, on its clock.
    pub fn bound(&self) -> Period {
        let drift = self.duration.0.saturating_mul(u64::from(self.drift_ppm)).div_ceil(1_000_000);
        Period(self.duration.0.saturating_add(drift).saturating_add(self.margin.0))
    }

    /// The larger of each: what is waited for while either may have been granted.
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        Self {
            duration: self.duration.max(other.duration),
            drift_ppm: self.drift_ppm.max(other.drift_ppm),
            margin: self.margin.max(other.margin),
        }
    }

    /// Refuses what makes no sense, with the range.
    pub fn check(&self) -> Result<(), String> {
        let within = |what: &str, p: Period, (from, to): (Period, Period)| {
            if p < from || p > to { Err(format!("{what} {p} is not from {from} to {to}")) } else { Ok(()) }
        };
        within("the lease's duration", self.duration, DURATIONS)?;
        within("the lease's margin", self.margin, MARGINS)?;
        if self.drift_ppm > MAX_DRIFT {
            return Err(format!("a drift of {} parts per million is over {MAX_DRIFT}", self.drift_ppm));
        }
        Ok(())
    }
}

/// What the leader answers to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The request's.
    pub nonce: u64,
    /// The leader's epoch, its term.
    pub epoch: u64,
    /// The index that a majority confirmed after the request had come.
    pub index: u64,
    pub duration: Period,
}

/// A server's own lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Hold {
    /// Only a view that has reached this may be answered from.
    pub index: u64,
    /// The first moment at which nothing may be served any more. 0: there was no lease yet.
    pub until: Boot,
}

/// Whether a view may be answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// Yes.
    Held,
    /// The view is older than the lease: a newer one is there and is to be taken.
    OldView,
    /// The lease is over, for so long; for ever when there was none.
    Over(Period),
}

impl Hold {
    /// Asked after the view was taken, with a clock read after that.
    pub fn covers(&self, view: u64, now: Boot) -> Cover {
        if self.until == 0 {
            Cover::Over(Period(u64::MAX))
        } else if now >= self.until {
            Cover::Over(Period(now - self.until))
        } else if view < self.index {
            Cover::OldView
        } else {
            Cover::Held
        }
    }
}

/// The server's side: what it asked last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Holder {
    asked: Option<(u64, Boot)>,
    epoch: u64,
}

impl Holder {
    /// A renewal is about to be sent; earlier ones are forgotten, so that a late answer to them counts for nothing.
    pub fn ask(&mut self, nonce: u64, now: Boot) {
        self.asked = Some((nonce, now));
    }

    /// An answer came. The lease counts from the moment of asking, and may be used once the served view has reached its
    /// index. `None`: the answer is to another question, or of an epoch that is over.
    pub fn granted(&mut self, grant: Grant) -> Option<Hold> {
        let (nonce, asked) = self.asked?;
        if nonce != grant.nonce || grant.epoch < self.epoch {
            return None;
        }
        self.asked = None;
        self.epoch = grant.epoch;
        Some(Hold { index: grant.index, until: asked.saturating_add(grant.duration.0) })
    }
}

/// The leader's side: until when each server may be serving, as far as this process knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Book {
    epoch: u64,
    presumed: Boot,
    until: BTreeMap<NodeId, Boot>,
}

impl Book {
    /// Begins an epoch, if it is a new one: every server is presumed to hold a lease of the last leader. Returns
    /// whether `epoch` is the present one: an older one has nothing to say.
    pub fn enter(&mut self, epoch: u64, now: Boot, bound: Period) -> bool {
        if epoch > self.epoch {
            *self = Self { epoch, presumed: now.saturating_add(bound.0), until: BTreeMap::new() };
        }
        epoch == self.epoch
    }

    /// A lease that is about to be granted. To be called before a majority is asked for its index.
    pub fn record(&mut self, node: NodeId, now: Boot, bound: Period) {
        let until = self.until.entry(node).or_default();
        *until = (*until).max(now.saturating_add(bound.0));
    }

    /// How long each server may still be serving.
    pub fn left(&self, now: Boot) -> Left {
        let left = |until: Boot| Period(until.saturating_sub(now));
        Left { presumed: left(self.presumed), held: self.until.iter().map(|(n, u)| (*n, left(*u))).collect() }
    }
}

/// How long servers may still serve without having been heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// What is presumed of every server since this leader began.
    pub presumed: Period,
    /// What was granted by this leader.
    pub held: BTreeMap<NodeId, Period>,
}

impl Left {
    /// The same, no longer than this: what a lease had now would be waited for.
    #[must_use]
    pub fn at_most(self, bound: Period) -> Self {
        let held = self.held.into_iter().map(|(n, left)| (n, left.min(bound))).collect();
        Self { presumed: self.presumed.min(bound), held }
    }

    /// The time left of one server's last possible lease.
    pub fn of(&self, node: NodeId) -> Period {
        self.presumed.max(self.held.get(&node).copied().unwrap_or_default())
    }
}

/// How a server stands to an entry that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has said that its view holds the entry.
    Served,
    /// It is bound by its lease, and its last possible one is over.
    Expired,
    /// It is bound, and may serve the state before the entry for so long.
    Holds(Period),
    /// It is not known whether it knows that it is bound: only its own report would help.
    Unbound,
}

impl Standing {
    /// `served`: it said so. `bound`: its view is known to bind it. `left`: of its lease; `None` when this leader knows
    /// nothing of leases.
    pub fn of(served: bool, bound: bool, left: Option<Period>) -> Self {
        match (served, bound, left) {
            (true, _, _) => Self::Served,
            (false, false, _) => Self::Unbound,
            (false, true, Some(Period(0))) => Self::Expired,
            (false, true, Some(left)) => Self::Holds(left),
            (false, true, None) => Self::Holds(Period(u64::MAX)),
        }
    }

    /// Whether it cannot answer with what was before the entry.
    pub fn is_fenced(self) -> bool {
        match self {
            Self::Served | Self::Expired => true,
            Self::Holds(_) | Self::Unbound => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(nonce: u64, epoch: u64, index: u64) -> Grant {
        Grant { nonce, epoch, index, duration: Period(5000) }
    }

    #[test]
    fn the_leader_waits_longer_than_a_server_serves() {
        let terms = Terms::default();
        assert_eq!(terms.bound(), Period(5055));
        for ppm in [0, 1, 999, 50_000] {
            let t = Terms { drift_ppm: ppm, ..terms };
            // A leader's clock that is as fast as allowed still has not reached the bound when the server's shows D.
            let fast = 5000 + 5000 * u64::from(ppm) / 1_000_000;
            assert!(t.bound().0 >= fast + 50, "{ppm}");
        }
        assert!(Terms { duration: Period(100), ..terms }.check().unwrap_err().contains("500ms to 1m"));
        assert!(Terms { drift_ppm: 200_000, ..terms }.check().is_err());
        let short = Terms { duration: Period(1000), drift_ppm: 9, margin: Period(500) };
        assert_eq!(terms.larger(short), Terms { margin: Period(500), ..terms });
    }

    #[test]
    fn a_lease_counts_from_the_newest_question_alone() {
        let mut server = Holder::default();
        assert_eq!(server.granted(grant(1, 1, 7)), None, "nothing was asked");
        server.ask(1, 1000);
        server.ask(2, 3000);
        assert_eq!(server.granted(grant(1, 1, 7)), None, "a late answer to an earlier question");
        assert_eq!(server.granted(grant(2, 1, 7)), Some(Hold { index: 7, until: 8000 }));
        assert_eq!(server.granted(grant(2, 1, 7)), None, "an answer counts once");
        server.ask(3, 4000);
        assert!(server.granted(grant(3, 4, 9)).is_some());
        server.ask(4, 5000);
        assert_eq!(server.granted(grant(4, 3, 9)), None, "a leader that is none any more");
    }

    #[test]
    fn a_view_older_than_the_lease_is_not_answered_from() {
        let hold = Hold { index: 7, until: 8000 };
        assert_eq!(hold.covers(7, 7999), Cover::Held);
        assert_eq!(hold.covers(6, 7999), Cover::OldView, "the lease was had for a newer view than this one");
        assert_eq!(hold.covers(7, 8000), Cover::Over(Period(0)));
        assert_eq!(hold.covers(9, 8500), Cover::Over(Period(500)));
        assert_eq!(Hold::default().covers(9, 1), Cover::Over(Period(u64::MAX)));
    }

    #[test]
    fn a_new_leader_presumes_a_lease_of_everyone() {
        let mut book = Book::default();
        let bound = Terms::default().bound();
        assert!(book.enter(3, 1000, bound));
        assert_eq!(book.left(1000).of(9), bound, "also of one that it has never heard of");
        book.record(1, 3000, bound);
        assert!(book.enter(3, 4000, bound), "the same epoch goes on");
        let left = book.left(1000 + bound.0);
        assert_eq!((left.of(1), left.of(2)), (Period(2000), Period(0)));
        // A shorter lease does not shorten one that was granted.
        book.record(1, 3100, Period(10));
        assert_eq!(book.left(3100).of(1), Period(bound.0 - 100));
        assert!(!book.enter(2, 9000, bound), "an older epoch has nothing to say");
        assert!(book.enter(4, 90_000, bound));
        assert_eq!(book.left(90_000).of(2), bound);
    }

    #[test]
    fn what_is_not_known_to_bind_is_never_waited_out() {
        assert_eq!(Standing::of(true, false, None), Standing::Served);
        assert_eq!(Standing::of(false, false, Some(Period(0))), Standing::Unbound);
        assert_eq!(Standing::of(false, true, Some(Period(0))), Standing::Expired);
        assert!(!Standing::of(false, true, Some(Period(1))).is_fenced());
        assert!(!Standing::of(false, true, None).is_fenced(), "without a book nothing is over");
    }
}
