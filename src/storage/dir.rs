//! A node's data directory: `log/`, `snapshots/`, `blobs/`.
//!
//! Invariants: the log database's lock guards the whole directory, so it is opened first and held by every clone.
//!
//! Deliberately not here: whose directory it is (`identity`).

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{BlobStore, LogDb, Result, SnapshotDir, StorageError, files::ensure_dir};

/// An open data directory; clones share it.
#[derive(Clone)]
pub struct DataDir {
    path: PathBuf,
    log: LogDb,
    snapshots: SnapshotDir,
    blobs: BlobStore,
}

impl DataDir {
    /// Opens or creates the directory and takes its lock.
    pub fn open(path: &Path) -> Result<Self> {
        let unusable = |source| StorageError::Unusable { dir: path.into(), source };
        match fs::metadata(path) {
            Ok(meta) if !meta.is_dir() => return Err(StorageError::NotADirectory { dir: path.into() }),
            Ok(_) => drop(fs::read_dir(path).map_err(unusable)?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => ensure_dir(path).map_err(|e| match e {
                StorageError::Io { source, .. } => unusable(source),
                other => other,
            })?,
            Err(e) => return Err(unusable(e)),
        }
        let log_dir = path.join("log");
        ensure_dir(&log_dir).map_err(|e| match e {
            StorageError::Io { source, .. } => unusable(source),
            other => other,
        })?;
        let log = LogDb::open(&log_dir).map_err(|e| match e {
            StorageError::Locked { .. } => StorageError::Locked { dir: path.into() },
            other => other,
        })?;
        let snapshots = SnapshotDir::open(&path.join("snapshots"))?;
        let blobs = BlobStore::open(&path.join("blobs"))?;
        Ok(Self { path: path.into(), log, snapshots, blobs })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log database.
    #[must_use]
    pub fn log(&self) -> &LogDb {
        &self.log
    }

    /// The snapshot files.
    #[must_use]
    pub fn snapshots(&self) -> &SnapshotDir {
        &self.snapshots
    }

    /// Refuses a log that begins after the end of the newest snapshot: the entries between are missing.
    pub fn check_joined(&self) -> Result<()> {
        let held = self.snapshots.indexes()?.last().copied().unwrap_or(0);
        match self.log.purged()? {
            Some((purged, _)) if purged > held => {
                Err(StorageError::Gap { dir: self.path.clone(), from: held + 1, to: purged })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The blob store.
    #[must_use]
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_its_place_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data");
        fs::write(&file, b"x").unwrap();
        let said = DataDir::open(&file).err().unwrap().to_string();
        assert!(said.contains("data is not a directory") && said.contains("choose another"), "{said}");
    }

    #[test]
    fn an_impossible_parent_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"x").unwrap();
        let said = DataDir::open(&file.join("data")).err().unwrap().to_string();
        assert!(said.contains("cannot be read and written"), "{said}");
    }

    #[test]
    fn a_running_node_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/data");
        let first = DataDir::open(&path).unwrap();
        let said = DataDir::open(&path).err().unwrap().to_string();
        assert!(said.contains("deep/data is in use by a running node"), "{said}");
        drop(first);
        assert_eq!(DataDir::open(&path).unwrap().path(), path);
    }
}
