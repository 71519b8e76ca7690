//! Durable bytes: the log database, snapshot files, the blob store.
//!
//! Invariants: what a call reported durable survives a power cut; a value that does not match its checksum is an error
//! that names it, never an answer; after the first failed write or sync of the log nothing is written again until the
//! process restarts.
//!
//! Deliberately not here: Raft. Entries, votes and snapshots are opaque bytes to this module; `raft` gives them
//! meaning.

mod backup;
mod blobs;
mod dir;
mod error;
mod files;
mod flusher;
mod identity;
mod log;
mod mark;
mod meters;
mod snapshot;
pub mod space;
mod wal;

pub use backup::{BackupError, BackupHead, BackupReader, BackupWriter, Part};
pub use blobs::{BlobLock, BlobStore, BlobWriter};
pub use dir::DataDir;
pub use error::{Result, StorageError};
pub use flusher::Durable;
pub use identity::Identity;
pub use log::LogDb;
pub use meters::LogMeters;
pub use snapshot::{Snapshot, SnapshotDir};
