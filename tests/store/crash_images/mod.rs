//! Crash images: what a power cut may leave of a node's data directory, rebuilt from a recording and opened again; and
//! single flipped bytes in every kind of file.
//!
//! A seeded workload runs in a process of its own under `recorder.c`, which keeps every write, sync and change of a
//! name in order. `disk.rs` replays a part of the recording and leaves out what was not synced. Not here: a node in a
//! cluster (tests/cluster).
//!
//! `SLIPWAY_CRASH_IMAGES=N` sets the number of images, `SLIPWAY_CRASH_SEED` the first seed; `SLIPWAY_CRASH_REPORT`
//! names a file for the counts as JSON.

mod disk;
mod flips;
mod workload;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use disk::{Disk, Event, Random};
use workload::{Held, Model, Verdict};

const SEEDS: u64 = 3;
const IMAGES: u64 = 300;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name} is not a number: {v}")))
}

/// Compiles the recorder; `None` without a C compiler.
fn recorder(dir: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/crash_images/recorder.c");
    let library = dir.join("recorder.so");
    let built = Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .args(["-ldl", "-lpthread"])
        .status();
    match built {
        Ok(status) => {
            assert!(status.success(), "recorder.c does not compile");
            Some(library)
        }
        Err(_) => None,
    }
}

/// Runs the workload in a process of its own; its output goes through only when it fails.
fn run_workload(library: &Path, root: &Path, trace: Option<&Path>, seed: u64, fail_sync: u64) -> std::process::Output {
    fs::create_dir_all(root).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "crash_images::workload::the_recorded_process", "--nocapture"])
        .env("LD_PRELOAD", library)
        .env("SLIPWAY_TRACE_ROOT", root)
        .env("SLIPWAY_CRASH_WORKLOAD", root)
        .env("SLIPWAY_CRASH_SEED", seed.to_string());
    if let Some(trace) = trace {
        command.env("SLIPWAY_TRACE", trace);
    }
    if fail_sync > 0 {
        command.env("SLIPWAY_FAIL_SYNC", fail_sync.to_string());
    }
    command.output().unwrap()
}

#[derive(Default, Debug)]
struct Counts {
    images: u64,
    reopened: u64,
    refused: u64,
    lost: u64,
    older_vote: u64,
    other: u64,
    panics: u64,
    writes: u64,
    syncs: u64,
    seeds: u64,
}

impl Counts {
    fn json(&self) -> String {
        format!(
            "{{\"images\":{},\"reopened\":{},\"refused\":{},\"lost\":{},\"older_vote\":{},\"other\":{},\"panics\":{},\"seeds\":{},\
             \"writes\":{},\"syncs\":{}}}",
            self.images,
            self.reopened,
            self.refused,
            self.lost,
            self.older_vote,
            self.other,
            self.panics,
            self.seeds,
            self.writes,
            self.syncs
        )
    }
}

/// Rebuilds `share` images of a recording and judges each.
fn rebuild(events: &[Event], seed: u64, share: u64, images: &Path, counts: &mut Counts, complaints: &mut Vec<String>) {
    let model = Model::of(seed);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut at: Vec<usize> = (0..share).map(|_| random.below(events.len() as u64) as usize).collect();
    at.sort_unstable();
    let (mut disk, mut done) = (Disk::default(), 0);
    for (n, point) in at.into_iter().enumerate() {
        while done <= point {
            disk.apply(&events[done]);
            done += 1;
        }
        let place = images.join(format!("{seed}-{n}"));
        let told = disk.image(&place, &mut random);
        let (acked, issued) = workload::progress(disk.now("ack"));
        counts.images += 1;
        let verdict = std::panic::catch_unwind(|| model.judge(&place.join("data"), acked, issued));
        let verdict = verdict.unwrap_or(Verdict::Panicked);
        match &verdict {
            Verdict::Sound => counts.reopened += 1,
            Verdict::Refused(_) => counts.refused += 1,
            Verdict::Lost(_) => counts.lost += 1,
            Verdict::OlderVote(_) => counts.older_vote += 1,
            Verdict::Other(_) => counts.other += 1,
            Verdict::Panicked => counts.panics += 1,
        }
        if !matches!(verdict, Verdict::Sound) {
            complaints.push(format!("seed {seed}, event {point}, ops {acked:?}..{issued}, {told}: {verdict:?}"));
        }
        fs::remove_dir_all(&place).unwrap();
    }
}

