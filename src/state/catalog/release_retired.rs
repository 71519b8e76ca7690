//! `ReleaseRetired`: a version that nobody rolls out any more; it stays listed, and its package with it.

use super::in_use;
use crate::state::base::prelude::*;

fields! {
    /// Takes a release out of use.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ReleaseRetired {
        1 [required] pub service: Name,
        2 [required] pub version: Version,
    }
}

impl Apply for ReleaseRetired {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let Self { service, version } = self;
        let mut row = in_use::named(cx, service, version)?;
        if row.status == ReleaseStatus::Retired {
            return Ok(());
        }
        in_use::check(cx.s, service, version)?;
        row.status = ReleaseStatus::Retired;
        cx.touch(&mut row.meta);
        cx.s.releases.insert((service.clone(), version.clone()), row);
        cx.emit(EventBody::ReleaseGone { service: service.clone(), version: version.clone(), removed: false });
        Ok(())
    }
}
