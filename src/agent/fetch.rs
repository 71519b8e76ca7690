//! Packages on disk: fetched by digest from any node, resumed by offset, verified while they stream, unpacked, and
//! removed when nothing needs them.
//!
//! Invariants: a directory below `releases/` is whole and verified; at most one fetch of a digest runs. A package is
//! refused only for its content; a full or failing disk is tried again. Every file below `blobs/` belongs to a fetch
//! that runs or will go on, or `collect` removes it. Not here: which packages are wanted (`reconcile`), what an archive
//! may hold (`archive`).

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use super::{
    assignment::HeldPackage,
    files,
    layout::Layout,
    nodes::Nodes,
    unpack::{UnpackError, unpack},
};
use crate::{
    archive::ArchiveLimits,
    clock::Backoff,
    model::{Digest, MAX_PACKAGE, ids::hex},
    wire::v1::{FetchRequest, artifacts_client::ArtifactsClient},
};

/// Longest silence within a fetch.
const STALL: Duration = Duration::from_secs(10);
/// Between two tries of one package.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// Why a package is not there.
#[derive(Debug, Error)]
pub enum FetchError {
    /// It will not help to try again.
    #[error("{0}")]
    Refused(String),
    /// It may help.
    #[error("{0}")]
    Later(String),
    /// Nobody wants it any more.
    #[error("no longer wanted")]
    Cancelled,
}

/// The packages of this agent.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    layout: Layout,
    nodes: Nodes,
    busy: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Releases that are being removed: no longer there for anybody.
    going: Mutex<BTreeSet<Digest>>,
    /// Why a package that is wanted is not here yet.
    trouble: Mutex<BTreeMap<Digest, String>>,
    attempts: AtomicU64,
}

fn later(e: impl std::fmt::Display) -> FetchError {
    FetchError::Later(e.to_string())
}

impl Store {
    /// Opens it: what a crash left half unpacked is dropped.
    pub fn open(layout: &Layout, nodes: Nodes) -> std::io::Result<Self> {
        files::empty_dir(&layout.staging())?;
        for dir in [layout.blobs(), layout.releases(), layout.staging()] {
            files::ensure_dir(&dir)?;
        }
        Ok(Self(Arc::new(Inner {
            layout: layout.clone(),
            nodes,
            busy: Mutex::default(),
            going: Mutex::default(),
            trouble: Mutex::default(),
            attempts: AtomicU64::new(0),
        })))
    }

    /// Whether a package is in place.
    pub fn has(&self, digest: &Digest) -> bool {
        // In this order: what is marked after this look was looked at by `collect` after its owner had said that it is
        // needed.
        self.0.layout.release(digest).is_dir() && !self.0.going.lock().contains(digest)
    }

    /// Why a package that is wanted is not in place yet, when something is in its way.
    pub fn in_the_way(&self, digest: &Digest) -> Option<String> {
        self.0.trouble.lock().get(digest).cloned()
    }

    /// All packages in place, ascending.
    pub fn staged(&self) -> Vec<Digest> {
        let entries = std::fs::read_dir(self.0.layout.releases()).into_iter().flatten().flatten();
        let mut all: Vec<Digest> = entries.filter_map(|e| Digest::new(e.file_name().to_str()?).ok()).collect();
        all.sort();
        all
    }

    /// Brings a package into place; goes on until it is there, refused or cancelled.
    pub async fn ensure(&self, hold: &HeldPackage, cancel: &CancellationToken) -> Result<(), FetchError> {
        let lock = {
            let mut busy = self.0.busy.lock();
            Arc::clone(busy.entry(hold.digest.clone()).or_default())
        };
        let _alone = lock.lock().await;
        let done = self.bring(hold, cancel).await;
        self.0.trouble.lock().remove(&hold.digest);
        done
    }

