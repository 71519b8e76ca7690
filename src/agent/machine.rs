//! This agent's identity: its name, its key, how often it has started, and the newest desired state that it has seen.
//! Made once and kept in the data directory.
//!
//! Invariants: the key never leaves its file, which only its user can read; the epoch rises by one at each start,
//! durably, before anything is reported. Not here: proving the identity to a node (`session`).

use std::{fs, io, path::Path};

use ed25519_dalek::{Signer, SigningKey};
use serde::{Deserialize, Serialize};

use super::{AgentError, files, layout::Layout};
use crate::model::{WorkerName, ids::hex};

/// First bytes of what a worker signs.
const DOMAIN: &[u8] = b"slipway-worker-v1";

/// What has been obeyed; orders desired states over all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obeyed {
    /// The cluster this directory belongs to; empty before the first welcome.
    pub cluster: String,
    /// Newest incarnation.
    pub incarnation: u64,
    /// Newest index within it.
    pub index: u64,
    /// Clusters it belonged to before they were restored as the present one.
    #[serde(default)]
    pub former: Vec<String>,
}

/// This agent.
pub struct Machine {
    pub name: WorkerName,
    /// Starts so far, this one included.
    pub epoch: u64,
    /// The machine's boot.
    pub boot: String,
    key: SigningKey,
    _lock: fs::File,
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> AgentError {
    move |source| AgentError::Disk { path: path.into(), source }
}

/// Takes the directory for this process alone.
pub fn lock(layout: &Layout) -> Result<fs::File, AgentError> {
    files::ensure_dir(layout.root()).map_err(disk(layout.root()))?;
    let path = layout.agent_lock();
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(disk(&path))?;
    if super::shim::try_lock(&file).map_err(disk(&path))? {
        Ok(file)
    } else {
        Err(AgentError::InUse { path: layout.root().into() })
    }
}

/// The host's name as a worker's name.
pub fn host_name() -> Result<WorkerName, AgentError> {
    let path = Path::new("/proc/sys/kernel/hostname");
    let text = fs::read_to_string(path).map_err(disk(path))?;
    let name = text.trim().to_ascii_lowercase();
    WorkerName::new(&name).map_err(|_| AgentError::HostName { name })
}

fn keep_epoch(layout: &Layout, epoch: u64) -> Result<(), AgentError> {
    let path = layout.epoch();
    // As long as the one before, so that a full disk takes it where that stood.
    let text = format!("{epoch:020}");
    files::replace(&path, text.as_bytes(), 0o600)
        .or_else(
            |e| {
                if e.kind() == io::ErrorKind::StorageFull { files::overwrite(&path, text.as_bytes()) } else { Err(e) }
            },
        )
        .map_err(disk(&path))
}

impl Machine {
    /// Takes the directory, makes what is missing, and counts this start.
    pub fn open(layout: &Layout, name: Option<&str>) -> Result<Self, AgentError> {
        let name = match name {
            Some(name) => WorkerName::new(name).map_err(|_| AgentError::HostName { name: name.into() })?,
            None => host_name()?,
        };
        let lock = lock(layout)?;
        let path = layout.key();
        let key = match files::read_if_there(&path).map_err(disk(&path))? {
            Some(bytes) => {
                let secret: [u8; 32] =
                    bytes.as_slice().try_into().map_err(|_| AgentError::Damaged { path: path.clone() })?;
                SigningKey::from_bytes(&secret)
            }
            None => {
                let secret: [u8; 32] = rand::random();
                files::replace(&path, &secret, 0o600).map_err(disk(&path))?;
                SigningKey::from_bytes(&secret)
            }
        };
        let path = layout.epoch();
        let before = match files::read_if_there(&path).map_err(disk(&path))? {
            Some(bytes) => std::str::from_utf8(&bytes)
                .ok()
                .and_then(|t| t.trim().parse::<u64>().ok())
                .ok_or_else(|| AgentError::Damaged { path: path.clone() })?,
            None => 0,
        };
        let epoch = before.saturating_add(1);
        keep_epoch(layout, epoch)?;
        let boot = super::kin::boot_id().map_err(disk(Path::new("/proc/sys/kernel/random/boot_id")))?;
        Ok(Self { name, epoch, boot, key, _lock: lock })
    }

