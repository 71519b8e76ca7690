//! A hash a table and one over all: nodes at the same index that disagree know which table differs.
//!
//! Over the encoding of the rows (`snapshot`). Not here: who compares them (`cluster::replicas`, and the nodes).

use sha2::{Digest as _, Sha256};

use super::snapshot::{self, Row};
use crate::state::{State, store::frame};

/// Hashes of a State.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDigest {
    /// Each table by name, in a fixed order.
    pub tables: Vec<(&'static str, u64)>,
    pub all: u64,
}

fn first_eight(hash: Sha256) -> u64 {
    hash.finalize().iter().take(8).fold(0, |n, b| (n << 8) | u64::from(*b))
}

fn table(rows: impl Iterator<Item = Row>) -> u64 {
    let mut hash = Sha256::new();
    for row in rows {
        // A row that cannot be encoded counts as its absence, on every node alike; rows hold nothing that bincode
        // refuses.
        let bytes = frame::encode_plain(&row).unwrap_or_default();
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    first_eight(hash)
}

/// Hashes every table.
pub fn digest(state: &State) -> StateDigest {
    let tables: Vec<(&'static str, u64)> =
        snapshot::tables(state).into_iter().map(|(name, rows)| (name, table(rows))).collect();
    let mut hash = Sha256::new();
    for (name, value) in &tables {
        hash.update(name.as_bytes());
        hash.update(value.to_le_bytes());
    }
    StateDigest { tables, all: first_eight(hash) }
}
