//! The few file operations that durability needs: whole-file replacement and directory sync.
//!
//! Deliberately not here: anything that knows what the bytes mean.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use super::{Result, StorageError};

/// A large file is synced as it is written: the sync of a log that shares its disk waits for what is dirty in the whole
/// file system, so it would stand still while tens of megabytes went out at once.
const SYNC_EVERY: usize = 1 << 20;

/// Builds an `Io` error for `map_err`.
pub(super) fn io_at<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> StorageError + 'a {
    move |source| StorageError::Io { what, path: path.to_path_buf(), source }
}

/// Makes a rename or a creation inside `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(io_at("cannot sync directory", dir))
}

/// Creates `dir` and its parents, and syncs the parent so that the new name survives a power cut.
pub(super) fn ensure_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(io_at("cannot create directory", dir))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        Some(_) | None => Ok(()),
    }
}

/// Writes the parts to `temp`, syncs it, renames it to `name` and syncs the directory. A reader sees the old file or
/// the new one.
pub(super) fn replace(dir: &Path, temp: &str, name: &str, parts: &[&[u8]]) -> Result<()> {
    let (temp, name) = (dir.join(temp), dir.join(name));
    let mut file = File::create(&temp).map_err(io_at("cannot create", &temp))?;
    let mut unsynced = 0;
    for piece in parts.iter().flat_map(|part| part.chunks(SYNC_EVERY)) {
        file.write_all(piece).map_err(io_at("cannot write", &temp))?;
        unsynced += piece.len();
        if unsynced >= SYNC_EVERY {
            file.sync_data().map_err(io_at("cannot sync", &temp))?;
            unsynced = 0;
        }
    }
    file.sync_all().map_err(io_at("cannot sync", &temp))?;
    fs::rename(&temp, &name).map_err(io_at("cannot rename", &temp))?;
    sync_dir(dir)
}
