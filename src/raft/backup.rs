//! Backups, stopped directories, and a new cluster from either.
//!
//! Invariants: a backup is one State at one applied index and the packages it names; it is believed only once all of it
//! was read and checked; a restored directory appears under its name whole or not at all. Deliberately not here: the
//! container's bytes (`storage`), what becomes of a State (`state::log`), and how bytes reach an operator (`rpc`,
//! `node`).

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use openraft::{BasicNode, EntryPayload};
use sha2::{Digest as _, Sha256};

use super::{
    Consensus, ConsensusError,
    codec::Coded,
    log_store::{COMMITTED, VOTE},
    types::{Entry, LogId, Membership, SnapshotMeta, StoredMembership, Vote},
};
use crate::{
    model::{Digest, ids::hex},
    state::{self, Restoration, State, codec, invariants},
    storage::{
        BackupError, BackupHead, BackupReader, BackupWriter, BlobStore, DataDir, Identity, Part, SnapshotDir,
        StorageError,
    },
};

/// Largest State that a backup may hold.
const MAX_STATE: u64 = 4 << 30;

/// Why a backup, a check or a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The file.
    #[error(transparent)]
    File(#[from] BackupError),
    /// The directory.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What is in it.
    #[error("{what}: {why}")]
    Content { what: String, why: String },
    #[error("it was written at feature level {found}; this version reads up to {known}: use a newer version")]
    Level { found: u32, known: u32 },
    #[error(
        "package sha256:{digest} is not held here{holders}; take the backup from another node, or without packages"
    )]
    Package {
        digest: String,
        /// Who has it, in words.
        holders: String,
    },
    #[error("{} is not empty: a restored node needs a directory of its own; choose another, or move this one away", dir.display())]
    NotEmpty { dir: PathBuf },
    /// The new directory is where a file system is mounted, which cannot be put into place as a whole.
    #[error("{0} is the top of a file system (it has lost+found): name a directory inside it, such as {0}/node", dir.display())]
    TopOfFileSystem { dir: PathBuf },
    #[error("{} is not a node's data directory (it has no log)", dir.display())]
    NoNode { dir: PathBuf },
}

fn content(what: impl Into<String>, why: impl ToString) -> OfflineError {
    OfflineError::Content { what: what.into(), why: why.to_string() }
}

/// What a backup is taken from.
pub struct BackupSource<'a> {
    pub state: &'a State,
    /// Its packages.
    pub blobs: &'a BlobStore,
    /// Whether packages are left out.
    pub without_packages: bool,
    /// Wall clock now.
    pub wall_ms: u64,
}

/// A backup that was written: the target, the head, its length.
pub struct Written<W> {
    /// The target.
    pub out: W,
    /// What it says of itself.
    pub head: BackupHead,
    pub bytes: u64,
}

/// Writes a backup.
pub fn write_backup<W: Write>(
    source: &BackupSource<'_>,
    open: impl FnOnce(&BackupHead) -> W,
) -> Result<Written<W>, OfflineError> {
    let state = source.state;
    let Some(cluster) = &state.cluster else { return Err(content("State", "it holds no cluster yet")) };
    let body = codec::encode_snapshot(state).map_err(|e| content("State", e))?;
    let named: Vec<(&Digest, u64)> = state.blobs.iter().map(|(d, b)| (d, b.size)).collect();
    let taken: &[(&Digest, u64)] = if source.without_packages { &[] } else { &named };
    for (digest, _) in taken {
        if !source.blobs.has(digest.as_str()) {
            let holders = state.blobs.get(*digest).map(|b| b.holders.clone()).unwrap_or_default();
            let names: Vec<String> =
                holders.iter().filter_map(|h| state.nodes.get(h)).map(|n| n.name.clone()).collect();
            let holders = if names.is_empty() { String::new() } else { format!(" (but by {})", names.join(", ")) };
            return Err(OfflineError::Package { digest: digest.to_string(), holders });
        }
    }
    let head = BackupHead {
        cluster: cluster.id.to_string(),
        name: cluster.name.clone(),
        index: state.applied.index,
        term: state.applied.term,
        incarnation: state.incarnation,
        level: state.level,
        build: env!("CARGO_PKG_VERSION").into(),
        wall_ms: source.wall_ms,
        state_bytes: body.len() as u64,
        packages: taken.len() as u64,
        package_bytes: taken.iter().map(|(_, size)| size).sum(),
        left_out: (named.len() - taken.len()) as u64,
    };
    let mut writer = BackupWriter::new(open(&head), &head).map_err(BackupError::Io)?;
    writer.state(&body).map_err(BackupError::Io)?;
    for (digest, size) in taken {
        let (file, _) = source.blobs.open_range(digest.as_str(), 0)?;
        let mut hashed = Hashed { from: file, hash: Sha256::new() };
        writer.package(digest.as_str(), *size, &mut hashed).map_err(BackupError::Io)?;
        let found = hex(&hashed.hash.finalize());
        if found != digest.as_str() {
            return Err(content(format!("package sha256:{digest}"), format!("damaged here, its digest is {found}")));
        }
    }
    let (out, bytes) = writer.finish().map_err(BackupError::Io)?;
    Ok(Written { out, head, bytes })
}

