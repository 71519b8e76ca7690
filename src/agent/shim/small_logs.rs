//! The logs of an instance, looked at while the program writes them: when they grew is noted, and a hole takes the
//! place of the oldest lines.
//!
//! Invariants: the program goes on appending to the same file; the newest lines survive. Not here: what the notes look
//! like (`agent/log_times.rs`), reading logs (`agent/logs.rs`).

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{InstanceDir, console, files};
use crate::agent::log_times::{Notes, written};

/// A log file that takes more than this loses its oldest lines. It takes that and what is written between two looks:
/// programs hold the file, so less cannot be promised.
const LOG_CAP: u64 = 10 << 20;
/// Time between looks at the log files: lines' times are as exact.
const LOG_LOOK: Duration = Duration::from_millis(200);
/// Holes are made of whole blocks.
const LOG_BLOCK: u64 = 4096;
/// A file whose hole has become this long begins anew: no file system takes files of any length.
const LOG_LENGTH: u64 = 1 << 40;
/// What a file that cannot have a hole keeps.
const LOG_KEPT: u64 = 1 << 20;
const STREAMS: [&str; 2] = ["out", "err"];

/// Looks at the logs again and again. Never ends, whatever the disk says.
pub(super) fn keep_logs_small(dir: &InstanceDir) {
    let mut said = String::new();
    for stream in STREAMS {
        // What an older version moved aside.
        let _ = files::remove_if_there(&dir.path().join(format!("{stream}.log.1")));
    }
    let mut logs = STREAMS.map(|stream| Log::open(dir, stream));
    loop {
        std::thread::sleep(LOG_LOOK);
        for log in &mut logs {
            if let Err(e) = log.look() {
                let text = format!("slipwayd shim: {}: {e}", log.path.display());
                if text != said {
                    console::note(&text);
                    said = text;
                }
            }
        }
    }
}

/// Notes when the last lines of the run before were written: after the first lines of this one nobody can tell.
pub(super) fn look_once(dir: &InstanceDir) {
    for stream in STREAMS {
        if let Err(e) = Log::open(dir, stream).look() {
            console::note(&format!("slipwayd shim: {}: {e}", dir.log(stream).display()));
        }
    }
}

/// What is known of one log file.
struct Log {
    path: PathBuf,
    /// Where it was last cut off.
    cut: u64,
    notes: Notes,
}

impl Log {
    fn open(dir: &InstanceDir, stream: &str) -> Self {
        Self { path: dir.log(stream), cut: 0, notes: Notes::open(dir.log_times(stream)) }
    }

    fn look(&mut self) -> io::Result<()> {
        let meta = match fs::metadata(&self.path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        // Before a hole is made, as that is taken for a write too.
        let noted = self.notes.note(meta.len(), written(&meta), self.cut);
        let small = keep_small(&self.path, meta.len(), LOG_CAP, self.cut)?;
        self.cut = small.cut;
        noted?;
        if small.lost > 0 { self.notes.front_is_gone(small.lost) } else { Ok(()) }
    }
}

/// What became of a log that was to be small.
#[derive(Debug, PartialEq, Eq)]
struct Small {
    /// Where it begins now.
    cut: u64,
    /// Bytes that went without a hole, so that all behind them moved to the front.
    lost: u64,
}

/// Cuts the front off a log of this size that takes more than `cap`, where it was last cut off at `before`: a hole
/// takes its place, so nothing is copied and it works on a full disk. The program goes on appending to the same file.
fn keep_small(log: &Path, size: u64, cap: u64, before: u64) -> io::Result<Small> {
    // Somebody else may have emptied it.
    let before = if size < before { 0 } else { before };
    if size - before <= cap {
        return Ok(Small { cut: before, lost: 0 });
    }
    let file = fs::OpenOptions::new().read(true).write(true).open(log)?;
    let upto = (size - cap / 4 * 3) / LOG_BLOCK * LOG_BLOCK;
    if size < LOG_LENGTH {
        use rustix::fs::{FallocateFlags, fallocate};
        if fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, upto).is_ok() {
            return Ok(Small { cut: upto, lost: 0 });
        }
    }
    let kept = begin_anew(file, size, LOG_KEPT.min(cap / 2))?;
    Ok(Small { cut: 0, lost: size - kept })
}

/// Empties a log and writes its newest lines again, for file systems without holes; gives how many bytes those are.
/// What is written meanwhile may be lost.
fn begin_anew(mut file: fs::File, size: u64, keep: u64) -> io::Result<u64> {
    use io::{Seek, SeekFrom};
    file.seek(SeekFrom::Start(size.saturating_sub(keep)))?;
    let mut bytes = Vec::new();
    (&file).take(keep).read_to_end(&mut bytes)?;
    file.set_len(0)?;
    let whole = bytes.iter().position(|b| *b == b'\n').map_or(0, |n| n + 1);
    rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::APPEND)?;
    let lines = bytes.get(whole..).unwrap_or_default();
    file.write_all(lines)?;
    Ok(lines.len() as u64)
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
        let cap = 64 << 10;
        let small = |log: &Path, before| keep_small(log, fs::metadata(log).unwrap().len(), cap, before).unwrap().cut;
        let mut writer = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let (mut cut, mut n) = (0, 0);
        for _ in 0..200 {
            for _ in 0..100 {
                n += 1;
                writeln!(writer, "line {n:040}").unwrap();
            }
            cut = small(&log, cut);
            assert!(taken(&log) <= cap + LOG_BLOCK, "{}", taken(&log));
        }
        assert!(cut > 0 && fs::metadata(&log).unwrap().len() == 46 * n);
        let bytes = fs::read(&log).unwrap();
        let text = String::from_utf8(bytes[usize::try_from(cut).unwrap()..].to_vec()).unwrap();
        assert!(text.len() >= 48 << 10 && text.ends_with(&format!("line {n:040}\n")));
        // A shim that begins knows nothing of what was cut off before.
        assert!(small(&log, 0) >= cut);
        // Somebody empties it.
        writer.set_len(0).unwrap();
        assert_eq!(small(&log, cut), 0);
    }

    #[test]
    fn without_holes_the_newest_lines_are_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("out.log");
        let mut writer = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        writer.write_all(b"0123\n4567\n89ab\n").unwrap();
        let file = fs::OpenOptions::new().read(true).write(true).open(&log).unwrap();
        assert_eq!(begin_anew(file, 15, 8).unwrap(), 5);
        writer.write_all(b"next\n").unwrap();
        assert_eq!(fs::read(&log).unwrap(), b"89ab\nnext\n");
    }

    #[test]
    fn the_last_lines_of_a_run_keep_their_time_when_the_next_run_writes_on() {
        let root = tempfile::tempdir().unwrap();
        let dir = InstanceDir::at(root.path());
        let write = |bytes: &[u8], at: u64| {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(dir.log("err")).unwrap();
            file.write_all(bytes).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_millis(at)).unwrap();
        };
        write(b"fatal: no database\n", 1_000);
        // Its shim is gone before its next look, and another one begins.
        look_once(&dir);
        write(b"listens\n", 9_000);
        Log::open(&dir, "err").look().unwrap();
        let meta = fs::metadata(dir.log("err")).unwrap();
        let times = crate::agent::log_times::Times::read(&dir.log_times("err"), 0, &meta);
        assert_eq!((times.at(0), times.at(19)), (1_000, 9_000));
    }
}
