//! Undo: the inverse of what was executed, in the room that it was made in. The traffic has moved in the entry that began it (by capacity
//! where the old pair was too weak for all of it); what is left is to refill the old pair, the traffic following, and to retire the new
//! one, which gives the old one everything.
//!
//! Its order keeps the workers of the rollout that were lost meanwhile: they are waited for until they are counted out.

use super::{ALL, Compiled, Site, step};
use crate::model::{Period, Routing, StepKind, WorkerName};
use crate::state::Presence;

pub(super) fn compile(site: &Site<'_>) -> Compiled {
    let mut steps = Vec::new();
    let mut order: Vec<WorkerName> = site.workers.clone();
    let mut desired = 0;
    if let Some(from) = &site.subject.from {
        let lost = |w: &&WorkerName| site.state.workers.get(*w).is_some_and(|w| w.presence == Presence::Lost);
        if !order.is_empty() {
            order.extend(site.subject.order.iter().filter(lost).cloned());
        }
        let n = u32::try_from(order.len()).unwrap_or(u32::MAX);
        desired = n.saturating_mul(site.spec.placement.per_worker);
        let mode = site.mode_back(from);
        let (batch, delay) = (site.batch_back(mode, desired), Period(0));
        steps.push(step("undo", StepKind::Install { share: ALL, mode, routing: Routing::ByCapacity, batch, delay }));
    }
    steps.push(step("undo", StepKind::Retire { delay: Period(0) }));
    Compiled { desired, order, steps }
}
