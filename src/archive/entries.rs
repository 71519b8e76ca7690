//! Entry by entry: what each header says, what it may not say, and its bytes.
//!
//! Invariants: an archive has its end mark and nothing behind it; a header that this reader does not understand whole
//! is refused, as the rest would then be something else than was packed. Not here: names and links (`tree`),
//! compression (`source`).

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::{
    ArchiveError, ArchiveLimits, Contents, Notes, Sink, refused,
    source::{self, BETWEEN, Capped, Gauge, unreadable},
    tree::{self, Tree, TreeNode},
};

/// As much of a script as says which interpreter it wants.
const HEAD: usize = 256;

struct Reader<'a> {
    limits: ArchiveLimits,
    sink: &'a mut dyn Sink,
    tree: Tree,
    notes: Notes,
}

/// Reads a whole archive and hands each entry to `sink`, within the limits; what is unsound is refused by its name in
/// the archive.
pub fn read(archive: &Path, limits: ArchiveLimits, sink: &mut dyn Sink) -> Result<Contents, ArchiveError> {
    let gauge = Gauge::default();
    gauge.between.set(BETWEEN);
    let mut tar = Archive::new(source::open(archive, limits.bytes, &gauge)?);
    let mut reader = Reader { limits, sink, tree: Tree::default(), notes: Notes::default() };
    let mut count = 0;
    let mut entries = tar.entries().map_err(unreadable)?;
    loop {
        gauge.between.set(BETWEEN);
        let Some(entry) = entries.next() else { break };
        let entry = entry.map_err(unreadable)?;
        gauge.between.set(u64::MAX);
        count += 1;
        if count > limits.entries {
            return refused(format!(
                "it has more than {} entries: leave out what the service does not read",
                limits.entries
            ));
        }
        reader.entry(entry)?;
    }
    end(tar.into_inner(), &gauge)?;
    if reader.tree.is_empty() {
        return refused("it is empty: pack what was built, or name its directory");
    }
    reader.tree.check_links()?;
    Ok(Contents { directories: reader.tree.directories(), notes: reader.notes })
}

/// The mark of the end was there, and nothing is behind it: the archive is whole, and what was compressed has its check
/// sum.
fn end(mut rest: Capped, gauge: &Gauge) -> Result<(), ArchiveError> {
    if gauge.ended.get() {
        return refused("it is cut short: the blocks that end a tar archive are missing; pack it again");
    }
    gauge.between.set(u64::MAX);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) if buffer.iter().take(n).all(|b| *b == 0) => {}
            Ok(_) => {
                return refused("more follows its end (archives joined with cat?): pack everything into one archive");
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(e)),
        }
    }
}

