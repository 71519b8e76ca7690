//! An append-only file of records, each framed by its length and crc32c and fsynced before `append` returns.
//!
//! Invariants: what `append` returned for is read back by every later `open`; a torn or damaged tail is cut at the last
//! whole record; compaction replaces the file as a whole. A failed write or fsync poisons the journal: the kernel may
//! have dropped the bytes, so it is never retried. For want of room alone nothing was dropped: the record is taken back
//! and may be written later; and room for many records is reserved behind the end, so that a disk that others fill does
//! not stop it. What is whole but cannot be understood was written by a newer version: it is refused, never cut. Not
//! here: what records mean (`ledger`).

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::files;

#[cfg(test)]
mod power_cuts;

/// First bytes of every journal: what it is, and its format's version.
const MAGIC: &[u8; 8] = b"SLPWJR01";
/// Length and checksum before each record.
const FRAME: usize = 8;
/// Largest record: an assignment with its specs is far below.
const MAX_RECORD: usize = 16 << 20;
/// Room behind the end that is asked for, and below which it is asked for again.
const RESERVE: u64 = 256 << 10;
const RESERVE_LOW: u64 = 128 << 10;
/// Compaction is worth it only above this size.
const COMPACT_ABOVE: u64 = 256 << 10;

/// Why a journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The disk refused.
    #[error("journal {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{path} is not an agent's journal, or was written by a newer version: move it away to begin without its history"
    )]
    NotAJournal { path: PathBuf },
    #[error("journal {path}: a record of {size} bytes is larger than {MAX_RECORD}")]
    TooLarge { path: PathBuf, size: usize },
    /// There is no room; nothing was written, and it may be tried again.
    #[error("journal {path}: the disk is full: make room, then it goes on by itself")]
    Full { path: PathBuf },
    /// A record that is whole says something that this version does not know.
    #[error("journal {path}: a record was written by a newer version (at {at}: {source}): install that version again")]
    Newer { path: PathBuf, at: u64, source: serde_json::Error },
    #[error("journal {path}: an earlier write failed; restart the agent when the disk is well")]
    Poisoned { path: PathBuf },
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: fs::File,
    size: u64,
    compacted: u64,
    poisoned: bool,
    /// Up to where there is room for certain.
    reserved: u64,
}

fn frame<R: Serialize>(path: &Path, record: &R) -> Result<Vec<u8>, JournalError> {
    let mut bytes = vec![0; FRAME];
    serde_json::to_writer(&mut bytes, record)
        .map_err(|e| JournalError::Io { path: path.into(), source: io::Error::other(e) })?;
    let body = bytes.len() - FRAME;
    let length = u32::try_from(body).ok().filter(|_| body <= MAX_RECORD);
    let length = length.ok_or_else(|| JournalError::TooLarge { path: path.into(), size: body })?;
    let sum = crc32c::crc32c(bytes.get(FRAME..).unwrap_or_default());
    if let Some(head) = bytes.get_mut(..FRAME) {
        head.copy_from_slice(&(u64::from(sum) << 32 | u64::from(length)).to_le_bytes());
    }
    Ok(bytes)
}

/// The record at the front and the bytes it takes; `None` when it is torn or damaged, an error when it is whole and not
/// understood.
fn take<R: DeserializeOwned>(bytes: &[u8]) -> Option<Result<(R, usize), serde_json::Error>> {
    let head = u64::from_le_bytes(bytes.get(..FRAME)?.try_into().ok()?);
    let length = usize::try_from(head & 0xffff_ffff).ok()?;
    if length > MAX_RECORD {
        return None;
    }
    let body = bytes.get(FRAME..FRAME.checked_add(length)?)?;
    if u64::from(crc32c::crc32c(body)) != head >> 32 {
        return None;
    }
    // Zeros are no record: what was reserved and never written.
    if length == 0 {
        return None;
    }
    Some(serde_json::from_slice(body).map(|record| (record, FRAME + length)))
}

