//! Undo: the inverse of what was executed. The traffic has moved in the entry that began it; what is left is to refill the old pair,
//! give it all the traffic if it was too weak for that at once, and retire the new one.

use super::{ALL, Compiled, Site, step};
use crate::model::{Period, Routing, StepKind, WHOLE};

pub(super) fn compile(site: &Site<'_>) -> Compiled {
    let mut steps = Vec::new();
    let mut desired = 0;
    if site.subject.from.is_some() {
        desired = site.desired();
        steps.push(site.beside("undo", ALL, Routing::Explicit));
        let whole = site.deployment.route.as_ref().is_none_or(|r| r.weights.stable == WHOLE);
        if !whole {
            steps.push(step("undo", StepKind::Route { weight: crate::model::BasisPoints(0) }));
        }
    }
    steps.push(step("undo", StepKind::Retire { delay: Period(0) }));
    Compiled { desired, order: site.workers.clone(), steps }
}
