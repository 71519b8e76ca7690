//! The settings of a deployment's rollouts before a start says more: the cluster's defaults, over them those of its
//! service, over them what its spec says. A rollout reads them when it starts; the spec's row has those of the entry
//! that applied it, to be shown.

use crate::state::base::prelude::*;

/// The settings that a rollout under a spec has, unless its start says otherwise.
pub fn rollout_defaults(s: &State, spec: &Spec) -> RolloutParams {
    let service = s.services.get(&spec.deployment.service).map(|x| &x.defaults);
    let cluster = s.cluster.as_ref().map(|c| &c.settings.rollout);
    let said = service.into_iter().chain(cluster).fold(spec.said.rollout.clone(), |said, less| said.or(less));
    said.over(RolloutParams::default())
}

/// A spec with the defaults of this moment where its document says nothing.
pub(in crate::state) fn filled(s: &State, spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    spec.rollout = rollout_defaults(s, &spec);
    if let (None, Some(cluster)) = (spec.said.interval, &s.cluster) {
        spec.health.interval = cluster.settings.health_interval;
    }
    spec
}
