//! Directories of tests that run, and what those left behind whose runner was killed.
//!
//! A runner that is killed drops nothing. Its nodes and agents die with it (`procs::dies_with_us`), but instances
//! outlive agents by design, and small disks stay mounted: the next runner ends and removes them. Invariant: of a test
//! that lives nothing is touched. It holds a lock in its directory from before that has a name that is looked at until
//! it goes, and the kernel lets go of the lock of a dead one. Nor is anything touched of one whose processes cannot be
//! seen from here (`dns_clients` has a namespace of its own). Not here: addresses and networks, which go by the lock of
//! their block (`cluster/lab/block.rs`).

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::procs;

const PREFIX: &str = "slipway-test-dir-";
const LOCK: &str = ".in-use";
/// Where images of small disks lie; their names begin with the directory's.
pub const MEMORY: &str = "/dev/shm";

/// A directory that goes with its test.
pub struct Scratch {
    dir: TempDir,
    _lock: File,
}

impl Scratch {
    pub fn new() -> Self {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| drop(sweep(&std::env::temp_dir())));
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
        let unnamed = dir.path().join(".new");
        fs::write(&unnamed, processes()).unwrap();
        let lock = File::open(&unnamed).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        fs::rename(unnamed, dir.path().join(LOCK)).unwrap();
        Self { dir, _lock: lock }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Which processes are seen here: the name of their namespace.
fn processes() -> String {
    fs::read_link("/proc/self/ns/pid").unwrap().to_string_lossy().into_owned()
}

/// Removes what dead runners left below `base`; the directories that it found.
pub fn sweep(base: &Path) -> Vec<PathBuf> {
    let mut swept = Vec::new();
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if fs::read_to_string(path.join(LOCK)).is_ok_and(|seen| seen == processes())
            && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            remove(&path);
            swept.push(path);
        }
    }
    swept
}

fn remove(dir: &Path) {
    procs::kill_all(dir);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let at = mounts.lines().filter_map(|l| l.split(' ').nth(1)).filter(|at| Path::new(at).starts_with(dir));
    // What was mounted last goes first.
    for at in at.collect::<Vec<_>>().into_iter().rev() {
        // Another runner may have been faster.
        let _ = Command::new("umount").args(["-l", at]).output();
    }
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for image in fs::read_dir(MEMORY).into_iter().flatten().flatten() {
        if image.file_name().to_string_lossy().starts_with(&name) {
            let _ = fs::remove_file(image.path());
        }
    }
    let _ = fs::remove_dir_all(dir);
}
