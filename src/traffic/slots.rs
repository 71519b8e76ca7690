//! The bucket table: 10,000 slots, shared out among arms, reassigned with the fewest moves when weights change.
//!
//! What is replicated is the salt and, for each arm, its slots as runs over a permutation that the salt fixes, in the
//! order in which it got them ([`Slots`]); [`SlotTable`] is the expanded form for reading. Invariants: every slot
//! belongs to one arm; an arm has exactly its weight in slots; a change moves as many slots as the weights differ by
//! and no more; growth takes from arms that shrink only; what an arm got last it gives back first, so that a rollback
//! undoes the newest moves first. A change adds at most a run for each arm that shrinks and each that grows; above
//! [`MAX_RUNS`] each arm keeps the order of its newest [`KEPT_RUNS`] and neighbours among the rest become one run,
//! which moves nobody. So a table has at most a run a slot, and in practice a handful.

use serde::{Deserialize, Serialize};

use super::{TrafficError, deck::shuffle};

/// Slots of a table: one a basis point.
pub const SLOTS: u16 = 10_000;
/// Runs of a table above which only the newest of each arm keep their order of acquisition.
pub const MAX_RUNS: usize = 512;
/// Runs that are kept of each arm above that.
pub const KEPT_RUNS: usize = 64;

/// Neighbouring places of the permutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// First place.
    pub start: u16,
    /// How many.
    pub len: u16,
    /// Whether the arm got its last place first, so that the first one is its newest.
    pub down: bool,
}

impl Run {
    /// Places that were got in their order.
    pub fn up(start: u16, len: u16) -> Self {
        Self { start, len, down: false }
    }

    /// Splits off the part that an arm got last, in the order in which it gives it back: newest first.
    fn newest(&mut self, part: u16) -> Self {
        self.len -= part;
        let start = if self.down { self.start } else { self.start + self.len };
        if self.down {
            self.start += part;
        }
        Self { start, len: part, down: !self.down }
    }

    /// Splits off the part that comes first in its order.
    fn first(&mut self, part: u16) -> Self {
        self.down = !self.down;
        let first = self.newest(part);
        self.down = !self.down;
        first
    }

    /// Appends what was got next, if both are one run.
    fn join(&mut self, next: Self) -> bool {
        let either = |run: &Self, down| run.len == 1 || run.down == down;
        if either(self, false) && either(&next, false) && self.start + self.len == next.start {
            (self.len, self.down) = (self.len + next.len, false);
        } else if either(self, true) && either(&next, true) && next.start + next.len == self.start {
            (self.start, self.len, self.down) = (next.start, self.len + next.len, true);
        } else {
            return false;
        }
        true
    }
}

/// Where in the table an arm's places begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Front,
    Back,
}

/// Which arm holds which places, by arm, each in the order of acquisition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots(Vec<Vec<Run>>);

impl Slots {
    /// Shares the places out for the first time.
    pub fn new(weights: &[u32]) -> Result<Self, TrafficError> {
        let weights = complete(weights)?;
        let mut at = 0;
        let arms = weights.iter().map(|len| {
            let run = Run::up(at, *len);
            at += len;
            if *len > 0 { vec![run] } else { Vec::new() }
        });
        Ok(Self(arms.collect()))
    }

    /// Shares the places out by weights alone, each arm from its end of the table on. It is where a history begins that
    /// was not kept: with one arm at either end, what every history from one of them alone leads to.
    pub fn from_both_ends(arms: &[(u32, End)]) -> Result<Self, TrafficError> {
        let weights = complete(&arms.iter().map(|(weight, _)| *weight).collect::<Vec<_>>())?;
        let (mut front, mut back) = (0, SLOTS);
        let runs = weights.iter().zip(arms).map(|(len, (_, end))| {
            let (start, down) = match end {
                End::Front => (front, false),
                End::Back => (back - len, true),
            };
            if down {
                back = start
            } else {
                front += len
            }
            if *len > 0 { vec![Run { start, len: *len, down }] } else { Vec::new() }
        });
        Ok(Self(runs.collect()))
    }

