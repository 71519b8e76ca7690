//! The shim: a small process between the agent and one instance, so that either may die without orphaning or doubling the other.
//!
//! `slipwayd shim DIR RUN` takes the instance's lock without waiting and leaves when it is taken or the run has an identity. It
//! starts `slipwayd shim --exec DIR RUN`, which waits for a byte; meanwhile the identity (boot id, pid, start time) is written and
//! fsynced. Then the waiting process executes the program in its own place: same pid, same start time, lock inherited. The shim
//! stays, in a session of its own, keeps the log files small (a hole takes the place of the oldest lines) and records how the program ended.
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
use crate::console;

/// A log file that takes more than this loses its oldest lines. It takes that and what is written between two looks: programs hold the
/// file, so less cannot be promised.
const LOG_CAP: u64 = 10 << 20;
/// Time between looks at the log files.
const LOG_LOOK: Duration = Duration::from_secs(1);
/// Holes are made of whole blocks.
const LOG_BLOCK: u64 = 4096;
/// A file whose hole has become this long begins anew: no file system takes files of any length.
const LOG_LENGTH: u64 = 1 << 40;
/// What a file that cannot have a hole keeps.
const LOG_KEPT: u64 = 1 << 20;
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
        console::note("slipwayd shim is started by the agent alone: shim DIRECTORY RUN");
        return ExitCode::from(2);
    };
    let Some(run) = run.to_str().and_then(|r| r.parse::<u32>().ok()) else {
        console::note(&format!("slipwayd shim: {} is not a run's number", run.display()));
        return ExitCode::from(2);
    };
    let dir = InstanceDir::at(Path::new(dir));
    if inner {
        return execute(&dir.run(run));
    }
    match supervise(&dir, run) {
        Ok(code) => code,
        Err(e) => {
            console::note(&format!("slipwayd shim: {}: {e}", dir.path().display()));
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
    // Without the thread the program runs all the same.
    let keeper = std::thread::Builder::new().name("logs".into()).spawn(move || keep_logs_small(&logs));
    if let Err(e) = keeper {
        console::note(&format!("slipwayd shim: logs are not kept small: {e}"));
    }
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
        console::note(&format!("slipway: {e}"));
        let _ = files::replace(&run.error(), e.to_string().as_bytes(), 0o600);
    }
    ExitCode::from(NOT_EXECUTED)
}

/// Never ends, whatever the disk says.
fn keep_logs_small(dir: &InstanceDir) {
    let mut said = String::new();
    let mut cut = [0; 2];
    for stream in ["out", "err"] {
        // What an older version moved aside.
        let _ = files::remove_if_there(&dir.path().join(format!("{stream}.log.1")));
    }
    loop {
        std::thread::sleep(LOG_LOOK);
        for (stream, cut) in ["out", "err"].into_iter().zip(&mut cut) {
            match keep_small(&dir.log(stream), LOG_CAP, *cut) {
                Ok(at) => *cut = at,
                Err(e) => {
                    let text = format!("slipwayd shim: log {stream}: {e}");
                    if text != said {
                        console::note(&text);
                        said = text;
                    }
                }
            }
        }
    }
}

/// Cuts the front off a log that takes more than `cap`, where it was last cut off at `before`: a hole takes its place, so nothing is copied
/// and it works on a full disk. The program goes on appending to the same file. Gives where the log begins now.
fn keep_small(log: &Path, cap: u64, before: u64) -> io::Result<u64> {
    let size = match fs::metadata(log) {
        Ok(meta) => meta.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    // Somebody else may have emptied it.
    let before = if size < before { 0 } else { before };
    if size - before <= cap {
        return Ok(before);
    }
    let file = fs::OpenOptions::new().read(true).write(true).open(log)?;
    let upto = (size - cap / 4 * 3) / LOG_BLOCK * LOG_BLOCK;
    if size < LOG_LENGTH {
        use rustix::fs::{FallocateFlags, fallocate};
        if fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, upto).is_ok() {
            return Ok(upto);
        }
    }
    begin_anew(file, size, LOG_KEPT.min(cap / 2))?;
    Ok(0)
}

/// Empties a log and writes its newest lines again: for file systems without holes. What is written meanwhile may be lost.
fn begin_anew(mut file: fs::File, size: u64, keep: u64) -> io::Result<()> {
    use io::{Seek, SeekFrom};
    file.seek(SeekFrom::Start(size.saturating_sub(keep)))?;
    let mut bytes = Vec::new();
    (&file).take(keep).read_to_end(&mut bytes)?;
    file.set_len(0)?;
    let whole = bytes.iter().position(|b| *b == b'\n').map_or(0, |n| n + 1);
    rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::APPEND)?;
    file.write_all(bytes.get(whole..).unwrap_or_default())
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

    fn taken(log: &Path) -> u64 {
        std::os::unix::fs::MetadataExt::blocks(&fs::metadata(log).unwrap()) * 512
    }

    #[test]
    fn a_log_takes_its_cap_and_the_newest_lines_survive() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("out.log");
        assert_eq!(keep_small(&dir.path().join("none"), 10, 0).unwrap(), 0);
        let cap = 64 << 10;
        let mut writer = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let (mut cut, mut n) = (0, 0);
        for _ in 0..200 {
            for _ in 0..100 {
                n += 1;
                writeln!(writer, "line {n:040}").unwrap();
            }
            cut = keep_small(&log, cap, cut).unwrap();
            assert!(taken(&log) <= cap + LOG_BLOCK, "{}", taken(&log));
        }
        assert!(cut > 0 && fs::metadata(&log).unwrap().len() == 46 * n);
        let bytes = fs::read(&log).unwrap();
        let text = String::from_utf8(bytes[usize::try_from(cut).unwrap()..].to_vec()).unwrap();
        assert!(text.len() >= 48 << 10 && text.ends_with(&format!("line {n:040}\n")));
        // A shim that begins knows nothing of what was cut off before.
        assert!(keep_small(&log, cap, 0).unwrap() >= cut);
        // Somebody empties it.
        writer.set_len(0).unwrap();
        assert_eq!(keep_small(&log, cap, cut).unwrap(), 0);
    }

    #[test]
    fn without_holes_the_newest_lines_are_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("out.log");
        let mut writer = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        writer.write_all(b"0123\n4567\n89ab\n").unwrap();
        begin_anew(fs::OpenOptions::new().read(true).write(true).open(&log).unwrap(), 15, 8).unwrap();
        writer.write_all(b"next\n").unwrap();
        assert_eq!(fs::read(&log).unwrap(), b"89ab\nnext\n");
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
