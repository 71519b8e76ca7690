//! The logs of an instance, kept small: a hole takes the place of the oldest lines.
//!
//! Invariants: the program goes on appending to the same file; the newest lines survive. Not here: reading logs
//! (`agent/logs.rs`).

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    time::Duration,
};

use super::{InstanceDir, console, files};

/// A log file that takes more than this loses its oldest lines. It takes that and what is written between two looks:
/// programs hold the file, so less cannot be promised.
const LOG_CAP: u64 = 10 << 20;
/// Time between looks at the log files.
const LOG_LOOK: Duration = Duration::from_secs(1);
/// Holes are made of whole blocks.
const LOG_BLOCK: u64 = 4096;
/// A file whose hole has become this long begins anew: no file system takes files of any length.
const LOG_LENGTH: u64 = 1 << 40;
/// What a file that cannot have a hole keeps.
const LOG_KEPT: u64 = 1 << 20;
/// Never ends, whatever the disk says.
pub(super) fn keep_logs_small(dir: &InstanceDir) {
    let mut said = String::new();
    let mut cut = [0; 2];
    for stream in ["out", "err"] {
        // What an older version moved aside.
        let _ = files::remove_if_there(&dir.path().join(format!("{stream}.log.1")));
    }
    loop {
        std::thread::sleep(LOG_LOOK);
        for (stream, cut) in ["out", "err"].into_iter().zip(&mut cut) {
            match keep_small(&dir.log(stream), LOG_CAP, *cut) {
                Ok(at) => *cut = at,
                Err(e) => {
                    let text = format!("slipwayd shim: log {stream}: {e}");
                    if text != said {
                        console::note(&text);
                        said = text;
                    }
                }
            }
        }
    }
}

/// Cuts the front off a log that takes more than `cap`, where it was last cut off at `before`: a hole takes its place,
/// so nothing is copied and it works on a full disk. The program goes on appending to the same file. Gives where the
/// log begins now.
fn keep_small(log: &Path, cap: u64, before: u64) -> io::Result<u64> {
    let size = match fs::metadata(log) {
        Ok(meta) => meta.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    // Somebody else may have emptied it.
    let before = if size < before { 0 } else { before };
    if size - before <= cap {
        return Ok(before);
    }
    let file = fs::OpenOptions::new().read(true).write(true).open(log)?;
    let upto = (size - cap / 4 * 3) / LOG_BLOCK * LOG_BLOCK;
    if size < LOG_LENGTH {
        use rustix::fs::{FallocateFlags, fallocate};
        if fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, upto).is_ok() {
            return Ok(upto);
        }
    }
    begin_anew(file, size, LOG_KEPT.min(cap / 2))?;
    Ok(0)
}

/// Empties a log and writes its newest lines again: for file systems without holes. What is written meanwhile may be
/// lost.
fn begin_anew(mut file: fs::File, size: u64, keep: u64) -> io::Result<()> {
    use io::{Seek, SeekFrom};
    file.seek(SeekFrom::Start(size.saturating_sub(keep)))?;
    let mut bytes = Vec::new();
    (&file).take(keep).read_to_end(&mut bytes)?;
    file.set_len(0)?;
    let whole = bytes.iter().position(|b| *b == b'\n').map_or(0, |n| n + 1);
    rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::APPEND)?;
    file.write_all(bytes.get(whole..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(log: &Path) -> u64 {
        std::os::unix::fs::MetadataExt::blocks(&fs::metadata(log).unwrap()) * 512
    }

    #[test]
    fn a_log_takes_its_cap_and_the_newest_lines_survive() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("out.log");
        assert_eq!(keep_small(&dir.path().join("none"), 10, 0).unwrap(), 0);
        let cap = 64 << 10;
        let mut writer = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let (mut cut, mut n) = (0, 0);
        for _ in 0..200 {
            for _ in 0..100 {
                n += 1;
                writeln!(writer, "line {n:040}").unwrap();
            }
            cut = keep_small(&log, cap, cut).unwrap();
            assert!(taken(&log) <= cap + LOG_BLOCK, "{}", taken(&log));
        }
        assert!(cut > 0 && fs::metadata(&log).unwrap().len() == 46 * n);
        let bytes = fs::read(&log).unwrap();
        let text = String::from_utf8(bytes[usize::try_from(cut).unwrap()..].to_vec()).unwrap();
        assert!(text.len() >= 48 << 10 && text.ends_with(&format!("line {n:040}\n")));
        // A shim that begins knows nothing of what was cut off before.
        assert!(keep_small(&log, cap, 0).unwrap() >= cut);
        // Somebody empties it.
        writer.set_len(0).unwrap();
        assert_eq!(keep_small(&log, cap, cut).unwrap(), 0);
    }

    #[test]
    fn without_holes_the_newest_lines_are_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("out.log");
        let mut writer = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        writer.write_all(b"0123\n4567\n89ab\n").unwrap();
        begin_anew(fs::OpenOptions::new().read(true).write(true).open(&log).unwrap(), 15, 8).unwrap();
        writer.write_all(b"next\n").unwrap();
        assert_eq!(fs::read(&log).unwrap(), b"89ab\nnext\n");
    }
}
