//! Packages on disk: fetched by digest from any node, resumed by offset, verified as they stream, unpacked, and dropped when nothing
//! needs them.
//!
//! Invariants: a directory below `releases/` is whole and verified; at most one fetch of a digest runs. Not here: which packages are
//! wanted (`reconcile`), what an archive may hold (`unpack`).

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use super::{
    assignment::Hold,
    files,
    layout::Layout,
    nodes::Nodes,
    unpack::{Limits, UnpackError, unpack},
};
use crate::{
    model::{Digest, ids::hex},
    wire::v1::{FetchRequest, artifacts_client::ArtifactsClient},
};

/// Largest package.
const MAX_PACKAGE: u64 = 4 << 30;
/// Longest silence within a fetch.
const STALL: Duration = Duration::from_secs(10);
/// Longest time between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(5);

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
    attempts: AtomicU64,
}

fn later(e: impl std::fmt::Display) -> FetchError {
    FetchError::Later(e.to_string())
}

impl Store {
    /// Opens it: what a crash left half unpacked is dropped.
    pub fn open(layout: &Layout, nodes: Nodes) -> std::io::Result<Self> {
        files::remove_tree(&layout.staging())?;
        for dir in [layout.blobs(), layout.releases(), layout.staging()] {
            files::ensure_dir(&dir)?;
        }
        Ok(Self(Arc::new(Inner { layout: layout.clone(), nodes, busy: Mutex::default(), attempts: AtomicU64::new(0) })))
    }

    /// Whether a package is in place.
    pub fn has(&self, digest: &Digest) -> bool {
        self.0.layout.release(digest).is_dir()
    }

    /// All packages in place, ascending.
    pub fn staged(&self) -> Vec<Digest> {
        let entries = std::fs::read_dir(self.0.layout.releases()).into_iter().flatten().flatten();
        let mut all: Vec<Digest> = entries.filter_map(|e| Digest::new(e.file_name().to_str()?).ok()).collect();
        all.sort();
        all
    }

    /// Brings a package into place; goes on until it is there, refused or cancelled.
    pub async fn ensure(&self, hold: &Hold, cancel: &CancellationToken) -> Result<(), FetchError> {
        let lock = {
            let mut busy = self.0.busy.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(busy.entry(hold.digest.clone()).or_default())
        };
        let _alone = lock.lock().await;
        let mut pause = Duration::from_millis(100);
        loop {
            if self.has(&hold.digest) {
                return Ok(());
            }
            let tried = tokio::select! {
                tried = self.fetch(hold) => tried,
                () = cancel.cancelled() => return Err(FetchError::Cancelled),
            };
            match tried {
                Ok(archive) => return self.place(&hold.digest, archive).await,
                Err(FetchError::Later(why)) => {
                    tracing::info!(digest = hold.digest.short(), "package not fetched yet: {why}");
                }
                Err(e @ (FetchError::Refused(_) | FetchError::Cancelled)) => return Err(e),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => return Err(FetchError::Cancelled),
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Fetches from one node, going on where the last try ended.
    async fn fetch(&self, hold: &Hold) -> Result<PathBuf, FetchError> {
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
        let found = hex(&hash.finalize());
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
        let done = tokio::task::spawn_blocking(move || unpack(&blob, &staging, &target, Limits::default())).await;
        match done.map_err(later)? {
            Ok(()) => {}
            Err(UnpackError::Refused(why)) => return Err(FetchError::Refused(format!("package refused: {why}"))),
            Err(e @ UnpackError::Disk { .. }) => return Err(FetchError::Refused(e.to_string())),
        }
        // The unpacked tree is what is used from here on.
        files::remove_if_there(&archive).map_err(later)
    }

    /// Drops every package that is not in `keep`; one that goes is moved aside first, so that a crash leaves no half of it.
    pub fn collect(&self, keep: &BTreeSet<Digest>) -> std::io::Result<()> {
        for digest in self.staged().into_iter().filter(|d| !keep.contains(d)) {
            tracing::info!(digest = digest.short(), "release is no longer needed; removing it");
            let attempt = self.0.attempts.fetch_add(1, Ordering::Relaxed);
            let aside = self.0.layout.staging().join(format!("gone-{digest}-{attempt}"));
            std::fs::rename(self.0.layout.release(&digest), &aside)?;
            files::remove_tree(&aside)?;
        }
        Ok(())
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
