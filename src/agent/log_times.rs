//! When the lines of a log were written: notes beside the log, each of how long the log was at what time.
//!
//! A program writes its log itself, so that a shim or an agent that dies stops no program and loses no line. So nobody
//! sees a line as it is written. The shim looks at the log five times a second, and notes how long it has become and
//! when it was last written to, as its file system says. A line has the time of the first note that covers its first
//! byte. What a program writes costs nothing more, however much that is.
//!
//! Invariants: lengths rise from note to note; a note is 16 bytes (length, Unix ms; little-endian) in its place, so
//! that a torn one is written again; there are at most [`MOST`], and of old lines notes are further apart; notes that
//! do not fit their log are worth nothing. They are not synced: after a power cut, lines may lack a note and have the
//! time of the next. Not here: when to look (`shim`), and lines (`logs`).

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::files;

/// Notes of one log at most.
const MOST: usize = 16_384;
/// Bytes of a note.
const SIZE: u64 = 16;
/// When there are too many, notes are left out where their neighbours are this part of their age apart, or nearer.
const PART: u64 = 500;

/// The log had this length at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    length: u64,
    wall_ms: u64,
}

impl Note {
    fn bytes(self) -> [u8; SIZE as usize] {
        (u128::from(self.wall_ms) << 64 | u128::from(self.length)).to_le_bytes()
    }

    fn read(bytes: [u8; SIZE as usize]) -> Self {
        let both = u128::from_le_bytes(bytes);
        // The lower and the upper half.
        Self { length: both as u64, wall_ms: (both >> 64) as u64 }
    }
}

/// When a file was last written to, in Unix ms.
pub fn written(meta: &Metadata) -> u64 {
    let ms = meta.mtime().saturating_mul(1000).saturating_add(meta.mtime_nsec() / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}

/// What the shim writes.
#[derive(Debug)]
pub struct Notes {
    path: PathBuf,
    all: Vec<Note>,
}

impl Notes {
    /// Those that an earlier shim wrote.
    pub fn open(path: PathBuf) -> Self {
        let all = after(&path, 0).unwrap_or_default();
        Self { path, all }
    }

    /// Notes that the log has this length and was last written at that time, if it has grown; bytes before `front` are
    /// gone.
    pub fn note(&mut self, length: u64, wall_ms: u64, front: u64) -> io::Result<()> {
        let last = self.all.last().map_or(0, |n| n.length);
        if length < last {
            // Somebody emptied the log.
            self.replace(Vec::new())?;
        }
        if length <= self.all.last().map_or(0, |n| n.length) {
            return Ok(());
        }
        if self.all.len() >= MOST {
            self.replace(thinned(&self.all, front))?;
        }
        let note = Note { length, wall_ms };
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.path)?;
        file.write_all_at(&note.bytes(), self.all.len() as u64 * SIZE)?;
        self.all.push(note);
        Ok(())
    }

    /// The log has lost so many bytes at its front, and what is left begins at zero.
    pub fn front_is_gone(&mut self, bytes: u64) -> io::Result<()> {
        let left = self.all.iter().filter(|n| n.length > bytes);
        self.replace(left.map(|n| Note { length: n.length - bytes, ..*n }).collect())
    }

    fn replace(&mut self, all: Vec<Note>) -> io::Result<()> {
        let bytes: Vec<u8> = all.iter().flat_map(|n| n.bytes()).collect();
        files::replace(&self.path, &bytes, 0o600)?;
        self.all = all;
        Ok(())
    }
}

/// The notes without those of bytes that are gone, and fewer of old lines. A note that is left out leaves its lines to
/// the next one.
fn thinned(all: &[Note], front: u64) -> Vec<Note> {
    let now = all.last().map_or(0, |n| n.wall_ms);
    let mut kept: Vec<Note> = Vec::with_capacity(all.len());
    let left: Vec<&Note> = all.iter().filter(|n| n.length > front).collect();
    for (n, note) in left.iter().enumerate() {
        let near = match (kept.last(), left.get(n + 1)) {
            (Some(before), Some(next)) => {
                next.wall_ms.saturating_sub(before.wall_ms) <= now.saturating_sub(next.wall_ms) / PART
            }
            (None, _) | (_, None) => false,
        };
        if !near {
            kept.push(**note);
        }
    }
    // A clock that jumped makes ages that mean nothing.
    if kept.len() > MOST / 4 * 3 {
        kept = kept.into_iter().skip(1).step_by(2).collect();
    }
    kept
}

/// Notes of what lies behind an offset.
fn after(path: &Path, from: u64) -> io::Result<Vec<Note>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let read = |n: u64| {
        let mut bytes = [0; SIZE as usize];
        file.read_exact_at(&mut bytes, n * SIZE).map(|()| Note::read(bytes))
    };
    let end = file.metadata()?.len() / SIZE;
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low + (high - low) / 2;
        if read(middle)?.length <= from { low = middle + 1 } else { high = middle }
    }
    let mut bytes = vec![0; usize::try_from((end - low) * SIZE).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, low * SIZE)?;
    let (notes, _) = bytes.as_chunks();
    Ok(notes.iter().map(|n| Note::read(*n)).collect())
}

