//! What can go wrong with durable bytes. Each message names the thing and, where a person can act, the fix.
//!
//! Deliberately not here: any decision about what follows from an error; `node` ends the process, `rpc` maps to status
//! codes.

use std::{io, path::PathBuf};

/// Short form used throughout `storage`.
pub type Result<T> = std::result::Result<T, StorageError>;

/// An error of the log database, the snapshot files or the blob store.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A system call failed.
    #[error("{what} {}", path.display())]
    Io {
        /// What was attempted, such as "cannot write".
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The database refused an operation.
    #[error("log database: {what}: {reason}")]
    Database { what: &'static str, reason: String },
    /// An earlier write or sync failed; nothing is written any more.
    #[error(
        "log database is closed to writes since an earlier failure: {reason}; restart the node once the disk is sound"
    )]
    Poisoned { reason: String },
    #[error(
        "log entry {index} is damaged ({why}); restore this node's data directory or rejoin it under a new node id"
    )]
    DamagedEntry { index: u64, why: &'static str },
    /// Bytes of the write-ahead log changed after they were durable.
    #[error(
        "log file {} is damaged at byte {at}, where it was durable; restore this node's data directory or rejoin it under a new node id",
        file.display()
    )]
    DamagedLog {
        file: PathBuf,
        /// Where it stops making sense.
        at: u64,
    },
    #[error("file {} is damaged ({why}); restore this node's data directory or rejoin it under a new node id", file.display())]
    DamagedFile { file: PathBuf, why: &'static str },
    #[error(
        "log database {} ends at write {found}, but {known} were durable; restore this node's data directory or rejoin it under a new \
         node id",
        dir.display()
    )]
    Shortened {
        dir: PathBuf,
        found: u64,
        /// The last write that was durable at the last start.
        known: u64,
    },
    /// A named value does not match its checksum or form.
    #[error(
        "stored value `{name}` is damaged ({why}); restore this node's data directory or rejoin it under a new node id"
    )]
    DamagedValue { name: String, why: &'static str },
    /// The log has a hole, or an append would make one.
    #[error("log has a hole: expected entry {expected}, found {found}")]
    Hole {
        /// The index that should come next.
        expected: u64,
        found: u64,
    },
    #[error("log entries up to {purged} are purged; {asked} is no longer held")]
    Purged { purged: u64, asked: u64 },
    #[error("data directory {} is in use by a running node; stop that node or give this one a directory of its own", dir.display())]
    Locked { dir: PathBuf },
    #[error("data directory {} is not a directory; move the file away or choose another data directory", dir.display())]
    NotADirectory { dir: PathBuf },
    #[error("data directory {} cannot be read and written; check that it exists, its owner and its mode", dir.display())]
    Unusable { dir: PathBuf, source: io::Error },
    #[error("data directory {} belongs to cluster {found}, not to {expected}; choose another data directory", dir.display())]
    OtherCluster {
        dir: PathBuf,
        /// The cluster it belongs to.
        found: String,
        expected: String,
    },
    #[error("data directory {} belongs to node {found}, not to node {expected}; choose another data directory", dir.display())]
    OtherNode {
        dir: PathBuf,
        /// The node it belongs to.
        found: u64,
        expected: u64,
    },
    /// A process at another address uses, or used, this node's identity.
    #[error(
        "data directory {} is that of node {node} ({found}); this process would be node {node} ({wanted}), and two processes with one \
         identity could vote twice: give a new node an empty directory and `slipway cluster join`, or start this one as {found}",
        dir.display()
    )]
    OtherPlace {
        dir: PathBuf,
        /// The node it belongs to.
        node: u64,
        /// Name and peer address it began with.
        found: String,
        wanted: String,
    },
    #[error("data directory {} belongs to node {node}, which was removed from its cluster; join again with an empty directory", dir.display())]
    Removed { dir: PathBuf, node: u64 },
    #[error(
        "{what} has format {found}; this version reads up to {known}: run the version that wrote it, or a newer one"
    )]
    Format {
        what: String,
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// A name that may not be stored.
    #[error("{what} is not valid: {why}")]
    Invalid { what: String, why: &'static str },
    #[error("snapshot file {} is damaged ({why}); move it away to start from the one before, if the log still leads on from there", file.display())]
    DamagedSnapshot { file: PathBuf, why: &'static str },
    /// Entries are neither in a snapshot nor in the log.
    #[error(
        "data directory {}: entries {from} to {to} are in no snapshot and no longer in the log: put the snapshot file back, or replace \
         the node", dir.display()
    )]
    Gap { dir: PathBuf, from: u64, to: u64 },
    #[error("blob sha256:{digest} is not held here")]
    NoBlob { digest: String },
    #[error("blob sha256:{digest} is held already")]
    BlobHeld { digest: String },
    #[error("blob sha256:{digest} is being written by another upload; retry when it has ended")]
    BlobBusy { digest: String },
    /// The bytes are not what was announced; the partial file is gone.
    #[error(
        "blob sha256:{expected} has digest sha256:{found}; its partial file was deleted, send it again from the start"
    )]
    BlobMismatch {
        expected: String,
        /// The digest of the bytes.
        found: String,
    },
    #[error("blob sha256:{digest} is larger than {limit} bytes")]
    BlobTooLarge { digest: String, limit: u64 },
    #[error("blob sha256:{digest} ended at {have} of {size} bytes; resume at {have}")]
    BlobShort { digest: String, have: u64, size: u64 },
    #[error("blob sha256:{digest} has {size} bytes; offset {offset} is beyond its end")]
    BlobOffset { digest: String, size: u64, offset: u64 },
}

impl StorageError {
    /// As the trait objects of the standard library want it; the typed error stays reachable by `downcast`.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }
}
