//! `SpecApplied`: a deployment's spec is made or replaced. The revision only rises when the spec differs.

use std::sync::Arc;

use super::{defaults, services};
use crate::state::base::{names, prelude::*};

/// What runs at addresses of one mode cannot be replaced in place by what has those of the other: a rollout between
/// them would stand.
fn check_mode_stays(s: &State, spec: &Spec) -> Done {
    let modes = s.instances_of(&spec.deployment).filter(|i| i.life.is_live());
    let mut others = modes.filter_map(|i| s.spec(&i.deployment, i.pair.spec)).map(|was| was.address);
    match others.find(|was| *was != spec.address) {
        Some(was) => Err(Rejection::Precondition(format!(
            "{} runs with address: {was}, and what runs cannot change to address: {}: apply it as a deployment of another \
             name and move over to that",
            spec.deployment, spec.address
        ))),
        None => Ok(()),
    }
}

fields! {
    /// Creates or replaces a deployment's spec; makes the service and the deployment when needed.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SpecApplied {
        /// The whole spec.
        1 [required] pub spec: Spec,
        /// Spec revision the caller saw; `None`: whatever it is.
        2 pub expected: Option<u64>,
    }
}

impl Apply for SpecApplied {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let expected = self.expected;
        let spec = &defaults::filled(cx.s, &self.spec);
        spec.check().map_err(|e| Rejection::Invalid(e.to_string()))?;
        let id = &spec.deployment;
        if !cx.s.environments.contains_key(&id.environment) {
            return Err(Rejection::missing(Named::Environment, &id.environment, cx.s.environments.keys()));
        }
        let known = cx.s.deployments.contains_key(id).then(|| cx.lasting(id)).transpose()?;
        let newest = known.as_ref().map_or(0, |d| d.spec);
        if let Some(seen) = expected.filter(|e| *e != newest) {
            return Err(Rejection::Stale { seen, now: newest });
        }
        if known.is_some() && cx.s.spec(id, newest).is_some_and(|s| s.as_ref() == spec) {
            return Ok(());
        }
        check_mode_stays(cx.s, spec)?;
        services::make_service(cx, &id.service)?;
        let revision = newest.saturating_add(1);
        let mut row = match known {
            Some(d) => d,
            None => {
                let limit = cx.settings().limits.deployments;
                if cx.s.deployments.len() >= limit as usize {
                    return Err(names::exhausted("deployments", limit));
                }
                Deployment {
                    meta: cx.new_meta(),
                    id: id.clone(),
                    spec: 0,
                    arms: Arms::default(),
                    route: None,
                    desired: 0,
                    live: None,
                    last: None,
                    as_is: None,
                    removing: None,
                    stop: None,
                }
            }
        };
        row.spec = revision;
        row.meta.labels = spec.labels.clone();
        cx.put_deployment(row);
        cx.s.specs.insert((id.clone(), revision), Arc::new(spec.clone()));
        cx.emit(EventBody::SpecChanged { deployment: id.clone(), revision });
        Ok(())
    }
}