    /// Checks runs that came from outside: every place once.
    pub fn from_runs(arms: Vec<Vec<Run>>) -> Result<Self, TrafficError> {
        let mut taken = vec![false; usize::from(SLOTS)];
        for run in arms.iter().flatten() {
            let (start, len) = (usize::from(run.start), usize::from(run.len));
            let places = taken.get_mut(start..start + len).ok_or(TrafficError::Runs)?;
            if len == 0 || places.iter().any(|t| *t) {
                return Err(TrafficError::Runs);
            }
            places.fill(true);
        }
        if arms.len() > 256 || taken.iter().any(|t| !t) {
            return Err(TrafficError::Runs);
        }
        Ok(Self(arms))
    }

    /// The runs, by arm.
    pub fn runs(&self) -> &[Vec<Run>] {
        &self.0
    }

    /// Slots of each arm.
    pub fn counts(&self) -> Vec<u32> {
        self.0.iter().map(|runs| runs.iter().map(|r| u32::from(r.len)).sum()).collect()
    }

    /// The same table under other weights. Arms may be added at the end; one that is left out counts as weight 0 and
    /// stays in the list, so that indexes keep their meaning.
    pub fn reassigned(&self, weights: &[u32]) -> Result<Self, TrafficError> {
        let mut want = complete(weights)?;
        want.resize(want.len().max(self.0.len()), 0);
        let mut arms = self.0.clone();
        arms.resize(want.len(), Vec::new());
        let mut free = Vec::new();
        for (runs, want) in arms.iter_mut().zip(&want) {
            let have: u16 = runs.iter().map(|r| r.len).sum();
            give(runs, have.saturating_sub(*want), &mut free);
        }
        for (runs, want) in arms.iter_mut().zip(&want) {
            let have: u16 = runs.iter().map(|r| r.len).sum();
            take(runs, want.saturating_sub(have), &mut free);
        }
        if arms.iter().map(Vec::len).sum::<usize>() > MAX_RUNS {
            arms.iter_mut().for_each(fold);
        }
        Ok(Self(arms))
    }
}

/// Makes one run of neighbours among an arm's oldest runs, whichever came first.
fn fold(runs: &mut Vec<Run>) {
    let newest = runs.split_off(runs.len().saturating_sub(KEPT_RUNS));
    runs.iter_mut().for_each(|r| r.down = false);
    runs.sort_by_key(|r| r.start);
    runs.dedup_by(|next, last| last.join(*next));
    runs.extend(newest);
}

/// Puts an arm's newest `n` places into `free`.
fn give(runs: &mut Vec<Run>, mut n: u16, free: &mut Vec<Run>) {
    while n > 0 {
        let Some(last) = runs.last_mut() else { return };
        let part = last.len.min(n);
        free.push(last.newest(part));
        if last.len == 0 {
            runs.pop();
        }
        n -= part;
    }
}

/// Gives an arm `n` free places, from the front of what was freed.
fn take(runs: &mut Vec<Run>, mut n: u16, free: &mut Vec<Run>) {
    while n > 0 {
        let Some(first) = free.first_mut() else { return };
        let part = first.len.min(n);
        let got = first.first(part);
        if first.len == 0 {
            free.remove(0);
        }
        if !runs.last_mut().is_some_and(|last| last.join(got)) {
            runs.push(got);
        }
        n -= part;
    }
}

fn complete(weights: &[u32]) -> Result<Vec<u16>, TrafficError> {
    if weights.len() > 256 {
        return Err(TrafficError::Arms { arms: weights.len() });
    }
    let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    if sum != u64::from(SLOTS) {
        return Err(TrafficError::Sum { sum });
    }
    // Each is at most the sum, so it fits.
    Ok(weights.iter().map(|w| u16::try_from(*w).unwrap_or(SLOTS)).collect())
}

/// A table expanded for reading: slot to arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotTable {
    salt: u64,
    arm_of: Vec<u16>,
    weighted: Vec<usize>,
}

