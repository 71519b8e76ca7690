//! Blue-green: the whole new side beside the old one, warmed up and smoke-tested, then one switch; the old side stays
//! for a grace. Address mode `host` has room for a second side on spare workers only.

use super::{ALL, Compiled, Site, Strategy, step};
use crate::engine::prelude::*;

const READS: &[&Setting] =
    &[setting("warm_up"), setting("smoke"), setting("auto_promote"), setting("monitor"), setting("grace")];

pub(super) const BLUE_GREEN: Strategy = Strategy {
    name: StrategyName::BLUE_GREEN,
    about: "the whole new side beside the old one, warmed up and smoke-tested, then one switch",
    pool: READS,
    host: READS,
    form: RouteForm::SWITCH,
    bounded: false,
    smaller: "use a rolling update",
    compile,
};

fn compile(site: &Site<'_>) -> Result<Compiled, String> {
    let p = &site.subject.params;
    let (desired, order) = if site.host() {
        let spare: Vec<WorkerName> = site
            .workers
            .iter()
            .filter(|w| !site.live().any(|i| &i.worker == *w && i.pair != site.subject.to))
            .cloned()
            .collect();
        let old = site.subject.from.as_ref().map_or(1, |f| site.of(f)).max(1);
        let have = u32::try_from(spare.len()).unwrap_or(u32::MAX);
        if have < old {
            return Err(format!(
                "blue-green in address mode host needs a spare worker for each of the {old} instances of {}, and {have} \
                 of the chosen workers are spare: add workers, use address: pool, or a rolling update",
                site.subject.deployment
            ));
        }
        (have, spare)
    } else {
        site.needs_room_beside(site.spec.placement.per_worker)?;
        (site.desired(), site.workers.clone())
    };
    let mut steps = site.opening();
    steps.push(site.beside("install", ALL, Routing::Explicit));
    steps.push(site.bake("warm-up", p.warm_up, false));
    if let Some(path) = &p.smoke {
        steps.push(step("smoke", StepKind::Smoke { path: path.clone() }));
    }
    steps.extend(site.pause("switch"));
    steps.push(step("switch", StepKind::Switch));
    steps.push(site.bake("monitor", p.monitor, true));
    steps.extend(site.closing(p.grace));
    Ok(site.compiled(desired, order, steps))
}
