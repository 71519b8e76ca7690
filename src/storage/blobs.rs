//! Content-addressed files: release packages, by the SHA-256 of their bytes.
//!
//! Invariants: a file under `sha256/<hex>` is complete, verified and synced; an upload grows `partial/<hex>` and may
//! resume where it ended, also after a restart; bytes that do not have their digest are deleted and said so; one writer
//! per blob at a time.
//!
//! Deliberately not here: who may upload, which blobs are still referenced, and async: calls may block on the disk, so
//! async callers use a blocking task.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::{
    Result, StorageError,
    files::{ensure_dir, io_at, sync_dir},
};
use crate::model::ids::hex;

/// The largest blob accepted unless told otherwise.
const DEFAULT_LIMIT: u64 = 4 << 30;
const CHUNK: usize = 256 << 10;

/// The store; clones share it.
#[derive(Clone, Debug)]
pub struct BlobStore {
    whole: PathBuf,
    partial: PathBuf,
    limit: u64,
    writing: Arc<Mutex<BTreeSet<String>>>,
}

impl BlobStore {
    /// Opens or creates the store under `root`.
    pub fn open(root: &Path) -> Result<Self> {
        let (whole, partial) = (root.join("sha256"), root.join("partial"));
        for dir in [root, &whole, &partial] {
            ensure_dir(dir)?;
        }
        Ok(Self { whole, partial, limit: DEFAULT_LIMIT, writing: Arc::default() })
    }

    /// The same store with another limit on the size of one blob.
    #[must_use]
    pub fn with_limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// Whether the whole, verified blob is here. `digest` is 64 lower-case hexadecimal digits, here and everywhere
    /// below.
    #[must_use]
    pub fn has(&self, digest: &str) -> bool {
        matches!(self.size(digest), Ok(Some(_)))
    }

    /// The blob's size, if it is here.
    pub fn size(&self, digest: &str) -> Result<Option<u64>> {
        size_of(&self.path(&self.whole, digest)?)
    }

    /// How many bytes of an unfinished upload are here; an upload resumes from there.
    pub fn partial_size(&self, digest: &str) -> Result<u64> {
        Ok(size_of(&self.path(&self.partial, digest)?)?.unwrap_or(0))
    }

    /// All whole blobs with their sizes, ordered by digest. Files that are not blobs are left alone.
    pub fn list(&self) -> Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.whole).map_err(io_at("cannot list", &self.whole))? {
            let file = file.map_err(io_at("cannot list", &self.whole))?;
            let Ok(name) = file.file_name().into_string() else { continue };
            if is_digest(&name) {
                let size = file.metadata().map_err(io_at("cannot read", &file.path()))?.len();
                found.push((name, size));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Unfinished uploads, with the wall-clock milliseconds of their last write.
    pub fn partials(&self) -> Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.partial).map_err(io_at("cannot list", &self.partial))? {
            let file = file.map_err(io_at("cannot list", &self.partial))?;
            let Ok(name) = file.file_name().into_string() else { continue };
            if let (true, Some(written)) = (is_digest(&name), written(&file.path())?) {
                found.push((name, written));
            }
        }
        Ok(found)
    }

    /// Wall-clock milliseconds at which the blob came; `None` if it is not here.
    pub fn written_ms(&self, digest: &str) -> Result<Option<u64>> {
        written(&self.path(&self.whole, digest)?)
    }

    /// Keeps everybody else from writing or deleting a blob while this lives; refused while somebody writes it.
    pub fn lock(&self, digest: &str) -> Result<BlobLock> {
        self.path(&self.whole, digest)?;
        Ok(BlobLock { store: self.clone(), claim: Claim::take(&self.writing, digest)? })
    }

    /// Opens the blob for reading from `offset`; also says how many bytes follow.
    pub fn open_range(&self, digest: &str, offset: u64) -> Result<(File, u64)> {
        let path = self.path(&self.whole, digest)?;
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(StorageError::NoBlob { digest: digest.into() });
            }
            Err(e) => return Err(io_at("cannot read", &path)(e)),
        };
        let size = file.metadata().map_err(io_at("cannot read", &path))?.len();
        if offset > size {
            return Err(StorageError::BlobOffset { digest: digest.into(), size, offset });
        }
        file.seek(SeekFrom::Start(offset)).map_err(io_at("cannot read", &path))?;
        Ok((file, size - offset))
    }

    /// Begins or resumes an upload of `size` bytes; `offset()` of the writer says where to go on.
    pub fn writer(&self, digest: &str, size: u64) -> Result<BlobWriter> {
        let path = self.path(&self.partial, digest)?;
        if size > self.limit {
            return Err(StorageError::BlobTooLarge { digest: digest.into(), limit: self.limit });
        }
        let claim = Claim::take(&self.writing, digest)?;
        if self.has(digest) {
            return Err(StorageError::BlobHeld { digest: digest.into() });
        }
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)
            .map_err(io_at("cannot write", &path))?;
        if file.metadata().map_err(io_at("cannot read", &path))?.len() > size {
            // Longer than announced: it cannot be a beginning of this blob.
            file.set_len(0).map_err(io_at("cannot cut", &path))?;
        }
        let (hasher, offset) = hash(&mut file).map_err(io_at("cannot read", &path))?;
        Ok(BlobWriter { store: self.clone(), claim, file, path, hasher, offset, size })
    }

    /// Reads the whole blob and checks its digest; a damaged one is deleted, so that it can be fetched again.
    pub fn verify(&self, digest: &str) -> Result<()> {
        let (mut file, _) = self.open_range(digest, 0)?;
        let path = self.path(&self.whole, digest)?;
        let (hasher, _) = hash(&mut file).map_err(io_at("cannot read", &path))?;
        let found = hex(&hasher.finalize());
        if found == digest {
            return Ok(());
        }
        self.remove(digest)?;
        Err(StorageError::BlobMismatch { expected: digest.into(), found })
    }

    /// Removes the blob; `false` if it was not here.
    fn remove(&self, digest: &str) -> Result<bool> {
        let there = unlink(&self.path(&self.whole, digest)?)?;
        sync_dir(&self.whole)?;
        Ok(there)
    }

    /// Removes what an unfinished upload left; `false` if there was nothing.
    pub fn remove_partial(&self, digest: &str) -> Result<bool> {
        let path = self.path(&self.partial, digest)?;
        let _claim = Claim::take(&self.writing, digest)?;
        unlink(&path)
    }

    /// The file's place; also the guard that a name from outside cannot leave the directory.
    fn path(&self, dir: &Path, digest: &str) -> Result<PathBuf> {
        if is_digest(digest) {
            Ok(dir.join(digest))
        } else {
            let shown: String = digest.chars().take(80).collect();
            Err(StorageError::Invalid {
                what: format!("digest `{shown}`"),
                why: "a SHA-256 digest has 64 lower-case hexadecimal digits",
            })
        }
    }
}

