//! Undo: the inverse of what was executed, in the room that it was made in. The traffic has moved in the entry that
//! began it (by capacity where the old pair was too weak for all of it); what is left is to refill the old pair, the
//! traffic following, and to retire the new one, which gives the old one everything.
//!
//! Its order is who is heard of now: a worker that was lost before holds nothing up, one that is lost meanwhile is
//! waited for until it is counted out.

use super::{Compiled, Site, step};
use crate::engine::prelude::*;

pub(super) fn compile(site: &Site<'_>) -> Compiled {
    let mut steps = Vec::new();
    let mut desired = 0;
    if let Some(from) = &site.subject.from {
        desired = site.desired();
        steps.push(site.install_back("undo", from, desired).0);
    }
    steps.push(step("undo", StepKind::Retire { delay: Period(0) }));
    site.compiled(desired, site.workers.clone(), steps)
}
