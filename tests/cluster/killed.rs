//! The runner of a test is killed: what it started dies with it, and what outlives it by design is removed by the next
//! runner.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use crate::lab::{Disk, Lab, SOON, Scratch, dies_with_us, eventually, procs_naming, skip, spec, sweep};

/// Set in the runner that is killed: the file in which it says where it works.
const TELL: &str = "SLIPWAY_TEST_KILLED_RUNNER";

/// Both ends of it: the runner that is killed is this test again.
#[test]
fn a_killed_runner_leaves_nothing_that_the_next_does_not_remove() {
    if let Some(tell) = std::env::var_os(TELL).map(PathBuf::from) {
        let lab = Lab::new(1, 1);
        lab.apply(&spec("strategy: direct, bake: 100ms"));
        lab.push("1.0.0");
        lab.roll("1.0.0", &[]).ok();
        let disk = Disk::make(&lab.dir().join("disk"), 8);
        let unnamed = tell.with_extension("new");
        let lacks = disk.as_ref().err().cloned().unwrap_or_default();
        std::fs::write(&unnamed, format!("{}\n{lacks}", lab.dir().display())).unwrap();
        std::fs::rename(unnamed, tell).unwrap();
        loop {
            std::thread::park();
        }
    }
    let own = Scratch::new();
    let tell = own.path().join("told");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "killed::a_killed_runner_leaves_nothing_that_the_next_does_not_remove", "--nocapture"])
        .env(TELL, &tell)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut runner = dies_with_us(&mut command).spawn().unwrap();
    let told = eventually("a service runs", Duration::from_secs(90), || {
        assert!(runner.try_wait().unwrap().is_none(), "the runner ended by itself");
        std::fs::read_to_string(&tell).map_err(|e| e.to_string())
    });
    let (dir, lacks) = told.split_once('\n').unwrap();
    let dir = PathBuf::from(dir);
    if !lacks.is_empty() {
        skip("a_killed_runner_leaves_nothing_that_the_next_does_not_remove/disks", lacks);
    }
    // Mounts below the directory, and images of disks in memory.
    let disks = || {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let mounted = mounts.lines().filter(|l| l.contains(dir.to_str().unwrap())).count();
        let name = dir.file_name().unwrap().to_str().unwrap();
        let memory = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
        (mounted, memory.filter(|f| f.file_name().to_string_lossy().starts_with(name)).count())
    };
    assert!(disks() == (1, 1) || !lacks.is_empty(), "{:?}", disks());
    let daemons = || procs_naming(&dir).into_iter().filter(|p| p.command.contains("--config")).count();
    assert_eq!(daemons(), 2, "{:#?}", procs_naming(&dir));
    sweep(&std::env::temp_dir());
    assert_eq!(daemons(), 2, "of one that lives nothing is touched");

    runner.kill().unwrap();
    runner.wait().unwrap();
    eventually("node and agent died with their runner", SOON, || match daemons() {
        0 => Ok(()),
        n => Err(format!("{n} live")),
    });
    // Any other test may be the next runner.
    sweep(&std::env::temp_dir());
    eventually("instances and directory are gone", SOON, || match procs_naming(&dir) {
        left if left.is_empty() && !dir.exists() && disks() == (0, 0) => Ok(()),
        left => Err(format!("{left:#?} {:?}", disks())),
    });
}
