//! Snapshot files: whole states, numbered by the log index they stand for.
//!
//! Invariants: a file under its final name is complete and synced (temporary name, sync, rename, directory sync);
//! length and checksum are verified before a byte is used; the newest two are kept, so that damage to one does not lose
//! the state.
//!
//! Deliberately not here: what the bytes mean, and any fall-back: a damaged newest file is refused by name. A person
//! may move it away; the one before and the log then give the same State, if the log still leads on from there
//! (`DataDir::check_joined`).
//!
//! Layout, big endian: magic `SLIPSNAP`, format u16, index u64, length of meta u32, length of body u64, CRC-32C u32
//! over everything else, then meta, then body.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    Result, StorageError,
    files::{ensure_dir, io_at, replace, sync_dir},
};

const MAGIC: &[u8; 8] = b"SLIPSNAP";
const FORMAT: u16 = 1;
const HEADER: usize = 8 + 2 + 8 + 4 + 8 + 4;
const KEEP: usize = 2;
const SUFFIX: &str = ".snapshot";
const TEMP: &str = "incomplete.tmp";

/// One verified snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The log index it stands for.
    pub index: u64,
    /// The caller's description of it.
    pub meta: Vec<u8>,
    /// The state.
    pub body: Vec<u8>,
}

/// The directory of snapshot files; clones share it, writers take turns.
#[derive(Clone, Debug)]
pub struct SnapshotDir {
    dir: PathBuf,
    writing: Arc<Mutex<()>>,
}

impl SnapshotDir {
    /// Opens or creates the directory; what an interrupted write left behind is removed.
    pub fn open(dir: &Path) -> Result<Self> {
        ensure_dir(dir)?;
        let temp = dir.join(TEMP);
        match fs::remove_file(&temp) {
            Ok(()) => sync_dir(dir)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_at("cannot remove", &temp)(e)),
        }
        Ok(Self { dir: dir.into(), writing: Arc::default() })
    }

    /// Writes a snapshot durably and removes all but the newest two.
    pub fn write(&self, index: u64, meta: &[u8], body: &[u8]) -> Result<()> {
        let meta_len = u32::try_from(meta.len()).map_err(|_| StorageError::Invalid {
            what: "snapshot description".into(),
            why: "it is larger than 4 GiB",
        })?;
        let mut head = Vec::with_capacity(HEADER);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&FORMAT.to_be_bytes());
        head.extend_from_slice(&index.to_be_bytes());
        head.extend_from_slice(&meta_len.to_be_bytes());
        head.extend_from_slice(&(body.len() as u64).to_be_bytes());
        let crc = checksum(&head, meta, body);
        head.extend_from_slice(&crc.to_be_bytes());
        let _turn = self.writing.lock();
        replace(&self.dir, TEMP, &name(index), &[&head, meta, body])?;
        for index in self.indexes()?.into_iter().rev().skip(KEEP) {
            self.remove(index)?;
        }
        Ok(())
    }

    /// The newest snapshot. If it is damaged: an error that names the file.
    pub fn newest(&self) -> Result<Option<Snapshot>> {
        self.indexes()?.last().map(|index| self.read(*index)).transpose()
    }

    /// The indexes of the files present, ascending; their content is not looked at.
    pub fn indexes(&self) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.dir).map_err(io_at("cannot list", &self.dir))? {
            let file = file.map_err(io_at("cannot list", &self.dir))?.file_name();
            let index = file.to_str().and_then(|f| f.strip_suffix(SUFFIX)).and_then(|f| f.parse::<u64>().ok());
            found.extend(index);
        }
        found.sort_unstable();
        Ok(found)
    }

    fn remove(&self, index: u64) -> Result<()> {
        let file = self.dir.join(name(index));
        fs::remove_file(&file).map_err(io_at("cannot remove", &file))
    }

    fn read(&self, index: u64) -> Result<Snapshot> {
        let file = self.dir.join(name(index));
        let bytes = fs::read(&file).map_err(io_at("cannot read", &file))?;
        parse(bytes).map_err(|why| match why {
            Flaw::Damage(why) => StorageError::DamagedSnapshot { file: file.clone(), why },
            Flaw::Newer(found) => StorageError::Format {
                what: format!("snapshot file {}", file.display()),
                found: found.into(),
                known: FORMAT.into(),
            },
        })
    }
}