impl SlotTable {
    /// Expands runs over the permutation that `salt` fixes.
    pub fn new(salt: u64, slots: &Slots) -> Self {
        let mut places: Vec<u16> = (0..SLOTS).collect();
        let mut numbers = SplitMix::new(salt);
        shuffle(&mut places, &mut || numbers.next());
        let mut arm_of = vec![0; usize::from(SLOTS)];
        for (arm, runs) in (0_u16..).zip(&slots.0) {
            for place in runs.iter().flat_map(|r| r.start..r.start + r.len) {
                // `Slots` is a partition of 0..SLOTS by construction, and `places` a permutation of it.
                let slot = places.get(usize::from(place)).map(|slot| usize::from(*slot));
                if let Some(of) = slot.and_then(|slot| arm_of.get_mut(slot)) {
                    *of = arm;
                }
            }
        }
        let weighted = slots.0.iter().enumerate().filter(|(_, runs)| !runs.is_empty()).map(|(arm, _)| arm).collect();
        Self { salt, arm_of, weighted }
    }

    /// The salt of keys and permutation.
    pub fn salt(&self) -> u64 {
        self.salt
    }

    /// The arm of a slot.
    pub fn arm(&self, slot: u16) -> usize {
        self.arm_of.get(usize::from(slot % SLOTS)).copied().map_or(0, usize::from)
    }

    /// Arms that have at least one slot, ascending.
    pub fn arms(&self) -> impl Iterator<Item = usize> + '_ {
        self.weighted.iter().copied()
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the permutation must be the same on every node and in every release.
pub(super) struct SplitMix(u64);

impl SplitMix {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights(arms: usize) -> impl Strategy<Value = Vec<u32>> {
        proptest::collection::vec(0_u32..=10_000, arms)
            .prop_map(|w| if w.iter().all(|x| *x == 0) { vec![1; w.len()] } else { w })
            .prop_map(|w| super::super::deck::scale(&w, u32::from(SLOTS)))
    }

    fn moved(a: &SlotTable, b: &SlotTable) -> usize {
        (0..SLOTS).filter(|s| a.arm(*s) != b.arm(*s)).count()
    }

