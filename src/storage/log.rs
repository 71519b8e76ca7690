//! The log database: numbered entries and a few named values, in RocksDB, with one write-ahead log for both.
//!
//! Invariants: an appended entry is readable at return and durable when its callback says so; entries are contiguous;
//! order in the write-ahead log is the order of the calls, so whatever is durable has all before it durable too; every
//! value carries a CRC-32C over its key and bytes; the first failure closes the database to writes (see `flusher`);
//! only the sync thread syncs; every batch says how far the log was durable when it was written (see `wal`).
//!
//! Deliberately not here: terms, votes, membership: all of it is bytes.

use std::{
    fs::{File, TryLockError},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use parking_lot::Mutex;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBRecoveryMode, IteratorMode, Options,
    ReadOptions, WriteBatch, properties,
};
use tokio::sync::watch;

use super::{
    Durable, LogMeters, Result, StorageError,
    files::io_at,
    flusher::{Flusher, Poison},
    mark, wal,
};

const LOG: &str = "log";
const META: &str = "meta";
const PURGED: &str = "purged";
/// Locked before a byte is read: RocksDB's own lock comes too late, as the check of the log may cut its tail.
const LOCK: &str = "slipway.lock";
/// The write-ahead log is cut once it holds this much, so that the rarely written family does not pin it for ever.
const MAX_WAL: u64 = 64 << 20;
const WRITE_BUFFER: usize = 16 << 20;

/// A handle to the open database; clones share it. The directory's lock is released when the last clone is gone.
#[derive(Clone)]
pub struct LogDb {
    inner: Arc<Inner>,
}

struct Inner {
    // Dropped first: it joins the thread that holds the other reference to the database.
    flusher: Flusher,
    db: Arc<DB>,
    dir: PathBuf,
    poison: Arc<Poison>,
    bounds: Mutex<Bounds>,
    durable: Arc<AtomicU64>,
    // Dropped last.
    _lock: File,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bounds {
    purged: Option<u64>,
    /// First and last entry held.
    held: Option<(u64, u64)>,
}

impl LogDb {
    /// Opens or creates the database in `dir` and verifies every entry: checksums, no hole, nothing missing above the
    /// purge point.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, |db| move || sync(&db))
    }

    fn open_with<S>(dir: &Path, sync: impl FnOnce(Arc<DB>) -> S) -> Result<Self>
    where
        S: Fn() -> std::result::Result<(), String> + Send + 'static,
    {
        let lock = lock(dir)?;
        let known = mark::check(dir)?;
        let floor = known.map_or(0, |mark| mark.sequence);
        wal::check(dir, floor)?;
        let options = options()?;
        let families = [LOG, META].map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
        let db = DB::open_cf_descriptors(&options, dir, families).map_err(|e| open_error(dir, &e))?;
        let db = Arc::new(db);
        // RocksDB has moved what it replayed into tables, and synced them.
        let sequence = db.latest_sequence_number();
        if sequence < floor {
            return Err(StorageError::Shortened { dir: dir.into(), found: sequence, known: floor });
        }
        let durable = Arc::new(AtomicU64::new(sequence));
        let poison = Poison::new();
        let (sync, synced, reached) = (sync(db.clone()), db.clone(), durable.clone());
        let sync = move || {
            // Read before the sync begins: what is written meanwhile may not be in it.
            let written = synced.latest_sequence_number();
            sync()?;
            reached.fetch_max(written, Ordering::SeqCst);
            Ok(())
        };
        let flusher = Flusher::start(sync, poison.clone()).map_err(|source| StorageError::Io {
            what: "cannot start the sync thread of",
            path: dir.into(),
            source,
        })?;
        let bounds = Mutex::default();
        let this =
            Self { inner: Arc::new(Inner { flusher, db, dir: dir.into(), poison, bounds, durable, _lock: lock }) };
        let bounds = this.verify()?;
        *this.inner.bounds.lock() = bounds;
        mark::write(dir, sequence)?;
        Ok(this)
    }

    /// How long its syncs take.
    #[must_use]
    pub fn meters(&self) -> LogMeters {
        self.inner.flusher.meters()
    }

