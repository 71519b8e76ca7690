//! A disk that forgets: the recording replayed, with what was not synced kept apart.
//!
//! The model: a sync of a file makes its writes so far, and its length, durable; a sync of a directory makes the names
//! in it durable. Everything else may be there or not, in any combination, in whole or in sectors. A file whose name is
//! not durable may be missing although its bytes were synced. Directories themselves are always there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A small generator (xorshift), so that a seed gives the same images everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Debug, Clone)]
pub enum Event {
    Create { path: PathBuf },
    Write { path: PathBuf, offset: usize, data: Vec<u8> },
    Cut { path: PathBuf, len: usize },
    Sync { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
}

/// Reads a recording; paths become relative to `root`.
pub fn read(trace: &Path, root: &Path) -> Vec<Event> {
    let bytes = fs::read(trace).unwrap();
    let mut rest = bytes.as_slice();
    let mut take = |n: usize| -> Vec<u8> {
        let (head, tail) = rest.split_at(n);
        rest = tail;
        head.to_vec()
    };
    let mut events = Vec::new();
    let mut left = bytes.len();
    while left > 0 {
        let op = take(1)[0];
        let offset = u64::from_ne_bytes(take(8).try_into().unwrap()) as usize;
        let path_len = u32::from_ne_bytes(take(4).try_into().unwrap()) as usize;
        let len = u64::from_ne_bytes(take(8).try_into().unwrap()) as usize;
        let relative = |bytes: Vec<u8>| {
            let path = PathBuf::from(String::from_utf8(bytes).unwrap());
            path.strip_prefix(root).unwrap_or_else(|_| panic!("{} is outside", path.display())).to_path_buf()
        };
        let path = relative(take(path_len));
        let data = take(len);
        left -= 21 + path_len + len;
        events.push(match op {
            b'C' => Event::Create { path },
            b'W' => Event::Write { path, offset, data },
            b'T' => Event::Cut { path, len: offset },
            b'S' => Event::Sync { path },
            b'R' => Event::Rename { from: path, to: relative(data) },
            b'U' => Event::Remove { path },
            other => panic!("unknown record {other}"),
        });
    }
    events
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

#[derive(Default, Clone)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Name {
    Set(PathBuf, usize),
    Drop(PathBuf),
    Move(PathBuf, PathBuf, usize),
}

impl Name {
    fn dir(&self) -> &Path {
        match self {
            Self::Set(path, _) | Self::Drop(path) | Self::Move(_, path, _) => path.parent().unwrap(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Set(path, id) => drop(names.insert(path.clone(), *id)),
            Self::Drop(path) => drop(names.remove(path)),
            Self::Move(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
        }
    }
}

/// The disk after some events.
#[derive(Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    pending: Vec<Name>,
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

impl Disk {
    /// The bytes of a file as the program saw them.
    pub fn now(&self, path: &str) -> &[u8] {
        self.names.get(Path::new(path)).map_or(&[], |id| &self.inodes[*id].now)
    }

    fn rename(&mut self, name: Name) {
        name.apply(&mut self.names);
        self.pending.push(name);
    }

    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Create { path } => {
                self.inodes.push(Inode::default());
                self.rename(Name::Set(path.clone(), self.inodes.len() - 1));
            }
            Event::Write { path, offset, data } => {
                let Some(id) = self.names.get(path) else { panic!("a write to {}, which nobody made", path.display()) };
                put(&mut self.inodes[*id].now, *offset, data);
                self.inodes[*id].pending.push(Change::Write(*offset, data.clone()));
            }
            Event::Cut { path, len } => {
                let Some(id) = self.names.get(path) else { return };
                self.inodes[*id].now.resize(*len, 0);
                self.inodes[*id].pending.push(Change::Cut(*len));
            }
            Event::Sync { path } => match self.names.get(path) {
                Some(id) => {
                    let inode = &mut self.inodes[*id];
                    inode.durable.clone_from(&inode.now);
                    inode.pending.clear();
                }
                None => {
                    let (here, others) = std::mem::take(&mut self.pending).into_iter().partition(|n| n.dir() == path);
                    self.pending = others;
                    let here: Vec<Name> = here;
                    here.iter().for_each(|n| n.apply(&mut self.durable));
                }
            },
            Event::Rename { from, to } => {
                let id = self.names[from];
                self.rename(Name::Move(from.clone(), to.clone(), id));
            }
            Event::Remove { path } => self.rename(Name::Drop(path.clone())),
        }
    }

    /// Writes what a crash now may leave under `place`; says how it chose.
    pub fn image(&self, place: &Path, random: &mut Random) -> String {
        let (how, naming) = (random.below(6), random.below(4));
        let mut names = self.durable.clone();
        let upto = random.below(self.pending.len() as u64 + 1) as usize;
        let mut keep: Vec<bool> = Vec::new();
        for n in 0..self.pending.len() {
            keep.push(match naming {
                0 => true,
                1 => false,
                2 => n < upto,
                _ => !random.one_in(3),
            });
        }
        // A file system keeps the order of a directory's changes at least to this: a rename that is there has all
        // before it.
        for (n, name) in self.pending.iter().enumerate() {
            if keep[n] && matches!(name, Name::Move(..)) {
                (0..n).filter(|m| self.pending[*m].dir() == name.dir()).for_each(|m| keep[m] = true);
            }
        }
        self.pending.iter().zip(keep).filter(|(_, keep)| *keep).for_each(|(name, _)| name.apply(&mut names));
        for sub in ["data/log", "data/snapshots", "data/blobs"] {
            fs::create_dir_all(place.join(sub)).unwrap();
        }
        for (path, id) in names.iter().filter(|(path, _)| path.starts_with("data")) {
            let file = place.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, self.inodes[*id].left(how, random)).unwrap();
        }
        format!("writes {how}, names {naming}")
    }
}

impl Inode {
    /// The file's bytes after a crash: 0 only what was synced, 1 everything, 2 a beginning of the rest, 3 some of the
    /// rest, 4 and 5 the same in sectors of 512 bytes and of 4 KiB.
    fn left(&self, how: u64, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let upto = random.below(self.pending.len() as u64 + 1) as usize;
        // A block that was given to the file but never written: zeroes, or what was there before.
        let stale = if random.one_in(4) { 0xa5 } else { 0 };
        for (n, change) in self.pending.iter().enumerate() {
            let keep = match how {
                0 => false,
                1 => true,
                2 => n < upto,
                _ => !random.one_in(3),
            };
            match change {
                _ if !keep => {}
                Change::Cut(len) => bytes.resize(*len, 0),
                Change::Write(offset, data) if how < 4 => put(&mut bytes, *offset, data),
                Change::Write(offset, data) => {
                    let sector = if how == 4 { 512 } else { 4096 };
                    let end = offset + data.len();
                    if bytes.len() < end {
                        bytes.resize(end, stale);
                    }
                    let mut at = *offset;
                    while at < end {
                        let next = ((at / sector + 1) * sector).min(end);
                        if !random.one_in(4) {
                            bytes[at..next].copy_from_slice(&data[at - offset..next - offset]);
                        }
                        at = next;
                    }
                }
            }
        }
        bytes
    }
}