impl Journal {
    /// Opens or makes a journal and reads its records; a bad tail is cut.
    pub fn open<R: DeserializeOwned>(path: &Path) -> Result<(Self, Vec<R>), JournalError> {
        let io = |source| JournalError::Io { path: path.into(), source };
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() < MAGIC.len() {
            // New, or a crash came before the first fsync of a new one: nothing was promised yet.
            file.set_len(0).map_err(io)?;
            file.rewind().map_err(io)?;
            file.write_all(MAGIC).map_err(io)?;
            file.sync_all().map_err(io)?;
            files::sync_dir(path.parent().unwrap_or(Path::new("."))).map_err(io)?;
            bytes = MAGIC.to_vec();
        }
        if !bytes.starts_with(MAGIC) {
            return Err(JournalError::NotAJournal { path: path.into() });
        }
        let (mut records, mut at) = (Vec::new(), MAGIC.len());
        while let Some(taken) = bytes.get(at..).and_then(take::<R>) {
            let (record, length) =
                taken.map_err(|source| JournalError::Newer { path: path.into(), at: at as u64, source })?;
            records.push(record);
            at += length;
        }
        let size = at as u64;
        if at < bytes.len() {
            tracing::warn!(journal = %path.display(), cut = bytes.len() - at, "the journal's tail is damaged and is cut");
            file.set_len(size).map_err(io)?;
            file.sync_all().map_err(io)?;
        }
        file.seek(SeekFrom::Start(size)).map_err(io)?;
        let compacted = size.min(COMPACT_ABOVE);
        let mut journal = Self { path: path.into(), file, size, compacted, poisoned: false, reserved: 0 };
        journal.reserve();
        Ok((journal, records))
    }

    /// Asks for room behind the end, where the file system can and there is some. The size stays.
    fn reserve(&mut self) {
        if self.reserved.saturating_sub(self.size) >= RESERVE_LOW {
            return;
        }
        let kept = rustix::fs::FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(&self.file, kept, self.size, RESERVE).is_ok() {
            self.reserved = self.size + RESERVE;
        }
    }

    /// Whether only what must be kept should be written: there is less reserve than there ought to be.
    pub fn is_low(&self) -> bool {
        self.reserved.saturating_sub(self.size) < RESERVE_LOW
    }

