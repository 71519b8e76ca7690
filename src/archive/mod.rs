//! The one reader of packages: a tar archive (gzip, zstd or plain, told by its first bytes), entry by entry.
//!
//! `release push` reads a package with a sink that keeps nothing, an agent with one that writes. So what an agent
//! refuses, whatever its machine, push refuses before the version is spent, with the same words.
//!
//! Invariants: a sink hears only of names that are relative and without `..`, of each name once, of parents before what
//! is in them. Links are resolved here, without a file system, and must end inside the package. What this reader cannot
//! give exactly as it was packed (sparse files, capabilities, two files of one name) is refused. Not here: where files
//! go (`agent::unpack`), packing (`cli::pack`), digests.

mod entries;
mod notes;
mod source;
mod tree;

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

pub use notes::{Notes, carriage_return};

/// Bounds on what an archive may hold.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveLimits {
    pub entries: u64,
    /// Bytes when unpacked, headers included.
    pub bytes: u64,
    /// Length of a name, and of what a link names.
    pub name: usize,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { entries: 200_000, bytes: 8 << 30, name: 1024 }
    }
}

/// Why an archive was not read to its end.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The archive is refused by every machine; trying again will not help.
    #[error("package refused: {0}")]
    Refused(String),
    /// The file of the archive cannot be read here.
    #[error("{0}")]
    Unreadable(io::Error),
    /// The sink failed.
    #[error("{path}: {source}")]
    Sink {
        /// At which name in the package.
        path: PathBuf,
        source: io::Error,
    },
}

/// Where the entries go. Names are relative to the package.
pub trait Sink {
    /// Makes a directory. A directory of the same name never comes twice.
    fn directory(&mut self, name: &Path) -> io::Result<()>;
    /// Begins a file; its bytes follow.
    fn begin(&mut self, name: &Path) -> io::Result<()>;
    /// More bytes of the file that was begun last.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Ends the file that was begun last.
    fn end(&mut self, executable: bool) -> io::Result<()>;
    /// Makes a symbolic link; whether it ends inside is known only when `read` returns.
    fn symlink(&mut self, name: &Path, target: &Path) -> io::Result<()>;
    /// Gives a file that ended already another name.
    fn hard_link(&mut self, name: &Path, file: &Path) -> io::Result<()>;
}

/// A sink that keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn directory(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn begin(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn symlink(&mut self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn hard_link(&mut self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// What was read.
#[derive(Debug)]
pub struct Contents {
    /// Every directory but the top one, parents first.
    pub directories: Vec<PathBuf>,
    /// What whoever packed it may want to know.
    pub notes: Notes,
}

/// Reads `archive` to its end into `sink`.
pub fn read(archive: &Path, limits: ArchiveLimits, sink: &mut dyn Sink) -> Result<Contents, ArchiveError> {
    entries::read(archive, limits, sink)
}

/// Reads an archive to its end and keeps nothing: whether an agent would take it.
pub fn check(archive: &Path) -> Result<Contents, ArchiveError> {
    read(archive, ArchiveLimits::default(), &mut Nowhere)
}

fn refused<T>(why: impl Into<String>) -> Result<T, ArchiveError> {
    Err(ArchiveError::Refused(why.into()))
}