impl Reader<'_> {
    fn entry(&mut self, mut entry: Entry<'_, Capped>) -> Result<(), ArchiveError> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return global(&mut entry);
        }
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        extended(&mut entry, &raw)?;
        let mode = entry.header().mode().map_err(unreadable)?;
        let name = entry.path().map_err(unreadable)?.into_owned();
        let name = tree::inside(&name, &raw, self.limits)?;
        let directory = kind == EntryType::Directory || (file(kind) && raw.ends_with('/'));
        if name.as_os_str().is_empty() {
            // The archive's own top directory, "./".
            return if directory { Ok(()) } else { refused(format!("{raw:?} has no name")) };
        }
        if directory {
            return self.put(&name, TreeNode::Directory);
        }
        if mode & 0o6000 != 0 {
            return refused(format!("{raw:?} has a setuid or setgid bit, which no agent gives: clear it (chmod ug-s)"));
        }
        match kind {
            EntryType::Regular | EntryType::Continuous => self.file(&mut entry, name, mode),
            EntryType::Symlink => {
                let to = entry.link_name().map_err(unreadable)?.unwrap_or_default().into_owned();
                tree::target(&to, &raw, self.limits)?;
                self.put(&name, TreeNode::Link(to.clone()))?;
                self.sink.symlink(&name, &to).map_err(sink_at(&name))
            }
            EntryType::Link => self.hard_link(&entry, &name, &raw),
            EntryType::GNUSparse => refused(sparse(&raw)),
            other => refused(format!("{raw:?} is neither file, directory nor link ({other:?}): leave it out")),
        }
    }

    /// Notes a name, and has the directories made that come with it.
    fn put(&mut self, name: &Path, node: TreeNode) -> Result<(), ArchiveError> {
        for directory in self.tree.put(name.into(), node)? {
            self.sink.directory(&directory).map_err(sink_at(&directory))?;
        }
        Ok(())
    }

    fn file(&mut self, entry: &mut Entry<'_, Capped>, name: PathBuf, mode: u32) -> Result<(), ArchiveError> {
        self.put(&name, TreeNode::File)?;
        self.sink.begin(&name).map_err(sink_at(&name))?;
        let (mut size, mut head) = (0, Vec::new());
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(unreadable(e)),
            };
            let bytes = buffer.get(..n).unwrap_or_default();
            if head.len() < HEAD {
                head.extend_from_slice(bytes.get(..HEAD.min(n)).unwrap_or_default());
            }
            size += n as u64;
            self.sink.bytes(bytes).map_err(sink_at(&name))?;
        }
        if size != entry.size() {
            return refused(format!("{:?} is cut short: pack it again", name.display().to_string()));
        }
        let executable = mode & 0o111 != 0;
        self.notes.mode(&name, mode);
        if executable {
            self.notes.head(&name, &head);
        }
        self.sink.end(executable).map_err(sink_at(&name))
    }

    fn hard_link(&mut self, entry: &Entry<'_, Capped>, name: &Path, raw: &str) -> Result<(), ArchiveError> {
        if entry.size() != 0 {
            return refused(format!("hard link {raw:?} has contents of its own: pack it as a file"));
        }
        let to = entry.link_name().map_err(unreadable)?.unwrap_or_default().into_owned();
        let shown = String::from_utf8_lossy(to.as_os_str().as_encoded_bytes()).into_owned();
        let to = tree::inside(&to, &shown, self.limits)?;
        if self.tree.get(&to) != Some(&TreeNode::File) {
            return refused(format!("hard link {raw:?} points to {shown:?}, which is no file before it"));
        }
        self.put(name, TreeNode::File)?;
        self.sink.hard_link(name, &to).map_err(sink_at(name))
    }
}

fn sink_at(path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    move |source| ArchiveError::Sink { path: path.into(), source }
}

fn file(kind: EntryType) -> bool {
    matches!(kind, EntryType::Regular | EntryType::Continuous)
}

fn sparse(name: &str) -> String {
    format!(
        "{name:?} is a sparse file, which agents do not unpack: pack without --sparse (bsdtar: with --no-read-sparse), or name the \
         directory to pack"
    )
}

/// What an extended header says of its entry, and may not.
fn extended(entry: &mut Entry<'_, Capped>, raw: &str) -> Result<(), ArchiveError> {
    let Some(records) = entry.pax_extensions().map_err(unreadable)? else { return Ok(()) };
    for record in records {
        // One that cannot be read hides those behind it, a name or a length among them.
        let unclear =
            || format!("the extended header of {raw:?} cannot be read: pack with --format=gnu, without --xattrs");
        let Ok(record) = record else { return refused(unclear()) };
        let Ok(key) = record.key() else { return refused(unclear()) };
        if key.starts_with("GNU.sparse.") {
            let real = records_name(entry).unwrap_or_else(|| raw.into());
            return refused(sparse(&real));
        }
        if key == "SCHILY.xattr.security.capability" {
            return refused(format!("{raw:?} has file capabilities, which no agent gives: pack without --xattrs"));
        }
    }
    Ok(())
}

/// The name of a sparse file: its header has an invented one.
fn records_name(entry: &mut Entry<'_, Capped>) -> Option<String> {
    let records = entry.pax_extensions().ok()??;
    let named = records.filter_map(Result::ok).find(|r| r.key() == Ok("GNU.sparse.name"))?;
    Some(String::from_utf8_lossy(named.value_bytes()).into_owned())
}

/// A header for all entries that follow: a comment of whoever made the archive, and nothing that would change them.
fn global(entry: &mut Entry<'_, Capped>) -> Result<(), ArchiveError> {
    let mut bytes = Vec::new();
    entry.take(BETWEEN).read_to_end(&mut bytes).map_err(unreadable)?;
    for record in PaxExtensions::new(&bytes) {
        match record.as_ref().map(|r| r.key()) {
            Ok(Ok("path" | "linkpath" | "size")) | Ok(Err(_)) | Err(_) => {
                return refused("it has a global header that changes names or lengths: pack with --format=gnu");
            }
            Ok(Ok(_)) => {}
        }
    }
    Ok(())
}
