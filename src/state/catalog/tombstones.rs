//! Releases that are taken out, and what stays of them.
//!
//! Invariant: other bytes never come under the name of a version that ran, also when its service was removed and made
//! again; one that never ran may be pushed again as something else. Not here: whether something needs a release
//! (`in_use`).

use super::copies;
use crate::state::base::{names, prelude::*};

/// Most removed versions that are remembered.
const MAX_TOMBSTONES: usize = 100_000;

/// Takes a release out that nothing needs; of one that ran its digest stays.
pub(in crate::state) fn bury(cx: &mut Cx<'_>, row: &Release) -> Done {
    let key = (row.service.clone(), row.version.clone());
    if row.ran {
        if cx.s.tombstones.len() >= MAX_TOMBSTONES && !cx.s.tombstones.contains_key(&key) {
            return Err(names::exhausted("removed releases that ran", MAX_TOMBSTONES as u32));
        }
        cx.s.tombstones.insert(key.clone(), row.digest.clone());
    }
    cx.s.releases.remove(&key);
    release_package(cx, &row.digest);
    Ok(())
}

/// A package that no release names any more is kept for a while, as the removal may have been a mistake; one that no
/// node holds is forgotten.
fn release_package(cx: &mut Cx<'_>, digest: &Digest) {
    if copies::names(cx.s, digest).is_some() {
        return;
    }
    let Some(mut blob) = cx.s.blobs.get(digest).cloned() else { return };
    if blob.holders.is_empty() {
        cx.s.blobs.remove(digest);
        return;
    }
    blob.kept_until = blob.kept_until.max(cx.now().plus(cx.settings().package_keep));
    cx.touch(&mut blob.meta);
    cx.s.blobs.insert(digest.clone(), blob);
}
