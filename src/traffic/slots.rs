//! The bucket table: 10,000 slots, shared out among arms, reassigned with the fewest moves when weights change.
//!
//! What is replicated is the salt and, for each arm, its slots as runs over a permutation that the salt fixes, in the order in which
//! it got them ([`Slots`]); [`SlotTable`] is the expanded form for reading. Invariants: every slot belongs to one arm; an arm has
//! exactly its weight in slots; a change moves as many slots as the weights differ by and no more; growth takes from arms that shrink
//! only; what an arm got last it gives back first, so that a rollback undoes the newest moves first.

use serde::{Deserialize, Serialize};

use super::{TrafficError, deck::shuffle};

/// Slots of a table: one a basis point.
pub const SLOTS: u16 = 10_000;

/// Neighbouring places of the permutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// First place.
    pub start: u16,
    /// How many.
    pub len: u16,
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
            let run = Run { start: at, len: *len };
            at += len;
            if *len > 0 { vec![run] } else { Vec::new() }
        });
        Ok(Self(arms.collect()))
    }

    /// Shares the places out among three arms by their weights alone, without a history: the first arm holds the front, the second
    /// the back, the third what is between. So while the first's or the second's weight rises no key leaves it, whatever the others
    /// do, and while only two have weights each change moves the fewest slots and the way back undoes the newest moves first.
    pub fn from_both_ends(first: u32, second: u32, between: u32) -> Result<Self, TrafficError> {
        let weights = complete(&[first, second, between])?;
        let runs = |start, len| if len > 0 { vec![Run { start, len }] } else { Vec::new() };
        Ok(Self(vec![runs(0, weights[0]), runs(SLOTS - weights[1], weights[1]), runs(weights[0], weights[2])]))
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

    /// The same table under other weights. Arms may be added at the end; one that is left out counts as weight 0 and stays in the
    /// list, so that indexes keep their meaning.
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
        Ok(Self(arms))
    }
}

/// Puts an arm's newest `n` places into `free`.
fn give(runs: &mut Vec<Run>, mut n: u16, free: &mut Vec<Run>) {
    while n > 0 {
        let Some(last) = runs.last_mut() else { return };
        let part = last.len.min(n);
        last.len -= part;
        free.push(Run { start: last.start + last.len, len: part });
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
        let got = Run { start: first.start, len: part };
        first.start += part;
        first.len -= part;
        if first.len == 0 {
            free.remove(0);
        }
        match runs.last_mut().filter(|l| l.start + l.len == got.start) {
            Some(last) => last.len += part,
            None => runs.push(got),
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
                arm_of[usize::from(places[usize::from(place)])] = arm;
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

        #[test]
        fn while_a_weight_rises_no_key_leaves_it(steps in proptest::collection::btree_set(1_u32..=10_000, 1..8), salt: u64) {
            let mut slots = Slots::new(&[10_000, 0]).unwrap();
            let mut before = SlotTable::new(salt, &slots);
            for w in steps {
                slots = slots.reassigned(&[10_000 - w, w]).unwrap();
                let after = SlotTable::new(salt, &slots);
                prop_assert!((0..SLOTS).all(|s| before.arm(s) == 0 || after.arm(s) == 1));
                before = after;
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
        /// What DNS uses for stable, candidate and previous: no history, and yet nothing moves that need not.
        #[test]
        fn from_both_ends_moves_forward_only(chain in proptest::collection::vec(weights(3), 2..8), salt: u64) {
            let of = |w: &[u32]| SlotTable::new(salt, &Slots::from_both_ends(w[0], w[1], w[2]).unwrap());
            for pair in chain.windows(2) {
                let (before, after) = (of(&pair[0]), of(&pair[1]));
                for (arm, (was, is)) in pair[0].iter().zip(&pair[1]).take(2).enumerate() {
                    if is >= was {
                        prop_assert!((0..SLOTS).all(|s| before.arm(s) != arm || after.arm(s) == arm), "arm {}", arm);
                    }
                }
                for (arm, w) in pair[1].iter().enumerate() {
                    prop_assert_eq!((0..SLOTS).filter(|s| after.arm(*s) == arm).count(), *w as usize);
                }
            }
        }

        /// With two arms: the fewest moves, and the way back is the way there.
        #[test]
        fn from_both_ends_with_two_arms_moves_the_fewest(steps in proptest::collection::vec(0_u32..=10_000, 2..8), salt: u64) {
            let of = |w: u32| SlotTable::new(salt, &Slots::from_both_ends(10_000 - w, w, 0).unwrap());
            for pair in steps.windows(2) {
                prop_assert_eq!(moved(&of(pair[0]), &of(pair[1])), pair[0].abs_diff(pair[1]) as usize);
            }
            // What came last goes first: between two weights on the way down are just the slots that came between them on the way up.
            let (low, high) = (steps[0].min(steps[1]), steps[0].max(steps[1]));
            let (low, high) = (of(low), of(high));
            prop_assert!((0..SLOTS).all(|s| low.arm(s) == 0 || high.arm(s) == 1));
        }
    }

    #[test]
    fn weights_and_runs_are_checked() {
        assert_eq!(Slots::from_both_ends(9000, 999, 0), Err(TrafficError::Sum { sum: 9999 }));
        assert_eq!(Slots::new(&[9000, 999]), Err(TrafficError::Sum { sum: 9999 }));
        assert!(matches!(Slots::new(&[0; 300]), Err(TrafficError::Arms { .. })));
        let run = |start, len| Run { start, len };
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
