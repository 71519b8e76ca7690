//! Free room on the disk below a directory, and which errors mean that the disk is full.
//!
//! Not here: what a node does about it (`node::space`).

use std::{io, path::Path};

/// How the system words the two errors that room alone mends: ENOSPC and EDQUOT. The log database hands on words, not
/// numbers.
const FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// Bytes that this process may still write below `dir`. A write may fail a little earlier: file systems keep some to
/// themselves.
pub fn free(dir: &Path) -> io::Result<u64> {
    let seen = rustix::fs::statvfs(dir)?;
    Ok(seen.f_bavail.saturating_mul(seen.f_frsize))
}

/// Whether a node that failed for this reason may go on once there is room: a write found none. Never after a failed
/// sync, whatever its cause: what it left on the disk is not known.
#[must_use]
pub fn is_full(reason: &str) -> bool {
    FULL.iter().any(|words| reason.contains(words)) && !reason.contains(super::flusher::SYNC_FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free(dir.path()).unwrap() > 0);
        assert!(free(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let full = io::Error::from_raw_os_error(28).to_string();
        assert!(is_full(&format!("append failed: IO error: {full}")));
        assert!(is_full(&io::Error::from_raw_os_error(122).to_string()));
        assert!(!is_full(&io::Error::from_raw_os_error(5).to_string()));
        assert!(!is_full(&format!("{}: {full}", crate::storage::flusher::SYNC_FAILED)));
    }
}
