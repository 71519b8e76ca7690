//! `cluster snapshot`, `backup`, `restore` and `check`.
//!
//! The first two ask running nodes. The others work on files and directories of this machine, which is the daemon's
//! business: they run the `slipwayd` beside this program. A backup file appears under its name only when all of it is
//! there and synced.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    cli::{CliError, Session, error::DONE, output::Output},
    client::Client,
    console,
    model::ids::hex,
    wire::v1,
};

/// A snapshot that a node wrote.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Snapshot {
    node: String,
    node_id: u64,
    /// The newest entry that it covers.
    index: u64,
    size: u64,
}

/// Makes one node, or all, write a snapshot.
pub async fn snapshot(s: &Session, all: bool) -> Result<u8, CliError> {
    let mut made = Vec::new();
    if all {
        let nodes = s.client.status().await?.nodes;
        let mut failures = Vec::new();
        for n in nodes.iter().filter(|n| n.role != "removed") {
            let one = Client::new(std::slice::from_ref(&n.client_addr), s.limits, s.client.clock().clone())?;
            match one.make_snapshot().await {
                Ok(r) => {
                    made.push(Snapshot { node: n.name.clone(), node_id: r.node_id, index: r.index, size: r.bytes })
                }
                Err(e) => failures.push(format!("{}: {e}", n.name)),
            }
        }
        if !failures.is_empty() {
            return Err(CliError::Failed(format!(
                "{} snapshots were made; not at {}",
                made.len(),
                failures.join("; ")
            )));
        }
    } else {
        let r = s.client.make_snapshot().await?;
        let nodes = s.client.status().await.map(|status| status.nodes).unwrap_or_default();
        let node = nodes.into_iter().find(|n| n.node_id == r.node_id).map(|n| n.name).unwrap_or_default();
        made.push(Snapshot { node, node_id: r.node_id, index: r.index, size: r.bytes });
    }
    s.out.show(&made, |made| {
        let line = |m: &Snapshot| {
            format!("{}: snapshot of entry {}, {} bytes; older entries dropped", m.node, m.index, m.size)
        };
        made.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(DONE)
}

/// Takes a backup from the node at --node, or the next that answers.
pub async fn backup(s: &Session, file: &Path, without_packages: bool) -> Result<u8, CliError> {
    if file.exists() {
        return Err(CliError::Usage(format!("{} exists: choose another name", file.display())));
    }
    let temp = PathBuf::from(format!("{}.incomplete-{}", file.display(), std::process::id()));
    let broken = |path: &Path, e: std::io::Error| {
        CliError::Failed(format!("cannot write {}: {e}; nothing is left of it", path.display()))
    };
    let out = File::create_new(&temp).map_err(|e| broken(&temp, e))?;
    let taken = Incomplete(temp);
    let mut stream = s.client.backup(v1::BackupRequest { without_packages }).await?;
    let bar = progress(s);
    let mut out = std::io::BufWriter::with_capacity(1 << 20, out);
    let (mut hash, mut bytes) = (Sha256::new(), 0_u64);
    let done = loop {
        let Some(chunk) = Client::next_chunk(&mut stream).await? else {
            return Err(CliError::Failed(format!("the backup was cut short after {bytes} bytes: try again")));
        };
        out.write_all(&chunk.data).map_err(|e| broken(file, e))?;
        hash.update(&chunk.data);
        bytes = bytes.saturating_add(chunk.data.len() as u64);
        if chunk.expected > 0 {
            bar.set_length(chunk.expected.max(bytes));
        }
        bar.set_position(bytes);
        if let Some(done) = chunk.done {
            break done;
        }
    };
    bar.finish_and_clear();
    let found = hex(&hash.finalize());
    if found != done.sha256 || bytes != done.size {
        return Err(CliError::Failed(format!("the backup was damaged on its way ({bytes} bytes, {found}): try again")));
    }
    let synced = out.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|f| f.sync_all());
    synced.map_err(|e| broken(file, e))?;
    // A link fails when the name was taken meanwhile; a rename would overwrite it.
    fs::hard_link(&taken.0, file).map_err(|e| broken(file, e))?;
    drop(taken);
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|d| d.sync_all()).map_err(|e| broken(file, e))?;
    if !done.warning.is_empty() {
        console::note(&format!("warning: this may not be the newest state: {}", done.warning));
    }
    s.out.show(&done, |d| {
        let left = if d.left_out > 0 { format!(", {} packages LEFT OUT", d.left_out) } else { String::new() };
        format!(
            "{}: cluster {} at entry {}, incarnation {}, {} packages{left}, {} bytes, taken from node {}\nsha256 {}",
            file.display(),
            d.cluster_id,
            d.index,
            d.incarnation,
            d.package_count,
            d.size,
            d.node_id,
            d.sha256
        )
    })?;
    Ok(DONE)
}

/// A file that is removed when it goes.
struct Incomplete(PathBuf);

impl Drop for Incomplete {
    fn drop(&mut self) {
        // Nothing better can be done about it.
        drop(fs::remove_file(&self.0));
    }
}

fn progress(s: &Session) -> indicatif::ProgressBar {
    if !s.out.live() {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new(0);
    match indicatif::ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// What `slipwayd check` or `restore` said.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Checked<'a> {
    /// Whether it is sound, or was restored.
    sound: bool,
    text: &'a str,
}

/// Runs the daemon's own verb, with its exit code; its errors are told as ours are.
pub async fn daemon(out: &Output, verb: &str, file: &Path, rest: &[OsString]) -> Result<u8, CliError> {
    let beside = std::env::current_exe().ok().map(|p| p.with_file_name("slipwayd")).filter(|p| p.is_file());
    let program = beside.unwrap_or_else(|| "slipwayd".into());
    let ran = tokio::process::Command::new(&program).args(["--log", "warn", verb]).arg(file).args(rest).output().await;
    let ran = ran.map_err(|e| {
        CliError::Failed(format!("cannot run {}: {e}; install slipwayd beside slipway", program.display()))
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
    let (said, problem) = (text(&ran.stdout), text(&ran.stderr));
    if !problem.is_empty() {
        console::note(&problem.replacen("slipwayd: ", "error: ", 1));
    }
    if !said.is_empty() || !out.for_people() {
        out.show(&Checked { sound: ran.status.success(), text: &said }, |t| t.text.to_string())?;
    }
    Ok(ran.status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(crate::cli::error::FAILED))
}
