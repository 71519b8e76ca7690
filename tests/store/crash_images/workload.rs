//! The workload, what the store must hold after each of its operations, and the judgement of a directory.
//!
//! All log operations share one write-ahead log, so a sound directory holds exactly what some prefix of them leaves: at
//! least all that was acknowledged, at most all that was begun.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use slipway::storage::DataDir;

use super::disk::Random;

const OPS: usize = 160;

#[derive(Debug, Clone)]
enum Op {
    Append { first: u64, sizes: Vec<usize>, wait: bool },
    Vote(u64),
    Committed(u64),
    Truncate(u64),
    Purge(u64),
    Snapshot(u64),
    Reopen,
}

/// What the log database holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    pub entries: BTreeMap<u64, Vec<u8>>,
    purged: Option<u64>,
    vote: Option<u64>,
    committed: Option<u64>,
    pub snapshot: Option<u64>,
}

#[derive(Debug)]
pub enum Verdict {
    Sound,
    Refused(#[allow(dead_code, reason = "printed")] String),
    Lost(#[allow(dead_code, reason = "printed")] String),
    OlderVote(#[allow(dead_code, reason = "printed")] String),
    Other(#[allow(dead_code, reason = "printed")] String),
    Panicked,
}

fn value(op: usize, index: u64, size: usize) -> Vec<u8> {
    let mut bytes = format!("{op}/{index}/").into_bytes();
    let mut random = Random(index.wrapping_mul(31).wrapping_add(op as u64) | 1);
    bytes.extend((0..size).map(|_| random.next() as u8));
    bytes
}

fn body(index: u64) -> Vec<u8> {
    value(0, index, 2_000)
}

/// The operations of a seed and what is held after each.
pub struct Model {
    ops: Vec<Op>,
    after: Vec<Held>,
}

impl Model {
    pub fn of(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) | 1);
        let (mut ops, mut after) = (Vec::new(), vec![Held::default()]);
        while ops.len() < OPS {
            let mut held = after.last().cloned().unwrap_or_default();
            let last = held.entries.last_key_value().map(|(k, _)| *k).or(held.purged).unwrap_or(0);
            let floor = held.purged.unwrap_or(0);
            let op = match random.below(20) {
                0..=9 => {
                    let sizes = (0..=random.below(4)).map(|_| match random.below(12) {
                        0 => 40_000,
                        n if n < 4 => 3_000,
                        _ => 40,
                    });
                    Op::Append { first: last + 1, sizes: sizes.collect(), wait: !random.one_in(2) }
                }
                10..=12 => Op::Vote(held.vote.unwrap_or(0) + 1 + random.below(3)),
                13 => Op::Committed(last),
                14 | 15 if last > floor => Op::Truncate(floor + 1 + random.below(last - floor)),
                16 if last > floor => Op::Purge(floor + 1 + random.below(last - floor)),
                17 if last > held.snapshot.unwrap_or(0) => Op::Snapshot(last),
                // An installed snapshot stands beyond the log; the log is purged up to it.
                18 if matches!(ops.last(), Some(Op::Snapshot(n)) if *n > last) => Op::Purge(last + 7),
                18 => Op::Snapshot(last + 7),
                19 => Op::Reopen,
                _ => continue,
            };
            let n = ops.len() + 1;
            match &op {
                Op::Append { first, sizes, .. } => {
                    held.entries.extend((*first..).zip(sizes).map(|(i, size)| (i, value(n, i, *size))));
                }
                Op::Vote(term) => held.vote = Some(*term),
                Op::Committed(index) => held.committed = Some(*index),
                Op::Truncate(from) => held.entries.retain(|i, _| i < from),
                Op::Purge(to) => {
                    held.purged = Some(*to);
                    held.entries.retain(|i, _| i > to);
                }
                Op::Snapshot(index) => held.snapshot = held.snapshot.max(Some(*index)),
                Op::Reopen => {}
            }
            ops.push(op);
            after.push(held);
        }
        Self { ops, after }
    }

    /// Opens the directory and compares; `acked` and `issued` are numbers of operations.
    pub fn judge(&self, data: &Path, acked: usize, issued: usize) -> Verdict {
        let found = match held(data) {
            Ok(found) => found,
            Err(reason) => return Verdict::Refused(reason),
        };
        let log = |h: &Held| Held { snapshot: None, ..h.clone() };
        let (must, may) = (&self.after[acked], &self.after[issued]);
        if found.snapshot < must.snapshot || found.snapshot > may.snapshot {
            return Verdict::Lost(format!("snapshot {:?} instead of {:?}", found.snapshot, must.snapshot));
        }
        if self.after[acked..=issued].iter().any(|h| log(h) == log(&found)) {
            return Verdict::Sound;
        }
        let shown = format!(
            "{:?}..{:?}, purged {:?}, vote {:?}, committed {:?}; acknowledged {:?}..{:?}, purged {:?}, vote {:?}, committed {:?}",
            found.entries.keys().next(),
            found.entries.keys().last(),
            found.purged,
            found.vote,
            found.committed,
            must.entries.keys().next(),
            must.entries.keys().last(),
            must.purged,
            must.vote,
            must.committed,
        );
        if found.vote < must.vote {
            Verdict::OlderVote(shown)
        } else if self.after[..acked].iter().any(|h| log(h) == log(&found)) {
            Verdict::Lost(shown)
        } else {
            Verdict::Other(shown)
        }
    }
}

fn as_number(bytes: &[u8]) -> Result<u64, String> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| "a value of another length".into())
}