    /// The directory it was opened in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Writes the entries, readable at return; `done` follows from the sync thread once they are durable. If this call
    /// fails, `done` is dropped uncalled.
    pub fn append(&self, entries: Vec<(u64, Vec<u8>)>, done: Durable) -> Result<()> {
        let mut bounds = self.inner.bounds.lock();
        self.inner.poison.check()?;
        let mut next = *bounds;
        let mut batch = self.batch();
        for (index, bytes) in &entries {
            let expected = match (next.held, next.purged) {
                (Some((_, last)), _) => last + 1,
                (None, Some(purged)) => purged + 1,
                (None, None) => *index,
            };
            if *index != expected {
                return Err(StorageError::Hole { expected, found: *index });
            }
            next.held = Some((next.held.map_or(*index, |(first, _)| first), *index));
            batch.put_cf(self.family(LOG)?, key(*index), sealed(&key(*index), bytes));
        }
        self.write(batch, "append")?;
        *bounds = next;
        // Handed over under the lock: the queue has the order of the writes.
        self.inner.flusher.after_sync(done);
        Ok(())
    }

    /// The entries of `range` that are held, at most `max_entries` and, after the first, at most `max_bytes` of values.
    pub fn read(&self, range: Range<u64>, max_entries: usize, max_bytes: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        let Some((first, last)) = self.inner.bounds.lock().held else { return Ok(Vec::new()) };
        let (from, to) = (range.start.max(first), range.end.min(last.saturating_add(1)));
        if from >= to {
            return Ok(Vec::new());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(key(from));
        options.set_iterate_upper_bound(key(to));
        let mut found = Vec::new();
        let mut bytes = 0_usize;
        for (expected, row) in
            (from..to).zip(self.inner.db.iterator_cf_opt(self.family(LOG)?, options, IteratorMode::Start))
        {
            let (row_key, value) = row.map_err(|e| database("read", &e))?;
            let (index, value) = entry(&row_key, &value)?;
            if index != expected {
                return Err(StorageError::Hole { expected, found: index });
            }
            bytes = bytes.saturating_add(value.len());
            if found.len() >= max_entries || (!found.is_empty() && bytes > max_bytes) {
                break;
            }
            found.push((index, value.to_vec()));
        }
        Ok(found)
    }

    /// The first entry held.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.inner.bounds.lock().held.map(|(first, _)| first)
    }

