//! Writing a route: weights, mode and TTL, with a new generation when anything that an answer depends on changed. The one place that
//! writes routes.

use crate::state::base::prelude::*;

/// Everything on stable.
pub(in crate::state) const ALL_STABLE: RouteWeights =
    RouteWeights { stable: WHOLE, candidate: BasisPoints(0), previous: BasisPoints(0) };

/// The mode and TTL that a strategy and a spec ask for.
pub(in crate::state) fn shape(cx: &Cx<'_>, d: &Deployment, pair: &Pair, strategy: Strategy) -> (RouteMode, Period) {
    let (mode, ttl) = match strategy {
        Strategy::BlueGreen => (RouteMode::Switch, Period::seconds(1)),
        Strategy::Direct | Strategy::Rolling | Strategy::Canary => (RouteMode::Weighted, Period::seconds(5)),
    };
    (mode, cx.s.spec(&d.id, pair.spec).and_then(|s| s.ttl).unwrap_or(ttl))
}

/// Writes weights (and, for a new route or when given, mode and TTL); a new generation when anything an answer depends on changed.
pub(in crate::state) fn write(
    cx: &mut Cx<'_>,
    d: &mut Deployment,
    weights: RouteWeights,
    cap: BasisPoints,
    form: (RouteMode, Period),
    tracks_moved: bool,
) {
    let generation = FencePoint { incarnation: cx.s.incarnation, n: cx.at.index };
    let changed = match &mut d.route {
        Some(r) => {
            r.cap = cap;
            let changed = r.weights != weights || (r.mode, r.ttl) != form || tracks_moved;
            (r.weights, r.mode, r.ttl) = (weights, form.0, form.1);
            if changed {
                r.generation = generation;
            }
            changed
        }
        None => {
            // Odd multiplier: different salts for neighbouring indexes, the same on every node.
            let salt = cx.at.index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            d.route = Some(Route { generation, mode: form.0, weights, cap, ttl: form.1, salt });
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