/// A backup that was read and checked.
pub struct Loaded {
    /// What it says of itself.
    pub head: BackupHead,
    pub state: State,
    pub packages: BTreeSet<Digest>,
}

/// Reads a whole backup and checks everything in it; packages go to `into`, if anywhere.
pub fn load_backup(from: impl Read, into: Option<&BlobStore>) -> Result<Loaded, OfflineError> {
    let (mut reader, head) = BackupReader::new(from)?;
    let known = u32::from(codec::READS);
    if head.level > known {
        return Err(OfflineError::Level { found: head.level, known });
    }
    if head.state_bytes > MAX_STATE {
        return Err(content("State", format!("{} bytes are over the limit of {MAX_STATE}", head.state_bytes)));
    }
    let mut body = Vec::new();
    let mut packages = BTreeSet::new();
    let mut next = reader.next_part()?;
    while let Some(Part::State(bytes)) = next {
        body.extend_from_slice(&bytes);
        if body.len() as u64 > head.state_bytes {
            return Err(content("State", "it is longer than its head says"));
        }
        next = reader.next_part()?;
    }
    while let Some(Part::Package { digest, size }) = next {
        let digest = Digest::new(&digest).map_err(|e| content("package", e))?;
        let what = format!("package sha256:{digest}");
        let mut hash = Sha256::new();
        let mut writer = into.map(|b| b.writer(digest.as_str(), size)).transpose()?;
        let mut came = 0_u64;
        next = reader.next_part()?;
        while let Some(Part::Data(bytes)) = next {
            came = came.saturating_add(bytes.len() as u64);
            match &mut writer {
                Some(writer) => writer.write(&bytes)?,
                None => hash.update(&bytes),
            }
            next = reader.next_part()?;
        }
        if came != size {
            return Err(content(what, format!("{came} bytes instead of {size}")));
        }
        match writer {
            Some(writer) => writer.finish()?,
            None => {
                let found = hex(&hash.finalize());
                if found != digest.as_str() {
                    return Err(content(what, format!("its digest is {found}")));
                }
            }
        }
        packages.insert(digest);
    }
    if next.is_some() {
        return Err(content("backup", "its parts are in no order that this version writes"));
    }
    let state = codec::decode_snapshot(&body).map_err(|e| content("State", e))?;
    let same = state.applied.index == head.index
        && state.incarnation == head.incarnation
        && state.cluster.as_ref().is_some_and(|c| c.id.to_string() == head.cluster);
    if !same {
        return Err(content("State", "it is not the one that the head describes"));
    }
    invariants::check(&state).map_err(|why| content("State breaks invariant", why))?;
    let missing = state.blobs.keys().filter(|d| !packages.contains(*d)).count() as u64;
    if missing != head.left_out || packages.len() as u64 != head.packages {
        return Err(content("packages", format!("{missing} are missing, the head says {}", head.left_out)));
    }
    Ok(Loaded { head, state, packages })
}