#[test]
fn no_crash_image_loses_what_was_acknowledged() {
    let base = tempfile::tempdir().unwrap();
    let Some(library) = recorder(base.path()) else {
        crate::helpers::skip::skip(
            "no_crash_image_loses_what_was_acknowledged",
            "there is no C compiler (cc) for the recorder",
        );
        return;
    };
    let (wanted, first) = (number("SLIPWAY_CRASH_IMAGES", IMAGES), number("SLIPWAY_CRASH_SEED", 1));
    // In memory where possible: an image's own syncs cost nothing there.
    let shm = Path::new("/dev/shm");
    let images = if shm.is_dir() { tempfile::tempdir_in(shm).unwrap() } else { tempfile::tempdir().unwrap() };
    let mut counts = Counts { seeds: SEEDS, ..Counts::default() };
    let mut complaints = Vec::new();
    for seed in first..first + SEEDS {
        let (root, trace) = (base.path().join(format!("run-{seed}")), base.path().join(format!("trace-{seed}")));
        let ran = run_workload(&library, &root, Some(&trace), seed, 0);
        assert!(
            ran.status.success(),
            "{}{}",
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr)
        );
        let events = disk::read(&trace, &root);
        assert!(events.len() > 500, "the recorder saw {} events only", events.len());
        counts.writes += events.iter().filter(|e| matches!(e, Event::Write { .. })).count() as u64;
        counts.syncs += events.iter().filter(|e| matches!(e, Event::Sync { .. })).count() as u64;
        rebuild(&events, seed, wanted.div_ceil(SEEDS), images.path(), &mut counts, &mut complaints);
    }
    if let Some(report) = std::env::var_os("SLIPWAY_CRASH_REPORT") {
        fs::write(report, format!("{}\n", counts.json())).unwrap();
    }
    println!("{}", counts.json());
    complaints.truncate(10);
    assert!(complaints.is_empty(), "{}\n{}", counts.json(), complaints.join("\n"));
}

/// The harness must see the mistake that it is there for: a store whose acknowledgements do not wait for the log's sync
/// leaves the same recording without those syncs.
#[test]
fn a_store_that_acknowledges_without_a_sync_is_found() {
    let base = tempfile::tempdir().unwrap();
    let Some(library) = recorder(base.path()) else {
        crate::helpers::skip::skip(
            "a_store_that_acknowledges_without_a_sync_is_found",
            "there is no C compiler (cc) for the recorder",
        );
        return;
    };
    let (root, trace) = (base.path().join("run"), base.path().join("trace"));
    assert!(run_workload(&library, &root, Some(&trace), 1, 0).status.success());
    let mut events = disk::read(&trace, &root);
    events.retain(|e| !matches!(e, Event::Sync { path } if path.extension().is_some_and(|e| e == "log")));
    let (mut counts, mut complaints) = (Counts::default(), Vec::new());
    rebuild(&events, 1, 40, base.path(), &mut counts, &mut complaints);
    println!("without the log's syncs: {}", counts.json());
    assert!(counts.lost + counts.older_vote > 5, "{}", counts.json());
}

#[test]
fn a_failed_sync_ends_it_and_loses_nothing_acknowledged() {
    let base = tempfile::tempdir().unwrap();
    let Some(library) = recorder(base.path()) else {
        crate::helpers::skip::skip(
            "a_failed_sync_ends_it_and_loses_nothing_acknowledged",
            "there is no C compiler (cc)",
        );
        return;
    };
    for fail in [25, 60, 110] {
        let root = base.path().join(format!("fail-{fail}"));
        let ran = run_workload(&library, &root, None, 9, fail);
        let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(!ran.status.success(), "sync {fail} failed and nobody noticed");
        assert!(said.contains("Input/output error") || said.contains("os error 5"), "the reason is missing:\n{said}");
        let (acked, issued) = workload::progress(&fs::read(root.join("ack")).unwrap());
        let verdict = Model::of(9).judge(&root.join("data"), acked, issued);
        assert!(matches!(verdict, Verdict::Sound), "failing sync {fail}, ops {acked:?}..{issued}: {verdict:?}");
    }
}

/// What a directory holds, for `flips`.
fn held(data: &Path) -> Result<Held, String> {
    workload::held(data)
}
