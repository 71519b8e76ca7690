//! Writing a route: weights, mode and TTL, with a new generation when anything that an answer depends on changed. The
//! one place that writes routes.

use crate::state::{base::prelude::*, fleet::serving};

/// Writes weights, mode and TTL; a new generation when anything an answer depends on changed since the row was put
/// last: that, or what stable runs. What is on trial may have no more than it has now.
pub(in crate::state) fn write(cx: &mut Cx<'_>, d: &mut Deployment, weights: &Weights, form: RouteForm) {
    let generation = FencePoint { incarnation: cx.s.incarnation, n: cx.at.index };
    d.arms.weigh(weights);
    let put = cx.s.deployments.get(&d.id).map(|d| &d.arms);
    let same = put.is_some_and(|a| a.weights() == *weights && a.pair(Role::Stable) == d.arms.pair(Role::Stable));
    // Odd multiplier: different salts for neighbouring indexes, the same on every node.
    let salt = d.route.as_ref().map_or(cx.at.index.wrapping_mul(0x9e37_79b9_7f4a_7c15), |r| r.salt);
    if same && d.route.as_ref().is_some_and(|r| r.form() == form) {
        return;
    }
    d.route = Some(Route { generation, mode: form.mode, ttl: form.ttl, salt });
    // Another TTL is no other traffic.
    let told = cx.s.deployments.get(&d.id).filter(|d| d.route.is_some()).map(|d| shares(&d.arms));
    if told != Some(shares(&d.arms)) {
        announce(cx, d);
    }
}

/// An arm becomes stable, and what was stable becomes previous. Its traffic is the caller's to write.
pub(in crate::state) fn become_stable(
    cx: &Cx<'_>,
    d: &mut Deployment,
    arm: Arm,
    desired: u32,
    retire_at: Option<Millis>,
) {
    if let Some(old) = d.arms.put(Arm { role: Role::Stable, want: desired.max(1), retire_at: None, ..arm }) {
        let want = serving::wanted(cx.s, &d.id, &old.pair);
        d.arms.put(Arm { role: Role::Previous, want, retire_at, ..old });
    }
}

/// Nothing may be named any more.
pub(in crate::state) fn close(cx: &mut Cx<'_>, d: &mut Deployment) {
    d.route = None;
    d.arms.weigh(&Weights::default());
    d.arms.set_cap(None);
    announce(cx, d);
}

pub(in crate::state) fn announce(cx: &mut Cx<'_>, d: &Deployment) {
    cx.emit(EventBody::RouteChanged { deployment: d.id.clone(), shares: shares(&d.arms) });
}

/// Who has which share, as it is told: what was left and has nothing is left out.
fn shares(arms: &Arms) -> Vec<(Role, Version, BasisPoints)> {
    let told = arms.iter().filter(|a| a.weight.0 > 0 || a.role != Role::Previous);
    told.map(|a| (a.role, a.pair.version.clone(), a.weight)).collect()
}
