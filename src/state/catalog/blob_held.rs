//! `BlobHeld`: a node has a package fsynced; it is kept for a while, as somebody may be about to register a release of
//! it.

use crate::state::base::prelude::*;

fields! {
    /// A node has a package fsynced.
    #[derive(Debug, Clone, PartialEq)]
    pub struct BlobHeld {
        /// Which package.
        1 [required] pub digest: Digest,
        2 pub size: u64,
        3 pub node: NodeId,
    }
}

impl Apply for BlobHeld {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { ref digest, size, node } = self;
        let n = cx.node(node)?;
        if n.role == NodeRole::Removed {
            return Err(Rejection::Precondition(format!("node {node} was removed")));
        }
        let mut row = match cx.s.blobs.get(digest) {
            Some(b) if b.size != size => {
                return Err(Rejection::Conflict {
                    what: format!(
                        "package {} is {} bytes long, not {size}: one of the copies is damaged",
                        digest.short(),
                        b.size
                    ),
                });
            }
            Some(b) => b.clone(),
            None => Blob { meta: cx.new_meta(), size, holders: Vec::new(), kept_until: Millis(0) },
        };
        let place = row.holders.binary_search(&node);
        // Said again, it is kept anew; not in every entry that says so.
        let (keep, now) = (cx.settings().package_keep, cx.now());
        let ages = row.kept_until < now.plus(Period(keep.0 / 2));
        if place.is_err() || ages {
            if let Err(place) = place {
                row.holders.insert(place, node);
            }
            row.kept_until = row.kept_until.max(now.plus(keep));
            cx.touch(&mut row.meta);
            cx.s.blobs.insert(digest.clone(), row);
        }
        Ok(())
    }
}
