//! A snapshot of this node's log now, and backups streamed while the node runs.
//!
//! Invariants: a backup is one published State and the packages it names, whichever node is asked; packages that this
//! node lacks are fetched first; a stream that ends without its last message is no backup. Not here: the file's format
//! (`raft`, `storage`).

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{Api, ApiError, Caller, Kind, Many, Reply, fetch_blob};
use crate::{
    model::ids::hex,
    raft::{BackupSource, Consensus, OfflineError, write_backup},
    state::State,
    wire::v1,
};

const CHUNK: usize = 256 << 10;
const CHUNKS_AHEAD: usize = 4;

type Out = mpsc::Sender<Result<v1::BackupChunk, ApiError>>;

impl Api {
    /// Writes a snapshot of this node's log now.
    pub async fn make_snapshot(&self, _: &Caller, _: v1::MakeSnapshotRequest) -> Reply<v1::MakeSnapshotReply> {
        let consensus = self.consensus()?;
        let made = consensus.snapshot_and_purge().await;
        let (index, bytes) = made.map_err(|e| ApiError::unavailable(e.to_string()))?;
        Ok(v1::MakeSnapshotReply { node_id: consensus.node_id(), index, bytes }.into())
    }

    /// A backup, as it is made.
    pub async fn backup(&self, by: &Caller, ask: v1::BackupRequest) -> Result<Many<v1::BackupChunk>, ApiError> {
        let without_packages = ask.without_packages;
        let read = self.read(by).await?;
        let consensus = self.consensus()?.clone();
        if !without_packages {
            self.complete(&read.state).await;
        }
        let (out, receive) = mpsc::channel(CHUNKS_AHEAD);
        let (blobs, wall_ms, warning) = (self.blobs.clone(), self.clock.wall_ms(), read.warning.clone());
        tokio::task::spawn_blocking(move || {
            let source = BackupSource { state: &read.state, blobs: &blobs, without_packages, wall_ms };
            let result = send(&source, &out, &consensus, warning.unwrap_or_default());
            if let Err(failed) = result {
                // An operator who has gone needs no reason.
                drop(out.blocking_send(Err(failed)));
            }
        });
        Ok(receive)
    }

    /// Fetches the packages that only others hold; what cannot be had is named when it is missed.
    async fn complete(&self, state: &State) {
        for (digest, blob) in &state.blobs {
            for holder in &blob.holders {
                if self.blobs.has(digest.as_str()) {
                    break;
                }
                if let Err(error) = fetch_blob(self, *holder, digest, blob.size).await {
                    tracing::warn!(node = holder, %error, digest = digest.short(), "package for a backup not fetched");
                }
            }
        }
    }
}

fn send(source: &BackupSource<'_>, out: &Out, consensus: &Consensus, warning: String) -> Result<(), ApiError> {
    let failed = |e: OfflineError| ApiError::new(Kind::Precondition, "backup", e.to_string());
    let written = write_backup(source, |head| Chunks {
        out: out.clone(),
        hash: Sha256::new(),
        data: Vec::new(),
        expected: head.state_bytes.saturating_add(head.package_bytes),
    });
    let written = written.map_err(failed)?;
    let sha256 = hex(&written.out.hash.finalize());
    let done = v1::BackupDone {
        cluster_id: written.head.cluster,
        node_id: consensus.node_id(),
        index: written.head.index,
        incarnation: written.head.incarnation,
        package_count: written.head.packages,
        left_out: written.head.left_out,
        size: written.bytes,
        sha256,
        warning,
    };
    drop(out.blocking_send(Ok(v1::BackupChunk { done: Some(done), ..v1::BackupChunk::default() })));
    Ok(())
}

/// Bytes as messages.
struct Chunks {
    out: Out,
    hash: Sha256,
    data: Vec<u8>,
    expected: u64,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.data.extend_from_slice(bytes);
        if self.data.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = v1::BackupChunk { data: std::mem::take(&mut self.data), expected: self.expected, done: None };
        self.out.blocking_send(Ok(chunk)).map_err(|_| io::Error::other("the receiver has gone"))
    }
}
