//! Whether a release may be taken away: not while something runs it, moves to or from it, or could go back to it.

use crate::state::base::{names, prelude::*};

/// The release, as somebody names it.
pub(in crate::state) fn named(cx: &Cx<'_>, service: &Name, version: &Version) -> Result<Release, Rejection> {
    let known = cx.s.releases.keys().filter(|(s, _)| s == service).map(|(_, v)| v);
    let found = cx.s.releases.get(&(service.clone(), version.clone())).cloned();
    found.ok_or_else(|| {
        Rejection::not_found("release", format!("{service} {version}"), names::hint(&version.to_string(), known))
    })
}

/// Refuses what would take a release away that something needs, with what needs it and what ends that.
pub(in crate::state) fn check(s: &State, service: &Name, version: &Version) -> Done {
    let is = |pair: &Pair| &pair.version == version;
    for d in s.deployments.values().filter(|d| &d.id.service == service) {
        let id = &d.id;
        let why = if let Some(r) = s.live_rollout(id).filter(|r| is(&r.to) || r.from.as_ref().is_some_and(is)) {
            format!("{} of {id} is under way with it: wait for its end", r.id)
        } else if s.fences.open().any(|x| x.targets.iter().any(|t| &t.deployment == id)) {
            format!("the traffic of {id} is being switched: wait for its end")
        } else if d.arms.pair(Role::Stable).is_some_and(is) {
            format!("{id} runs it: start another version first")
        } else if d.arms.iter().any(|a| is(&a.pair)) || s.instances_of(id).any(|i| i.life.is_live() && is(&i.pair)) {
            format!(
                "instances of it still run for {id}: they go when their time is over, see `slipway deployment show {id}`"
            )
        } else if let Some(r) = s.undoable(d).filter(|r| !r.is_way_back() && r.from.as_ref().is_some_and(is)) {
            format!("a rollback of {} would take {id} back to it: it is free once another rollout has completed", r.id)
        } else {
            continue;
        };
        return Err(Rejection::Precondition(format!("{service} {version} is needed: {why}")));
    }
    Ok(())
}
