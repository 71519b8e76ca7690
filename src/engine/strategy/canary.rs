//! Canary: rising weights, a bake at each. Instances follow the weight, one on each worker before a second; address
//! mode `host` has no room beside and takes whole workers in place.

use super::{Compiled, Site, Strategy, step};
use crate::engine::prelude::*;

pub(super) const CANARY: Strategy = Strategy {
    name: StrategyName::CANARY,
    about: "rising weights, each watched for a while before the next",
    pool: &[setting("steps"), setting("bake"), setting("auto_promote"), setting("grace")],
    host: &[
        setting("steps"),
        setting("bake"),
        setting("auto_promote"),
        setting("parallelism"),
        setting("delay"),
        setting("max_unavailable"),
    ],
    form: RouteForm::WEIGHTED,
    bounded: false,
    smaller: "use a rolling update",
    compile,
};

fn compile(site: &Site<'_>) -> Result<Compiled, String> {
    let p = &site.subject.params;
    let host = site.host();
    if !host {
        site.needs_room_beside(site.spec.placement.per_worker)?;
    }
    let mut steps = site.opening();
    let mut weights = p.steps.clone();
    if weights.last() != Some(&WHOLE) {
        weights.push(WHOLE);
    }
    for weight in weights {
        let group = weight.to_string();
        if weight == WHOLE {
            steps.extend(site.pause(&group));
        }
        steps.push(if host {
            let batch = p.batch(BatchMode::InPlace, site.desired());
            site.install(&group, weight, BatchMode::InPlace, Routing::Explicit, batch, p.delay)
        } else {
            site.beside(&group, weight, Routing::Explicit)
        });
        steps.push(step(&group, StepKind::Route { weight }));
        steps.push(site.bake(&group, p.bake, true));
    }
    // Beside, the old set goes on running for its grace, so that going back is a matter of one entry.
    steps.extend(site.closing(if host { Period(0) } else { p.grace }));
    Ok(site.compiled(site.desired(), site.workers.clone(), steps))
}
