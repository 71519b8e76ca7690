//! The machine: what it is, how long its disk takes to sync, how much memory a process holds.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{Options, stats::median};

const SYNCS: usize = 300;

/// Prints how the figures below it come about.
pub fn describe(dir: &Path, options: &Options, etcd: Result<&super::etcd::Program, &String>) {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|l| l.strip_prefix("model name")).map_or("?", |l| l.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("# machine: {cores} cores, {model}, Linux {}", kernel.trim());
    let build =
        if cfg!(debug_assertions) { "NOT an optimised build: its figures say nothing" } else { "optimised build" };
    println!("# slipwayd {} ({build}), three nodes, default settings", env!("CARGO_PKG_VERSION"));
    match etcd {
        Ok(etcd) => println!("# {}, three nodes, default settings", etcd.version),
        Err(why) => println!("# etcd: {why}"),
    }
    let (kind, of) = file_system(dir);
    let (mid, worst) = syncs(dir);
    println!(
        "# disk: {kind} on {of}; {SYNCS} times 4 KiB and fdatasync: median {mid:.3} ms, 99th of a hundred {worst:.3} ms; {} nodes share it \
         and the cores",
        if options.only.is_some() { "three" } else { "six" }
    );
    println!(
        "# writes: etcd Put of 256 bytes under one of 1,000 keys; Slipway Catalog.RegisterRelease of a known release, fenced by a fresh \
         request id (committed, applied, remembered), padded to the same message size"
    );
    println!(
        "# load: this process for both, {} connections {}, clients spread over them in turn; a client sends its next write when the last \
         is answered; {} rounds of {} s a load after 0.5 s of warming up, in turns; the other system idles meanwhile",
        options.connections,
        if options.all { "to each of the three nodes" } else { "to the leader" },
        options.rounds,
        options.seconds,
    );
}

/// Kind and source of the file system of a directory.
fn file_system(dir: &Path) -> (String, String) {
    let dir = dir.canonicalize().unwrap_or_else(|_| PathBuf::from(dir));
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let of = mounts.lines().filter_map(|l| {
        let mut fields = l.split(' ');
        let (source, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        dir.starts_with(at).then(|| (at.len(), kind.to_owned(), source.to_owned()))
    });
    of.max_by_key(|(length, ..)| *length).map_or(("?".into(), "?".into()), |(_, kind, source)| (kind, source))
}

fn syncs(dir: &Path) -> (f64, f64) {
    let path = dir.join("sync");
    let mut file = File::create(&path).expect("a file on the disk");
    let mut took: Vec<f64> = (0..SYNCS)
        .map(|_| {
            file.write_all(&[7; 4096]).expect("room on the disk");
            let began = Instant::now();
            file.sync_data().expect("a disk that syncs");
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    let _ = std::fs::remove_file(&path);
    (median(&took), took[SYNCS * 99 / 100])
}

/// Resident memory.
pub fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).and_then(|l| l.split_whitespace().next());
    kib.and_then(|k| k.parse::<u64>().ok()).unwrap_or_default() >> 10
}

/// Processor time a process has used so far, in seconds.
pub fn used_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<f64> = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse().ok()).collect();
    // A hundred ticks a second, on every Linux of today.
    ticks.iter().sum::<f64>() / 100.0
}
