//! Return: back from a completed rollout. Its first entry has moved the traffic already when the old pair still ran; else the pair is
//! installed again and switched to. It runs no canary.

use super::{ALL, Compiled, Site, in_place, step};
use crate::model::{Period, Routing, StepKind};

pub(super) fn compile(site: &Site<'_>) -> Result<Compiled, String> {
    let p = &site.subject.params;
    let desired = site.desired();
    let mut steps = site.opening();
    if site.of(&site.subject.to) >= desired {
        // It runs: nothing to fetch.
        steps.retain(|s| s.kind != StepKind::Stage);
    }
    let host = site.host();
    if host {
        let batch = p.parallelism.min(p.max_unavailable.max(1));
        steps.push(in_place("install", ALL, Routing::ByCapacity, batch, p.delay));
    } else {
        site.needs_room_beside(site.spec.placement.per_worker)?;
        steps.push(site.beside("install", ALL, Routing::Explicit));
    }
    if !site.subject.switched {
        steps.push(step("switch", StepKind::Switch));
    }
    steps.extend(site.closing(if host { Period(0) } else { p.grace }));
    Ok(Compiled { desired, order: site.workers.clone(), steps })
}
