//! The shim: a small process between the agent and one instance, so that either may die without orphaning or doubling the other.
//!
//! `slipwayd shim DIR RUN` takes the instance's lock without waiting and leaves when it is taken or the run has an identity. It
//! starts `slipwayd shim --exec DIR RUN`, which waits for a byte; meanwhile the identity (boot id, pid, start time) is written and
//! fsynced. Then the waiting process executes the program in its own place: same pid, same start time, lock inherited. The shim
//! stays, in a session of its own, keeps the log files small and records how the program ended.
//!
//! Invariants: no program runs without a durable identity; the lock is held while the shim or the program lives. If the shim dies
//! before it has written the identity, the waiting process reads an end of file and leaves. No async here: no runtime, no `unsafe`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{self, Read, Write},
    os::unix::{
        fs::OpenOptionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    files,
    layout::{InstanceDir, RunDir},
};

/// A log file is moved aside at this size; one older part is kept.
const LOG_CAP: u64 = 10 << 20;
/// Time between looks at the log files.
const LOG_LOOK: Duration = Duration::from_secs(2);
/// Exit status: another shim holds the lock, or the run has begun already.
const TAKEN: u8 = 75;
/// Exit status: the shim itself could not work.
const BROKEN: u8 = 70;
/// Exit status of an instance whose program could not be executed.
const NOT_EXECUTED: u8 = 127;

/// What to execute; the agent writes it into the run's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The program, absolute.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// User and group to become.
    pub user: Option<(u32, u32)>,
}

/// Which process an instance's run is: a pid alone is not enough, pids are used again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The machine's boot.
    pub boot: String,
    /// Its pid in that boot.
    pub pid: i32,
    /// Its start time in clock ticks since that boot.
    pub start: u64,
}

/// The id of the machine's present boot.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A process's start time in clock ticks since boot.
pub fn start_time(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let start = rest.split_ascii_whitespace().nth(19).and_then(|f| f.parse().ok());
    start.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has no start time")))
}

/// How a process ended, for people.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => {
            let dumped = if status.core_dumped() { ", core dumped" } else { "" };
            format!("killed by signal {signal}{dumped}")
        }
        (None, None) => format!("ended: {status}"),
    }
}

/// The `shim` command: arguments as the agent passes them, without the command's own name.
pub fn shim_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let inner = args.first().is_some_and(|a| a == "--exec");
    if inner {
        args.remove(0);
    }
    let [dir, run] = args.as_slice() else {
        eprintln!("slipwayd shim is started by the agent alone: shim DIRECTORY RUN");
        return ExitCode::from(2);
    };
    let Some(run) = run.to_str().and_then(|r| r.parse::<u32>().ok()) else {
        eprintln!("slipwayd shim: {} is not a run's number", run.display());
        return ExitCode::from(2);
    };
    let dir = InstanceDir::at(Path::new(dir));
    if inner {
        return execute(&dir.run(run));
    }
    match supervise(&dir, run) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("slipwayd shim: {}: {e}", dir.path().display());
            ExitCode::from(BROKEN)
        }
    }
}

/// Opens an instance's lock file.
pub fn open_lock(dir: &InstanceDir) -> io::Result<fs::File> {
    fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.lock())
}

