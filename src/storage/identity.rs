//! Whose directory this is: cluster id and node id, stored beside the log so that they share its checksum and its lock.
//!
//! Invariants: an identity is written once and never changed; a directory whose node was removed is refused for ever,
//! as a node that came back under its old id could vote twice. So could a copy of the directory: the place (name and
//! peer address) is kept too, and a start at another one is refused, as the cluster knows the node by it.
//!
//! Deliberately not here: how ids are chosen.

use super::{LogDb, Result, StorageError};

const NAME: &str = "identity";
/// Name and peer address under which the cluster knows the node.
const PLACE: &str = "place";
const FORMAT: u8 = 1;
const MAX_CLUSTER: usize = 255;

/// The cluster and node that a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id, fixed when it was made.
    pub cluster: String,
    /// The node's id, never used twice in a cluster.
    pub node: u64,
}

impl LogDb {
    /// The identity stored here, if any; an error if its node was removed.
    pub fn identity(&self) -> Result<Option<Identity>> {
        let Some(bytes) = self.meta(NAME)? else { return Ok(None) };
        let (identity, removed) = decode(&bytes)?;
        if removed {
            return Err(StorageError::Removed { dir: self.dir().into(), node: identity.node });
        }
        Ok(Some(identity))
    }

    /// Makes this directory the given node's, durably; refuses if it is another's. Blocks on a sync the first time.
    pub fn claim(&self, wanted: &Identity) -> Result<()> {
        if wanted.cluster.is_empty() || wanted.cluster.len() > MAX_CLUSTER {
            return Err(StorageError::Invalid {
                what: format!("cluster id `{}`", wanted.cluster),
                why: "it must have 1 to 255 bytes",
            });
        }
        match self.identity()? {
            None => self.put_meta_synced(NAME, &encode(wanted, false)),
            Some(found) if found.cluster != wanted.cluster => Err(StorageError::OtherCluster {
                dir: self.dir().into(),
                found: found.cluster,
                expected: wanted.cluster.clone(),
            }),
            Some(found) if found.node != wanted.node => {
                Err(StorageError::OtherNode { dir: self.dir().into(), found: found.node, expected: wanted.node })
            }
            Some(_) => Ok(()),
        }
    }

    /// Ties the identity to a name and peer address, durably; refuses another one. Blocks on a sync the first time.
    pub fn claim_place(&self, wanted: &str) -> Result<()> {
        let Some(found) = self.meta(PLACE)? else { return self.put_meta_synced(PLACE, wanted.as_bytes()) };
        if found == wanted.as_bytes() {
            return Ok(());
        }
        let node = self.identity()?.map_or(0, |i| i.node);
        let found = String::from_utf8_lossy(&found).into_owned();
        Err(StorageError::OtherPlace { dir: self.dir().into(), node, found, wanted: wanted.into() })
    }

    /// Marks the directory so that it is never opened as this node again. Blocks on a sync.
    pub fn mark_removed(&self) -> Result<()> {
        match self.identity() {
            Ok(Some(identity)) => self.put_meta_synced(NAME, &encode(&identity, true)),
            Ok(None) | Err(StorageError::Removed { .. }) => Ok(()),
            Err(other) => Err(other),
        }
    }
}

fn encode(identity: &Identity, removed: bool) -> Vec<u8> {
    let mut bytes = vec![FORMAT, u8::from(removed)];
    bytes.extend_from_slice(&identity.node.to_be_bytes());
    bytes.extend_from_slice(identity.cluster.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<(Identity, bool)> {
    let damaged = |why| StorageError::DamagedValue { name: NAME.into(), why };
    let (&format, rest) = bytes.split_first().ok_or(damaged("empty"))?;
    if format != FORMAT {
        return Err(StorageError::Format { what: "identity".into(), found: format.into(), known: FORMAT.into() });
    }
    let (&removed, rest) = rest.split_first().ok_or(damaged("too short"))?;
    let (node, cluster) = rest.split_first_chunk::<8>().ok_or(damaged("too short"))?;
    let cluster = std::str::from_utf8(cluster).map_err(|_| damaged("cluster id is not text"))?;
    Ok((Identity { cluster: cluster.into(), node: u64::from_be_bytes(*node) }, removed != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(cluster: &str, node: u64) -> Identity {
        Identity { cluster: cluster.into(), node }
    }

    #[test]
    fn it_keeps_its_bytes_and_any_bytes_are_an_answer_or_an_error() {
        // Written by format 1; these must be read for ever.
        let golden = b"\x01\0\0\0\0\0\0\0\0\x02c-1";
        assert_eq!(encode(&id("c-1", 2), false), golden);
        assert_eq!(decode(golden).unwrap(), (id("c-1", 2), false));
        let said = decode(b"\x09\0").unwrap_err().to_string();
        assert!(said.contains("identity has format 9"), "{said}");
        for len in 0..golden.len() {
            for byte in 0..=u8::MAX {
                let mut bytes = golden[..len].to_vec();
                bytes.extend([byte, 0xff]);
                let _ = decode(&bytes);
            }
        }
    }

    #[test]
    fn a_directory_belongs_to_one_node_of_one_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let db = LogDb::open(dir.path()).unwrap();
        assert_eq!(db.identity().unwrap(), None);
        assert!(db.claim(&id("", 1)).is_err());
        db.claim(&id("c-1", 2)).unwrap();
        drop(db);
        let db = LogDb::open(dir.path()).unwrap();
        assert_eq!(db.identity().unwrap(), Some(id("c-1", 2)));
        db.claim(&id("c-1", 2)).unwrap();
        let said = db.claim(&id("c-2", 2)).unwrap_err().to_string();
        assert!(said.contains("belongs to cluster c-1, not to c-2"), "{said}");
        let said = db.claim(&id("c-1", 3)).unwrap_err().to_string();
        assert!(said.contains("belongs to node 2, not to node 3"), "{said}");
    }

    #[test]
    fn a_copy_of_a_directory_is_not_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let db = LogDb::open(dir.path()).unwrap();
        db.claim(&id("c-1", 2)).unwrap();
        db.claim_place("n2 at 10.0.0.2:7651").unwrap();
        db.claim_place("n2 at 10.0.0.2:7651").unwrap();
        let said = db.claim_place("n2 at 10.0.0.9:7651").unwrap_err().to_string();
        assert!(said.contains("node 2 (n2 at 10.0.0.2:7651)") && said.contains("10.0.0.9:7651"), "{said}");
    }

    #[test]
    fn a_removed_node_cannot_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let db = LogDb::open(dir.path()).unwrap();
        db.claim(&id("c-1", 2)).unwrap();
        db.mark_removed().unwrap();
        db.mark_removed().unwrap();
        drop(db);
        let db = LogDb::open(dir.path()).unwrap();
        for refused in [db.identity().map(drop), db.claim(&id("c-1", 2))] {
            assert!(matches!(refused, Err(StorageError::Removed { node: 2, .. })));
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let db = LogDb::open(dir.path()).unwrap();
        db.put_meta_synced(NAME, &[9, 0]).unwrap();
        let said = db.identity().unwrap_err().to_string();
        assert!(said.contains("identity has format 9"), "{said}");
    }
}
