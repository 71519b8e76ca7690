//! Rolling: batches by capacity, checked while they run, and watched for a stability window after the last one. With
//! surge the new ones come first and the old ones go; without it they take each other's place.

use super::{ALL, Compiled, Site, Strategy};
use crate::engine::prelude::*;

pub(super) const ROLLING: Strategy = Strategy {
    name: StrategyName::ROLLING,
    about: "in batches, the traffic following the instances",
    pool: &[
        setting("bake"),
        setting("parallelism"),
        setting("delay"),
        setting("max_surge"),
        setting("max_unavailable"),
    ],
    host: &[setting("bake"), setting("parallelism"), setting("delay"), setting("max_unavailable")],
    form: RouteForm::WEIGHTED,
    bounded: true,
    smaller: "replace in place: max_surge 0, max_unavailable 1",
    compile,
};

fn compile(site: &Site<'_>) -> Result<Compiled, String> {
    let p = &site.subject.params;
    let mut steps = site.opening();
    // Where a new one finds no place first, one that may be missing gives up its own.
    let full = p.unavailable(site.desired()) > 0 && site.subject.from.is_some() && site.needs_room_beside(1).is_err();
    let mode = if site.host() || p.max_surge.is_none() || full { BatchMode::InPlace } else { BatchMode::Replace };
    match mode {
        BatchMode::InPlace => {
            site.needs_unavailable()?;
            let batch = p.batch(mode, site.desired());
            steps.push(site.install("install", ALL, mode, Routing::ByCapacity, batch, p.delay));
        }
        BatchMode::Replace | BatchMode::Beside => {
            // Where an old one does not serve, its place is taken over, which costs nothing.
            let broken = site.live().any(|i| i.pair != site.subject.to && i.life.is_wanted() && !i.serves());
            site.needs_room_beside(1).or_else(|e| if broken { Ok(()) } else { Err(e) })?;
            let batch = p.batch(mode, site.desired());
            steps.push(site.install("install", ALL, mode, Routing::ByCapacity, batch, p.delay));
        }
    }
    // The last batch is watched as long as any: nothing is promoted that nobody judged.
    steps.push(site.bake("watch", p.bake, true));
    steps.extend(site.closing(Period(0)));
    Ok(site.compiled(site.desired(), site.workers.clone(), steps))
}