/// What a stopped node's directory holds.
pub struct Stopped {
    /// Its open directory, so that no node can start on it meanwhile.
    pub dir: DataDir,
    /// Whose it is.
    pub identity: Identity,
    /// The State at the end of its log.
    pub state: State,
    /// Index up to which the node knew that entries were committed.
    pub committed: u64,
}

/// Opens the directory of a stopped node and applies its whole log to its newest snapshot. What the node did not yet
/// know to be committed is applied too: an acknowledged change may be among it, and after a lost quorum nobody else can
/// tell.
pub fn open_stopped(path: &Path) -> Result<Stopped, OfflineError> {
    if !path.join("log").join("CURRENT").is_file() {
        return Err(OfflineError::NoNode { dir: path.into() });
    }
    let dir = DataDir::open(path)?;
    let Some(identity) = dir.log().identity()? else {
        return Err(content("data directory", "it belongs to no cluster"));
    };
    dir.check_joined()?;
    let mut state = match dir.snapshots().newest()? {
        Some(found) => {
            let what = || format!("snapshot {}", found.index);
            SnapshotMeta::decode(&found.meta).map_err(|e| content(what(), e))?;
            let state = codec::decode_snapshot(&found.body).map_err(|e| content(what(), e))?;
            if state.applied.index != found.index {
                return Err(content(what(), format!("it holds the State of entry {}", state.applied.index)));
            }
            state
        }
        None => State::default(),
    };
    let mut next = state.applied.index.saturating_add(u64::from(state.applied.term > 0));
    loop {
        let rows = dir.log().read(next..u64::MAX, 1024, 4 << 20)?;
        let Some((last, _)) = rows.last() else { break };
        next = last.saturating_add(1);
        for (index, bytes) in &rows {
            let entry = Entry::decode(bytes).map_err(|e| content(format!("log entry {index}"), e))?;
            let id = state::LogId { term: entry.log_id.leader_id.term, index: *index };
            match entry.payload {
                EntryPayload::Blank | EntryPayload::Membership(_) => state::apply_blank(&mut state, id),
                EntryPayload::Normal(sealed) => {
                    let stamped =
                        codec::decode_command(&sealed.0).map_err(|e| content(format!("log entry {index}"), e))?;
                    // A refusal was its result then, too.
                    drop(state::apply(&mut state, id, &stamped));
                }
            }
        }
    }
    let committed = dir.log().meta(COMMITTED)?;
    let committed = committed.map(|b| LogId::decode(&b)).transpose().map_err(|e| content("committed pointer", e))?;
    let vote = dir.log().meta(VOTE)?;
    vote.map(|b| Vote::decode(&b)).transpose().map_err(|e| content("vote", e))?;
    Ok(Stopped { dir, identity, state, committed: committed.map_or(0, |id| id.index) })
}

/// Checks a stopped directory: checksums of all entries and the newest snapshot, the State they make, and packages. How
/// many packages were read.
pub fn check_stopped(path: &Path) -> Result<(Stopped, u64), OfflineError> {
    let stopped = open_stopped(path)?;
    invariants::check(&stopped.state).map_err(|why| content("State breaks invariant", why))?;
    let blobs = stopped.dir.blobs();
    for (digest, blob) in &stopped.state.blobs {
        if blob.holders.contains(&stopped.identity.node) && !blobs.has(digest.as_str()) {
            return Err(content(format!("package sha256:{digest}"), "this node is to hold it, and it is not there"));
        }
    }
    let list = blobs.list()?;
    for (digest, _) in &list {
        let (file, _) = blobs.open_range(digest, 0)?;
        let mut hashed = Hashed { from: file, hash: Sha256::new() };
        io::copy(&mut hashed, &mut io::sink()).map_err(BackupError::Io)?;
        let found = hex(&hashed.hash.finalize());
        if found != *digest {
            return Err(content(
                format!("package {path}/blobs/sha256/{digest}", path = path.display()),
                format!("its digest is {found}"),
            ));
        }
    }
    Ok((stopped, list.len() as u64))
}

