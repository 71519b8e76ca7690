//! What time it is in the cluster, as the last command on this machine heard it: a change then needs no call that asks
//! for it.
//!
//! Invariant: it is a guess. A wrong one costs a call more and nothing else (`Client::guess`); a file that cannot be
//! read or written is none.

use std::path::PathBuf;

use crate::{clock::Clock, config};

/// A guess that differs from what was heard by less than this stays as it is, so that the file is seldom written.
const CLOSE_MS: u64 = 2_000;

/// The file: the machine's start, cluster time at that moment, and the addresses it was heard from.
fn file() -> Option<PathBuf> {
    if cfg!(test) {
        return None;
    }
    config::cache_dir().map(|dir| dir.join("cluster-time"))
}

fn boot() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_string())
}

/// Cluster time at the machine's start; it may lie before that of the cluster.
fn at_boot(nodes: &[String]) -> Option<i64> {
    let text = std::fs::read_to_string(file()?).ok()?;
    let mut words = text.split_whitespace();
    let (boot_id, offset, from) = (words.next()?, words.next()?, words.next()?);
    (boot()? == boot_id && nodes.join(",") == from).then(|| offset.parse().ok())?
}

/// Cluster time now, if somebody heard it from these nodes since this machine started.
pub fn now(nodes: &[String], clock: &Clock) -> Option<u64> {
    at_boot(nodes)?.checked_add_unsigned(clock.boot()).and_then(|now| u64::try_from(now).ok())
}

/// Keeps what was heard for the next command.
pub fn keep(nodes: &[String], heard_ms: u64, clock: &Clock) {
    let (Some(file), Some(boot_id)) = (file(), boot()) else { return };
    let Ok(heard) = i64::try_from(heard_ms) else { return };
    let offset = heard.saturating_sub_unsigned(clock.boot());
    if at_boot(nodes).is_some_and(|known| known.abs_diff(offset) < CLOSE_MS) {
        return;
    }
    let next = file.with_extension(format!("{}", std::process::id()));
    // Without it the next command asks, as this one did.
    let _ = file.parent().map(std::fs::create_dir_all);
    let _ = std::fs::write(&next, format!("{boot_id} {offset} {}\n", nodes.join(",")))
        .and_then(|()| std::fs::rename(&next, &file));
}
