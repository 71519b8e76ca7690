//! Unpacking a package: tar (gzip, zstd or plain, told by its first bytes) into staging, then fsync and rename into place.
//!
//! Invariants: nothing is written outside the target, whatever the archive says: every name is relative and without `..`, each
//! parent is a directory that this archive made, links are resolved after everything is there and must end inside. Devices, setuid
//! bits, duplicate names and what exceeds the caps are refused, and then nothing is put into place. What is in place is whole,
//! durable and read-only. Not here: fetching and the digest (`fetch`).

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
    rc::Rc,
};

use tar::{Archive, EntryType};
use thiserror::Error;

use super::files;

/// Bounds on what an archive may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes when unpacked, headers included.
    pub bytes: u64,
    /// Length of a name.
    pub name: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 200_000, bytes: 8 << 30, name: 1024 }
    }
}

/// Why an archive was not unpacked.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// The archive is refused; trying again will not help.
    #[error("package refused: {0}")]
    Refused(String),
    /// The disk refused, or the archive cannot be read.
    #[error("cannot unpack into {path}: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Made for what is inside it; the archive may still name it once.
    ImpliedDirectory,
    Directory,
    File,
    Link,
}

fn refused<T>(why: impl Into<String>) -> Result<T, UnpackError> {
    Err(UnpackError::Refused(why.into()))
}

/// Reads at most so many bytes and then fails, so that a small archive cannot fill the disk.
struct Capped<R> {
    inner: R,
    left: u64,
    /// The same for what is read between two entries: the library holds long names and their like in memory.
    between: Rc<Cell<u64>>,
}

/// Most that stands between two entries' contents.
const BETWEEN: u64 = 1 << 20;

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than allowed when unpacked")),
        }
        match self.between.get().checked_sub(n as u64) {
            Some(left) => self.between.set(left),
            None => {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "an entry's headers are longer than 1 MiB"));
            }
        }
        Ok(n)
    }
}

/// Unpacks `archive` into `staging` and renames that to `target`. What stood in `staging` is dropped; a `target` that is there is
/// complete already and left alone.
pub fn unpack(archive: &Path, staging: &Path, target: &Path, limits: Limits) -> Result<(), UnpackError> {
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

/// What cannot be read: the disk's fault, or the archive's.
fn unreadable(source: io::Error, path: &Path) -> UnpackError {
    if source.raw_os_error().is_some() {
        return UnpackError::Disk { path: path.into(), source };
    }
    UnpackError::Refused(format!("the archive is damaged or not a tar: {source}"))
}

fn reader(archive: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = fs::File::open(archive)?;
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(4).read_to_end(&mut head)?;
    let whole = io::BufReader::new(io::Cursor::new(head.clone()).chain(file));
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
        _ => Box::new(whole),
    })
}

fn fill(archive: &Path, root: &Path, limits: Limits) -> Result<(), UnpackError> {
    let broken = |e: io::Error| unreadable(e, archive);
    let source = reader(archive).map_err(broken)?;
    let between = Rc::new(Cell::new(BETWEEN));
    let mut tar = Archive::new(Capped { inner: source, left: limits.bytes, between: between.clone() });
    let mut tree: BTreeMap<PathBuf, Kind> = BTreeMap::new();
    let mut count = 0;
    let mut entries = tar.entries().map_err(broken)?;
    loop {
        between.set(BETWEEN);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(broken)?;
        between.set(u64::MAX);
        count += 1;
        if count > limits.entries {
            return refused(format!("it has more than {} entries", limits.entries));
        }
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mode = entry.header().mode().map_err(broken)?;
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let name = entry.path().map_err(broken)?.into_owned();
        let name = inside(&name, &raw, limits)?;
        if name.as_os_str().is_empty() {
            // The archive's own top directory, "./".
            if kind == EntryType::Directory { continue } else { return refused(format!("{raw:?} has no name")) }
        }
        if mode & 0o6000 != 0 {
            return refused(format!("{raw:?} has a setuid or setgid bit"));
        }
        prepare(&mut tree, root, &name, &raw)?;
        let path = root.join(&name);
        let disk = |source| UnpackError::Disk { path: path.clone(), source };
        match kind {
            EntryType::Directory => {
                if tree.get(&name) != Some(&Kind::ImpliedDirectory) {
                    fs::create_dir(&path).map_err(disk)?;
                }
                tree.insert(name, Kind::Directory);
            }
            EntryType::Regular | EntryType::Continuous => {
                let mode = if mode & 0o111 == 0 { 0o444 } else { 0o555 };
                let mut file =
                    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(disk)?;
                // What the archive cannot deliver and what the disk cannot take are different failures.
                copy(&mut entry, &mut file, &path)?;
                file.set_permissions(fs::Permissions::from_mode(mode)).map_err(disk)?;
                file.sync_all().map_err(disk)?;
                tree.insert(name, Kind::File);
            }
            EntryType::Symlink => {
                let to = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
                if to.is_absolute() || to.as_os_str().is_empty() {
                    return refused(format!(
                        "link {raw:?} points to {:?}: only relative links are allowed",
                        to.display()
                    ));
                }
                std::os::unix::fs::symlink(&to, &path).map_err(disk)?;
                tree.insert(name, Kind::Link);
            }
            EntryType::Link => {
                let to = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
                let to = inside(&to, &raw, limits)?;
                if tree.get(&to) != Some(&Kind::File) {
                    return refused(format!(
                        "hard link {raw:?} points to {:?}, which is no file before it",
                        to.display()
                    ));
                }
                fs::hard_link(root.join(&to), &path).map_err(disk)?;
                tree.insert(name, Kind::File);
            }
            other => return refused(format!("{raw:?} is neither file, directory nor link ({other:?})")),
        }
    }
    if tree.is_empty() {
        return refused("the archive is empty");
    }
    finish(root, &tree)
}

