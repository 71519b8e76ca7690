//! Undo: the inverse of what was executed. The traffic has moved in the entry that began it (by capacity where the old pair was too
//! weak for all of it); what is left is to refill the old pair and to retire the new one, which gives the old one everything.

use super::{ALL, Compiled, Site, step};
use crate::model::{Period, Routing, StepKind};

pub(super) fn compile(site: &Site<'_>) -> Compiled {
    let mut steps = Vec::new();
    let mut desired = 0;
    if site.subject.from.is_some() {
        desired = site.desired();
        steps.push(site.beside("undo", ALL, Routing::Explicit));
    }
    steps.push(step("undo", StepKind::Retire { delay: Period(0) }));
    Compiled { desired, order: site.workers.clone(), steps }
}