/// Makes `dir` the directory of node 1 of a new cluster from a backup; it must not exist, or be empty.
pub fn restore_backup(from: impl Read, dir: &Path, new: &Restoration) -> Result<(BackupHead, State), OfflineError> {
    let io_at = |what: &'static str, path: &Path| {
        let path = path.to_path_buf();
        move |source| StorageError::Io { what, path, source }
    };
    let mut entries = match std::fs::read_dir(dir) {
        Ok(entries) => Some(entries),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(io_at("cannot list", dir)(e).into()),
    };
    if entries.as_mut().is_some_and(|e| e.next().is_some()) {
        if dir.join("log").join("CURRENT").is_file() {
            // Says so when a node runs there.
            drop(DataDir::open(dir)?);
        }
        let mut names = std::fs::read_dir(dir).map_err(io_at("cannot list", dir))?.flatten().map(|e| e.file_name());
        if names.all(|name| name == "lost+found") {
            return Err(OfflineError::TopOfFileSystem { dir: dir.into() });
        }
        return Err(OfflineError::NotEmpty { dir: dir.into() });
    }
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(content(dir.display().to_string(), "it cannot be a node's directory"));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    std::fs::create_dir_all(parent).map_err(io_at("cannot create", parent))?;
    let temp = parent.join(format!(".{}.restoring-{}", name.to_string_lossy(), std::process::id()));
    let made = build(from, &temp, new);
    let made = made.and_then(|made| {
        std::fs::rename(&temp, dir).map_err(io_at("cannot rename to", dir))?;
        std::fs::File::open(parent).and_then(|d| d.sync_all()).map_err(io_at("cannot sync", parent))?;
        Ok(made)
    });
    if made.is_err() {
        // Best effort: the reason of the failure is what counts.
        drop(std::fs::remove_dir_all(&temp));
    }
    made
}

fn build(from: impl Read, temp: &Path, new: &Restoration) -> Result<(BackupHead, State), OfflineError> {
    // Unwritable places and running nodes are named before a long file is read.
    let dir = DataDir::open(temp)?;
    let loaded = load_backup(from, Some(dir.blobs()))?;
    let new = Restoration { held: loaded.packages, ..new.clone() };
    let state = state::restored(&loaded.state, &new).map_err(|why| content("State", why))?;
    invariants::check(&state).map_err(|why| content("restored State breaks invariant", why))?;
    found(&dir, &state, &new)?;
    Ok((loaded.head, state))
}

/// Writes the directory's first snapshot and the log that begins behind it.
fn found(dir: &DataDir, state: &State, new: &Restoration) -> Result<(), OfflineError> {
    let id = LogId::new_term_index(state.applied.term, state.applied.index);
    let nodes = BTreeMap::from([(1, BasicNode::new(&new.node.peer_addr))]);
    let membership = Membership::new(vec![BTreeSet::from([1])], nodes).map_err(|e| content("membership", e))?;
    let meta = SnapshotMeta { last_log_id: Some(id), last_membership: StoredMembership::new(Some(id), membership) };
    let body = codec::encode_snapshot(state).map_err(|e| content("State", e))?;
    let snapshots: &SnapshotDir = dir.snapshots();
    snapshots.write(id.index, &meta.encode(), &body)?;
    let log = dir.log();
    log.purge_to(id.index, &id.encode())?;
    log.put_meta_unsynced(COMMITTED, &id.encode())?;
    // Synced, and with it all before it.
    log.put_meta_synced(VOTE, &Vote::new(state.applied.term, 1).encode())?;
    log.claim(&Identity { cluster: new.id.to_string(), node: 1 })?;
    Ok(())
}

struct Hashed<R> {
    from: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.hash.update(&buf[..n]);
        Ok(n)
    }
}

impl Consensus {
    /// Makes a snapshot now and drops the log entries it covers; its index and size.
    pub async fn snapshot_and_purge(&self) -> Result<(u64, u64), ConsensusError> {
        let stopped = |e: &dyn std::fmt::Display| ConsensusError::Stopped { reason: e.to_string() };
        let index = self.trigger_snapshot().await?;
        self.raft().trigger().purge_log(index).await.map_err(|e| stopped(&e))?;
        Ok((index, self.snapshot_bytes()))
    }
}

#[cfg(test)]
mod tests;