    /// The last entry held.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.inner.bounds.lock().held.map(|(_, last)| last)
    }

    /// The last purged index and the marker that was stored with it.
    pub fn purged(&self) -> Result<Option<(u64, Vec<u8>)>> {
        let Some(value) = self.meta(PURGED)? else { return Ok(None) };
        match value.split_first_chunk::<8>() {
            Some((index, marker)) => Ok(Some((u64::from_be_bytes(*index), marker.to_vec()))),
            None => Err(StorageError::DamagedValue { name: PURGED.into(), why: "too short" }),
        }
    }

    /// Removes `index` and everything after it; durable at return.
    pub fn truncate_from(&self, index: u64) -> Result<()> {
        let mut bounds = self.inner.bounds.lock();
        self.inner.poison.check()?;
        if let Some(purged) = bounds.purged
            && index <= purged
        {
            return Err(StorageError::Purged { purged, asked: index });
        }
        let Some((first, last)) = bounds.held else { return Ok(()) };
        if index > last {
            return Ok(());
        }
        let mut batch = self.batch();
        batch.delete_range_cf(self.family(LOG)?, key(index.max(first)), key(last + 1));
        self.write(batch, "truncate")?;
        bounds.held = (index > first).then(|| (first, index - 1));
        let (tell, told) = mpsc::channel();
        self.inner.flusher.after_sync(Box::new(move |r| drop(tell.send(r))));
        drop(bounds);
        wait(&told, "truncate")
    }

    /// Removes everything up to and including `index` and stores `marker` in the same batch. Not synced: losing a purge
    /// is harmless, and any later sync carries it.
    pub fn purge_to(&self, index: u64, marker: &[u8]) -> Result<()> {
        let mut bounds = self.inner.bounds.lock();
        self.inner.poison.check()?;
        if bounds.purged.is_some_and(|purged| purged >= index) {
            return Ok(());
        }
        let mut value = index.to_be_bytes().to_vec();
        value.extend_from_slice(marker);
        let mut batch = self.batch();
        batch.put_cf(self.family(META)?, PURGED, sealed(PURGED.as_bytes(), &value));
        if let Some((first, last)) = bounds.held
            && first <= index
        {
            // From the previous purge point: older tombstones are never widened.
            batch.delete_range_cf(self.family(LOG)?, key(first), key(index.min(last) + 1));
        }
        self.write(batch, "purge")?;
        bounds.purged = Some(index);
        bounds.held = bounds.held.and_then(|(first, last)| (last > index).then(|| (first.max(index + 1), last)));
        Ok(())
    }

    /// A named value.
    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let found = self.inner.db.get_pinned_cf(self.family(META)?, name).map_err(|e| database("read", &e))?;
        found
            .map(|value| {
                opened(name.as_bytes(), &value)
                    .map(<[u8]>::to_vec)
                    .map_err(|why| StorageError::DamagedValue { name: name.into(), why })
            })
            .transpose()
    }

    /// Stores a named value; `done` follows once it, and all before it, is durable.
    pub fn put_meta_then(&self, name: &str, bytes: &[u8], done: Durable) -> Result<()> {
        let _order = self.inner.bounds.lock();
        self.put_meta_locked(name, bytes)?;
        self.inner.flusher.after_sync(done);
        Ok(())
    }

    /// Stores a named value and waits until it is durable. Blocks: not for the async threads.
    pub fn put_meta_synced(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (tell, told) = mpsc::channel::<io::Result<()>>();
        // A receiver that is gone only means that nobody waits any more.
        self.put_meta_then(name, bytes, Box::new(move |r| drop(tell.send(r))))?;
        wait(&told, "store a value")
    }

    /// Stores a named value; a later sync of anything makes it durable.
    pub fn put_meta_unsynced(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let _order = self.inner.bounds.lock();
        self.put_meta_locked(name, bytes)
    }

    fn put_meta_locked(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.inner.poison.check()?;
        let mut batch = self.batch();
        batch.put_cf(self.family(META)?, name, sealed(name.as_bytes(), bytes));
        self.write(batch, "store a value")
    }

    /// Becomes `Some(reason)` at the first failed write or sync; the node must stop then.
    #[must_use]
    pub fn poisoned(&self) -> watch::Receiver<Option<String>> {
        self.inner.poison.watch()
    }

    /// True once no handle holds the database any more, so that its directory may be opened again.
    pub fn closed_check(&self) -> impl Fn() -> bool + Send + 'static {
        let weak = Arc::downgrade(&self.inner);
        move || weak.strong_count() == 0
    }

    fn verify(&self) -> Result<Bounds> {
        let purged = self.purged()?.map(|(index, _)| index);
        let mut bounds = Bounds { purged, held: None };
        for row in self.inner.db.iterator_cf(self.family(LOG)?, IteratorMode::Start) {
            let (row_key, value) = row.map_err(|e| database("read", &e))?;
            let (index, _) = entry(&row_key, &value)?;
            let expected = match (bounds.held, purged) {
                (Some((_, last)), _) => last + 1,
                (None, Some(purged)) => purged + 1,
                (None, None) => index,
            };
            if index != expected {
                return Err(StorageError::Hole { expected, found: index });
            }
            bounds.held = Some((bounds.held.map_or(index, |(first, _)| first), index));
        }
        for row in self.inner.db.iterator_cf(self.family(META)?, IteratorMode::Start) {
            let (name, value) = row.map_err(|e| database("read", &e))?;
            opened(&name, &value)
                .map_err(|why| StorageError::DamagedValue { name: String::from_utf8_lossy(&name).into_owned(), why })?;
        }
        Ok(bounds)
    }

    /// A batch that carries how far the log is durable. The mark stands first, where `wal` looks for it.
    fn batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::default();
        batch.put_log_data(wal::mark(self.inner.durable.load(Ordering::SeqCst)));
        batch
    }

    /// Unsynced: the sync thread alone syncs, so that a sync which failed is never followed by another.
    fn write(&self, batch: WriteBatch, what: &'static str) -> Result<()> {
        self.inner.db.write(batch).map_err(|e| {
            self.inner.poison.set(format!("{what} failed: {e}"));
            database(what, &e)
        })
    }

    fn family(&self, name: &'static str) -> Result<&ColumnFamily> {
        self.inner
            .db
            .cf_handle(name)
            .ok_or(StorageError::Database { what: name, reason: "column family is missing".into() })
    }
}

