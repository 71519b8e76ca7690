//! Names in refusals.
//!
//! Not here: the refusals themselves (`rejection`), and what is said of a name that is not there (`model`).

use std::{collections::BTreeSet, fmt::Display};

use super::rejection::Rejection;
/// Names for a refusal, each once: the first few, and how many more; `None` when there is none.
pub(in crate::state) fn some<T: Display + Ord>(all: impl Iterator<Item = T>) -> Option<String> {
    const NAMED: usize = 3;
    let all: BTreeSet<T> = all.collect();
    let first: Vec<String> = all.iter().take(NAMED).map(ToString::to_string).collect();
    match all.len().saturating_sub(NAMED) {
        _ if all.is_empty() => None,
        0 => Some(first.join(", ")),
        more => Some(format!("{} and {more} more", first.join(", "))),
    }
}

pub(in crate::state) fn exhausted(what: &str, limit: u32) -> Rejection {
    Rejection::Exhausted { what: what.into(), limit: u64::from(limit), fix: "remove one that is not used".into() }
}
