//! `BlobDoomed`: a node is about to delete a package that no release names; it is no holder from this entry on, and
//! deletes afterwards.
//!
//! What the law holds: a package that a release names is never doomed, nor one that somebody brought, or that lost its
//! last release, lately (`kept_until`, which `BlobHeld` raises by the setting `package_keep`); a release is registered
//! only on a majority of *holders*. So whichever of the two comes first in the log, the other one is refused, and
//! nothing that a release names is deleted on this node's own account.
//!
//! What a node does, in this order:
//! 1. it takes the package's lock, which uploads and fetches of that package take too;
//! 2. it proposes `BlobDoomed`, and goes on only when that was applied; a refusal ends it here;
//! 3. it looks at its own State, at or after that entry: is it no holder, and does no release name the package? Then it
//!    deletes the file, and syncs the directory;
//! 4. it gives the lock back. Whoever uploads the package next finds no file, brings it again and says `BlobHeld`.
//!
//! A node that dies between 2 and 3 has a file that State does not know. At its start it does the same with every file
//! of which State does not say that this node holds it: it dooms and deletes it, or says `BlobHeld` when a release
//! names it (`node/repair`). An upload that meets a file must say `BlobHeld` before it answers that the package is
//! there, also when State names this node already. Not here: partial uploads, which State does not know and a node
//! clears by their age; files that vanished (`blob_dropped`).

use super::copies;
use crate::state::base::prelude::*;

fields! {
    /// A node is about to delete a package.
    #[derive(Debug, Clone, PartialEq)]
    pub struct BlobDoomed {
        /// Which package.
        1 [required] pub digest: Digest,
        2 pub node: NodeId,
    }
}

impl Apply for BlobDoomed {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { ref digest, node } = self;
        let row = cx.s.blobs.get(digest);
        let Some(row) = row.filter(|b| b.holders.contains(&node)) else {
            // A file that State does not know may go, as nobody counts on it; but a release may need it here.
            return match copies::names(cx.s, digest) {
                Some(r) => guard(format!("package {} is of {} {}", digest.short(), r.service, r.version)),
                None => Ok(()),
            };
        };
        if let Some(r) = copies::names(cx.s, digest) {
            return guard(format!("package {} is of {} {}", digest.short(), r.service, r.version));
        }
        if cx.now() < row.kept_until {
            return guard(format!(
                "package {} is kept until {}: it was brought, or lost its last release, lately",
                digest.short(),
                row.kept_until
            ));
        }
        copies::drop_holder(cx, digest, node);
        Ok(())
    }
}