    /// Counts starts from above `known`: the directory has gone back in time, and reports of its own count would never
    /// count.
    pub fn go_above(&mut self, layout: &Layout, known: u64) -> Result<(), AgentError> {
        let epoch = known.saturating_add(1).max(self.epoch);
        keep_epoch(layout, epoch)?;
        self.epoch = epoch;
        Ok(())
    }

    /// The public key, 64 hexadecimal digits.
    pub fn public_key(&self) -> String {
        hex(self.key.verifying_key().as_bytes())
    }

    /// Proves the key to a node of a cluster.
    pub fn prove(&self, nonce: &[u8], cluster: &str) -> Vec<u8> {
        let message = [DOMAIN, nonce, cluster.as_bytes(), self.name.as_str().as_bytes()].concat();
        self.key.sign(&message).to_bytes().to_vec()
    }
}

impl Obeyed {
    /// Whether a node's cluster is this agent's, or was restored from it.
    pub fn goes_on_with(&self, cluster: &str, lineage: &[String]) -> bool {
        self.cluster == cluster || lineage.contains(&self.cluster)
    }

    /// Belongs to this cluster from now on. What was obeyed still counts: a restored cluster has a higher incarnation.
    pub fn enter(&mut self, cluster: String) {
        let before = std::mem::replace(&mut self.cluster, cluster);
        if !before.is_empty() {
            self.former.push(before);
        }
    }

    /// Reads it.
    pub fn load(layout: &Layout) -> Result<Self, AgentError> {
        let path = layout.seen();
        match files::read_if_there(&path).map_err(disk(&path))? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| AgentError::Damaged { path }),
            None => Ok(Self::default()),
        }
    }

    /// Keeps it.
    pub fn save(&self, layout: &Layout) -> Result<(), AgentError> {
        let path = layout.seen();
        let bytes = serde_json::to_vec(self).map_err(|e| disk(&path)(e.into()))?;
        files::replace(&path, &bytes, 0o600).map_err(disk(&path))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use ed25519_dalek::{Signature, Verifier};

    use super::*;

    #[test]
    fn the_key_stays_and_the_epoch_rises() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let first = Machine::open(&layout, Some("w1")).unwrap();
        let said = Machine::open(&layout, Some("w1")).err().unwrap().to_string();
        assert!(said.contains("in use"), "{said}");
        let (key, epoch) = (first.public_key(), first.epoch);
        drop(first);
        let second = Machine::open(&layout, Some("w1")).unwrap();
        assert_eq!((second.public_key(), second.epoch), (key, epoch + 1));
        assert_eq!(fs::metadata(layout.key()).unwrap().permissions().mode() & 0o777, 0o600);
        let signature = Signature::from_slice(&second.prove(b"nonce", "c1")).unwrap();
        let message = b"slipway-worker-v1noncec1w1";
        assert!(second.key.verifying_key().verify(message, &signature).is_ok());
    }

    #[test]
    fn a_restored_cluster_is_gone_on_with_and_a_strange_one_is_not() {
        let old = r#"{"cluster":"c-1","incarnation":1,"index":7}"#;
        let mut seen: Obeyed = serde_json::from_str(old).unwrap();
        assert!(seen.goes_on_with("c-1", &[]) && seen.goes_on_with("c-2", &["c-0".into(), "c-1".into()]));
        assert!(!seen.goes_on_with("c-2", &[]) && !seen.goes_on_with("c-2", &["c-0".into()]));
        seen.enter("c-2".into());
        assert_eq!((seen.cluster.as_str(), seen.former.as_slice()), ("c-2", &["c-1".to_string()][..]));
        assert!(!seen.goes_on_with("c-1", &[]));
    }

    #[test]
    fn damaged_files_are_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::write(layout.key(), b"short").unwrap();
        let said = Machine::open(&layout, Some("w1")).err().unwrap().to_string();
        assert!(said.contains("key"), "{said}");
        assert_eq!(fs::read(layout.key()).unwrap(), b"short");
        assert!(Machine::open(&layout, Some("not a name")).is_err());
    }
}
