//! `ReleaseRemoved`: a version that is listed no more, and whose package nothing names.
//!
//! Invariant: other bytes never come under the name of a version that ran; one that never ran may be pushed again as something else.

use super::in_use;
use crate::state::base::{names, prelude::*};

/// Most removed versions of a service that are remembered: they stand in one row.
const MAX_GONE: usize = 10_000;

fields! {
    /// Removes a release.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ReleaseRemoved {
        1 [required] pub service: Name,
        2 [required] pub version: Version,
    }
}

impl Apply for ReleaseRemoved {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { service, version } = self;
        let row = in_use::named(cx, service, version)?;
        in_use::check(&cx.s, service, version)?;
        if let Some(mut of) = cx.s.services.get(service).filter(|_| row.ran).cloned() {
            if of.gone.len() >= MAX_GONE && !of.gone.contains_key(version) {
                return Err(names::exhausted("removed releases of a service that ran", MAX_GONE as u32));
            }
            of.gone.insert(version.clone(), row.digest.clone());
            cx.touch(&mut of.meta);
            cx.s.services.insert(service.clone(), of);
        }
        cx.s.releases.remove(&(service.clone(), version.clone()));
        cx.emit(EventBody::ReleaseGone { service: service.clone(), version: version.clone(), removed: true });
        Ok(())
    }
}
