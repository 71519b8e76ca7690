//! The nouns and their invariants.
