//! Tells a torn tail of the write-ahead log from damage, before RocksDB reads it.
//!
//! Every batch carries how far the log was known to be durable when it was written (its *mark*, a sequence number).
//! Where the files stop making sense, a sound batch further on whose mark covers the cut proves that durable bytes
//! changed: the node refuses, with the file's name. Without such a proof it is the tail that a crash tore: it was never
//! acknowledged and is cut off.
//!
//! Invariants: nothing is cut that a later batch says was durable; after a cut the files are a prefix of what was
//! written.
//!
//! Deliberately not here: what batches contain. What cannot be told: damage within what the very last syncs made
//! durable, as no later batch says that it was.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
};

use super::{
    Result, StorageError,
    files::{io_at, sync_dir},
};

/// First bytes of a mark within a batch.
const MAGIC: &[u8; 4] = b"SLWD";
const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;
/// Of a batch: sequence number and count.
const BATCH: usize = 12;
/// RocksDB's tag of data that lives in the log alone.
const LOG_DATA: u8 = 3;
/// Kinds of a record's parts: whole, first, middle, last.
const PARTS: std::ops::RangeInclusive<u8> = 1..=4;

/// What a batch carries as log data, put in first: "everything up to `durable` is synced".
pub(super) fn mark(durable: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..].copy_from_slice(&durable.to_le_bytes());
    bytes
}

/// How far a file makes sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sound {
    /// End of its last whole record.
    pub(super) end: usize,
    /// Nothing but padding follows.
    pub(super) whole: bool,
    /// The sequence number after its last batch.
    pub(super) next: Option<u64>,
}

/// Reads the records of a file in RocksDB's log format (write-ahead logs and manifests).
pub(super) fn scan(bytes: &[u8]) -> Sound {
    let mut sound = Sound { end: 0, whole: false, next: None };
    // First bytes of the record whose parts are being read.
    let mut open: Option<Vec<u8>> = None;
    let mut at = 0;
    loop {
        let left = BLOCK - at % BLOCK;
        if left < HEADER {
            at += left;
        }
        if at >= bytes.len() {
            sound.whole = open.is_none();
            return sound;
        }
        let Some((kind, payload)) = part(bytes, at) else { return sound };
        at += HEADER + payload.len();
        let begins = matches!(kind, 1 | 2);
        if begins == open.is_some() {
            return sound;
        }
        let start = open.get_or_insert_default();
        let wanted = BATCH.saturating_sub(start.len()).min(payload.len());
        start.extend_from_slice(&payload[..wanted]);
        if matches!(kind, 1 | 4) {
            let number = start.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
            let count = start.get(8..BATCH).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
            if let (Some(number), Some(count)) = (number, count) {
                sound.next = Some(number.saturating_add(count.into()));
            }
            open = None;
            sound.end = at;
        }
    }
}

/// The part of a record that begins at `at`, if its checksum holds.
fn part(bytes: &[u8], at: usize) -> Option<(u8, &[u8])> {
    let head = bytes.get(at..at.checked_add(HEADER)?)?;
    let stated = u32::from_le_bytes(head[..4].try_into().ok()?);
    let len = usize::from(u16::from_le_bytes([head[4], head[5]]));
    let kind = head[6];
    if !PARTS.contains(&kind) || at % BLOCK + HEADER + len > BLOCK {
        return None;
    }
    let payload = bytes.get(at + HEADER..at + HEADER + len)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload);
    // RocksDB stores checksums rotated and shifted, so that a log within a log does not look like one.
    (crc.rotate_right(15).wrapping_add(0xa282_ead8) == stated).then_some((kind, payload))
}

/// The largest mark of any sound batch that begins at `from` or after, wherever it stands.
fn largest_mark(bytes: &[u8], from: usize) -> Option<u64> {
    let marks = (from..bytes.len().saturating_sub(HEADER)).filter_map(|at| {
        let (kind, payload) = part(bytes, at)?;
        let data = payload.get(BATCH..).filter(|_| matches!(kind, 1 | 2))?;
        let (head, rest) = data.split_first_chunk::<6>()?;
        (head[0] == LOG_DATA && head[1] == 12 && head.ends_with(MAGIC))
            .then(|| rest.first_chunk::<8>().map(|b| u64::from_le_bytes(*b)))?
    });
    marks.max()
}

