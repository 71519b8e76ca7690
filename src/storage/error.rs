//! What can go wrong with durable bytes. Each message names the thing and, where a person can act, the fix.
//!
//! Deliberately not here: any decision about what follows from an error; `node` ends the process, `rpc` maps to status codes.

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
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The database refused an operation.
    #[error("log database: {what}: {reason}")]
    Database {
        /// What was attempted.
        what: &'static str,
        /// RocksDB's own words.
        reason: String,
    },
    /// An earlier write or sync failed; nothing is written any more.
    #[error(
        "log database is closed to writes since an earlier failure: {reason}; restart the node once the disk is sound"
    )]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// A log entry does not match its checksum.
    #[error(
        "log entry {index} is damaged ({why}); restore this node's data directory or rejoin it under a new node id"
    )]
    DamagedEntry {
        /// The entry's index.
        index: u64,
        /// What did not match.
        why: &'static str,
    },
    /// Bytes of the write-ahead log changed after they were durable.
    #[error(
        "log file {} is damaged at byte {at}, where it was durable; restore this node's data directory or rejoin it under a new node id",
        file.display()
    )]
    DamagedLog {
        /// The file.
        file: PathBuf,
        /// Where it stops making sense.
        at: u64,
    },
    /// A small file of the database is damaged.
    #[error("file {} is damaged ({why}); restore this node's data directory or rejoin it under a new node id", file.display())]
    DamagedFile {
        /// The file.
        file: PathBuf,
        /// What does not match.
        why: &'static str,
    },
    /// The database holds less than it did.
    #[error(
        "log database {} ends at write {found}, but {known} were durable; restore this node's data directory or rejoin it under a new \
         node id",
        dir.display()
    )]
    Shortened {
        /// Its directory.
        dir: PathBuf,
        /// The last write found.
        found: u64,
        /// The last write that was durable at the last start.
        known: u64,
    },
    /// A named value does not match its checksum or form.
    #[error(
        "stored value `{name}` is damaged ({why}); restore this node's data directory or rejoin it under a new node id"
    )]
    DamagedValue {
        /// The value's name.
        name: String,
        /// What did not match.
        why: &'static str,
    },
    /// The log has a hole, or an append would make one.
    #[error("log has a hole: expected entry {expected}, found {found}")]
    Hole {
        /// The index that should come next.
        expected: u64,
        /// The index that came.
        found: u64,
    },
    /// Entries that are already purged were asked for.
    #[error("log entries up to {purged} are purged; {asked} is no longer held")]
    Purged {
        /// The last purged index.
        purged: u64,
        /// The index asked for.
        asked: u64,
    },
    /// The data directory is in use.
    #[error("data directory {} is in use by a running node; stop that node or give this one a directory of its own", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The data directory is something else.
    #[error("data directory {} is not a directory; move the file away or choose another data directory", dir.display())]
    NotADirectory {
        /// The path.
        dir: PathBuf,
    },
    /// The data directory cannot be used.
    #[error("data directory {} cannot be read and written; check that it exists, its owner and its mode", dir.display())]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The directory holds another cluster's data.
    #[error("data directory {} belongs to cluster {found}, not to {expected}; choose another data directory", dir.display())]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// The cluster it belongs to.
        found: String,
        /// The cluster asked for.
        expected: String,
    },
    /// The directory holds another node's data.
    #[error("data directory {} belongs to node {found}, not to node {expected}; choose another data directory", dir.display())]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// The node it belongs to.
        found: u64,
        /// The node asked for.
        expected: u64,
    },
    /// A process at another address uses, or used, this node's identity.
    #[error(
        "data directory {} is that of node {node} ({found}); this process would be node {node} ({wanted}), and two processes with one \
         identity could vote twice: give a new node an empty directory and `slipway cluster join`, or start this one as {found}",
        dir.display()
    )]
    OtherPlace {
        /// The directory.
        dir: PathBuf,
        /// The node it belongs to.
        node: u64,
        /// Name and peer address it began with.
        found: String,
        /// Those asked for.
        wanted: String,
    },
    /// The node was removed from its cluster.
    #[error("data directory {} belongs to node {node}, which was removed from its cluster; join again with an empty directory", dir.display())]
    Removed {
        /// The directory.
        dir: PathBuf,
        /// The removed node.
        node: u64,
    },
    /// Written by a newer version.
    #[error(
        "{what} has format {found}; this version reads up to {known}: run the version that wrote it, or a newer one"
    )]
    Format {
        /// The thing.
        what: String,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// A name that may not be stored.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// The thing.
        what: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// A snapshot file does not match its checksum.
    #[error("snapshot file {} is damaged ({why}); move it away to start from the one before, if the log still leads on from there", file.display())]
    DamagedSnapshot {
        /// The file.
        file: PathBuf,
        /// What did not match.
        why: &'static str,
    },
    /// Entries are neither in a snapshot nor in the log.
    #[error(
        "data directory {}: entries {from} to {to} are in no snapshot and no longer in the log: put the snapshot file back, or replace \
         the node", dir.display()
    )]
    Gap {
        /// The directory.
        dir: PathBuf,
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// The blob is not held.
    #[error("blob sha256:{digest} is not held here")]
    NoBlob {
        /// Its digest.
        digest: String,
    },
    /// The blob is there already.
    #[error("blob sha256:{digest} is held already")]
    BlobHeld {
        /// Its digest.
        digest: String,
    },
    /// Another upload of the same blob is under way.
    #[error("blob sha256:{digest} is being written by another upload; retry when it has ended")]
    BlobBusy {
        /// Its digest.
        digest: String,
    },
    /// The bytes are not what was announced; the partial file is gone.
    #[error(
        "blob sha256:{expected} has digest sha256:{found}; its partial file was deleted, send it again from the start"
    )]
    BlobMismatch {
        /// The digest announced.
        expected: String,
        /// The digest of the bytes.
        found: String,
    },
    /// Larger than announced, or than allowed.
    #[error("blob sha256:{digest} is larger than {limit} bytes")]
    BlobTooLarge {
        /// Its digest.
        digest: String,
        /// The limit.
        limit: u64,
    },
    /// Ended before its announced size; what came is kept.
    #[error("blob sha256:{digest} ended at {have} of {size} bytes; resume at {have}")]
    BlobShort {
        /// Its digest.
        digest: String,
        /// Bytes held.
        have: u64,
        /// Bytes announced.
        size: u64,
    },
    /// An offset beyond the end.
    #[error("blob sha256:{digest} has {size} bytes; offset {offset} is beyond its end")]
    BlobOffset {
        /// Its digest.
        digest: String,
        /// Its size.
        size: u64,
        /// The offset asked for.
        offset: u64,
    },
}

impl StorageError {
    /// As the trait objects of the standard library want it; the typed error stays reachable by `downcast`.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }
}
