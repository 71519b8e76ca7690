//! Unpacks a package into a staging directory, then syncs it and renames it into place.
//!
//! Invariants: nothing is written outside the target, whatever the archive says; a refused archive puts nothing into
//! place. What is in place is whole, durable and read-only: files 0444 or 0555, directories 0555, whatever modes were
//! packed. Not here: what an archive may hold (`archive`, which refuses before a link can lead anywhere), fetching and
//! the digest (`fetch`).

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::files;
use crate::archive::{self, ArchiveError, ArchiveLimits, Sink};

/// Why an archive was not unpacked.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// The archive is refused; trying again will not help.
    #[error("package refused: {0}")]
    Refused(String),
    /// The disk refused, or the archive cannot be read.
    #[error("cannot unpack into {path}: {source}")]
    Disk { path: PathBuf, source: io::Error },
}

/// Unpacks `archive` into `staging` and renames that to `target`. What stood in `staging` is dropped; a `target` that
/// is there is complete already and left alone.
pub fn unpack(archive: &Path, staging: &Path, target: &Path, limits: ArchiveLimits) -> Result<(), UnpackError> {
    if target.is_dir() {
        return Ok(());
    }
    let disk = |path: &Path| {
        let path = path.to_path_buf();
        move |source| UnpackError::Disk { path, source }
    };
    files::remove_tree(staging).map_err(disk(staging))?;
    let parent = target.parent().unwrap_or(Path::new("."));
    files::ensure_dir(parent).map_err(disk(parent))?;
    files::ensure_dir(staging).map_err(disk(staging))?;
    let done = fill(archive, staging, limits);
    if let Err(e) = done {
        files::remove_tree(staging).map_err(disk(staging))?;
        return Err(e);
    }
    fs::rename(staging, target).map_err(disk(target))?;
    // Only now: a directory without write permission cannot be moved by everyone.
    fs::set_permissions(target, fs::Permissions::from_mode(0o555)).map_err(disk(target))?;
    files::sync_dir(parent).map_err(disk(parent))
}

fn fill(package: &Path, root: &Path, limits: ArchiveLimits) -> Result<(), UnpackError> {
    let mut staged = Staged { root: root.into(), file: None };
    let contents = archive::read(package, limits, &mut staged).map_err(|e| match e {
        ArchiveError::Refused(why) => UnpackError::Refused(why),
        ArchiveError::Unreadable(source) => UnpackError::Disk { path: package.into(), source },
        ArchiveError::Sink { path, source } => UnpackError::Disk { path: root.join(path), source },
    })?;
    let disk = |source| UnpackError::Disk { path: root.into(), source };
    // Durable and read-only, the innermost first.
    for name in contents.directories.iter().rev() {
        let path = root.join(name);
        files::sync_dir(&path).map_err(disk)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).map_err(disk)?;
    }
    files::sync_dir(root).map_err(disk)
}

/// The directory that a package is unpacked into.
struct Staged {
    root: PathBuf,
    file: Option<fs::File>,
}

impl Staged {
    fn open(&mut self) -> io::Result<&mut fs::File> {
        self.file.as_mut().ok_or_else(|| io::Error::other("bytes of no file"))
    }
}

impl Sink for Staged {
    fn directory(&mut self, name: &Path) -> io::Result<()> {
        fs::create_dir(self.root.join(name))
    }

    fn begin(&mut self, name: &Path) -> io::Result<()> {
        let new = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.root.join(name))?;
        self.file = Some(new);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(self.open()?, bytes)
    }

    fn end(&mut self, executable: bool) -> io::Result<()> {
        let file = self.open()?;
        file.set_permissions(fs::Permissions::from_mode(if executable { 0o555 } else { 0o444 }))?;
        file.sync_all()?;
        self.file = None;
        Ok(())
    }

    fn symlink(&mut self, name: &Path, target: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, self.root.join(name))
    }

    fn hard_link(&mut self, name: &Path, file: &Path) -> io::Result<()> {
        fs::hard_link(self.root.join(file), self.root.join(name))
    }
}

#[cfg(test)]
mod tests;