    /// Writes a record and fsyncs it.
    pub fn append<R: Serialize>(&mut self, record: &R) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned { path: self.path.clone() });
        }
        let bytes = frame(&self.path, record)?;
        let done = match self.file.write_all(&bytes) {
            Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                // Not one byte of it was promised; what is left of it goes, so that the next record follows the last.
                let back = self.file.set_len(self.size).and_then(|()| self.file.seek(SeekFrom::Start(self.size)));
                self.reserved = self.size;
                match back {
                    Ok(_) => return Err(JournalError::Full { path: self.path.clone() }),
                    Err(source) => Err(source),
                }
            }
            written => written.and_then(|()| self.file.sync_data()),
        };
        if let Err(source) = done {
            self.poisoned = true;
            return Err(JournalError::Io { path: self.path.clone(), source });
        }
        self.size += bytes.len() as u64;
        self.reserve();
        Ok(())
    }

    /// Whether it has grown enough since it was last compacted.
    pub fn wants_compaction(&self) -> bool {
        !self.poisoned && self.size > COMPACT_ABOVE && self.size > 4 * self.compacted
    }

    /// Replaces all records by these, which must mean the same.
    pub fn compact<R: Serialize>(&mut self, records: &[R]) -> Result<(), JournalError> {
        let path = self.path.clone();
        let io = |source| JournalError::Io { path: path.clone(), source };
        let mut bytes = MAGIC.to_vec();
        for record in records {
            bytes.extend(frame(&self.path, record)?);
        }
        let new = self.path.with_extension("new");
        let written = (|| {
            let mut file =
                fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&bytes)?;
            file.sync_all().map(|()| file)
        })();
        let file = written.map_err(|source| {
            // The old file is untouched and goes on; not every record is to try again.
            let _ = files::remove_if_there(&new);
            self.compacted = self.size;
            io(source)
        })?;
        let replaced =
            fs::rename(&new, &self.path).and_then(|()| files::sync_dir(self.path.parent().unwrap_or(Path::new("."))));
        if let Err(source) = replaced {
            // Which of the two a crash would leave is not known.
            self.poisoned = true;
            return Err(io(source));
        }
        self.file = file;
        self.size = bytes.len() as u64;
        self.compacted = self.size;
        self.reserved = 0;
        self.reserve();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(path: &Path) -> Vec<String> {
        Journal::open::<String>(path).unwrap().1
    }

    #[test]
    fn what_was_appended_is_read_back_and_a_bad_tail_is_cut_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, none) = Journal::open::<String>(&path).unwrap();
        assert!(none.is_empty());
        for text in ["first", "second", "third"] {
            journal.append(&text).unwrap();
        }
        drop(journal);
        let whole = fs::read(&path).unwrap();
        assert_eq!(records(&path), ["first", "second", "third"]);
        let third = whole.len() - (FRAME + "\"third\"".len());
        for cut in third..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(records(&path), ["first", "second"], "cut at {cut}");
            assert_eq!(fs::metadata(&path).unwrap().len(), third as u64);
        }
        for damaged in third..whole.len() {
            let mut bytes = whole.clone();
            bytes[damaged] ^= 0x40;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(records(&path), ["first", "second"], "damaged at {damaged}");
        }
        for cut in 0..MAGIC.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(records(&path).is_empty(), "cut at {cut}");
        }
    }

    #[test]
    fn after_a_cut_it_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, _) = Journal::open::<String>(&path).unwrap();
        journal.append(&"kept").unwrap();
        journal.file.write_all(&[9; 11]).unwrap();
        drop(journal);
        let (mut journal, read) = Journal::open::<String>(&path).unwrap();
        assert_eq!(read, ["kept"]);
        journal.append(&"next").unwrap();
        assert_eq!(records(&path), ["kept", "next"]);
    }

    #[test]
    fn compaction_keeps_what_it_is_given_and_appends_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, _) = Journal::open::<String>(&path).unwrap();
        let long = "x".repeat(10_000);
        while !journal.wants_compaction() {
            journal.append(&long).unwrap();
        }
        journal.compact(&["folded"]).unwrap();
        assert!(!journal.wants_compaction());
        journal.append(&"after").unwrap();
        assert_eq!(records(&path), ["folded", "after"]);
    }

    #[test]
    fn another_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        fs::write(&path, b"something else entirely").unwrap();
        let said = Journal::open::<String>(&path).unwrap_err().to_string();
        assert!(said.contains("is not an agent's journal"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), b"something else entirely");
    }

    #[test]
    fn a_whole_record_of_a_newer_version_is_refused_and_never_cut() {
        #[derive(Debug, Serialize, serde::Deserialize)]
        enum New {
            Known(u8),
            Novel(String),
        }
        #[derive(Debug, Serialize, serde::Deserialize)]
        enum Old {
            Known(u8),
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, _) = Journal::open::<New>(&path).unwrap();
        for record in [New::Known(1), New::Novel("later".into()), New::Known(2)] {
            journal.append(&record).unwrap();
        }
        drop(journal);
        let whole = fs::read(&path).unwrap();
        let said = Journal::open::<Old>(&path).unwrap_err().to_string();
        assert!(said.contains("newer version"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), whole);
        assert_eq!(Journal::open::<New>(&path).unwrap().1.len(), 3);
    }

    #[test]
    fn room_is_reserved_and_shows_in_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, _) = Journal::open::<String>(&path).unwrap();
        journal.append(&"kept").unwrap();
        assert!(!journal.is_low());
        let meta = fs::metadata(&path).unwrap();
        assert!(std::os::unix::fs::MetadataExt::blocks(&meta) * 512 >= RESERVE && meta.len() < 100, "{meta:?}");
        for _ in 0..2_000 {
            journal.append(&"x".repeat(200)).unwrap();
        }
        assert!(!journal.is_low());
        drop(journal);
        // As a file system may leave it after a crash: the size grown, the bytes zero.
        let size = fs::metadata(&path).unwrap().len();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(size + 5000).unwrap();
        assert_eq!(records(&path).len(), 2_001);
        assert_eq!(fs::metadata(&path).unwrap().len(), size);
    }
}
