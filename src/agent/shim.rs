//! The shim: a small process between the agent and one instance, so that either may die without orphaning or doubling
//! the other.
//!
//! `slipwayd shim DIR RUN` takes the instance's lock without waiting and leaves when it is taken or the run has an
//! identity. It starts `slipwayd shim --exec DIR RUN`, moves it into the instance's cgroup if there is one, and lets it
//! wait for a byte; meanwhile the tree (who the process and the shim are, which cgroup) is written and fsynced. Then
//! the waiting process executes the program in its own place: same pid, same start time. The shim stays, in a session
//! of its own, inherits what loses its parent, notes when its logs
//! grow and keeps them small, ends what the program leaves behind and
//! records how the program ended.
//!
//! Invariants: no program runs without a durable identity. The shim alone holds the lock, so a lock that is free says
//! that no shim lives, and nothing of the program: whoever starts a next run looks at the tree (`process`). The end is
//! recorded once nothing of the tree lives. If the shim dies before it has written the identity, the waiting process
//! reads an end of file and leaves. No async here: no runtime, no `unsafe`.

mod collect;
mod small_logs;

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
};

use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use serde::{Deserialize, Serialize};

use super::{
    cgroup::Cgroup,
    files,
    kin::Identity,
    layout::{InstanceDir, RunDir},
    tree::{self, Tree},
};
use crate::{console, supervise};

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
    /// Its whole environment, but for the mark of the run.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Whom to become.
    pub user: Option<Credentials>,
    /// Its cgroup, where this agent can have one.
    pub cgroup: Option<PathBuf>,
}

/// A user as the kernel knows one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    pub groups: Vec<u32>,
}

impl Credentials {
    /// Becomes it, for good.
    fn take_on(&self) -> io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().map(|g| Gid::from_raw(*g)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        // This process has one thread, so what is said of threads holds for all of it.
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    }
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
        return execute(&dir, run);
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
    // Never inherited: closed on exec.
    let lock = open_lock(dir)?;
    if !try_lock(&lock)? || run.identity().exists() || run.exit().exists() {
        return Ok(ExitCode::from(TAKEN));
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let launch: Launch = serde_json::from_slice(&fs::read(run.launch())?)?;
    small_logs::look_once(dir);
    let log = |stream: &str| fs::OpenOptions::new().create(true).append(true).mode(0o640).open(dir.log(stream));
    let mut child = Command::new("/proc/self/exe")
        .args([OsString::from("shim"), "--exec".into(), dir.path().into(), number.to_string().into()])
        .env_clear()
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(log("out")?)
        .stderr(log("err")?)
        .spawn()?;
    let first = Identity::of(i32::try_from(child.id()).map_err(io::Error::other)?)?;
    let cgroup = launch.cgroup.filter(|path| match Cgroup::take_in(path, child.id()) {
        Ok(_) => true,
        Err(e) => {
            console::note(&format!("slipwayd shim: no cgroup {}, so it is kept together without: {e}", path.display()));
            false
        }
    });
    let tree = Tree { instance: dir.name(), first, shim: Identity::own()?, cgroup };
    files::replace(&run.identity(), &serde_json::to_vec(&tree)?, 0o600)?;
    // Dropping the pipe without a byte, on an error above too, makes the child leave.
    child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?.write_all(b"g")?;
    let logs = dir.clone();
    // Without the thread the program runs all the same.
    let keeper = std::thread::Builder::new().name("logs".into()).spawn(move || {
        let say =
            |words: &str| console::note(&format!("slipwayd shim: keeping logs small panicked ({words}); it goes on"));
        supervise::kept_here(say, || small_logs::keep_logs_small(&logs));
    });
    if let Err(e) = keeper {
        console::note(&format!("slipwayd shim: logs are not kept small: {e}"));
    }
    let mut text = collect::collect(&tree, &run)?;
    if let Some(why) = files::read_if_there(&run.error())? {
        text = String::from_utf8_lossy(&why).into_owned();
    }
    files::replace(&run.exit(), text.as_bytes(), 0o600)?;
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

/// In the child: waits for the byte, then becomes the program.
fn execute(dir: &InstanceDir, number: u32) -> ExitCode {
    let run: RunDir = dir.run(number);
    let mut word = [0];
    if !matches!(io::stdin().read(&mut word), Ok(1)) {
        return ExitCode::from(BROKEN);
    }
    let failed = (|| {
        let launch: Launch = serde_json::from_slice(&fs::read(run.launch())?)?;
        let me = Identity::own()?;
        let mut command = Command::new(&launch.program);
        command.args(&launch.args).env_clear().envs(&launch.env).current_dir(&launch.cwd).stdin(Stdio::null());
        command.env(tree::MARK, tree::mark(&dir.name(), me.pid, me.start));
        if let Some(user) = &launch.user {
            user.take_on().map_err(|e| io::Error::new(e.kind(), format!("cannot become user {}: {e}", user.uid)))?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
