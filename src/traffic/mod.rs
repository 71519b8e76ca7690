//! Who gets which version. One answer for everyone: DNS, the API and (later) flags.
//!
//! Two ways to choose among the arms of a route. Without a key: a shuffled minimal deck ([`Deck`]), exact every so many
//! answers and without lock-in to clients that ask at a fixed rhythm. With a key: a table of 10,000 slots
//! ([`SlotTable`]), moved as little as possible when weights change, so that a key only ever moves forward while a
//! version's weight rises.
//!
//! When a server may answer at all for a service that is being switched is [`lease`]'s.
//!
//! Pure: random numbers are arguments, and the same salt and weights give the same table on every node. What an arm
//! *is* (a role, a version, a tenant's ring) and which arms can be served now is the caller's; an arm is an index into
//! the caller's list.

mod deck;
mod key;
pub mod lease;
mod slots;

pub use deck::{Deck, MAX_DECK};
pub use key::{Key, MAX_KEY};
pub use slots::{End, KEPT_RUNS, MAX_RUNS, Run, SLOTS, SlotTable, Slots};

use thiserror::Error;

/// Keys tried anew before the first servable arm is taken, when a key's own arm has nothing to serve.
const REHASHES: u64 = 32;

/// What is wrong with weights or a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TrafficError {
    #[error("weights add up to {sum}, not to 10000 basis points: correct one of them")]
    Sum { sum: u64 },
    #[error("{arms} weights are too many: a route has at most 256")]
    Arms { arms: usize },
    /// Runs that are not a partition of the 10,000 slots.
    #[error("the runs do not cover each of the 10000 slots once")]
    Runs,
    /// A key that is empty, too long, or not printable ASCII.
    #[error("{key:?} is not a key: use 1 to 255 printable ASCII characters")]
    Key { key: String },
}

/// How an arm is chosen.
pub enum By<'a> {
    /// The next card of a deck, which is dealt anew with these random numbers when it is empty.
    Deck(&'a mut Deck, &'a mut dyn FnMut() -> u64),
    /// The slot of a key under a salt.
    Key(&'a SlotTable, &'a Key),
}

/// The arm for one answer, among those that `servable` says have something to serve. An arm without anything to serve
/// gives its share to the others in proportion to their weights. `None`: no arm with a weight can be served.
pub fn choose(by: By<'_>, servable: &dyn Fn(usize) -> bool) -> Option<usize> {
    match by {
        By::Deck(deck, random) => deck.draw(servable, random),
        By::Key(table, key) => {
            // Hashed again with another salt, a key of an arm that is down is spread like a new key; when the arm is
            // back, so is it.
            (0..REHASHES)
                .map(|n| table.arm(key.slot(table.salt().wrapping_add(n))))
                .find(|arm| servable(*arm))
                .or_else(|| table.arms().find(|arm| servable(*arm)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leaves_an_arm_only_while_it_cannot_be_served() {
        let table = SlotTable::new(9, &Slots::new(&[5000, 5000, 0]).unwrap());
        let keys: Vec<Key> = (0..500).map(|n| Key::new(&format!("user-{n}")).unwrap()).collect();
        let pick = |servable: &dyn Fn(usize) -> bool| -> Vec<Option<usize>> {
            keys.iter().map(|k| choose(By::Key(&table, k), servable)).collect()
        };
        let (all, without) = (pick(&|_| true), pick(&|a| a != 1));
        for (a, b) in all.iter().zip(&without) {
            assert_eq!(*b, Some(0));
            assert!(*a == Some(0) || *a == Some(1));
        }
        assert_eq!(all, pick(&|_| true));
        assert!(pick(&|a| a == 2).iter().all(Option::is_none), "weight 0 serves nobody");
    }
}
