//! What may be forgotten between rollouts: ended instances of a crash loop, which the end of no rollout collects.

use super::prelude::*;

/// Ended instances of a deployment that are kept before they are collected.
const ENDED: usize = 64;

/// `Collected`, once an idle deployment has gathered many ended instances.
pub(super) fn next(state: &State) -> Option<Command> {
    // What the law would leave is not counted, or it would be asked for again and again.
    let many = |id: &DeploymentId, last| {
        let ended = state.instances_of(id).filter(|i| !i.life.is_live() && i.made_by != last);
        ended.count() > ENDED && collectable(state, id, last).len() > ENDED
    };
    let due = state.deployments.values().any(|d| d.live.is_none() && many(&d.id, d.last));
    due.then(|| Collected { incarnation: state.incarnation }.into())
}
