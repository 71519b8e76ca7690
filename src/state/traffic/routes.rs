//! Writing a route: weights, mode and TTL, with a new generation when anything that an answer depends on changed. The one place that
//! writes routes.

use crate::state::base::prelude::*;

/// Everything on stable.
pub(in crate::state) const ALL_STABLE: RouteWeights =
    RouteWeights { stable: WHOLE, candidate: BasisPoints(0), previous: BasisPoints(0) };

/// Writes weights (and, for a new route or when given, mode and TTL); a new generation when anything an answer depends on changed.
pub(in crate::state) fn write(
    cx: &mut Cx<'_>,
    d: &mut Deployment,
    weights: RouteWeights,
    cap: BasisPoints,
    form: RouteForm,
    tracks_moved: bool,
) {
    let generation = FencePoint { incarnation: cx.s.incarnation, n: cx.at.index };
    let changed = match &mut d.route {
        Some(r) => {
            r.cap = cap;
            let changed = r.weights != weights || r.form() != form || tracks_moved;
            (r.weights, r.mode, r.ttl) = (weights, form.mode, form.ttl);
            if changed {
                r.generation = generation;
            }
            changed
        }
        None => {
            // Odd multiplier: different salts for neighbouring indexes, the same on every node.
            let salt = cx.at.index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            d.route = Some(Route { generation, mode: form.mode, weights, cap, ttl: form.ttl, salt });
            true
        }
    };
    if changed {
        announce(cx, d, weights);
    }
}

pub(in crate::state) fn announce(cx: &mut Cx<'_>, d: &Deployment, weights: RouteWeights) {
    let version = |t: &Option<Track>| t.as_ref().map(|t| t.pair.version.clone());
    cx.emit(EventBody::RouteChanged {
        deployment: d.id.clone(),
        weights,
        stable: version(&d.tracks.stable),
        candidate: version(&d.tracks.candidate),
    });
}