/// A blob that nobody else writes or deletes.
#[derive(Debug)]
pub struct BlobLock {
    store: BlobStore,
    claim: Claim,
}

impl BlobLock {
    /// Removes it; `false` if it was not here.
    pub fn remove(self) -> Result<bool> {
        self.store.remove(&self.claim.digest)
    }
}

/// One upload. Dropping it keeps what came, to be resumed.
#[derive(Debug)]
pub struct BlobWriter {
    store: BlobStore,
    claim: Claim,
    file: File,
    path: PathBuf,
    hasher: Sha256,
    offset: u64,
    size: u64,
}

impl BlobWriter {
    /// How many bytes are here; the next `write` goes on from there.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes. More than the announced size deletes the upload.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.offset.saturating_add(bytes.len() as u64);
        if end > self.size {
            unlink(&self.path)?;
            return Err(StorageError::BlobTooLarge { digest: self.claim.digest.clone(), limit: self.size });
        }
        self.file.write_all(bytes).map_err(io_at("cannot write", &self.path))?;
        self.hasher.update(bytes);
        self.offset = end;
        Ok(())
    }

    /// Verifies size and digest, makes the blob durable and visible.
    pub fn finish(self) -> Result<()> {
        let digest = &self.claim.digest;
        if self.offset != self.size {
            return Err(StorageError::BlobShort { digest: digest.clone(), have: self.offset, size: self.size });
        }
        let found = hex(&self.hasher.finalize());
        if found != *digest {
            unlink(&self.path)?;
            return Err(StorageError::BlobMismatch { expected: digest.clone(), found });
        }
        self.file.sync_all().map_err(io_at("cannot sync", &self.path))?;
        let whole = self.store.path(&self.store.whole, digest)?;
        fs::rename(&self.path, &whole).map_err(io_at("cannot rename", &self.path))?;
        sync_dir(&self.store.whole)?;
        sync_dir(&self.store.partial)
    }
}

/// Holds a digest in the set of those being written.
#[derive(Debug)]
struct Claim {
    set: Arc<Mutex<BTreeSet<String>>>,
    digest: String,
}

impl Claim {
    fn take(set: &Arc<Mutex<BTreeSet<String>>>, digest: &str) -> Result<Self> {
        if set.lock().insert(digest.into()) {
            Ok(Self { set: set.clone(), digest: digest.into() })
        } else {
            Err(StorageError::BlobBusy { digest: digest.into() })
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.set.lock().remove(&self.digest);
    }
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn size_of(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(meta.len())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_at("cannot read", path)(e)),
    }
}

/// When a file was written last, in wall-clock milliseconds.
fn written(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path).and_then(|meta| meta.modified()) {
        Ok(at) => {
            let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Ok(Some(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_at("cannot read", path)(e)),
    }
}

fn unlink(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io_at("cannot remove", path)(e)),
    }
}

