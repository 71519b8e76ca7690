//! `WorkerRekeyed`: a machine with a new disk may come back under its name, with another key, for some time.
//!
//! The next registration that brings another key while the worker is lost takes the name over (`take_over`): name,
//! labels, pool and what it is to run stay. Invariants: nothing that the old machine said counts any more, neither
//! health nor packages nor a later report of it; its key is refused from then on. An operator who allows this says that
//! the old machine runs nothing any more.

use super::{facts_recorded, workers};
use crate::state::base::prelude::*;

/// How long it may be allowed.
const WITHIN: std::ops::RangeInclusive<Period> = Period::minutes(1)..=Period::minutes(60 * 24 * 7);

fields! {
    /// Lets the next registration of a lost worker bring another key.
    #[derive(Debug, Clone, PartialEq)]
    pub struct WorkerRekeyed {
        1 [required] pub worker: WorkerName,
        /// For how long.
        2 pub within: Period,
    }
}

impl Apply for WorkerRekeyed {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { worker: ref name, within } = self;
        if !WITHIN.contains(&within) {
            let (least, most) = (WITHIN.start(), WITHIN.end());
            return Err(Rejection::Invalid(format!("within {within} is not from {least} to {most}")));
        }
        let mut w = workers::lost(cx, name, "given another key")?;
        w.rekey_until = Some(cx.now().plus(within));
        cx.put_worker(w);
        let what = format!("may come back with another key for {within}");
        cx.emit(EventBody::WorkerChanged { worker: name.clone(), what });
        Ok(())
    }
}

/// Whether a registration with another key is allowed now.
pub(in crate::state) fn allowed(w: &Worker, now: Millis) -> bool {
    w.presence == Presence::Lost && w.rekey_until.is_some_and(|until| now <= until)
}

/// Another machine takes the worker over: what the old one said is forgotten, and what only it could end has ended.
pub(in crate::state) fn take_over(cx: &mut Cx<'_>, name: &WorkerName, key: &str) {
    let Some(mut w) = cx.s.workers.get(name).cloned() else { return };
    (w.key, w.rekey_until, w.staged) = (key.into(), None, Vec::new());
    // Above all that the old machine may still say; its agent would have to come again to say more, and its key is
    // refused.
    w.report = (w.report.0.saturating_add(1), 0);
    cx.put_worker(w);
    let assigned: Vec<DeploymentId> = cx.s.assignments.of_worker(name).map(|(d, _)| d.clone()).collect();
    for deployment in assigned {
        let at = (name.clone(), deployment);
        let Some(mut a) = cx.s.assignments.get(&at).cloned() else { continue };
        (a.reached, a.look) = (None, None);
        cx.put_assignment(at, a);
    }
    let live: Vec<InstanceId> = cx.s.instances.on(name).filter(|i| i.life.is_live()).map(|i| i.id).collect();
    for id in live {
        // An earlier one that ended may have changed it.
        let Some(mut i) = cx.s.instances.get(&id).filter(|i| i.life.is_live()).cloned() else { continue };
        if i.life.is_wanted() {
            i.health = Health::Unknown;
            cx.put_instance(i);
        } else {
            facts_recorded::ended(cx, i);
        }
    }
}