    async fn bring(&self, hold: &HeldPackage, cancel: &CancellationToken) -> Result<(), FetchError> {
        let mut backoff = BACKOFF;
        loop {
            if self.has(&hold.digest) {
                return Ok(());
            }
            let tried = tokio::select! {
                tried = self.fetch(hold) => tried,
                () = cancel.cancelled() => return Err(FetchError::Cancelled),
            };
            let placed = match tried {
                Ok(archive) => self.place(&hold.digest, archive).await,
                Err(e) => Err(e),
            };
            match placed {
                Ok(()) => return Ok(()),
                Err(FetchError::Later(why)) => {
                    let before = self.0.trouble.lock().insert(hold.digest.clone(), why.clone());
                    if before.as_ref() != Some(&why) {
                        tracing::warn!(
                            digest = hold.digest.short(),
                            "package not in place yet, it is tried again: {why}"
                        );
                    }
                }
                Err(e @ (FetchError::Refused(_) | FetchError::Cancelled)) => return Err(e),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.pause()) => {}
                () = cancel.cancelled() => return Err(FetchError::Cancelled),
            }
        }
    }

    /// Fetches from one node, going on where the last try ended.
    async fn fetch(&self, hold: &HeldPackage) -> Result<PathBuf, FetchError> {
        let digest = &hold.digest;
        let whole = self.0.layout.blobs().join(digest.as_str());
        if whole.exists() {
            return Ok(whole);
        }
        let part = self.0.layout.blobs().join(format!("{digest}.part"));
        let (mut hash, mut have) = hash_of(part.clone()).await.map_err(later)?;
        let (address, channel) = self.0.nodes.next().await.map_err(later)?;
        let mut client = ArtifactsClient::new(channel).max_decoding_message_size(2 << 20);
        let ask = client.fetch(FetchRequest { digest: digest.to_string(), offset: have });
        let answer = tokio::time::timeout(STALL, ask).await.map_err(|_| later(format!("{address} does not answer")))?;
        let mut chunks = answer.map_err(|s| later(format!("{address}: {}", s.message())))?.into_inner();
        let file = tokio::fs::OpenOptions::new().create(true).append(true).open(&part).await;
        let mut file = file.map_err(later)?;
        let mut size = hold.size;
        loop {
            let chunk = tokio::time::timeout(STALL, chunks.message()).await;
            let chunk = chunk.map_err(|_| later(format!("{address} fell silent")))?;
            let Some(chunk) = chunk.map_err(|s| later(format!("{address}: {}", s.message())))? else { break };
            if size == 0 {
                size = chunk.size;
            }
            if (chunk.size != 0 && chunk.size != size) || size > MAX_PACKAGE || have + chunk.data.len() as u64 > size {
                drop(file);
                files::remove_if_there(&part).map_err(later)?;
                return Err(later(format!("{address} has a package of {} bytes; {size} were announced", chunk.size)));
            }
            hash.update(&chunk.data);
            have += chunk.data.len() as u64;
            file.write_all(&chunk.data).await.map_err(later)?;
        }
        file.flush().await.map_err(later)?;
        if size != 0 && have < size {
            return Err(later(format!("{address} ended after {have} of {size} bytes")));
        }
        file.sync_all().await.map_err(later)?;
        drop(file);
        let came = hex(&hash.finalize());
        // What is on disk counts: a write of a try that was given up may have landed after this one had measured the
        // file.
        let (on_disk, _) = hash_of(part.clone()).await.map_err(later)?;
        let on_disk = hex(&on_disk.finalize());
        let found = if came == digest.as_str() { on_disk } else { came };
        if found != digest.as_str() {
            files::remove_if_there(&part).map_err(later)?;
            return Err(later(format!("what {address} sent has digest {found}, not {digest}; it is fetched anew")));
        }
        tokio::fs::rename(&part, &whole).await.map_err(later)?;
        files::sync_dir(&self.0.layout.blobs()).map_err(later)?;
        Ok(whole)
    }

    async fn place(&self, digest: &Digest, archive: PathBuf) -> Result<(), FetchError> {
        let attempt = self.0.attempts.fetch_add(1, Ordering::Relaxed);
        let staging = self.0.layout.staging().join(format!("{digest}-{attempt}"));
        let (target, blob) = (self.0.layout.release(digest), archive.clone());
        let done =
            tokio::task::spawn_blocking(move || unpack(&blob, &staging, &target, ArchiveLimits::default())).await;
        match done.map_err(later)? {
            Ok(()) => {}
            Err(UnpackError::Refused(why)) => {
                // It is of no use to anybody.
                files::remove_if_there(&archive).map_err(later)?;
                return Err(FetchError::Refused(format!("package refused: {why}")));
            }
            Err(e @ UnpackError::Disk { .. }) => return Err(later(e)),
        }
        // The unpacked tree is what is used from here on.
        files::remove_if_there(&archive).map_err(later)
    }

    /// Whether there is anything to remove.
    pub fn has_other_than(&self, keep: &BTreeSet<Digest>) -> bool {
        self.staged().iter().any(|d| !keep.contains(d)) || self.files().iter().any(|(d, _)| !keep.contains(d))
    }

    /// Archives and parts of archives, by package.
    fn files(&self) -> Vec<(Digest, PathBuf)> {
        let entries = std::fs::read_dir(self.0.layout.blobs()).into_iter().flatten().flatten();
        let of = |name: &str| Digest::new(name.strip_suffix(".part").unwrap_or(name)).ok();
        entries.filter_map(|e| Some((of(e.file_name().to_str()?)?, e.path()))).collect()
    }

    /// Removes every package that is not `needed`, and what refused and cancelled fetches left. A package is moved
    /// aside first, so that a crash leaves no half of it. Before `needed` is asked the package is marked as going, so
    /// no instance that starts meanwhile loses it.
    pub fn collect(&self, needed: impl Fn(&Digest) -> bool) -> std::io::Result<()> {
        for digest in self.staged() {
            self.0.going.lock().insert(digest.clone());
            let removed = if needed(&digest) { Ok(()) } else { self.remove(&digest) };
            self.0.going.lock().remove(&digest);
            removed?;
        }
        for (digest, path) in self.files() {
            let lock = self.0.busy.lock().get(&digest).cloned();
            let fetching = lock.as_ref().is_some_and(|l| l.try_lock().is_err());
            if !fetching && !needed(&digest) {
                tracing::info!(
                    digest = digest.short(),
                    "what was fetched of a package is no longer needed; removing it"
                );
                files::remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    fn remove(&self, digest: &Digest) -> std::io::Result<()> {
        tracing::info!(digest = digest.short(), "release is no longer needed; removing it");
        let attempt = self.0.attempts.fetch_add(1, Ordering::Relaxed);
        let aside = self.0.layout.staging().join(format!("gone-{digest}-{attempt}"));
        std::fs::rename(self.0.layout.release(digest), &aside)?;
        files::remove_tree(&aside)
    }
}

/// Checksum state and size of what a part file holds.
async fn hash_of(path: PathBuf) -> std::io::Result<(Sha256, u64)> {
    let read = tokio::task::spawn_blocking(move || {
        let (mut hash, mut size) = (Sha256::new(), 0);
        let mut file = match std::fs::File::open(Path::new(&path)) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((hash, 0)),
            Err(e) => return Err(e),
        };
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                return Ok((hash, size));
            }
            hash.update(buffer.get(..n).unwrap_or_default());
            size += n as u64;
        }
    });
    read.await.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &Path) -> Store {
        Store::open(&Layout::new(dir), Nodes::new(&[], false).unwrap()).unwrap()
    }

    fn digest(n: char) -> Digest {
        Digest::new(&n.to_string().repeat(64)).unwrap()
    }

    fn package(store: &Store, archive: &[u8]) -> (Digest, PathBuf) {
        let digest = Digest::new(&hex(&Sha256::digest(archive))).unwrap();
        let path = store.0.layout.blobs().join(digest.as_str());
        std::fs::write(&path, archive).unwrap();
        (digest, path)
    }

    fn tar() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, "file", &b"ok"[..]).unwrap();
        tar.into_inner().unwrap()
    }

    #[tokio::test]
    async fn a_disk_error_while_unpacking_is_tried_again_and_a_bad_package_is_refused_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let (good, _) = package(&store, &tar());
        // A disk that takes nothing: a file stands where directories are to be made.
        std::fs::remove_dir(store.0.layout.staging()).unwrap();
        std::fs::write(store.0.layout.staging(), b"").unwrap();
        let hold = HeldPackage { digest: good.clone(), size: 0 };
        let cancel = CancellationToken::new();
        let task = tokio::spawn({
            let store = store.clone();
            async move { store.ensure(&hold, &cancel).await }
        });
        while store.in_the_way(&good).is_none() {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(store.in_the_way(&good).unwrap().contains("staging"), "{:?}", store.in_the_way(&good));
        std::fs::remove_file(store.0.layout.staging()).unwrap();
        task.await.unwrap().unwrap();
        assert!(store.has(&good) && store.in_the_way(&good).is_none());

        let (bad, path) = package(&store, b"this is no archive, and never will be one");
        let refused = store.ensure(&HeldPackage { digest: bad, size: 0 }, &CancellationToken::new()).await;
        assert!(matches!(refused, Err(FetchError::Refused(_))), "{refused:?}");
        assert!(!path.exists());
    }

    #[test]
    fn what_fetches_left_is_removed_and_what_is_needed_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let blobs = store.0.layout.blobs();
        for name in [format!("{}.part", digest('a')), digest('b').to_string(), format!("{}.part", digest('c'))] {
            std::fs::write(blobs.join(name), b"x").unwrap();
        }
        std::fs::create_dir(store.0.layout.release(&digest('d'))).unwrap();
        std::fs::create_dir(store.0.layout.release(&digest('e'))).unwrap();
        let keep = BTreeSet::from([digest('c'), digest('e')]);
        assert!(store.has_other_than(&keep));
        store.collect(|d| keep.contains(d)).unwrap();
        assert!(!store.has_other_than(&keep));
        assert_eq!(store.staged(), [digest('e')]);
        assert_eq!(store.files().len(), 1);
    }

    #[test]
    fn a_release_that_is_wanted_again_while_it_is_looked_at_stays_and_is_nobodys_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        std::fs::create_dir(store.0.layout.release(&digest('a'))).unwrap();
        store
            .collect(|d| {
                assert!(!store.has(d), "whoever asks now must not start from it");
                true
            })
            .unwrap();
        assert!(store.has(&digest('a')));
    }
}
