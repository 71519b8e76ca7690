//! A small file beside the database, written at each opening: how far the log was durable then, and where its manifest
//! stood.
//!
//! RocksDB makes a new, empty database when its `CURRENT` is missing, and takes a manifest whose last record seems torn
//! for a shorter one. Either would forget votes. With this file both are refused, with the name of what is damaged.
//!
//! Invariants: replaced as a whole; what it says was durable before it was written.
//!
//! Deliberately not here: the write-ahead log (`wal`).

use std::{fs, path::Path};

use super::{
    Result, StorageError,
    files::{io_at, replace},
    wal,
};

const NAME: &str = "durable";
const TEMP: &str = "durable.tmp";
const MAGIC: &[u8; 8] = b"SLIPMARK";
const FORMAT: u16 = 1;
const LEN: usize = 8 + 2 + 8 + 8 + 8 + 4;
const CURRENT: &str = "CURRENT";

/// What is known of the database from the last opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StoreMark {
    /// Sequence number that was in tables.
    pub(super) sequence: u64,
    manifest: u64,
    manifest_len: u64,
}

/// Reads the file and checks `CURRENT` and the manifest against it; `None` for a new database.
pub(super) fn check(dir: &Path) -> Result<Option<StoreMark>> {
    let path = dir.join(NAME);
    let known = match fs::read(&path) {
        Ok(bytes) => Some(parse(&bytes).map_err(|flaw| match flaw {
            Flaw::Damage(why) => StorageError::DamagedFile { file: path.clone(), why },
            Flaw::Newer(found) => StorageError::Format {
                what: format!("file {}", path.display()),
                found: found.into(),
                known: FORMAT.into(),
            },
        })?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(io_at("cannot read", &path)(e)),
    };
    let current = dir.join(CURRENT);
    let damaged = |why| StorageError::DamagedFile { file: current.clone(), why };
    if !current.exists() {
        return if known.is_some() { Err(damaged("it is missing")) } else { Ok(None) };
    }
    let number = manifest(&current)?.ok_or(damaged("it names no manifest"))?;
    let file = dir.join(name(number));
    let bytes = match fs::read(&file) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(damaged("the manifest that it names is missing"));
        }
        Err(e) => return Err(io_at("cannot read", &file)(e)),
    };
    let Some(known) = known else { return Ok(Some(StoreMark::default())) };
    if number < known.manifest {
        return Err(damaged("it names an old manifest"));
    }
    if number == known.manifest && (wal::scan(&bytes).end as u64) < known.manifest_len {
        return Err(StorageError::DamagedFile { file, why: "what was durable in it does not match its checksums" });
    }
    Ok(Some(known))
}

/// Records where the database stands: everything up to `sequence` is in tables.
pub(super) fn write(dir: &Path, sequence: u64) -> Result<()> {
    let current = dir.join(CURRENT);
    let number = manifest(&current)?.ok_or(StorageError::DamagedFile { file: current, why: "it names no manifest" })?;
    let file = dir.join(name(number));
    let bytes = fs::read(&file).map_err(io_at("cannot read", &file))?;
    let mark = StoreMark { sequence, manifest: number, manifest_len: wal::scan(&bytes).end as u64 };
    replace(dir, TEMP, NAME, &[&encode(&mark)])
}

fn manifest(current: &Path) -> Result<Option<u64>> {
    let bytes = fs::read(current).map_err(io_at("cannot read", current))?;
    let digits = bytes.strip_prefix(b"MANIFEST-").and_then(|b| b.strip_suffix(b"\n"));
    Ok(digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| d.parse().ok()))
}

fn name(manifest: u64) -> String {
    format!("MANIFEST-{manifest:06}")
}

fn encode(mark: &StoreMark) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&FORMAT.to_be_bytes());
    for number in [mark.sequence, mark.manifest, mark.manifest_len] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

enum Flaw {
    Damage(&'static str),
    Newer(u16),
}

fn parse(bytes: &[u8]) -> std::result::Result<StoreMark, Flaw> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Flaw::Damage("it does not begin as one of ours"))?;
    let (format, rest) = rest.split_first_chunk::<2>().ok_or(Flaw::Damage("too short"))?;
    let format = u16::from_be_bytes(*format);
    if format > FORMAT {
        return Err(Flaw::Newer(format));
    }
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(Flaw::Damage("too short"))?;
    if bytes.len() != LEN || crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return Err(Flaw::Damage("checksum does not match"));
    }
    let number = |at: usize| rest.get(at..).and_then(|r| r.first_chunk::<8>()).map_or(0, |b| u64::from_be_bytes(*b));
    Ok(StoreMark { sequence: number(0), manifest: number(8), manifest_len: number(16) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_keeps_its_bytes_and_refuses_a_newer_format() {
        let mark = StoreMark { sequence: 258, manifest: 3, manifest_len: 4 };
        let bytes = encode(&mark);
        // Written by format 1; these must be read for ever.
        let golden = [
            b"SLIPMARK\0\x01".as_slice(),
            &[0, 0, 0, 0, 0, 0, 1, 2],
            &[0, 0, 0, 0, 0, 0, 0, 3],
            &[0, 0, 0, 0, 0, 0, 0, 4],
        ];
        assert_eq!(bytes[..34], golden.concat());
        assert!(matches!(parse(&bytes), Ok(m) if m == mark));
        let mut newer = bytes;
        newer[9] = 2;
        assert!(matches!(parse(&newer), Err(Flaw::Newer(2))));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_or_any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0_usize..LEN, bit in 0_u8..8) {
            let _ = parse(&bytes);
            let mut flipped = encode(&StoreMark { sequence: 9, manifest: 9, manifest_len: 9 });
            flipped[at] ^= 1 << bit;
            prop_assert!(parse(&flipped).is_err());
        }
    }
}