enum Flaw {
    Damage(&'static str),
    Newer(u16),
}

fn parse(mut bytes: Vec<u8>) -> std::result::Result<Snapshot, Flaw> {
    let (head, rest) = bytes.split_at_checked(HEADER).ok_or(Flaw::Damage("shorter than its header"))?;
    if !head.starts_with(MAGIC) {
        return Err(Flaw::Damage("it does not begin as a snapshot"));
    }
    let format = u16::from_be_bytes(fixed(head, 8));
    if format > FORMAT {
        return Err(Flaw::Newer(format));
    }
    let index = u64::from_be_bytes(fixed(head, 10));
    let meta_len = u32::from_be_bytes(fixed(head, 18)) as usize;
    let body_len = u64::from_be_bytes(fixed(head, 22));
    let crc = u32::from_be_bytes(fixed(head, 30));
    let (meta, body) = rest.split_at_checked(meta_len).ok_or(Flaw::Damage("it is cut short"))?;
    if body.len() as u64 != body_len {
        return Err(Flaw::Damage("its length is not the stated one"));
    }
    if checksum(&head[..HEADER - 4], meta, body) != crc {
        return Err(Flaw::Damage("checksum does not match"));
    }
    let meta = meta.to_vec();
    // In place: a large body is not held twice.
    bytes.drain(..HEADER + meta_len);
    Ok(Snapshot { index, meta, body: bytes })
}

fn fixed<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    // Callers pass constant offsets inside a slice of HEADER bytes.
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn checksum(head: &[u8], meta: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(head), meta), body)
}

fn name(index: u64) -> String {
    format!("{index:020}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_keeps_its_bytes() {
        // Written by format 1; these must be read for ever.
        let golden = [
            b"SLIPSNAP\0\x01".as_slice(),
            &[0, 0, 0, 0, 0, 0, 1, 7, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5],
            &crc32c::crc32c(b"SLIPSNAP\0\x01\0\0\0\0\0\0\x01\x07\0\0\0\x04\0\0\0\0\0\0\0\x05metastate").to_be_bytes(),
            b"metastate",
        ]
        .concat();
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotDir::open(dir.path()).unwrap();
        store.write(263, b"meta", b"state").unwrap();
        assert_eq!(fs::read(dir.path().join(name(263))).unwrap(), golden);
        assert_eq!(store.newest().unwrap().unwrap().body, b"state");
    }

    #[test]
    fn the_newest_two_are_kept_and_the_newest_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotDir::open(dir.path()).unwrap();
        assert_eq!(store.newest().unwrap(), None);
        for i in [5, 90, 100] {
            store.write(i, b"meta", format!("state {i}").as_bytes()).unwrap();
        }
        assert_eq!(store.indexes().unwrap(), [90, 100]);
        let again = SnapshotDir::open(dir.path()).unwrap();
        let found = again.newest().unwrap().unwrap();
        assert_eq!(found, Snapshot { index: 100, meta: b"meta".to_vec(), body: b"state 100".to_vec() });
    }

    #[test]
    fn what_an_interrupted_write_left_is_ignored_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotDir::open(dir.path()).unwrap();
        store.write(1, b"", b"one").unwrap();
        fs::write(dir.path().join(TEMP), b"half").unwrap();
        fs::write(dir.path().join("notes.txt"), b"not ours").unwrap();
        assert_eq!(store.newest().unwrap().unwrap().body, b"one");
        SnapshotDir::open(dir.path()).unwrap();
        assert!(!dir.path().join(TEMP).exists());
        assert!(dir.path().join("notes.txt").exists());
    }

    #[test]
    fn a_damaged_file_is_refused_by_name_and_the_older_used_when_it_was_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotDir::open(dir.path()).unwrap();
        store.write(1, b"", b"one").unwrap();
        store.write(2, b"", b"two").unwrap();
        let file = dir.path().join(name(2));
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 4;
        fs::write(&file, &bytes).unwrap();
        let said = store.newest().unwrap_err().to_string();
        assert!(said.contains("00000000000000000002.snapshot is damaged"), "{said}");
        fs::rename(&file, dir.path().join("damaged")).unwrap();
        assert_eq!(store.newest().unwrap().unwrap().body, b"one");
    }

    #[test]
    fn a_newer_format_is_not_called_damage() {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotDir::open(dir.path()).unwrap();
        store.write(2, b"", b"two").unwrap();
        let file = dir.path().join(name(2));
        let mut bytes = fs::read(&file).unwrap();
        bytes[9] = 7;
        fs::write(&file, &bytes).unwrap();
        let said = store.newest().unwrap_err().to_string();
        assert!(said.contains("has format 7"), "{said}");
    }

    proptest! {
        #[test]
        fn any_flipped_bit_or_cut_is_found(at in 0_usize..60, bit in 0_u8..8, cut in 1_usize..60) {
            let dir = tempfile::tempdir().unwrap();
            let store = SnapshotDir::open(dir.path()).unwrap();
            store.write(3, b"some meta", b"a body of some bytes").unwrap();
            let file = dir.path().join(name(3));
            let sound = fs::read(&file).unwrap();
            let mut flipped = sound.clone();
            let at = at % flipped.len();
            flipped[at] ^= 1 << bit;
            fs::write(&file, &flipped).unwrap();
            prop_assert!(store.newest().is_err());
            fs::write(&file, &sound[..sound.len().saturating_sub(cut)]).unwrap();
            prop_assert!(store.newest().is_err());
        }
    }
}
