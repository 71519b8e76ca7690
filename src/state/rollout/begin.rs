//! The row of a rollout that begins.

use crate::state::base::prelude::*;

/// Workers that a spec's placement chooses and that are heard of, by name.
pub fn chosen<'a>(s: &'a State, spec: &'a Spec) -> impl Iterator<Item = &'a Worker> + 'a {
    s.workers.carrying(&spec.placement.workers).filter(|w| w.presence == Presence::Ready)
}

pub(in crate::state) fn announce(cx: &mut Cx<'_>, r: &Rollout) {
    cx.emit(EventBody::RolloutChanged {
        rollout: r.id,
        deployment: r.deployment.clone(),
        status: r.status,
        reason: None,
    });
}

/// A pending rollout of this entry.
pub(in crate::state) fn new_rollout(
    cx: &Cx<'_>,
    d: &Deployment,
    kind: RolloutKind,
    from: Option<Pair>,
    to: Pair,
    params: crate::model::RolloutParams,
    strategy: StrategyName,
) -> Rollout {
    Rollout {
        meta: cx.new_meta(),
        id: RolloutId(cx.at.index),
        deployment: d.id.clone(),
        kind,
        from,
        to,
        strategy,
        params,
        form: RouteForm::default(),
        budget: None,
        desired: 0,
        order: Vec::new(),
        without: Vec::new(),
        steps: Vec::new(),
        forward_steps: Vec::new(),
        cursor: 0,
        phase: RolloutPhase::Forward,
        undo_compiled: false,
        status: RolloutStatus::Pending,
        paused_at: None,
        switched: false,
        reason: None,
        started_at: cx.now(),
        traffic_back_at: None,
        ended_at: None,
        undone_by: None,
        principal: cx.principal.to_string(),
        started_wall: cx.s.wall,
        ended_wall: 0,
    }
}
