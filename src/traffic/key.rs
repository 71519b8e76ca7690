//! Keys of sticky answers: one canonical form, and the slot a key falls into.
//!
//! DNS compares names without regard to case, so the form is folded to lower case here, for every reader alike. The
//! hash is part of the contract: a changed one would move keys between versions, and other programs may compute it
//! (SHA-256 of the salt as eight big-endian bytes and the key; the first eight bytes as a big-endian number; modulo
//! 10,000).

use sha2::{Digest as _, Sha256};

use super::{SLOTS, TrafficError};

/// The longest key, in bytes.
pub const MAX_KEY: usize = 255;

/// A key in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, derive_more::Display)]
pub struct Key(String);

impl Key {
    /// Checks a key and folds its case.
    pub fn new(text: &str) -> Result<Self, TrafficError> {
        if (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(TrafficError::Key { key: text.chars().take(64).collect() })
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key's slot under a salt, from 0 to 9,999.
    pub fn slot(&self, salt: u64) -> u16 {
        let hash = Sha256::new().chain_update(salt.to_be_bytes()).chain_update(self.0.as_bytes()).finalize();
        let first = hash.iter().take(8).fold(0_u64, |n, b| n << 8 | u64::from(*b));
        u16::try_from(first % u64::from(SLOTS)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_folded_and_bad_keys_are_refused() {
        assert_eq!(Key::new("Alice").unwrap(), Key::new("aLICE").unwrap());
        for bad in ["", "a b", "ä", &"x".repeat(256)] {
            assert!(matches!(Key::new(bad), Err(TrafficError::Key { .. })), "{bad}");
        }
    }

    #[test]
    fn slots_are_spread_and_depend_on_the_salt() {
        let keys: Vec<Key> = (0..20_000).map(|n| Key::new(&format!("u{n}")).unwrap()).collect();
        let low = keys.iter().filter(|k| k.slot(1) < 1000).count();
        assert!((1800..2200).contains(&low), "{low} of 20,000 keys in a tenth of the slots");
        assert!(keys.iter().filter(|k| k.slot(1) == k.slot(2)).count() < 20);
    }

    /// Computed by another program: Python's hashlib; a change here moves users.
    #[test]
    fn the_hash_is_a_contract() {
        assert_eq!(Key::new("alice").unwrap().slot(0), ALICE_0);
        assert_eq!(Key::new("alice").unwrap().slot(42), ALICE_42);
    }
    const ALICE_0: u16 = 2948;
    const ALICE_42: u16 = 6257;
}
