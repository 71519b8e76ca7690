//! The container of a backup: one file, read and written from front to back, in which no byte can change unnoticed.
//!
//! Layout, big endian: magic `SLIPBKUP`, format u16, then records: kind u8, length u32, CRC-32C u32 (over the record's
//! number, kind, length and payload), payload. First the head (JSON), then the State in pieces, then each package with
//! its digest and size, then the end, which carries the SHA-256 of everything before it. Invariants: a record is
//! checked before it is used and its length is capped before it is read; after the end there is nothing. Deliberately
//! not here: what a State is, and where the bytes come from or go.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const MAGIC: &[u8; 8] = b"SLIPBKUP";
const FORMAT: u16 = 1;
/// Largest payload of a record.
const MAX_RECORD: usize = 1 << 20;
const PIECE: usize = 256 << 10;
const HEAD: u8 = 1;
const STATE: u8 = 2;
const PACKAGE: u8 = 3;
const DATA: u8 = 4;
const END: u8 = 5;

/// What stands at the beginning of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHead {
    /// Id of the cluster it was taken from.
    pub cluster: String,
    /// The cluster's name.
    pub name: String,
    /// Log index of its State.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// The cluster's incarnation.
    pub incarnation: u64,
    /// The active feature level.
    pub level: u32,
    /// Version of the program that wrote it.
    pub build: String,
    /// Wall clock when it was taken, in milliseconds since 1970.
    pub wall_ms: u64,
    pub state_bytes: u64,
    /// Packages that follow.
    pub packages: u64,
    /// Their bytes together.
    pub package_bytes: u64,
    /// Packages that the State names and that were left out.
    pub left_out: u64,
}

/// Why a backup cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("it is not a Slipway backup")]
    NotABackup,
    #[error(
        "it has backup format {found}; this version reads up to {FORMAT}: use the version that wrote it, or a newer one"
    )]
    Newer { found: u16 },
    #[error("it is damaged at byte {at}: {why}")]
    Damaged {
        /// Where the damaged record begins.
        at: u64,
        why: String,
    },
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A part of a backup, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes of the State.
    State(Vec<u8>),
    /// A package begins.
    Package { digest: String, size: u64 },
    /// Bytes of the package.
    Data(Vec<u8>),
}

/// Writes a backup.
pub struct BackupWriter<W> {
    out: W,
    hash: Sha256,
    records: u64,
    bytes: u64,
}

impl<W: Write> BackupWriter<W> {
    /// Begins.
    pub fn new(out: W, head: &BackupHead) -> io::Result<Self> {
        let mut this = Self { out, hash: Sha256::new(), records: 0, bytes: 0 };
        this.put(MAGIC)?;
        this.put(&FORMAT.to_be_bytes())?;
        let text = serde_json::to_vec(head)?;
        this.record(HEAD, &text)?;
        Ok(this)
    }

    /// The State.
    pub fn state(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(PIECE).try_for_each(|piece| self.record(STATE, piece))
    }

    /// A package, read to its end; its size must be the one said.
    pub fn package(&mut self, digest: &str, size: u64, mut from: impl Read) -> io::Result<()> {
        let mut head = size.to_be_bytes().to_vec();
        head.extend_from_slice(digest.as_bytes());
        self.record(PACKAGE, &head)?;
        let mut piece = vec![0; PIECE];
        let mut sent = 0_u64;
        loop {
            let n = from.read(&mut piece)?;
            if n == 0 {
                break;
            }
            self.record(DATA, &piece[..n])?;
            sent = sent.saturating_add(n as u64);
        }
        if sent == size {
            return Ok(());
        }
        Err(io::Error::other(format!("package {digest} has {sent} bytes on this node's disk instead of {size}")))
    }

    /// Ends; the target, and how long the whole is.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        let all = self.hash.clone().finalize();
        self.record(END, &all)?;
        self.out.flush()?;
        Ok((self.out, self.bytes))
    }

    fn record(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut head = vec![kind];
        head.extend_from_slice(&len.to_be_bytes());
        head.extend_from_slice(&checksum(self.records, kind, len, payload).to_be_bytes());
        self.records = self.records.saturating_add(1);
        self.put(&head)?;
        self.put(payload)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.out.write_all(bytes)
    }
}

/// Reads a backup.
pub struct BackupReader<R> {
    from: R,
    hash: Sha256,
    records: u64,
    bytes: u64,
}

impl<R: Read> BackupReader<R> {
    /// Reads the beginning.
    pub fn new(from: R) -> Result<(Self, BackupHead), BackupError> {
        let mut this = Self { from, hash: Sha256::new(), records: 0, bytes: 0 };
        let magic = this.take(MAGIC.len()).map_err(|e| match e {
            BackupError::Damaged { .. } => BackupError::NotABackup,
            other => other,
        })?;
        if magic != MAGIC {
            return Err(BackupError::NotABackup);
        }
        let format = this.take(2)?;
        let format = u16::from_be_bytes([format[0], format[1]]);
        if format > FORMAT {
            return Err(BackupError::Newer { found: format });
        }
        if format == 0 {
            return Err(this.damaged(8, "its format is 0"));
        }
        let at = this.bytes;
        match this.record()? {
            (HEAD, text) => {
                let head = serde_json::from_slice(&text).map_err(|e| this.damaged(at, format!("its head: {e}")))?;
                Ok((this, head))
            }
            (kind, _) => Err(this.damaged(at, format!("record of kind {kind} instead of the head"))),
        }
    }

