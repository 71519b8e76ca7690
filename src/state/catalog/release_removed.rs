//! `ReleaseRemoved`: a version that is listed no more, and whose package nothing names.

use super::{in_use, tombstones};
use crate::state::base::prelude::*;

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
        in_use::check(cx.s, service, version)?;
        tombstones::bury(cx, &row)?;
        cx.emit(EventBody::ReleaseGone { service: service.clone(), version: version.clone(), removed: true });
        Ok(())
    }
}