    proptest! {
        #[test]
        fn a_change_moves_what_the_weights_differ_by(chain in proptest::collection::vec(weights(4), 2..6), salt: u64) {
            let mut slots = Slots::new(&chain[0]).unwrap();
            for next in &chain[1..] {
                let after = slots.reassigned(next).unwrap();
                prop_assert_eq!(&after.counts(), next);
                prop_assert!(Slots::from_runs(after.runs().to_vec()).is_ok());
                let fewest: u32 = slots.counts().iter().zip(next).map(|(h, w)| h.saturating_sub(*w)).sum();
                let (a, b) = (SlotTable::new(salt, &slots), SlotTable::new(salt, &after));
                prop_assert_eq!(moved(&a, &b), fewest as usize);
                slots = after;
            }
        }

        /// Any number of versions that come and go, any sequence of weights: a version that does not shrink keeps every
        /// slot, and one that shrinks loses those that it got last.
        #[test]
        fn no_key_leaves_what_does_not_shrink_and_the_newest_leave_first(
            chain in (1_usize..7).prop_flat_map(|arms| proptest::collection::vec(weights(arms), 2..10)),
            salt: u64,
        ) {
            let mut slots = Slots::new(&chain[0]).unwrap();
            let mut got = vec![0; usize::from(SLOTS)];
            for (now, next) in chain.iter().enumerate().skip(1) {
                let after = slots.reassigned(next).unwrap();
                prop_assert!(after.runs().iter().map(Vec::len).sum::<usize>() <= next.len() * (2 * now + 1));
                let (a, b) = (SlotTable::new(salt, &slots), SlotTable::new(salt, &after));
                for (arm, (was, is)) in slots.counts().iter().zip(next).enumerate() {
                    let mine = || (0..SLOTS).filter(|s| a.arm(*s) == arm);
                    let (kept, lost): (Vec<u16>, Vec<u16>) = mine().partition(|s| b.arm(*s) == arm);
                    prop_assert!(is < was || lost.is_empty(), "arm {}", arm);
                    let newest_kept = kept.iter().map(|s| got[usize::from(*s)]).max();
                    let oldest_lost = lost.iter().map(|s| got[usize::from(*s)]).min();
                    prop_assert!(oldest_lost.is_none_or(|o| newest_kept.is_none_or(|n| o >= n)), "arm {}", arm);
                }
                (0..SLOTS).filter(|s| a.arm(*s) != b.arm(*s)).for_each(|s| got[usize::from(s)] = now);
                slots = after;
            }
        }

        #[test]
        fn a_rollback_undoes_the_newest_moves_first(steps in proptest::collection::btree_set(1_u32..=10_000, 1..6), salt: u64) {
            let mut tables = vec![Slots::new(&[10_000, 0]).unwrap()];
            for w in &steps {
                let next = tables.last().unwrap().reassigned(&[10_000 - w, *w]).unwrap();
                tables.push(next);
            }
            let mut slots = tables.last().unwrap().clone();
            for earlier in tables.iter().rev() {
                slots = slots.reassigned(&earlier.counts()).unwrap();
                prop_assert_eq!(SlotTable::new(salt, &slots), SlotTable::new(salt, earlier));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// With two arms every history that began with one of them alone leads to the same table, which follows from
        /// the weights.
        #[test]
        fn from_both_ends_is_where_two_arms_are_after_any_history(steps in proptest::collection::vec(0_u32..=10_000, 1..8), salt: u64) {
            let mut slots = Slots::new(&[10_000, 0]).unwrap();
            for w in steps {
                slots = slots.reassigned(&[10_000 - w, w]).unwrap();
                let by_weight = Slots::from_both_ends(&[(10_000 - w, End::Front), (w, End::Back)]).unwrap();
                prop_assert!(slots.runs().iter().all(|runs| runs.len() <= 1), "one run each, however many steps");
                prop_assert_eq!(SlotTable::new(salt, &slots), SlotTable::new(salt, &by_weight));
            }
        }
    }

    /// However long slots are pushed to and fro among many arms: the runs stay bounded, and folding moves nobody.
    #[test]
    fn runs_stay_bounded() {
        let mut slots = Slots::new(&[2500, 2500, 2500, 2500]).unwrap();
        let mut numbers = SplitMix::new(4);
        let (mut folded, mut most) = (false, 0);
        for _ in 0..3000 {
            let raw: Vec<u32> = (0..4).map(|_| 1 + (numbers.next() % 1000) as u32).collect();
            let next = super::super::deck::scale(&raw, u32::from(SLOTS));
            let after = slots.reassigned(&next).unwrap();
            let fewest: u32 = slots.counts().iter().zip(&next).map(|(h, w)| h.saturating_sub(*w)).sum();
            assert_eq!(moved(&SlotTable::new(1, &slots), &SlotTable::new(1, &after)), fewest as usize);
            let runs = |s: &Slots| s.runs().iter().map(Vec::len).sum::<usize>();
            folded |= runs(&after) < runs(&slots);
            most = most.max(runs(&after));
            slots = after;
        }
        assert!(folded && most < usize::from(SLOTS), "{most} runs");
    }

    #[test]
    fn weights_and_runs_are_checked() {
        let arms = [(7000, End::Front), (2000, End::Back), (1000, End::Front)];
        let runs = [Run::up(0, 7000), Run { start: 8000, len: 2000, down: true }, Run::up(7000, 1000)];
        assert_eq!(Slots::from_both_ends(&arms).unwrap().runs(), runs.map(|run| vec![run]));
        assert_eq!(Slots::from_both_ends(&arms[1..]), Err(TrafficError::Sum { sum: 3000 }));
        assert_eq!(Slots::new(&[9000, 999]), Err(TrafficError::Sum { sum: 9999 }));
        assert!(matches!(Slots::new(&[0; 300]), Err(TrafficError::Arms { .. })));
        let run = Run::up;
        for bad in [vec![vec![run(0, 9999)]], vec![vec![run(0, 10_000)], vec![run(5, 1)]], vec![vec![run(9000, 2000)]]]
        {
            assert_eq!(Slots::from_runs(bad), Err(TrafficError::Runs));
        }
    }

    #[test]
    fn the_permutation_is_a_contract() {
        let mut n = SplitMix::new(1_234_567);
        // The published test vector of SplitMix64.
        assert_eq!([n.next(), n.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }
}
