//! The shuffled minimal deck: exact shares over every L answers, in an order that nobody can guess.
//!
//! L is the sum of the weights over their greatest common divisor, 10,000 at most. The deck holds each arm as often as
//! its share says, is dealt from the top, and is shuffled again when it is empty. Invariant: any L draws that begin
//! with a fresh deck, while all arms can be served, hold each arm exactly its share of L times. Not here: a new
//! generation of a route needs a new deck, which the caller makes.

/// The largest deck: one card a basis point.
pub const MAX_DECK: u32 = 10_000;

/// A deck: its composition and the cards that are left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deck {
    counts: Vec<u32>,
    left: Vec<u16>,
}

impl Deck {
    /// A deck for these weights (of any sum), by arm. It is dealt at the first draw.
    pub fn new(weights: &[u32]) -> Self {
        Self { counts: minimal(weights), left: Vec::new() }
    }

    /// L: after so many answers from a fresh deck the shares are exact.
    pub fn size(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// Cards of each arm in a full deck.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Cards of each arm that are left before the next deal.
    pub fn left(&self) -> Vec<u32> {
        let mut left = vec![0; self.counts.len()];
        for arm in &self.left {
            if let Some(n) = left.get_mut(usize::from(*arm)) {
                *n += 1;
            }
        }
        left
    }

    /// The next arm that can be served. Cards of arms that cannot are put away, which shares their weight out among the
    /// rest.
    pub fn draw(&mut self, servable: &dyn Fn(usize) -> bool, random: &mut dyn FnMut() -> u64) -> Option<usize> {
        let possible = self.counts.iter().enumerate().any(|(arm, n)| *n > 0 && servable(arm));
        if !possible {
            return None;
        }
        loop {
            // A full deck has a servable card, so this ends within what is left and one deal.
            if self.left.is_empty() {
                self.deal(random);
            }
            if let Some(arm) = self.left.pop().map(usize::from).filter(|arm| servable(*arm)) {
                return Some(arm);
            }
        }
    }

    fn deal(&mut self, random: &mut dyn FnMut() -> u64) {
        self.left.clear();
        for (arm, n) in (0_u16..).zip(&self.counts) {
            self.left.extend((0..*n).map(|_| arm));
        }
        shuffle(&mut self.left, random);
    }
}

/// Fisher and Yates' shuffle. The multiplication's bias is below 2^-49 for a full deck.
pub(super) fn shuffle<T>(items: &mut [T], random: &mut dyn FnMut() -> u64) {
    for i in (1..items.len()).rev() {
        let j = (u128::from(random()) * (i as u128 + 1)) >> 64;
        items.swap(i, usize::try_from(j).unwrap_or(i));
    }
}

/// Smallest whole numbers in the proportion of `weights`, their sum capped by largest remainder.
fn minimal(weights: &[u32]) -> Vec<u32> {
    let gcd = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
    let counts: Vec<u32> = weights.iter().map(|w| w / gcd).collect();
    let sum: u64 = counts.iter().map(|c| u64::from(*c)).sum();
    if sum <= u64::from(MAX_DECK) { counts } else { scale(&counts, MAX_DECK) }
}

/// Shares `total` out in the proportion of `weights` by largest remainder; the result adds up to `total` unless all
/// weights are 0.
pub(super) fn scale(weights: &[u32], total: u32) -> Vec<u32> {
    let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact: Vec<u64> = weights.iter().map(|w| u64::from(*w) * u64::from(total)).collect();
    // Each quotient is at most `total`, so it fits.
    let mut out: Vec<u32> = exact.iter().map(|e| u32::try_from(e / sum).unwrap_or(total)).collect();
    let missing = u64::from(total) - out.iter().map(|n| u64::from(*n)).sum::<u64>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(exact[*i] % sum), *i));
    for i in order.into_iter().take(usize::try_from(missing).unwrap_or(0)) {
        out[i] += 1;
    }
    out
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(seed: u64) -> impl FnMut() -> u64 {
        let mut s = crate::traffic::slots::SplitMix::new(seed);
        move || s.next()
    }

    fn draw_counts(deck: &mut Deck, n: u32, arms: usize, random: &mut dyn FnMut() -> u64) -> Vec<u32> {
        let mut seen = vec![0; arms];
        for _ in 0..n {
            seen[deck.draw(&|_| true, random).unwrap()] += 1;
        }
        seen
    }

    #[test]
    fn decks_are_minimal() {
        for (weights, size) in
            [(vec![9000, 1000], 10), (vec![7500, 2500], 4), (vec![10_000, 0], 1), (vec![9999, 1], 10_000)]
        {
            assert_eq!(Deck::new(&weights).size(), size, "{weights:?}");
        }
        assert_eq!(Deck::new(&[3_000_001, 1_000_000]).size(), MAX_DECK);
        assert_eq!(Deck::new(&[0, 0]).draw(&|_| true, &mut numbers(1)), None);
        assert_eq!(Deck::new(&[]).draw(&|_| true, &mut numbers(1)), None);
    }

    #[test]
    fn an_arm_that_is_down_leaves_its_share_to_the_others() {
        let (mut deck, mut random) = (Deck::new(&[5000, 3000, 2000]), numbers(3));
        let mut seen = [0; 3];
        for _ in 0..800 {
            seen[deck.draw(&|a| a != 1, &mut random).unwrap()] += 1;
        }
        // 7 of 10 cards remain: what is drawn in whole decks is exact, the last one may be begun.
        assert_eq!(seen[1], 0);
        assert!((i64::from(seen[0]) * 2 - i64::from(seen[2]) * 5).abs() <= 35, "{seen:?}");
        assert_eq!(deck.draw(&|_| false, &mut random), None);
    }

    proptest! {
        #[test]
        fn shares_are_exact_every_deck(weights in proptest::collection::vec(0_u32..=10_000, 1..5), seed: u64) {
            let (mut deck, mut random) = (Deck::new(&weights), numbers(seed));
            let size = deck.size();
            let counts = deck.counts().to_vec();
            let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            if sum <= u64::from(MAX_DECK) {
                for (w, c) in weights.iter().zip(&counts) {
                    prop_assert_eq!(u64::from(*w) * u64::from(size), u64::from(*c) * sum);
                }
            }
            for _ in 0..3 {
                if size > 0 {
                    prop_assert_eq!(&draw_counts(&mut deck, size, weights.len(), &mut random), &counts);
                }
            }
        }

        #[test]
        fn shares_of_a_total_add_up(weights in proptest::collection::vec(0_u32..=u32::MAX, 1..8), total in 0_u32..100_000) {
            let out = scale(&weights, total);
            let any = weights.iter().any(|w| *w > 0);
            prop_assert_eq!(out.iter().map(|n| u64::from(*n)).sum::<u64>(), if any { u64::from(total) } else { 0 });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// No lock-in: a client that takes every p-th card sees the share, be p the deck's size, one of its parts or
        /// anything else; so a client that polls at a fixed rhythm is not tied to a version, nor are clients that ask
        /// in turn.
        #[test]
        fn a_poller_of_any_period_sees_the_share(share in 1_u32..100, period in 1_u32..120, offset in 0_u32..120, seed: u64) {
            let (mut deck, mut random) = (Deck::new(&[100 - share, share]), numbers(seed));
            let polls = 1000;
            let mut seen = 0;
            for at in 0..polls * period {
                let arm = deck.draw(&|_| true, &mut random).unwrap();
                if at % period == offset % period {
                    seen += i64::from(arm == 1);
                }
            }
            // Six standard deviations of independent draws; those from one deck scatter less.
            let (share, polls) = (i64::from(share), i64::from(polls));
            let off = 100 * seen - share * polls;
            prop_assert!(off * off < 36 * share * (100 - share) * polls + 10_000, "{} of {}, period {}", seen, polls, period);
        }
    }

    #[test]
    fn the_order_depends_on_the_numbers_given() {
        let order = |seed| {
            let (mut deck, mut random) = (Deck::new(&[5000, 5000]), numbers(seed));
            (0..64).map(|_| deck.draw(&|_| true, &mut random).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }
}
