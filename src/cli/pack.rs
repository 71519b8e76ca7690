//! Packs a directory into an archive that is the same, byte for byte, wherever and whenever the same files are packed.
//!
//! Sorted names; no times, owners or odd modes; symbolic links only when they stay inside; `.git` left out. Uploading is not here.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};
use thiserror::Error;

use crate::model::ids::hex;

/// Most files, directories and links in a package.
const MAX_ENTRIES: usize = 100_000;
/// Level of compression: fast, and stable for one version of this program.
const LEVEL: i32 = 6;

/// Why there is no package.
#[derive(Debug, Error)]
pub enum PackError {
    /// A file or directory cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something that has no place in a package.
    #[error("{path} {problem}")]
    Unfit {
        /// What.
        path: PathBuf,
        /// Why, and what to do.
        problem: String,
    },
}

/// A packed release in a file.
#[derive(Debug)]
pub struct Package {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256, 64 hexadecimal digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    temporary: bool,
}

impl Drop for Package {
    fn drop(&mut self) {
        if self.temporary {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A package from a directory (packed into a file below `scratch`), or from an archive that is packed already.
pub fn package(source: &Path, scratch: &Path) -> Result<Package, PackError> {
    let meta = std::fs::metadata(source).map_err(|e| at(source, e))?;
    if meta.is_dir() { pack(source, scratch) } else { packed(source) }
}

fn at(path: &Path, source: io::Error) -> PackError {
    PackError::Io { path: path.to_path_buf(), source }
}

fn unfit(path: &Path, problem: impl Into<String>) -> PackError {
    PackError::Unfit { path: path.to_path_buf(), problem: problem.into() }
}

/// Takes an archive as it is, once it has been read to its end: a version that no agent can unpack would be spent for nothing. The
/// agents check again, and more.
fn packed(path: &Path) -> Result<Package, PackError> {
    let mut file = File::open(path).map_err(|e| at(path, e))?;
    let mut magic = [0; 4];
    let n = file.read(&mut magic).map_err(|e| at(path, e))?;
    if !(magic.starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(unfit(
            path,
            "is neither a directory nor a .tar.gz or .tar.zst archive: name the directory to pack",
        ));
    }
    let mut sum = Sum::new(io::sink());
    let copied = sum.write_all(&magic[..n]).and_then(|()| io::copy(&mut file, &mut sum));
    copied.map_err(|e| at(path, e))?;
    let (digest, size, _) = sum.end();
    inspect(path, magic[0] == 0x1f)?;
    Ok(Package { path: path.to_path_buf(), digest, size, temporary: false })
}

/// Reads an archive through: whole, and nothing in it that leads outside of the package.
fn inspect(path: &Path, gzip: bool) -> Result<(), PackError> {
    let file = io::BufReader::new(File::open(path).map_err(|e| at(path, e))?);
    let tar: Box<dyn Read> = if gzip {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else {
        Box::new(zstd::stream::read::Decoder::with_buffer(file).map_err(|e| at(path, e))?)
    };
    let damaged = |e: io::Error| {
        unfit(
            path,
            format!("is damaged, cut short or no tar archive inside ({e}): pack it again, or name the directory"),
        )
    };
    let mut archive = tar::Archive::new(tar);
    let mut files = 0;
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.into_owned();
        let holds = |problem: &str| unfit(path, format!("holds {:?}, {problem}", name.display().to_string()));
        if name.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err(holds("a name outside of the package: pack with relative names and without `..`"));
        }
        match entry.header().entry_type() {
            EntryType::Directory | EntryType::XGlobalHeader => {}
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => files += 1,
            kind @ (EntryType::Symlink | EntryType::Link) => {
                let target = entry.link_name().map_err(damaged)?.unwrap_or_default().into_owned();
                let plain: PathBuf = name.components().filter(|c| *c != Component::CurDir).collect();
                // A hard link's target is named from the archive's root, a symbolic one's from where it stands.
                let from = if kind == EntryType::Link { Path::new("link") } else { plain.as_path() };
                if !stays_inside(from, &target) {
                    return Err(holds(&format!(
                        "a link to {}, outside of the package: put the file itself there, or a relative link that stays inside",
                        target.display()
                    )));
                }
                files += 1;
            }
            _ => return Err(holds("which is neither a file, a directory nor a link: leave it out")),
        }
        io::copy(&mut entry, &mut io::sink()).map_err(damaged)?;
    }
    // What follows the last entry: the check sum of what was compressed is there.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(damaged)?;
    if files == 0 {
        return Err(unfit(path, "is empty: pack what was built, or name its directory"));
    }
    Ok(())
}

fn pack(dir: &Path, scratch: &Path) -> Result<Package, PackError> {
    let path = scratch.join(format!("slipway-{:016x}.tar.zst", rand::random::<u64>()));
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(|e| at(&path, e))?;
    // From here on the file is removed when packing fails.
    let mut package = Package { path: path.clone(), digest: String::new(), size: 0, temporary: true };
    let sum = Sum::new(io::BufWriter::new(file));
    let encoder = zstd::stream::write::Encoder::new(sum, LEVEL).map_err(|e| at(&path, e))?;
    let mut builder = Builder::new(encoder);
    let mut count = 0;
    add_dir(&mut builder, dir, Path::new(""), &mut count)?;
    if count == 0 {
        return Err(unfit(dir, "is empty: build into it first, or name another directory"));
    }
    let sum = builder.into_inner().and_then(zstd::stream::write::Encoder::finish).map_err(|e| at(&path, e))?;
    let (digest, size, mut file) = sum.end();
    file.flush().map_err(|e| at(&path, e))?;
    (package.digest, package.size) = (digest, size);
    Ok(package)
}

fn add_dir<W: Write>(b: &mut Builder<W>, root: &Path, inside: &Path, count: &mut usize) -> Result<(), PackError> {
    let dir = root.join(inside);
    let entries = std::fs::read_dir(&dir).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(|e| at(&dir, e))?;
    let mut names: Vec<_> = entries.into_iter().map(|e| e.file_name()).collect();
    names.sort();
    for name in names.into_iter().filter(|n| n != ".git") {
        *count += 1;
        if *count > MAX_ENTRIES {
            return Err(unfit(
                root,
                format!("holds more than {MAX_ENTRIES} files: name the directory of the build alone"),
            ));
        }
        let inside = inside.join(name);
        let path = root.join(&inside);
        let meta = std::fs::symlink_metadata(&path).map_err(|e| at(&path, e))?;
        if meta.is_dir() {
            let mut header = header(EntryType::Directory, 0o755, 0);
            b.append_data(&mut header, inside.join(""), io::empty()).map_err(|e| at(&path, e))?;
            add_dir(b, root, &inside, count)?;
        } else if meta.is_symlink() {
            let target = std::fs::read_link(&path).map_err(|e| at(&path, e))?;
            if !stays_inside(&inside, &target) {
                let problem = format!(
                    "links to {}, outside of the package: put the file itself there, or a relative link that stays inside",
                    target.display()
                );
                return Err(unfit(&path, problem));
            }
            let mut header = header(EntryType::Symlink, 0o777, 0);
            b.append_link(&mut header, &inside, &target).map_err(|e| at(&path, e))?;
        } else if meta.is_file() {
            add_file(b, &path, &inside)?;
        } else {
            return Err(unfit(&path, "is neither a file, a directory nor a link: remove it"));
        }
    }
    Ok(())
}

fn add_file<W: Write>(b: &mut Builder<W>, path: &Path, inside: &Path) -> Result<(), PackError> {
    let file = File::open(path).map_err(|e| at(path, e))?;
    let meta = file.metadata().map_err(|e| at(path, e))?;
    let mode = if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
    let mut header = header(EntryType::Regular, mode, meta.len());
    let mut bytes = Exactly { file, left: meta.len() };
    b.append_data(&mut header, inside, &mut bytes).map_err(|e| at(path, e))
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

/// Whether a link at `inside` to `target` ends within the package, by its names alone.
fn stays_inside(inside: &Path, target: &Path) -> bool {
    let mut depth = inside.components().count() as i64 - 1;
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => depth -= 1,
            Component::RootDir | Component::Prefix(_) => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    true
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
        for target in ["/etc/passwd", "../x", "a/../../x"] {
            let e = refuse(&|d| symlink(target, d.join("link")).unwrap());
            assert!(e.contains("link links to") && e.contains("outside"), "{e}");
        }
        let e = refuse(&|d| drop(std::os::unix::net::UnixListener::bind(d.join("sock")).unwrap()));
        assert!(e.contains("sock is neither"), "{e}");
        let text = scratch.path().join("notes.txt");
        std::fs::write(&text, "hello").unwrap();
        assert!(package(&text, scratch.path()).unwrap_err().to_string().contains("neither a directory"));
        assert!(package(Path::new("does/not/exist"), scratch.path()).is_err());
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing half-made is left");
    }

    #[test]
    fn an_archive_that_no_agent_could_unpack_is_refused_before_it_spends_a_version() {
        type Gzipped = Builder<flate2::write::GzEncoder<Vec<u8>>>;
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a.tar.gz");
        let archive = |fill: &dyn Fn(&mut Gzipped)| {
            let mut b = Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
            fill(&mut b);
            b.into_inner().unwrap().finish().unwrap()
        };
        // The names that `tar` itself would not write are put into the header as they are.
        let file = |b: &mut Builder<_>, name: &str| {
            let mut h = header(EntryType::Regular, 0o644, 4096);
            h.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            h.set_cksum();
            let noise: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            b.append(&h, noise.as_slice()).unwrap();
        };
        let link = |b: &mut Builder<_>, kind, name: &str, to: &str| {
            b.append_link(&mut header(kind, 0o777, 0), name, to).unwrap();
        };
        let ask = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            package(&path, scratch.path()).map(|p| p.size).map_err(|e| e.to_string())
        };
        let good = archive(&|b| {
            file(b, "./bin/shop");
            link(b, EntryType::Symlink, "bin/again", "../bin/shop");
            link(b, EntryType::Link, "bin/hard", "bin/shop");
        });
        assert_eq!(ask(&good), Ok(good.len() as u64));
        for cut in [5, good.len() / 2, good.len() - 4] {
            let e = ask(&good[..cut]).unwrap_err();
            assert!(e.contains("a.tar.gz is damaged, cut short"), "{cut}: {e}");
        }
        for name in ["../x", "/etc/x", "a/../../x"] {
            let e = ask(&archive(&|b| file(b, name))).unwrap_err();
            assert!(e.contains(name) && e.contains("outside of the package"), "{e}");
        }
        for (kind, to) in [(EntryType::Symlink, "/etc/passwd"), (EntryType::Symlink, "../x"), (EntryType::Link, "../x")]
        {
            let e = ask(&archive(&|b| link(b, kind, "l", to))).unwrap_err();
            assert!(e.contains(to) && e.contains("outside of the package"), "{e}");
        }
        let e = ask(&archive(&|b| b.append_data(&mut header(EntryType::Fifo, 0o644, 0), "fifo", io::empty()).unwrap()))
            .unwrap_err();
        assert!(e.contains("neither a file"), "{e}");
        assert!(ask(&archive(&|_| {})).unwrap_err().contains("is empty"));
    }
}
