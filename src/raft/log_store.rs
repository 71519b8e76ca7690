//! openraft's log storage over `storage::LogDb`.
//!
//! Invariants: an append reports durable only when the write-ahead log is synced; a vote waits for the same sync, so
//! vote and log never reorder; the committed pointer rides along unsynced, as losing it only means applying again
//! later.
//!
//! Deliberately not here: checksums, holes, poisoning: `storage` does all of that below this line.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Weak},
};

use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    codec::Coded,
    tail::Tail,
    types::{Entry, LogId, TypeConfig, Vote},
};
use crate::storage::{LogDb, StorageError};

pub(super) const VOTE: &str = "vote";
pub(super) const COMMITTED: &str = "committed";
/// One replication message carries at most this many bytes of entries (or one entry).
const READ_BYTES: usize = 2 << 20;

/// The adapter; clones share the database.
#[derive(Clone)]
pub struct LogStore {
    db: Arc<LogDb>,
    tail: Arc<Mutex<Tail>>,
}

impl LogStore {
    /// Over an open database.
    #[must_use]
    pub fn new(db: LogDb) -> Self {
        Self { db: Arc::new(db), tail: Arc::default() }
    }

    /// Upgrades as long as openraft holds the store.
    pub(super) fn held(&self) -> Weak<LogDb> {
        Arc::downgrade(&self.db)
    }

    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<Entry>> {
        if let Some(entries) = self.tail.lock().read(from, to, max_bytes) {
            return Ok(entries);
        }
        let rows = self.db.read(from..to, usize::MAX, max_bytes).map_err(StorageError::into_io)?;
        rows.iter().map(|(_, bytes)| Entry::decode(bytes).map_err(super::codec::CodecError::into_io)).collect()
    }

    fn meta<T: Coded>(&self, name: &str) -> io::Result<Option<T>> {
        let bytes = self.db.meta(name).map_err(StorageError::into_io)?;
        bytes.map(|b| T::decode(&b).map_err(super::codec::CodecError::into_io)).transpose()
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(at) => *at,
            Bound::Excluded(at) => at.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(at) => at.saturating_add(1),
            Bound::Excluded(at) => *at,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.meta(VOTE)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged = self.db.purged().map_err(StorageError::into_io)?;
        let last_purged_log_id =
            purged.map(|(_, marker)| LogId::decode(&marker).map_err(super::codec::CodecError::into_io)).transpose()?;
        let last_log_id = match self.db.last() {
            Some(last) => self.read(last, last.saturating_add(1), usize::MAX)?.pop().map(|entry| entry.log_id),
            None => last_purged_log_id,
        };
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (tell, told) = oneshot::channel();
        self.db
            .put_meta_then(VOTE, &vote.encode(), Box::new(move |r| drop(tell.send(r))))
            .map_err(StorageError::into_io)?;
        told.await.map_err(|_| io::Error::other("the log database closed before the vote was durable"))?
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        match committed {
            Some(id) => self.db.put_meta_unsynced(COMMITTED, &id.encode()).map_err(StorageError::into_io),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.meta(COMMITTED)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let rows = entries.iter().map(|entry| (entry.log_id.index, entry.encode())).collect();
        let done = Box::new(move |result| callback.io_completed(result));
        self.db.append(rows, done).map_err(StorageError::into_io)?;
        self.tail.lock().push(entries);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let (db, from) = (self.db.clone(), last.map_or(0, |id| id.index.saturating_add(1)));
        self.tail.lock().truncate_from(from);
        // It waits for a sync; off the async threads.
        tokio::task::spawn_blocking(move || db.truncate_from(from))
            .await
            .map_err(io::Error::other)?
            .map_err(StorageError::into_io)
    }

    async fn purge(&mut self, id: LogId) -> Result<(), io::Error> {
        self.tail.lock().purge_to(id.index);
        self.db.purge_to(id.index, &id.encode()).map_err(StorageError::into_io)
    }
}
