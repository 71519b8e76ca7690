//! `CountedOut`: a worker is lost for good: its instances of a deployment are counted out, of capacity and of a live
//! rollout's order.

use super::lost;
use crate::state::base::prelude::*;

fields! {
    /// A worker that is lost for good: its instances of a deployment are counted out, of capacity and of a live
    /// rollout's desired count.
    #[derive(Debug, Clone, PartialEq)]
    pub struct CountedOut {
        /// Which deployment; how long it waits is its spec's.
        1 [required] pub deployment: DeploymentId,
        2 [required] pub worker: WorkerName,
    }
}

impl Apply for CountedOut {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { deployment, worker } = self;
        let mut d = cx.deployment(deployment)?;
        let Some(w) = cx.s.workers.get(worker).cloned() else { return guard(format!("{worker} is no worker")) };
        let now = cx.now();
        let is_out = |cx: &Cx<'_>, pair: &Pair| {
            cx.s.spec(deployment, pair.spec)
                .and_then(|spec| lost::lost_for_good_at(&w, spec))
                .is_some_and(|at| at <= now)
        };
        let mine: Vec<Instance> = cx.s.instances_of(deployment).filter(|i| lost::counts(i, worker)).cloned().collect();
        let out: Vec<Instance> = mine.into_iter().filter(|i| is_out(cx, &i.pair)).collect();
        let instances = u32::try_from(out.len()).unwrap_or(u32::MAX);
        for mut i in out {
            i.counted_out = Some(now);
            cx.put_instance(i);
        }
        let mut shrunk = false;
        if let Some(mut r) = cx.s.live_rollout(deployment).cloned()
            && let Some(pair) = r.target().cloned()
            && r.order.len() > 1
            && r.order.contains(worker)
            && is_out(cx, &pair)
        {
            let per_worker = cx.s.spec(deployment, pair.spec).map_or(1, |spec| spec.placement.per_worker);
            r.order.retain(|w| w != worker);
            r.desired = r.desired.saturating_sub(per_worker).max(1);
            if !r.without.contains(worker) {
                r.without.push(worker.clone());
            }
            if r.phase == RolloutPhase::Forward {
                d.desired = r.desired;
                cx.put_deployment(d);
            }
            cx.put_rollout(r);
            shrunk = true;
        }
        if instances == 0 && !shrunk {
            return guard(format!("nothing of {deployment} on {worker} is to be counted out yet"));
        }
        cx.emit(EventBody::CountedOut { deployment: deployment.clone(), worker: worker.clone(), instances });
        Ok(())
    }
}
