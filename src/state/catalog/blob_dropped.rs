//! `BlobDropped`: a node no longer has a package. The row goes with its last holder, unless a release names it.

use super::copies;
use crate::state::base::prelude::*;

fields! {
    /// A node no longer has it.
    #[derive(Debug, Clone, PartialEq)]
    pub struct BlobDropped {
        /// Which package.
        1 [required] pub digest: Digest,
        2 pub node: NodeId,
    }
}

impl Apply for BlobDropped {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { ref digest, node } = self;
        if !cx.s.blobs.contains_key(digest) {
            return Err(Rejection::not_there(Named::Package, digest));
        }
        copies::drop_holder(cx, digest, node);
        Ok(())
    }
}
