//! `ReleasesPruned`: old versions of a service that nothing needs are removed.
//!
//! The choice is made here, by the order of registration: whoever asks names a rule and no versions, so nothing that
//! came into use meanwhile goes. One entry removes a bounded number; its event says which, and how many are left for
//! the next one.

use super::{in_use::Needed, services, tombstones};
use crate::state::base::prelude::*;

/// Most releases that one entry removes.
const AT_ONCE: usize = 64;

fields! {
    /// Removes old releases of a service: all but the newest, or those of an age.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ReleasesPruned {
        1 [required] pub service: Name,
        /// So many of the newest stay.
        2 pub keep: Option<u32>,
        /// What was registered so long ago goes.
        3 pub older_than: Option<Period>,
    }
}

impl Apply for ReleasesPruned {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { service, .. } = self;
        services::known(cx, service)?;
        let mut all: Vec<Release> = cx.s.releases_of(service).cloned().collect();
        all.sort_by_key(|r| r.meta.created_index);
        match (self.keep, self.older_than) {
            (Some(keep), None) => all.truncate(all.len().saturating_sub(keep as usize)),
            (None, Some(age)) => all.retain(|r| r.registered_at.plus(age) <= cx.now()),
            (Some(_), Some(_)) | (None, None) => {
                return Err(Rejection::Invalid("say how many to keep, or how old the others are: one of both".into()));
            }
        }
        let needed = Needed::of(cx.s, service);
        all.retain(|r| needed.why(&r.version).is_none());
        let left = all.len().saturating_sub(AT_ONCE);
        all.truncate(AT_ONCE);
        for row in &all {
            tombstones::bury(cx, row)?;
        }
        if !all.is_empty() {
            let (versions, left) = (all.into_iter().map(|r| r.version).collect(), left as u64);
            cx.emit(EventBody::ReleasesPruned { service: service.clone(), versions, left });
        }
        Ok(())
    }
}
