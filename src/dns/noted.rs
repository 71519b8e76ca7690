//! What is noted of each answer, without a lock: answers by arm, and the TTLs that caches may still hold.
//!
//! Invariants: a TTL is reported ([`Noted::largest`]) until no cache can hold it any more, also when an earlier view
//! handed it out, as one site leaves this to the next; counts only rise. Few different TTLs exist at a time: four have
//! a place of their own here, more share a lock. Everything that an answer touches is in one line of the processor's
//! cache. Not here: who asked (`tally`).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::{
    clock::Mono,
    state::{ByRole, Role},
};

/// Bits of a TTL in a place; its time has the others: milliseconds for 557 years.
const TTL_BITS: u32 = 20;
const PLACES: usize = 4;

/// The line of the cache holds that many.
const _: () = assert!((Role::COUNT + PLACES) * size_of::<AtomicU64>() <= 64);

/// Counts and TTLs of one deployment's answers.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Noted {
    answers: ByRole<AtomicU64>,
    /// TTL and the time when it was last handed out; 0: free.
    ttls: [AtomicU64; PLACES],
    /// What found no place.
    others: Mutex<Vec<(u32, Mono)>>,
}

impl Noted {
    /// Counts an answer that named this arm.
    pub(super) fn answered(&self, arm: usize) {
        if let Some(n) = self.answers.get(arm) {
            n.fetch_add(1, Relaxed);
        }
    }

    /// Answers by arm so far.
    pub(super) fn answers(&self) -> ByRole<u64> {
        self.answers.each_ref().map(|n| n.load(Relaxed))
    }

    /// Notes that an answer with this TTL (seconds, not 0) left at `now`.
    pub(super) fn ttl(&self, ttl: u32, now: Mono) {
        if ttl >> TTL_BITS == 0 {
            let new = now.0 << TTL_BITS | u64::from(ttl);
            for place in &self.ttls {
                let mut seen = place.load(Relaxed);
                while unpack(seen).0 == ttl || is_over(unpack(seen), now) {
                    // A place's time never goes back.
                    if seen >= new {
                        return;
                    }
                    match place.compare_exchange_weak(seen, new, Relaxed, Relaxed) {
                        Ok(_) => return,
                        Err(other) => seen = other,
                    }
                }
            }
        }
        let mut others = self.others.lock();
        match others.iter_mut().find(|(t, _)| *t == ttl) {
            Some((_, at)) => *at = (*at).max(now),
            None => others.push((ttl, now)),
        }
    }

    /// The largest TTL that a cache may still hold at `now`, in milliseconds.
    pub(super) fn largest(&self, now: Mono) -> Option<u64> {
        let mut others = self.others.lock();
        others.retain(|noted| !is_over(*noted, now));
        let placed = self.ttls.iter().map(|place| unpack(place.load(Relaxed)));
        let live = placed.chain(others.iter().copied()).filter(|noted| !is_over(*noted, now));
        live.map(|(ttl, _)| u64::from(ttl) * 1000).max()
    }
}

fn unpack(place: u64) -> (u32, Mono) {
    // Masked to 20 bits, so it fits.
    let ttl = u32::try_from(place & ((1 << TTL_BITS) - 1)).unwrap_or(u32::MAX);
    (ttl, Mono(place >> TTL_BITS))
}

/// Whether no cache can hold it any more; a free place is over.
fn is_over((ttl, at): (u32, Mono), now: Mono) -> bool {
    ttl == 0 || now.since(at) > u64::from(ttl) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_ttl_is_forgotten_when_no_cache_can_hold_it() {
        let noted = Noted::default();
        noted.ttl(30, Mono(0));
        noted.ttl(5, Mono(20_000));
        noted.ttl(1, Mono(29_500));
        assert_eq!(noted.largest(Mono(30_000)), Some(30_000));
        assert_eq!(noted.largest(Mono(30_001)), Some(1000));
        assert_eq!(noted.largest(Mono(40_000)), None);
    }

    #[test]
    fn more_ttls_than_places_are_all_kept_and_a_late_note_takes_nothing_back() {
        let noted = Noted::default();
        for ttl in 1..=20 {
            noted.ttl(ttl, Mono(1000));
        }
        noted.ttl(1 << TTL_BITS, Mono(1000));
        assert_eq!(noted.largest(Mono(1000)), Some(1000 << TTL_BITS));
        assert_eq!(noted.largest(Mono(21_000)), Some(1000 << TTL_BITS));
        // The larger, the earlier it is over: each is told in its turn.
        let noted = Noted::default();
        for ttl in 1..=20_u32 {
            noted.ttl(ttl, Mono(50_000 - 2000 * u64::from(ttl)));
        }
        noted.ttl(20, Mono(500));
        noted.ttl(3, Mono(500));
        for ttl in (1..=20).rev() {
            assert_eq!(noted.largest(Mono(50_000 - 1000 * ttl)), Some(1000 * ttl));
        }
        assert_eq!(noted.largest(Mono(50_000)), None);
        noted.ttl(7, Mono(60_000));
        assert_eq!(noted.largest(Mono(60_000)), Some(7000), "places are used again");
    }

    #[test]
    fn answers_are_counted_by_arm_from_many_threads() {
        let noted = Noted::default();
        std::thread::scope(|s| {
            for arm in 0..3 {
                let noted = &noted;
                s.spawn(move || {
                    (0..1000).for_each(|n| {
                        noted.answered(arm);
                        noted.ttl(arm as u32 + 1, Mono(n));
                    })
                });
            }
        });
        noted.answered(9);
        assert_eq!(noted.answers(), [1000; 3]);
        assert_eq!(noted.largest(Mono(999)), Some(3000));
    }
}
