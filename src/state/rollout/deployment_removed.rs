//! `DeploymentRemoved`: a deployment goes once nothing of it runs; with `stop` everything of it is stopped first.
//!
//! Two phases, both by this command. With `stop` it leaves DNS in its own entry and everything drains; the drain goes
//! on as any other (`fleet::drain`), so nothing is stopped before every cache has let go of it. When nothing is left
//! the keeper asks without `stop`, and the row goes with its history. Invariants: what is being removed has no track
//! and no route, and takes neither specs nor rollouts; nothing runs of what is gone. Not here: workers that never
//! answer again, whose instances hold it up until they are removed too.

use super::collect;
use crate::state::{
    base::prelude::*,
    catalog::statuses,
    fleet::{assign, drain},
    traffic::{routes, switches},
};

fields! {
    /// Removes a deployment.
    #[derive(Debug, Clone, PartialEq)]
    pub struct DeploymentRemoved {
        1 [required] pub deployment: DeploymentId,
        /// Whether what runs of it is stopped first.
        2 pub stop: bool,
    }
}

impl Apply for DeploymentRemoved {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { deployment: ref id, stop } = self;
        let d = cx.deployment(id)?;
        if let Some(rollout) = d.live {
            return Err(Rejection::Busy { rollout });
        }
        switches::not_switching(cx, id)?;
        let live = cx.s.instances_of(id).filter(|i| i.life.is_live()).count();
        if live == 0 {
            forget(cx, id);
            return Ok(());
        }
        match (d.removing, stop) {
            // Asked twice, done once.
            (Some(_), true) => Ok(()),
            (Some(_), false) => Err(Rejection::Precondition(format!(
                "{id} is being removed and {live} instances of it are still there: it goes when they have"
            ))),
            (None, false) => Err(Rejection::Precondition(format!(
                "{live} instances of {id} run: `slipway deployment remove {id} --stop` takes it out of DNS, drains and stops them, and \
                 removes it when nothing is left"
            ))),
            (None, true) => {
                leave(cx, d);
                Ok(())
            }
        }
    }
}

/// Out of DNS, and everything drains.
fn leave(cx: &mut Cx<'_>, mut d: Deployment) {
    let id = d.id.clone();
    drain::begin_all(cx, &id);
    d.removing = Some(cx.now());
    (d.arms, d.route, d.desired, d.as_is, d.stop) = (Arms::default(), None, 0, None, None);
    routes::announce(cx, &d);
    cx.put_deployment(d);
    assign::refresh(cx, &id);
    announce(cx, &id, "leaves DNS, drains and stops, and goes then");
}

/// The row, and all that is kept for it.
fn forget(cx: &mut Cx<'_>, id: &DeploymentId) {
    let mut versions = Vec::new();
    if let Ok(mut d) = cx.deployment(id) {
        versions.extend(d.arms.iter().map(|a| a.pair.version.clone()));
        (d.arms, d.route) = (Arms::default(), None);
        cx.put_deployment(d);
    }
    assign::refresh(cx, id);
    collect::everything(cx, id);
    if cx.s.fences.on_expiry.contains_key(id) {
        switches::edit(cx, |f| f.on_expiry.remove(id));
    }
    cx.s.slots.remove(id);
    cx.s.deployments.remove(id);
    statuses::settle_versions(cx, &id.service, versions);
    announce(cx, id, "removed");
}

fn announce(cx: &mut Cx<'_>, id: &DeploymentId, what: &str) {
    cx.emit(EventBody::DeploymentChanged { deployment: id.clone(), what: what.into() });
}
