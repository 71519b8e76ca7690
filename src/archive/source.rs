//! The bytes of an archive: which compression it has, and bounds on what comes out of it.
//!
//! Invariant: a small archive fills neither the disk nor the memory, whatever it claims. Not here: what the bytes mean
//! (`entries`).

use std::{
    cell::Cell,
    fs,
    io::{self, Read},
    path::Path,
    rc::Rc,
};

use super::{ArchiveError, refused};
use crate::model::MAX_PACKAGE;

/// Most that stands between two entries' contents: the library holds long names and their like in memory.
pub const BETWEEN: u64 = 1 << 20;

/// What the reader of the tar and its owner both look at.
#[derive(Clone, Default)]
pub struct Gauge {
    /// How much may still be read before the next contents begin.
    pub between: Rc<Cell<u64>>,
    /// Whether the bytes were read to their end.
    pub ended: Rc<Cell<bool>>,
}

/// Reads at most so many bytes and then fails.
pub struct Capped {
    inner: Box<dyn Read>,
    left: u64,
    gauge: Gauge,
}

impl Read for Capped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if n == 0 && !buffer.is_empty() {
            self.gauge.ended.set(true);
        }
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than allowed when unpacked")),
        }
        match self.gauge.between.get().checked_sub(n as u64) {
            Some(left) => self.gauge.between.set(left),
            None => {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "an entry's headers are longer than 1 MiB"));
            }
        }
        Ok(n)
    }
}

/// First bytes of compressions that people use and agents do not know.
const FOREIGN: [(&[u8], &str); 5] =
    [(b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"\x04\x22\x4d\x18", "lz4"), (b"PK\x03\x04", "zip"), (b"LZIP", "lzip")];

/// Opens an archive and takes off its compression.
pub fn open(archive: &Path, bytes: u64, gauge: &Gauge) -> Result<Capped, ArchiveError> {
    let mut file = fs::File::open(archive).map_err(ArchiveError::Unreadable)?;
    let size = file.metadata().map_err(ArchiveError::Unreadable)?.len();
    if size > MAX_PACKAGE {
        return refused(format!(
            "it has {size} bytes, more than {MAX_PACKAGE}: leave out what the service does not read"
        ));
    }
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(512).read_to_end(&mut head).map_err(ArchiveError::Unreadable)?;
    if let Some((_, name)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return refused(format!(
            "it is compressed with {name}: make it a .tar.gz or .tar.zst, or name the directory to pack"
        ));
    }
    let (gzip, zstd) = (head.starts_with(&[0x1f, 0x8b]), head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    let tar = head.get(257..262) == Some(b"ustar");
    let blank = head.len() == 512 && head.iter().all(|b| *b == 0);
    let whole = io::BufReader::new(io::Cursor::new(head).chain(file));
    let inner: Box<dyn Read> = if gzip {
        Box::new(flate2::bufread::MultiGzDecoder::new(whole))
    } else if zstd {
        Box::new(zstd::stream::read::Decoder::with_buffer(whole).map_err(unreadable)?)
    } else if tar || blank {
        Box::new(whole)
    } else {
        return refused("it is neither a .tar.gz, a .tar.zst nor a .tar archive: name the directory to pack");
    };
    Ok(Capped { inner, left: bytes, gauge: gauge.clone() })
}

/// What cannot be read: the disk's fault, or the archive's.
pub fn unreadable(source: io::Error) -> ArchiveError {
    if source.raw_os_error().is_some() {
        return ArchiveError::Unreadable(source);
    }
    let said = source.to_string();
    let what = if said.contains("too much memory") {
        "an agent would need too much memory for it: compress it without --long and --ultra".into()
    } else {
        format!(
            "it is damaged, cut short or no tar archive inside ({said}): pack it again, or name the directory to pack"
        )
    };
    ArchiveError::Refused(what)
}