/// Opens a data directory as a node does and reads all of it.
pub fn held(data: &Path) -> Result<Held, String> {
    let dir = DataDir::open(data).map_err(|e| e.to_string())?;
    let log = dir.log();
    let text = |e: slipway::storage::StorageError| e.to_string();
    let meta = |name| log.meta(name).map_err(text)?.map(|b| as_number(&b)).transpose();
    let snapshot = dir.snapshots().newest().map_err(text)?;
    if let Some(s) = &snapshot
        && s.body != body(s.index)
    {
        return Err(format!("PANIC: snapshot {} was opened with other bytes", s.index));
    }
    Ok(Held {
        entries: log.read(0..u64::MAX, usize::MAX, usize::MAX).map_err(text)?.into_iter().collect(),
        purged: log.purged().map_err(text)?.map(|(index, _)| index),
        vote: meta("vote")?,
        committed: meta("committed")?,
        snapshot: snapshot.map(|s| s.index),
    })
}

/// The last operation acknowledged and the last one begun, from the file that the workload keeps.
pub fn progress(ack: &[u8]) -> (usize, usize) {
    let text = String::from_utf8_lossy(ack);
    let last = |what: &str| {
        text.lines().filter_map(|l| l.strip_prefix(what)).filter_map(|n| n.parse::<usize>().ok()).max().unwrap_or(0)
    };
    (last("A "), last("I "))
}

/// Runs the operations of a seed in `root`, noting in `root/ack` when each begins and when it is acknowledged.
pub fn run(root: &Path, seed: u64) -> std::io::Result<()> {
    let note = Arc::new(Mutex::new(File::create(root.join("ack"))?));
    let write = |line: String| note.lock().unwrap().write_all(line.as_bytes());
    let data = root.join("data");
    let mut dir = DataDir::open(&data).map_err(std::io::Error::other)?;
    let mut waiting = Vec::new();
    let settle = |waiting: &mut Vec<mpsc::Receiver<std::io::Result<()>>>| {
        waiting.drain(..).try_for_each(|w| w.recv_timeout(Duration::from_secs(60)).map_err(std::io::Error::other)?)
    };
    for (n, op) in (1..).zip(Model::of(seed).ops) {
        write(format!("I {n}\n"))?;
        let acknowledged = match op {
            Op::Append { first, sizes, wait } => {
                let entries = (first..).zip(&sizes).map(|(i, size)| (i, value(n, i, *size))).collect();
                let (tell, told) = mpsc::channel();
                let note = note.clone();
                let done = move |result: std::io::Result<()>| {
                    if result.is_ok() {
                        note.lock().unwrap().write_all(format!("A {n}\n").as_bytes()).unwrap();
                    }
                    tell.send(result).unwrap();
                };
                dir.log().append(entries, Box::new(done)).map_err(std::io::Error::other)?;
                waiting.push(told);
                if wait {
                    settle(&mut waiting)?;
                }
                false
            }
            Op::Vote(term) => {
                dir.log().put_meta_synced("vote", &term.to_be_bytes()).map(|()| true).map_err(std::io::Error::other)?
            }
            Op::Committed(index) => {
                dir.log().put_meta_unsynced("committed", &index.to_be_bytes()).map_err(std::io::Error::other)?;
                false
            }
            Op::Truncate(from) => dir.log().truncate_from(from).map(|()| true).map_err(std::io::Error::other)?,
            Op::Purge(to) => dir.log().purge_to(to, b"marker").map(|()| false).map_err(std::io::Error::other)?,
            Op::Snapshot(index) => {
                // What came before it in the log is not acknowledged by it: its acknowledgement waits for the log too.
                settle(&mut waiting)?;
                dir.snapshots().write(index, b"meta", &body(index)).map_err(std::io::Error::other)?;
                dir.log().put_meta_synced("note", b"").map_err(std::io::Error::other)?;
                true
            }
            Op::Reopen => {
                settle(&mut waiting)?;
                drop(dir);
                dir = DataDir::open(&data).map_err(std::io::Error::other)?;
                // Opening moves what was in the log into synced tables.
                true
            }
        };
        if acknowledged {
            write(format!("A {n}\n"))?;
        }
    }
    settle(&mut waiting)
}

/// The process that other tests record. By itself it shows that the workload comes to its end where nobody meddles.
#[test]
fn the_recorded_process() {
    let (own, root) = (tempfile::tempdir().unwrap(), std::env::var_os("SLIPWAY_CRASH_WORKLOAD"));
    let root = root.as_deref().map_or(own.path(), Path::new);
    let seed = super::number("SLIPWAY_CRASH_SEED", 1);
    let Err(ended) = run(root, seed) else {
        let (acknowledged, begun) = progress(&std::fs::read(root.join("ack")).unwrap());
        assert!(acknowledged > 50 && begun == Model::of(seed).ops.len(), "{acknowledged} of {begun}");
        return;
    };
    let reasons: Vec<String> = std::iter::successors(Some(&ended as &dyn std::error::Error), |e| e.source())
        .map(ToString::to_string)
        .collect();
    panic!("the workload ended: {}", reasons.join(": "));
}