/// When the lines behind some offset of a log were written.
#[derive(Debug, Default)]
pub struct Times {
    notes: Vec<Note>,
    /// When the log was last written to: the time of what no note covers yet.
    last: u64,
}

impl Times {
    /// Of a log, from an offset on; `meta` is the log's. Notes that cannot be read are none.
    pub fn read(path: &Path, from: u64, meta: &Metadata) -> Self {
        let mut notes = after(path, from).unwrap_or_else(|e| {
            tracing::warn!(notes = %path.display(), "cannot read: {e}");
            Vec::new()
        });
        if notes.last().is_some_and(|n| n.length > meta.len()) {
            // Of what the log held before somebody emptied it.
            notes.clear();
        }
        Self { notes, last: written(meta) }
    }

    /// When the line that begins at an offset was written, in Unix ms.
    pub fn at(&self, offset: u64) -> u64 {
        let covering = self.notes.partition_point(|n| n.length <= offset);
        self.notes.get(covering).map_or(self.last, |n| n.wall_ms)
    }

    /// Where begins what was written at a time or later; the log has this length.
    pub fn begin(&self, wall_ms: u64, length: u64) -> u64 {
        let before = self.notes.iter().take_while(|n| n.wall_ms < wall_ms).last().map_or(0, |n| n.length);
        let covered = self.notes.last().map_or(0, |n| n.length);
        if before == covered && self.last < wall_ms { length } else { before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of this length, last written at that time, and the path of its notes.
    fn log(dir: &Path, length: u64, wall_ms: u64) -> (Metadata, PathBuf) {
        let path = dir.join("out.log");
        let file = File::create(&path).unwrap();
        file.set_len(length).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_millis(wall_ms)).unwrap();
        (file.metadata().unwrap(), dir.join("out.times"))
    }

    #[test]
    fn a_line_has_the_time_of_the_first_note_that_covers_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let (meta, path) = log(dir.path(), 40, 9_000);
        let mut notes = Notes::open(path.clone());
        for (length, at) in [(0, 500), (10, 1_000), (10, 1_500), (30, 2_000)] {
            notes.note(length, at, 0).unwrap();
        }
        let times = Times::read(&path, 0, &meta);
        // The last one is not noted yet.
        assert_eq!([0, 9, 10, 29, 30].map(|at| times.at(at)), [1_000, 1_000, 2_000, 2_000, 9_000]);
        assert_eq!([0, 1_000, 1_001, 2_001, 9_001].map(|at| times.begin(at, 40)), [0, 0, 10, 30, 40]);
        let times = Times::read(&path, 10, &meta);
        assert_eq!([10, 30].map(|at| times.at(at)), [2_000, 9_000]);
        // A shim that begins goes on with them; a torn note is written again in its place.
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut &file, &[7; 5]).unwrap();
        let mut notes = Notes::open(path.clone());
        notes.note(40, 9_000, 0).unwrap();
        assert_eq!(after(&path, 0).unwrap(), notes.all);
        assert_eq!(notes.all.len(), 3);
    }

    #[test]
    fn notes_of_a_log_that_somebody_emptied_say_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (meta, path) = log(dir.path(), 20, 9_000);
        let mut notes = Notes::open(path.clone());
        notes.note(30, 1_000, 0).unwrap();
        assert_eq!(Times::read(&path, 0, &meta).at(0), 9_000);
        notes.note(20, 9_000, 0).unwrap();
        assert_eq!(notes.all, [Note { length: 20, wall_ms: 9_000 }]);
        // The front is gone on a file system without holes.
        notes.note(50, 9_500, 0).unwrap();
        notes.front_is_gone(25).unwrap();
        assert_eq!(notes.all, [Note { length: 25, wall_ms: 9_500 }]);
        assert_eq!(after(&path, 0).unwrap(), notes.all);
    }

    #[test]
    fn notes_of_a_program_that_writes_for_days_are_few_and_right_to_a_five_hundredth_of_their_age() {
        let dir = tempfile::tempdir().unwrap();
        let (_, path) = log(dir.path(), 0, 0);
        let mut notes = Notes { path: path.clone(), all: Vec::new() };
        // Three days, five notes a second; only the thinning writes to the disk.
        let (each, all) = (200, 3 * 86_400_000);
        for at in (each..=all).step_by(200) {
            if notes.all.len() >= MOST {
                notes.replace(thinned(&notes.all, 0)).unwrap();
                assert!(notes.all.len() < MOST / 4 * 3, "{}", notes.all.len());
            }
            notes.all.push(Note { length: at, wall_ms: at });
        }
        notes.replace(thinned(&notes.all, 0)).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() <= MOST as u64 * SIZE);
        for pair in notes.all.windows(2) {
            let (apart, age) = (pair[1].wall_ms - pair[0].wall_ms, all - pair[0].wall_ms);
            assert!(apart <= age / PART + each, "{apart} ms apart at an age of {age} ms");
        }
        // What is gone needs no notes.
        assert!(thinned(&notes.all, all - 1_000).len() <= 5);
        // Nor does a clock that was set back make them pile up.
        let odd: Vec<Note> = (0..MOST as u64).map(|n| Note { length: n + 1, wall_ms: n.min(1) }).collect();
        assert!(thinned(&odd, 0).len() <= MOST / 2);
    }
}