/// Checks all write-ahead logs in `dir`, oldest first; cuts a torn tail off, refuses damage. `floor` is a sequence
/// number that is durable in tables already.
pub(super) fn check(dir: &Path, floor: u64) -> Result<()> {
    let mut next = floor.saturating_add(1);
    let mut cut: Option<(PathBuf, usize)> = None;
    let mut proof: Option<u64> = None;
    let mut beyond = Vec::new();
    for file in logs(dir)? {
        let bytes = fs::read(&file).map_err(io_at("cannot read", &file))?;
        if cut.is_some() {
            proof = proof.max(largest_mark(&bytes, 0));
            beyond.push(file);
            continue;
        }
        let sound = scan(&bytes);
        next = next.max(sound.next.unwrap_or_default());
        if !sound.whole {
            proof = largest_mark(&bytes, sound.end.saturating_add(1));
            cut = Some((file, sound.end));
        }
    }
    let Some((file, end)) = cut else { return Ok(()) };
    if proof.is_some_and(|durable| durable >= next) {
        return Err(StorageError::DamagedLog { file, at: end as u64 });
    }
    tracing::warn!(file = %file.display(), at = end, "the log's tail was torn by a crash before it was durable; it is cut off");
    let open = OpenOptions::new().write(true).open(&file).map_err(io_at("cannot cut", &file))?;
    open.set_len(end as u64).and_then(|()| open.sync_all()).map_err(io_at("cannot cut", &file))?;
    for file in beyond {
        fs::remove_file(&file).map_err(io_at("cannot remove", &file))?;
    }
    sync_dir(dir)
}

/// The write-ahead logs by number.
fn logs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for file in fs::read_dir(dir).map_err(io_at("cannot list", dir))? {
        let path = file.map_err(io_at("cannot list", dir))?.path();
        let number = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".log"));
        if let Some(number) = number.and_then(|n| n.parse::<u64>().ok()) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(number: u64, durable: u64, body: &[u8]) -> Vec<u8> {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.extend_from_slice(&[LOG_DATA, 12]);
        bytes.extend_from_slice(&mark(durable));
        bytes.extend_from_slice(body);
        bytes
    }

    fn written(batches: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for b in batches {
            assert!(out.len() % BLOCK + HEADER + b.len() <= BLOCK, "these tests use one part a record");
            let crc = crc32c::crc32c_append(crc32c::crc32c(&[1]), b).rotate_right(15).wrapping_add(0xa282_ead8);
            out.extend_from_slice(&crc.to_le_bytes());
            out.extend_from_slice(&u16::try_from(b.len()).unwrap().to_le_bytes());
            out.push(1);
            out.extend_from_slice(b);
        }
        out
    }

    fn run(bytes: &[u8]) -> (Result<()>, u64) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("000007.log");
        fs::write(&file, bytes).unwrap();
        (check(dir.path(), 0), fs::metadata(&file).unwrap().len())
    }

    #[test]
    fn a_torn_tail_is_cut_and_a_covered_cut_is_damage() {
        // Each batch was written after the one before it was synced.
        let sound = written(&[batch(1, 0, b"one"), batch(2, 1, b"two"), batch(3, 2, b"three"), batch(4, 3, b"four")]);
        let (ok, len) = run(&sound);
        assert!(ok.is_ok() && len == sound.len() as u64);
        let one = HEADER + batch(1, 0, b"one").len();
        for at in 0..2 * one {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x10;
            let said = run(&bytes).0.unwrap_err().to_string();
            assert!(said.contains("000007.log is damaged"), "{said}");
        }
        // Nothing later says that the last batch was durable: to all appearance a torn tail.
        let last = sound.len() - 1;
        let mut bytes = sound.clone();
        bytes[last] ^= 1;
        let (ok, len) = run(&bytes);
        ok.unwrap();
        assert_eq!(len as usize, sound.len() - HEADER - batch(4, 3, b"four").len());
        // A hole before a batch that was written before any sync is torn too.
        let unsynced = written(&[batch(1, 0, b"one"), batch(2, 0, b"two"), batch(3, 0, b"three")]);
        let mut bytes = unsynced;
        bytes[one..one + 9].fill(0);
        let (ok, len) = run(&bytes);
        ok.unwrap();
        assert_eq!(len as usize, one);
    }

    proptest! {
        #[test]
        fn any_bytes_are_scanned_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0_usize..400) {
            let _ = scan(&bytes);
            let mut mixed = written(&[batch(1, 0, b"x"), batch(2, 1, b"y")]);
            mixed.splice(at.min(mixed.len()).., bytes);
            prop_assert!(scan(&mixed).end <= mixed.len());
            let _ = largest_mark(&mixed, 0);
        }
    }
}
