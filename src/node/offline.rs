//! What `slipwayd` does with a stopped node's directory and with backups: back up, restore, check. No node runs in it.
//!
//! Invariants: nothing is overwritten; what was asked for is there whole, or not at all. Not here: formats (`raft`,
//! `storage`).

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read},
    path::{Path, PathBuf},
};

use super::{NodeError, start};
use crate::{
    clock::Clock,
    config::NodeConfig,
    model::ClusterId,
    raft::{BackupSource, OfflineError, check_stopped, load_backup, open_stopped, restore_backup, write_backup},
    state::Restoration,
};

/// What a restored cluster is, beside the backup.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Incarnation at least.
    pub incarnation: u64,
    /// Clusters restored earlier from the same backup, whose agents are to go on with this one.
    pub succeeds: Vec<String>,
}

fn failed(path: &Path) -> impl Fn(OfflineError) -> NodeError {
    move |e| NodeError::Other(format!("{}: {e}", path.display()))
}

fn disk(path: &Path) -> impl Fn(std::io::Error) -> NodeError {
    move |e| NodeError::Other(format!("{}: {e}", path.display()))
}

fn open(path: &Path) -> Result<impl Read, NodeError> {
    Ok(BufReader::with_capacity(1 << 20, File::open(path).map_err(disk(path))?))
}

/// Makes the data directory of `config` that of node 1 of a new cluster. What was done, in words.
pub fn restore(file: &Path, config: &NodeConfig, options: &RestoreOptions) -> Result<String, NodeError> {
    let id = format!("c-{:012x}", rand::random::<u64>() >> 16);
    let bad = |e: crate::model::ModelError| NodeError::Other(e.to_string());
    let new = Restoration {
        id: ClusterId::new(&id).map_err(bad)?,
        node: start::as_new_node(config),
        incarnation: options.incarnation,
        succeeds: options.succeeds.iter().map(|s| ClusterId::new(s)).collect::<Result<_, _>>().map_err(bad)?,
        held: std::collections::BTreeSet::new(),
    };
    let (head, state) = restore_backup(open(file)?, &config.data_dir, &new).map_err(failed(file))?;
    let mut said = format!(
        "cluster {id} made in {} from {} (cluster {}, entry {}): incarnation {}, node 1 is {}; start it, and join others to it: \
         `slipway cluster join {} --node OTHER`",
        config.data_dir.display(),
        file.display(),
        head.cluster,
        head.index,
        state.incarnation,
        new.node.name,
        new.node.client_addr,
    );
    if head.left_out > 0 {
        said += &format!(
            "\n{} packages are not in this backup: workers cannot fetch those releases until they are pushed again",
            head.left_out
        );
    }
    Ok(said)
}

/// Backs the directory of a stopped node up. What was done, in words.
pub fn backup(data_dir: &Path, file: &Path, without_packages: bool) -> Result<String, NodeError> {
    if file.exists() {
        return Err(NodeError::Other(format!("{} exists: choose another name", file.display())));
    }
    let stopped = open_stopped(data_dir).map_err(failed(data_dir))?;
    let temp = PathBuf::from(format!("{}.incomplete-{}", file.display(), std::process::id()));
    let out = File::create_new(&temp).map_err(disk(&temp))?;
    let source = BackupSource {
        state: &stopped.state,
        blobs: stopped.dir.blobs(),
        without_packages,
        wall_ms: Clock::real().wall_ms(),
    };
    let written = write_backup(&source, |_| BufWriter::with_capacity(1 << 20, out)).map_err(failed(data_dir));
    let written = written.and_then(|w| {
        w.out.get_ref().sync_all().map_err(disk(&temp))?;
        // A link fails when the name was taken meanwhile; a rename would overwrite it.
        fs::hard_link(&temp, file).map_err(disk(file))?;
        let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|d| d.sync_all()).map_err(disk(parent))?;
        Ok((w.head, w.bytes))
    });
    // Its other name is the backup, if there is one.
    drop(fs::remove_file(&temp));
    let (head, bytes) = written?;
    let beyond = head.index.saturating_sub(stopped.committed);
    Ok(format!(
        "{}: cluster {} at entry {}, incarnation {}, {} packages, {bytes} bytes{}{}",
        file.display(),
        head.cluster,
        head.index,
        head.incarnation,
        head.packages,
        if head.left_out > 0 { format!(" ({} packages left out)", head.left_out) } else { String::new() },
        if beyond > 0 {
            format!("\nthe newest {beyond} entries were not yet known to be committed by this node; they are included")
        } else {
            String::new()
        },
    ))
}

/// Checks a backup or a stopped node's directory. What it holds, in words.
pub fn check(path: &Path) -> Result<String, NodeError> {
    if path.is_dir() {
        let (stopped, packages) = check_stopped(path).map_err(failed(path))?;
        return Ok(format!(
            "{}: sound: node {} of cluster {} at entry {}, incarnation {}, {packages} packages",
            path.display(),
            stopped.identity.node,
            stopped.identity.cluster,
            stopped.state.applied.index,
            stopped.state.incarnation,
        ));
    }
    let loaded = load_backup(open(path)?, None).map_err(failed(path))?;
    let head = loaded.head;
    Ok(format!(
        "{}: sound: cluster {} ({}) at entry {}, incarnation {}, feature level {}, {} packages{}, written by {}",
        path.display(),
        head.cluster,
        head.name,
        head.index,
        head.incarnation,
        head.level,
        head.packages,
        if head.left_out > 0 { format!(" ({} left out)", head.left_out) } else { String::new() },
        head.build,
    ))
}
