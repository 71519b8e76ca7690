//! Packs a directory into an archive that is the same, byte for byte, wherever and whenever the same files are packed.
//!
//! Sorted names; no times or owners; of a file's mode only whether it is executable; `.git` left out. Whatever is
//! pushed, packed here or elsewhere, is read through once with the agents' own reader (`archive`). Not here: uploading,
//! and what a package may hold.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};
use thiserror::Error;

use crate::{
    archive::{self, ArchiveError, ArchiveLimits, Notes},
    model::ids::hex,
};

/// Level of compression: fast, and stable for one version of this program.
const LEVEL: i32 = 6;

/// Why there is no package.
#[derive(Debug, Error)]
pub enum PackError {
    /// A file or directory cannot be read or written.
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    /// Something that has no place in a package.
    #[error("{path} {problem}")]
    Unfit {
        path: PathBuf,
        /// Why, and what to do.
        problem: String,
    },
    /// What every agent would refuse, in its words.
    #[error("{path}: package refused: {why}")]
    Refused {
        /// What was to be pushed.
        path: PathBuf,
        /// The agents' reason, and what to do.
        why: String,
    },
}

/// A packed release in a file.
#[derive(Debug)]
pub struct Package {
    pub path: PathBuf,
    /// SHA-256, 64 hexadecimal digits.
    pub digest: String,
    pub size: u64,
    /// When the newest of its files was written.
    pub built_at: Option<Timestamp>,
    /// What whoever packed it may want to know.
    pub notes: Notes,
    temporary: bool,
}

