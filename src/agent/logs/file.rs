//! Reads of a log file: where its last lines begin, a piece of it, its end.
//!
//! Invariants: a block at most is in memory; a hole at the front, where the oldest lines were, is stepped over. Not
//! here: lines, and who waits for whom (`logs`).

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use crate::agent::log_times::Times;

/// Bytes looked through from the end of a file to find its last lines.
pub(super) const MAX_TAIL: u64 = 4 << 20;
/// Bytes read at a time.
pub(super) const BLOCK: usize = 64 << 10;

/// What of a log is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Last so many lines.
    pub lines: usize,
    /// Only what was written then or later, in Unix ms.
    pub from_wall_ms: u64,
}

/// Where to begin, and what is left out before it.
pub(super) struct Begin {
    pub at: u64,
    /// The size when it was looked at: without `follow` nothing after it is sent.
    pub end: u64,
    /// Whether there is anything, wanted or not.
    pub written: bool,
    pub left_out: Option<String>,
}

/// Where a file's bytes begin, behind the hole of what was cut off.
fn data_from(file: &File, at: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(found) => Ok(found),
        // Nothing but a hole, or the end.
        Err(rustix::io::Errno::NXIO) => Ok(file.metadata()?.len().max(at)),
        // A file system that knows no holes has none.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => Ok(at),
        Err(e) => Err(e.into()),
    }
}

fn read_at(file: &mut File, at: u64, most: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::with_capacity(most);
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Finds the place of the last lines that are wanted, from the end. `times` has the path of the log's times.
pub(super) fn last_lines(path: &Path, times: &Path, wanted: Wanted) -> io::Result<Begin> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    let end = meta.len();
    let front = data_from(&file, 0)?;
    let written = front < end;
    let begin = |at| Ok(Begin { at, end, written, left_out: None });
    if wanted.lines == 0 {
        return begin(end);
    }
    let young = match wanted.from_wall_ms {
        0 => front,
        from => Times::read(times, 0, &meta).begin(from, end).max(front),
    };
    let floor = young.max(end.saturating_sub(MAX_TAIL));
    // The last byte ends a line, or an unfinished one counts.
    let (mut at, mut found) = (end, 0_usize);
    while at > floor {
        let from = at.saturating_sub(BLOCK as u64).max(floor);
        let bytes = read_at(&mut file, from, usize::try_from(at - from).unwrap_or(BLOCK))?;
        for (n, _) in bytes.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let after = from + n as u64 + 1;
            if after < end {
                found += 1;
                if found == wanted.lines {
                    return begin(after);
                }
            }
        }
        at = from;
    }
    if floor == 0 {
        return begin(0);
    }
    // The middle of a line, unless the byte before ends one.
    let first = read_at(&mut file, floor - 1, BLOCK)?;
    let skip = first.iter().position(|b| *b == b'\n').map_or(0, |n| n as u64);
    let cut = found < wanted.lines && floor > young;
    let left_out = cut.then(|| format!("cut: only the last {} MiB of the log are looked through", MAX_TAIL >> 20));
    Ok(Begin { at: (floor + skip).min(end), end, written, left_out })
}

pub(super) struct Piece {
    pub bytes: Vec<u8>,
    /// Where they begin.
    pub at: u64,
    /// The file is shorter than before.
    pub restarted: bool,
    /// Bytes that were gone before they could be read.
    pub missed: u64,
    pub times: Times,
}

/// What a file holds from an offset on, a block at most; a file that is now shorter is read from its beginning. Its
/// times are those of lines that begin at `line` or later.
pub(super) fn piece_from(path: &Path, times: &Path, at: u64, to: u64, line: u64) -> io::Result<Piece> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    let size = meta.len();
    let (restarted, at) = if size < at { (true, 0) } else { (false, at) };
    let from = data_from(&file, at)?.min(size.max(at));
    // A program that seeks makes holes too; a front that was cut off is a story for whoever follows.
    let missed = if at > 0 { from - at } else { 0 };
    let most = usize::try_from(to.saturating_sub(from)).unwrap_or(BLOCK).min(BLOCK);
    let bytes = if from < size { read_at(&mut file, from, most)? } else { Vec::new() };
    let times = if bytes.is_empty() { Times::default() } else { Times::read(times, line.min(from), &meta) };
    Ok(Piece { bytes, at: from, restarted, missed, times })
}

/// The end of a log, so many bytes at most; empty when it cannot be read.
pub fn last_bytes(path: &Path, most: u64) -> Vec<u8> {
    let read = || {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        read_at(&mut file, end.saturating_sub(most), usize::try_from(most).unwrap_or(BLOCK))
    };
    read().unwrap_or_else(|_: io::Error| Vec::new())
}