    /// The next part; `None` at the end, once all of it is proven whole.
    pub fn next_part(&mut self) -> Result<Option<Part>, BackupError> {
        let at = self.bytes;
        let before = self.hash.clone();
        match self.record()? {
            (STATE, bytes) => Ok(Some(Part::State(bytes))),
            (DATA, bytes) => Ok(Some(Part::Data(bytes))),
            (PACKAGE, bytes) => match bytes.split_first_chunk::<8>() {
                Some((size, digest)) => {
                    let digest = String::from_utf8_lossy(digest).into_owned();
                    Ok(Some(Part::Package { digest, size: u64::from_be_bytes(*size) }))
                }
                None => Err(self.damaged(at, "a package without a size")),
            },
            (END, bytes) if bytes[..] != before.finalize()[..] => Err(self.damaged(at, "its SHA-256 does not match")),
            (END, _) => {
                let mut one = [0];
                match self.from.read(&mut one)? {
                    0 => Ok(None),
                    _ => Err(self.damaged(self.bytes, "bytes after its end")),
                }
            }
            (kind, _) => Err(self.damaged(at, format!("record of unknown kind {kind}"))),
        }
    }

    /// How far it was read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.bytes
    }

    fn record(&mut self) -> Result<(u8, Vec<u8>), BackupError> {
        let at = self.bytes;
        let head = self.take(9)?;
        let kind = head[0];
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let crc = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if len as usize > MAX_RECORD {
            return Err(self.damaged(at, format!("a record of {len} bytes")));
        }
        let payload = self.take(len as usize)?;
        if checksum(self.records, kind, len, &payload) != crc {
            return Err(self.damaged(at, "checksum does not match"));
        }
        self.records = self.records.saturating_add(1);
        Ok((kind, payload))
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, BackupError> {
        let mut bytes = vec![0; len];
        match self.from.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.damaged(self.bytes, "it is cut short"));
            }
            Err(e) => return Err(e.into()),
        }
        self.hash.update(&bytes);
        self.bytes = self.bytes.saturating_add(len as u64);
        Ok(bytes)
    }

    fn damaged(&self, at: u64, why: impl Into<String>) -> BackupError {
        BackupError::Damaged { at, why: why.into() }
    }
}

fn checksum(number: u64, kind: u8, len: u32, payload: &[u8]) -> u32 {
    let head = [&number.to_be_bytes()[..], &[kind], &len.to_be_bytes()].concat();
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head() -> BackupHead {
        BackupHead {
            cluster: "c-1".into(),
            name: "test".into(),
            index: 7,
            term: 2,
            incarnation: 1,
            level: 1,
            build: "0".into(),
            wall_ms: 1,
            state_bytes: 5,
            packages: 1,
            package_bytes: 3,
            left_out: 0,
        }
    }

    fn small() -> Vec<u8> {
        let mut writer = BackupWriter::new(Vec::new(), &head()).unwrap();
        writer.state(b"state").unwrap();
        writer.package(&"a".repeat(64), 3, &b"abc"[..]).unwrap();
        writer.finish().unwrap().0
    }

    fn read(bytes: &[u8]) -> Result<Vec<Part>, BackupError> {
        let (mut reader, found) = BackupReader::new(bytes)?;
        assert_eq!(found, head());
        let mut parts = Vec::new();
        while let Some(part) = reader.next_part()? {
            parts.push(part);
        }
        Ok(parts)
    }

    #[test]
    fn what_was_written_is_read() {
        let parts = read(&small()).unwrap();
        let package = Part::Package { digest: "a".repeat(64), size: 3 };
        assert_eq!(parts, [Part::State(b"state".to_vec()), package, Part::Data(b"abc".to_vec())]);
    }

    #[test]
    fn other_files_and_later_formats_are_told_apart() {
        assert!(matches!(read(b"x"), Err(BackupError::NotABackup)));
        assert!(matches!(read(b"something else altogether"), Err(BackupError::NotABackup)));
        let mut later = small();
        later[9] = 9;
        assert!(read(&later).unwrap_err().to_string().contains("backup format 9"));
        let mut writer = BackupWriter::new(Vec::new(), &head()).unwrap();
        assert!(writer.package("d", 4, &b"abc"[..]).unwrap_err().to_string().contains("3 bytes"));
    }

    #[test]
    fn every_cut_and_every_byte_added_is_found() {
        let whole = small();
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "cut at {len}");
        }
        assert!(read(&[&whole[..], b"x"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn every_changed_byte_is_found(at in 0_usize..4096, by in 1_u8..=255) {
            let mut bytes = small();
            let at = at % bytes.len();
            bytes[at] ^= by;
            prop_assert!(read(&bytes).is_err());
        }
    }
}