/// Takes a lock without waiting; whether it was free.
pub fn try_lock(lock: &fs::File) -> io::Result<bool> {
    match rustix::fs::flock(lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn supervise(dir: &InstanceDir, number: u32) -> io::Result<ExitCode> {
    // Fails only for the leader of a process group, which then has a session of its own already.
    let _ = rustix::process::setsid();
    let run = dir.run(number);
    let lock = open_lock(dir)?;
    if !try_lock(&lock)? || run.identity().exists() || run.exit().exists() {
        return Ok(ExitCode::from(TAKEN));
    }
    rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty())?;
    let log = |stream: &str| fs::OpenOptions::new().create(true).append(true).mode(0o640).open(dir.log(stream));
    let mut child = Command::new("/proc/self/exe")
        .args([OsString::from("shim"), "--exec".into(), dir.path().into(), number.to_string().into()])
        .env_clear()
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(log("out")?)
        .stderr(log("err")?)
        .spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let identity = Identity { boot: boot_id()?, pid, start: start_time(pid)? };
    files::replace(&run.identity(), &serde_json::to_vec(&identity)?, 0o600)?;
    // Dropping the pipe without a byte, on an error above too, makes the child leave.
    child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?.write_all(b"g")?;
    let logs = dir.clone();
    std::thread::spawn(move || keep_logs_small(&logs));
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        use rustix::process::{Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        {
        }
        // What it left running in its group would hold its lock and ports; its pid is not free before it is reaped.
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let status = child.wait()?;
    let mut text = describe(status);
    if let Some(why) = files::read_if_there(&run.error())? {
        text = String::from_utf8_lossy(&why).into_owned();
    }
    files::replace(&run.exit(), text.as_bytes(), 0o600)?;
    Ok(ExitCode::SUCCESS)
}

/// In the child: waits for the word, then becomes the program.
fn execute(run: &RunDir) -> ExitCode {
    let mut word = [0];
    if !matches!(io::stdin().read(&mut word), Ok(1)) {
        return ExitCode::from(BROKEN);
    }
    let failed = (|| {
        let launch: Launch = serde_json::from_slice(&fs::read(run.launch())?)?;
        let mut command = Command::new(&launch.program);
        command.args(&launch.args).env_clear().envs(&launch.env).current_dir(&launch.cwd).stdin(Stdio::null());
        if let Some((uid, gid)) = launch.user {
            command.gid(gid).uid(uid);
        }
        let e = command.exec();
        Err::<(), _>(io::Error::new(e.kind(), format!("cannot execute {}: {e}", launch.program.display())))
    })();
    if let Err(e) = failed {
        eprintln!("slipway: {e}");
        let _ = files::replace(&run.error(), e.to_string().as_bytes(), 0o600);
    }
    ExitCode::from(NOT_EXECUTED)
}

fn keep_logs_small(dir: &InstanceDir) {
    loop {
        std::thread::sleep(LOG_LOOK);
        for stream in ["out", "err"] {
            if let Err(e) = rotate(&dir.log(stream), LOG_CAP) {
                eprintln!("slipwayd shim: log {stream}: {e}");
            }
        }
    }
}

/// Copies a log that is too large aside and empties it. The program goes on writing to the same file, which it appends to; what
/// it writes between the copy and the cut is lost.
fn rotate(log: &Path, cap: u64) -> io::Result<()> {
    let size = match fs::metadata(log) {
        Ok(meta) => meta.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if size <= cap {
        return Ok(());
    }
    let mut old = log.as_os_str().to_owned();
    old.push(".1");
    fs::copy(log, PathBuf::from(old))?;
    fs::OpenOptions::new().write(true).open(log)?.set_len(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_tell_processes_apart() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(start_time(me).unwrap(), start_time(me).unwrap());
        assert!(start_time(me).unwrap() > start_time(1).unwrap());
        assert!(start_time(-1).is_err());
        assert_eq!(boot_id().unwrap().len(), 36);
    }

    #[test]
    fn logs_are_cut_and_one_part_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("out.log");
        let mut writer = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        rotate(&dir.path().join("none"), 10).unwrap();
        writer.write_all(b"0123456789abcdef").unwrap();
        rotate(&log, 100).unwrap();
        assert_eq!(fs::metadata(&log).unwrap().len(), 16);
        rotate(&log, 10).unwrap();
        writer.write_all(b"next").unwrap();
        assert_eq!(fs::read(&log).unwrap(), b"next");
        assert_eq!(fs::read(dir.path().join("out.log.1")).unwrap(), b"0123456789abcdef");
    }

    #[test]
    fn one_lock_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let dir = InstanceDir::at(dir.path());
        let (first, second) = (open_lock(&dir).unwrap(), open_lock(&dir).unwrap());
        assert!(try_lock(&first).unwrap());
        assert!(!try_lock(&second).unwrap());
        drop(first);
        assert!(try_lock(&second).unwrap());
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let code = |args: &[&str]| format!("{:?}", shim_main(args.iter().map(OsString::from)));
        assert_eq!(code(&[]), format!("{:?}", ExitCode::from(2)));
        assert_eq!(code(&["/nowhere", "x"]), format!("{:?}", ExitCode::from(2)));
        assert_eq!(code(&["/nowhere", "1"]), format!("{:?}", ExitCode::from(BROKEN)));
    }
}
