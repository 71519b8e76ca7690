//! What the commands about workers share.

use crate::state::base::{names, prelude::*};

/// Longest free text of an agent that is kept.
pub(in crate::state) const MAX_TEXT: usize = 512;

/// Cuts free text at a character's edge.
pub fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

pub(in crate::state) fn unknown(cx: &Cx<'_>, name: &WorkerName) -> Rejection {
    let near = names::hint(name.as_str(), cx.s.workers.keys());
    Rejection::not_found("worker", name, near)
}