fn options() -> Result<Options> {
    let cache = Cache::new_lru_cache(8 << 20);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    // The crate has no setter for the automatic resume after a background error, which would write on after a failed
    // write.
    let mut options = Options::default()
        .get_options_from_string("max_bgerror_resume_count=0")
        .map_err(|e| database("set options", &e))?;
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // A torn record at the very end was never reported durable; any other damage refuses to open.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    options.set_write_buffer_size(WRITE_BUFFER);
    options.set_max_total_wal_size(MAX_WAL);
    options.set_keep_log_file_num(2);
    options.set_block_based_table_factory(&table);
    Ok(options)
}

/// Syncs the write-ahead log. RocksDB also syncs by itself in the background when it closes a log or writes a table; if
/// one of those failed, a success of ours would prove nothing.
fn sync(db: &DB) -> std::result::Result<(), String> {
    background(db)?;
    db.flush_wal(true).map_err(|e| e.to_string())?;
    background(db)
}

fn background(db: &DB) -> std::result::Result<(), String> {
    match db.property_int_value(properties::BACKGROUND_ERRORS).map_err(|e| e.to_string())? {
        None | Some(0) => Ok(()),
        Some(_) => Err("RocksDB failed to write a table or log in the background; its file LOG says why".into()),
    }
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    super::files::ensure_dir(dir)?;
    let file = File::create(&path).map_err(io_at("cannot create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::Locked { dir: dir.into() }),
        Err(TryLockError::Error(e)) => Err(io_at("cannot lock", &path)(e)),
    }
}

fn wait(told: &mpsc::Receiver<io::Result<()>>, what: &'static str) -> Result<()> {
    match told.recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failed)) => Err(StorageError::Database { what, reason: failed.to_string() }),
        Err(_) => Err(StorageError::Database { what, reason: "the sync thread ended".into() }),
    }
}

fn open_error(dir: &Path, error: &rocksdb::Error) -> StorageError {
    let reason = error.to_string();
    if reason.contains("While lock file") || reason.contains("lock hold by current process") {
        StorageError::Locked { dir: dir.into() }
    } else {
        StorageError::Database { what: "open", reason }
    }
}

fn database(what: &'static str, error: &rocksdb::Error) -> StorageError {
    StorageError::Database { what, reason: error.to_string() }
}

fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

fn sealed(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), bytes);
    let mut value = Vec::with_capacity(bytes.len() + 4);
    value.extend_from_slice(&crc.to_be_bytes());
    value.extend_from_slice(bytes);
    value
}

fn opened<'a>(key: &[u8], value: &'a [u8]) -> std::result::Result<&'a [u8], &'static str> {
    let (crc, bytes) = value.split_first_chunk::<4>().ok_or("too short")?;
    let found = crc32c::crc32c_append(crc32c::crc32c(key), bytes);
    if found == u32::from_be_bytes(*crc) { Ok(bytes) } else { Err("checksum does not match") }
}

fn entry<'a>(row_key: &[u8], value: &'a [u8]) -> Result<(u64, &'a [u8])> {
    let index = <[u8; 8]>::try_from(row_key)
        .map(u64::from_be_bytes)
        .map_err(|_| StorageError::DamagedEntry { index: 0, why: "key is not an index" })?;
    opened(row_key, value).map(|bytes| (index, bytes)).map_err(|why| StorageError::DamagedEntry { index, why })
}

#[cfg(test)]
mod tests;
