//! What the commands about workers share.

use crate::state::base::prelude::*;

/// Longest free text of an agent that is kept.
pub(in crate::state) const MAX_TEXT: usize = 512;

/// Cuts free text at a character's edge.
pub fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// A worker that is not heard of; one that is cannot be `what`.
pub(in crate::state) fn lost(cx: &Cx<'_>, name: &WorkerName, what: &str) -> Result<Worker, Rejection> {
    let w = cx.s.workers.get(name).cloned().ok_or_else(|| unknown(cx, name))?;
    match w.presence {
        Presence::Lost => Ok(w),
        Presence::Ready => Err(Rejection::Precondition(format!(
            "worker {name} is heard of and cannot be {what}: stop its agent first; it counts as lost {} after its last report",
            cx.settings().lost_after
        ))),
    }
}

pub(in crate::state) fn unknown(cx: &Cx<'_>, name: &WorkerName) -> Rejection {
    Rejection::missing(Named::Worker, name, cx.s.workers.keys())
}