impl Drop for Package {
    fn drop(&mut self) {
        if self.temporary {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A package from a directory (packed into a file below `scratch`), or from an archive that is packed already. It is
/// read to its end as agents read it: a version that no agent can unpack would be spent for nothing.
pub fn package(source: &Path, scratch: &Path) -> Result<Package, PackError> {
    let meta = std::fs::metadata(source).map_err(|e| at(source, e))?;
    let mut package = if meta.is_dir() { pack(source, scratch)? } else { packed(source)? };
    match archive::check(&package.path) {
        Ok(contents) => package.notes.and(contents.notes),
        Err(ArchiveError::Refused(why)) => return Err(PackError::Refused { path: source.into(), why }),
        Err(ArchiveError::Unreadable(e) | ArchiveError::Sink { source: e, .. }) => return Err(at(&package.path, e)),
    }
    Ok(package)
}

fn at(path: &Path, source: io::Error) -> PackError {
    PackError::Io { path: path.to_path_buf(), source }
}

fn unfit(path: &Path, problem: impl Into<String>) -> PackError {
    PackError::Unfit { path: path.to_path_buf(), problem: problem.into() }
}

/// Takes an archive as it is.
fn packed(path: &Path) -> Result<Package, PackError> {
    let mut file = File::open(path).map_err(|e| at(path, e))?;
    let mut sum = Sum::new(io::sink());
    io::copy(&mut file, &mut sum).map_err(|e| at(path, e))?;
    let (digest, size, _) = sum.end();
    let built_at = file.metadata().ok().as_ref().and_then(written);
    Ok(Package { path: path.to_path_buf(), digest, size, built_at, notes: Notes::default(), temporary: false })
}

fn pack(dir: &Path, scratch: &Path) -> Result<Package, PackError> {
    let path = scratch.join(format!("slipway-{:016x}.tar.zst", rand::random::<u64>()));
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(|e| at(&path, e))?;
    // From here on the file is removed when packing fails.
    let notes = Notes::default();
    let mut package =
        Package { path: path.clone(), digest: String::new(), size: 0, built_at: None, notes, temporary: true };
    let sum = Sum::new(io::BufWriter::new(file));
    let encoder = zstd::stream::write::Encoder::new(sum, LEVEL).map_err(|e| at(&path, e))?;
    let mut packer =
        Packer { builder: Builder::new(encoder), root: dir, count: 0, built_at: None, notes: Notes::default() };
    packer.add_dir(Path::new(""))?;
    (package.notes, package.built_at) = (packer.notes, packer.built_at);
    let sum = packer.builder.into_inner().and_then(zstd::stream::write::Encoder::finish).map_err(|e| at(&path, e))?;
    let (digest, size, mut file) = sum.end();
    file.flush().map_err(|e| at(&path, e))?;
    (package.digest, package.size) = (digest, size);
    Ok(package)
}

struct Packer<'a, W: Write> {
    builder: Builder<W>,
    root: &'a Path,
    count: u64,
    built_at: Option<Timestamp>,
    notes: Notes,
}

impl<W: Write> Packer<'_, W> {
    fn add_dir(&mut self, inside: &Path) -> Result<(), PackError> {
        let dir = self.root.join(inside);
        let entries =
            std::fs::read_dir(&dir).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(|e| at(&dir, e))?;
        let mut names: Vec<_> = entries.into_iter().map(|e| e.file_name()).collect();
        names.sort();
        for name in names.into_iter().filter(|n| n != ".git") {
            self.add(&inside.join(name))?;
        }
        Ok(())
    }

    fn add(&mut self, inside: &Path) -> Result<(), PackError> {
        let most = ArchiveLimits::default().entries;
        self.count += 1;
        if self.count > most {
            return Err(unfit(
                self.root,
                format!("holds more than {most} files: name the directory of the build alone"),
            ));
        }
        let path = self.root.join(inside);
        let meta = std::fs::symlink_metadata(&path).map_err(|e| at(&path, e))?;
        if meta.is_dir() {
            let mut header = header(EntryType::Directory, 0o755, 0);
            self.builder.append_data(&mut header, inside.join(""), io::empty()).map_err(|e| at(&path, e))?;
            self.add_dir(inside)
        } else if meta.is_symlink() {
            let target = std::fs::read_link(&path).map_err(|e| at(&path, e))?;
            let mut header = header(EntryType::Symlink, 0o777, 0);
            self.builder.append_link(&mut header, inside, &target).map_err(|e| at(&path, e))
        } else if meta.is_file() {
            self.add_file(&path, inside)
        } else {
            Err(unfit(&path, "is neither a file, a directory nor a link: remove it"))
        }
    }

    fn add_file(&mut self, path: &Path, inside: &Path) -> Result<(), PackError> {
        let file = File::open(path).map_err(|e| at(path, e))?;
        let meta = file.metadata().map_err(|e| at(path, e))?;
        self.built_at = self.built_at.max(written(&meta));
        let had = meta.permissions().mode();
        self.notes.mode(inside, had);
        // A setuid bit stays, so that the reader refuses it by name instead of the program running with less than it
        // had.
        let mode = if had & 0o111 == 0 { 0o644 } else { 0o755 } | (had & 0o6000);
        let mut header = header(EntryType::Regular, mode, meta.len());
        let mut bytes = Exactly { file, left: meta.len() };
        self.builder.append_data(&mut header, inside, &mut bytes).map_err(|e| at(path, e))
    }
}

/// When a file was written, to the second.
fn written(meta: &std::fs::Metadata) -> Option<Timestamp> {
    let at = Timestamp::try_from(meta.modified().ok()?).ok()?;
    Timestamp::from_second(at.as_second()).ok()
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// A file that must have the size its header says, or the archive would be broken without a word.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let max = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if max == 0 {
            return Ok(0);
        }
        let n = self.file.read(&mut buf[..max])?;
        if n == 0 {
            return Err(io::Error::other("became shorter while it was packed: stop what writes to it, and push again"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

/// Hashes and counts what passes through.
struct Sum<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Sum<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    fn end(self) -> (String, u64, W) {
        (hex(&self.hash.finalize()), self.size, self.inner)
    }
}

impl<W: Write> Write for Sum<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hash.update(&buf[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// The same tree, made in another order, with other modes and times.
    fn tree(order: &[usize], mode: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("bin")).unwrap();
        std::fs::create_dir_all(dir.path().join(".git/objects")).unwrap();
        let long = format!("data/{}", "x".repeat(120));
        std::fs::create_dir_all(dir.path().join("data")).unwrap();
        for i in order {
            let (name, text) = [("bin/shop", "binary"), ("README", "read me"), (long.as_str(), "long name")][*i];
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let set = |name: &str, mode| {
            std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set("bin/shop", 0o700 | mode);
        set("README", 0o600 | (mode & 0o066));
        symlink("../README", dir.path().join("bin/README")).unwrap();
        dir
    }

    #[test]
    fn the_same_files_make_the_same_package() {
        let scratch = tempfile::tempdir().unwrap();
        let (one, two) = (tree(&[0, 1, 2], 0), tree(&[2, 1, 0], 0o077));
        let (a, b) = (package(one.path(), scratch.path()).unwrap(), package(two.path(), scratch.path()).unwrap());
        assert_eq!(a.digest, b.digest);
        assert_eq!(a.size, std::fs::metadata(&a.path).unwrap().len());
        let newest = File::open(one.path().join("README")).unwrap();
        let later = Timestamp::from_second(4_000_000_000).unwrap();
        newest.set_modified(later.into()).unwrap();
        assert_eq!(
            package(one.path(), scratch.path()).unwrap().built_at,
            Some(later),
            "when its newest file was written"
        );
        std::fs::write(two.path().join("README"), "changed").unwrap();
        assert_ne!(package(two.path(), scratch.path()).unwrap().digest, a.digest);

        let again = package(&a.path, scratch.path()).unwrap();
        assert_eq!(again.digest, a.digest, "an archive is taken as it is");

        let tar = zstd::stream::read::Decoder::new(File::open(&a.path).unwrap()).unwrap();
        let mut archive = tar::Archive::new(tar);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let h = entry.header();
            assert_eq!((h.uid().unwrap(), h.gid().unwrap(), h.mtime().unwrap()), (0, 0, 0));
            seen.push((entry.path().unwrap().display().to_string(), h.mode().unwrap()));
        }
        let long = format!("data/{}", "x".repeat(120));
        let want = [
            ("README", 0o644),
            ("bin/", 0o755),
            ("bin/README", 0o777),
            ("bin/shop", 0o755),
            ("data/", 0o755),
            (&long, 0o644),
        ];
        assert_eq!(seen, want.map(|(n, m)| (n.to_string(), m)));

        let path = a.path.clone();
        drop((a, again));
        assert!(!path.exists(), "what was packed is removed again");
    }

    #[test]
    fn what_has_no_place_in_a_package_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let refuse = |make: &dyn Fn(&Path)| {
            let dir = tempfile::tempdir().unwrap();
            make(dir.path());
            package(dir.path(), scratch.path()).unwrap_err().to_string()
        };
        assert!(refuse(&|_| {}).contains("is empty"));
        for (target, says) in [("/etc/passwd", "outside"), ("../x", "out of"), ("a", "nowhere")] {
            let e = refuse(&|d| symlink(target, d.join("l")).unwrap());
            assert!(e.contains("link \"l\"") && e.contains(target) && e.contains(says), "{e}");
        }
        let e = refuse(&|d| {
            std::fs::write(d.join("su"), "x").unwrap();
            std::fs::set_permissions(d.join("su"), std::fs::Permissions::from_mode(0o4755)).unwrap();
        });
        assert!(e.contains("setuid"), "{e}");
        let e = refuse(&|d| drop(std::os::unix::net::UnixListener::bind(d.join("sock")).unwrap()));
        assert!(e.contains("sock is neither"), "{e}");
        let text = scratch.path().join("notes.txt");
        std::fs::write(&text, "hello").unwrap();
        assert!(package(&text, scratch.path()).unwrap_err().to_string().contains("neither a .tar.gz"));
        assert!(package(Path::new("does/not/exist"), scratch.path()).is_err());
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing half-made is left");
    }
}