fn copy(entry: &mut impl Read, file: &mut fs::File, path: &Path) -> Result<(), UnpackError> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = match entry.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(unreadable(e, path)),
        };
        let bytes = buffer.get(..n).unwrap_or_default();
        io::Write::write_all(file, bytes).map_err(|source| UnpackError::Disk { path: path.into(), source })?;
    }
}

/// A name without `.` parts; refused when it is absolute, leaves the tree or is too long.
fn inside(name: &Path, raw: &str, limits: Limits) -> Result<PathBuf, UnpackError> {
    if name.as_os_str().len() > limits.name {
        return refused(format!("a name of {} characters is too long", name.as_os_str().len()));
    }
    let mut clean = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir => return refused(format!("{raw:?} holds '..'")),
            Component::RootDir | Component::Prefix(_) => return refused(format!("{raw:?} is an absolute path")),
        }
    }
    Ok(clean)
}

/// Refuses duplicates and parents that are not directories; makes the parents that the archive left out.
fn prepare(tree: &mut BTreeMap<PathBuf, Kind>, root: &Path, name: &Path, raw: &str) -> Result<(), UnpackError> {
    match tree.get(name) {
        None | Some(Kind::ImpliedDirectory) => {}
        Some(Kind::Directory | Kind::File | Kind::Link) => return refused(format!("{raw:?} is there twice")),
    }
    let mut parents: Vec<&Path> = name.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
    parents.reverse();
    for parent in parents {
        match tree.get(parent) {
            Some(Kind::Directory | Kind::ImpliedDirectory) => {}
            Some(Kind::File | Kind::Link) => {
                return refused(format!("{raw:?} goes through {:?}, which is no directory", parent.display()));
            }
            None => {
                let path = root.join(parent);
                fs::create_dir(&path).map_err(|source| UnpackError::Disk { path, source })?;
                tree.insert(parent.into(), Kind::ImpliedDirectory);
            }
        }
    }
    Ok(())
}

/// Links must end inside; then directories are made durable and read-only, the innermost first.
fn finish(root: &Path, tree: &BTreeMap<PathBuf, Kind>) -> Result<(), UnpackError> {
    let disk = |source| UnpackError::Disk { path: root.into(), source };
    let real = fs::canonicalize(root).map_err(disk)?;
    for name in tree.iter().filter(|(_, k)| **k == Kind::Link).map(|(n, _)| n) {
        match fs::canonicalize(root.join(name)) {
            Ok(end) if end.starts_with(&real) => {}
            Ok(_) => return refused(format!("link {:?} leads out of the package", name.display())),
            Err(e) => return refused(format!("link {:?} leads nowhere in the package: {e}", name.display())),
        }
    }
    for (name, kind) in tree.iter().rev() {
        let path = root.join(name);
        match kind {
            Kind::Directory | Kind::ImpliedDirectory => {
                files::sync_dir(&path).map_err(disk)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).map_err(disk)?;
            }
            Kind::File | Kind::Link => {}
        }
    }
    files::sync_dir(root).map_err(disk)
}

#[cfg(test)]
mod tests;