fn hash(file: &mut File) -> std::io::Result<(Sha256, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hasher, mut total) = (Sha256::new(), 0_u64);
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((hasher, total)),
            n => {
                hasher.update(&chunk[..n]);
                total += n as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest_of(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes))
    }

    fn store() -> (tempfile::TempDir, BlobStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(&dir.path().join("blobs")).unwrap();
        (dir, store)
    }

    fn put(store: &BlobStore, bytes: &[u8]) -> String {
        let digest = digest_of(bytes);
        let mut writer = store.writer(&digest, bytes.len() as u64).unwrap();
        writer.write(bytes).unwrap();
        writer.finish().unwrap();
        digest
    }

    #[test]
    fn a_blob_is_listed_read_by_range_and_removed() {
        let (_dir, store) = store();
        assert_eq!(digest_of(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let digest = put(&store, b"0123456789");
        assert!(store.has(&digest));
        assert_eq!(store.list().unwrap(), [(digest.clone(), 10)]);
        let (mut file, rest) = store.open_range(&digest, 7).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), rest), ("789", 3));
        assert!(matches!(store.open_range(&digest, 11), Err(StorageError::BlobOffset { .. })));
        assert!(matches!(store.writer(&digest, 10), Err(StorageError::BlobHeld { .. })));
        store.verify(&digest).unwrap();
        assert!(store.remove(&digest).unwrap());
        assert!(!store.remove(&digest).unwrap());
        assert!(matches!(store.open_range(&digest, 0), Err(StorageError::NoBlob { .. })));
    }

    #[test]
    fn an_upload_resumes_where_it_ended_also_after_reopening() {
        let (dir, store) = store();
        let digest = digest_of(b"hello world");
        let mut writer = store.writer(&digest, 11).unwrap();
        writer.write(b"hello").unwrap();
        assert!(matches!(store.writer(&digest, 11), Err(StorageError::BlobBusy { .. })));
        let said = writer.finish().unwrap_err().to_string();
        assert!(said.contains("ended at 5 of 11 bytes; resume at 5"), "{said}");
        assert!(!store.has(&digest));
        drop(store);
        let store = BlobStore::open(&dir.path().join("blobs")).unwrap();
        assert_eq!(store.partial_size(&digest).unwrap(), 5);
        let mut writer = store.writer(&digest, 11).unwrap();
        assert_eq!(writer.offset(), 5);
        writer.write(b" world").unwrap();
        writer.finish().unwrap();
        assert!(store.has(&digest));
        assert_eq!(store.partial_size(&digest).unwrap(), 0);
    }

    #[test]
    fn wrong_bytes_are_deleted_and_said_so() {
        let (_dir, store) = store();
        let digest = digest_of(b"right");
        let mut writer = store.writer(&digest, 5).unwrap();
        writer.write(b"wrong").unwrap();
        let said = writer.finish().unwrap_err().to_string();
        assert!(said.contains(&digest) && said.contains(&digest_of(b"wrong")) && said.contains("deleted"), "{said}");
        assert_eq!(store.partial_size(&digest).unwrap(), 0);
        assert!(!store.has(&digest));
    }

    #[test]
    fn sizes_are_held() {
        let (_dir, store) = store();
        let store = store.with_limit(10);
        let digest = digest_of(b"x");
        assert!(matches!(store.writer(&digest, 11), Err(StorageError::BlobTooLarge { limit: 10, .. })));
        let mut writer = store.writer(&digest, 1).unwrap();
        assert!(matches!(writer.write(b"xy"), Err(StorageError::BlobTooLarge { limit: 1, .. })));
        drop(writer);
        // A longer leftover than the announced size starts over.
        let mut writer = store.writer(&digest, 9).unwrap();
        writer.write(b"123456789").unwrap();
        drop(writer);
        assert_eq!(store.writer(&digest, 1).unwrap().offset(), 0);
    }

    #[test]
    fn damage_at_rest_is_found_and_removed() {
        let (_dir, store) = store();
        let digest = put(&store, b"precious");
        fs::write(store.whole.join(&digest), b"precioUs").unwrap();
        assert!(matches!(store.verify(&digest), Err(StorageError::BlobMismatch { .. })));
        assert!(!store.has(&digest));
    }

    #[test]
    fn a_name_cannot_leave_the_directory() {
        let (_dir, store) = store();
        for bad in ["../../etc/passwd", "", "ABC", &"A".repeat(64), &format!("sha256:{}", digest_of(b""))] {
            assert!(matches!(store.writer(bad, 1), Err(StorageError::Invalid { .. })), "{bad}");
            assert!(matches!(store.open_range(bad, 0), Err(StorageError::Invalid { .. })), "{bad}");
            assert!(!store.has(bad));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn any_split_into_uploads_gives_the_same_blob(bytes in prop::collection::vec(any::<u8>(), 0..2_000), cuts in prop::collection::vec(1_usize..700, 0..5)) {
            let (_dir, store) = store();
            let digest = digest_of(&bytes);
            for cut in cuts {
                let mut writer = store.writer(&digest, bytes.len() as u64).unwrap();
                let from = usize::try_from(writer.offset()).unwrap();
                writer.write(&bytes[from..(from + cut).min(bytes.len())]).unwrap();
            }
            let mut writer = store.writer(&digest, bytes.len() as u64).unwrap();
            let from = usize::try_from(writer.offset()).unwrap();
            writer.write(&bytes[from..]).unwrap();
            writer.finish().unwrap();
            store.verify(&digest).unwrap();
            prop_assert_eq!(fs::read(store.whole.join(&digest)).unwrap(), bytes);
        }
    }
}
