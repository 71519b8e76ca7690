//! `ServiceRemoved`: a service without deployments and releases goes. What its versions were stays (`tombstones`).

use super::services;
use crate::state::base::{names, prelude::*};

fields! {
    /// Removes a service that has neither deployments nor releases.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ServiceRemoved {
        1 [required] pub service: Name,
    }
}

impl Apply for ServiceRemoved {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { service } = self;
        services::known(cx, service)?;
        let deployments = names::some(cx.s.deployments_of(service).map(|d| &d.id));
        let releases = cx.s.releases_of(service).count();
        let has = |what: String| Err(Rejection::Precondition(format!("service {service} has {what}")));
        match (deployments, releases) {
            (Some(some), _) => has(format!("deployments ({some}): `slipway deployment remove` takes each away")),
            (None, 0) => {
                cx.s.services.remove(service);
                cx.emit(EventBody::ServiceChanged { service: service.clone(), what: "removed".into() });
                Ok(())
            }
            (None, n) => has(format!("{n} releases: `slipway release prune {service} --keep 0` takes them away")),
        }
    }
}
