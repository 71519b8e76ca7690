//! Direct: everything at once, then a look, then the old ones go (beside, after their grace). Also the form of every
//! first rollout.

use super::{ALL, Compiled, Site, Strategy};
use crate::engine::prelude::*;

pub(super) const DIRECT: Strategy = Strategy {
    name: StrategyName::DIRECT,
    about: "everything at once, then a look; also the form of every first rollout",
    pool: &[setting("bake"), setting("grace")],
    host: &[setting("bake")],
    form: RouteForm::WEIGHTED,
    bounded: false,
    smaller: "use a rolling update",
    compile,
};

fn compile(site: &Site<'_>) -> Result<Compiled, String> {
    let desired = site.desired();
    let mut steps = site.opening();
    let in_place_of_old = site.host() && site.subject.from.is_some();
    if in_place_of_old {
        steps.push(site.install("install", ALL, BatchMode::InPlace, Routing::ByCapacity, desired, Period(0)));
    } else {
        site.needs_room_beside(site.spec.placement.per_worker)?;
        steps.push(site.beside("install", ALL, Routing::ByCapacity));
    }
    steps.push(site.bake("bake", site.subject.params.bake, true));
    steps.extend(site.closing(if in_place_of_old { Period(0) } else { site.subject.params.grace }));
    Ok(site.compiled(desired, site.workers.clone(), steps))
}
