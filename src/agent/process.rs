//! Processes as the agent sees them: it starts one under its shim, finds one again, and waits for its end and for the
//! end of its tree.
//!
//! Invariants: a process is touched only through a pidfd whose boot id and start time matched the run's identity; a run
//! begins only when no process of earlier runs lives. The lock says whether a shim lives; the tree says which other
//! processes do. Not here: stopping (`stopping`), when to start or stop (`instance`), the shim's own side (`shim`).

mod stopping;

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use thiserror::Error;
use tokio::io::unix::AsyncFd;

use super::{
    files,
    kin::{boot_id, start_time},
    layout::{InstanceDir, RunDir},
    shim::{Launch, open_lock, try_lock},
    tree::{Members, Tree},
};
use crate::clock::Clock;

pub use stopping::Stopping;

/// How long a lock may be held without an identity, a process be gone without an exit record, and what was killed still
/// be there.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between looks at the run's files.
const LOOK: Duration = Duration::from_millis(10);

/// Why a process could not be started or found.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// The disk or the kernel refused.
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    /// Something holds the instance's lock and does not become a process.
    #[error("{path} is locked by something that is not this run's shim: stop what still uses it")]
    Locked { path: PathBuf },
    #[error("of its run before there is still {who}, which cannot be killed: it starts again once that is gone")]
    Left { who: String },
    #[error("the shim for {path} ends at once: {detail}")]
    Shim { path: PathBuf, detail: String },
}

/// A process whose identity was checked.
#[derive(Debug)]
pub struct Process {
    /// It, and everyone who belongs to it.
    pub tree: Tree,
    pidfd: AsyncFd<OwnedFd>,
}

/// What a run's directory says.
#[derive(Debug)]
pub enum Found {
    /// It runs.
    Running(Process),
    /// It ran, or was about to, and has ended; how.
    Ended(String),
    /// Nothing began.
    Nothing,
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ProcessError {
    move |source| ProcessError::Io { what, path: path.into(), source }
}

fn locked(dir: &InstanceDir) -> Result<bool, ProcessError> {
    let lock = match open_lock(dir) {
        // The journal names a run before its directory is made: an agent that was killed between the two leaves no
        // directory, and no shim.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        lock => lock.map_err(io_error("lock", &dir.lock()))?,
    };
    // A shim that tries in this very moment leaves; `start` then begins the run again.
    Ok(!try_lock(&lock).map_err(io_error("lock", &dir.lock()))?)
}

fn tree(run: &RunDir) -> Result<Option<Tree>, ProcessError> {
    let bytes = files::read_if_there(&run.identity()).map_err(io_error("read", &run.identity()))?;
    Ok(bytes.and_then(|b| serde_json::from_slice(&b).ok()))
}

fn exit(run: &RunDir) -> Result<Option<String>, ProcessError> {
    let bytes = files::read_if_there(&run.exit()).map_err(io_error("read", &run.exit()))?;
    Ok(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
}

/// Opens a process if it is still the one of that identity.
fn open(tree: Tree) -> io::Result<Option<Process>> {
    let identity = &tree.first;
    let Some(pid) = Pid::from_raw(identity.pid) else { return Ok(None) };
    let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    // In this order: the descriptor stays with the process whose start time is read, or that one is gone.
    if start_time(identity.pid).ok() != Some(identity.start) {
        return Ok(None);
    }
    // SAFETY: the descriptor is owned by the `AsyncFd` from here on and never replaced, so it stays open until it is
    // deregistered.
    let pidfd = unsafe { AsyncFd::register(pidfd) }?;
    Ok(Some(Process { tree, pidfd }))
}

/// Finds out what became of a run (walk-through: an agent killed between spawn and report).
pub async fn find(dir: &InstanceDir, number: u32) -> Result<Found, ProcessError> {
    let run = dir.run(number);
    let boot = boot_id().map_err(io_error("read the boot id for", dir.path()))?;
    let mut waited = Duration::ZERO;
    loop {
        if let Some(tree) = tree(&run)? {
            if tree.first.boot != boot {
                return Ok(Found::Ended(exit(&run)?.unwrap_or_else(|| "the machine restarted".into())));
            }
            if let Some(process) = open(tree).map_err(io_error("open the process of", dir.path()))? {
                return Ok(Found::Running(process));
            }
            return Ok(Found::Ended(ending(dir, number).await?));
        }
        if let Some(how) = exit(&run)? {
            return Ok(Found::Ended(how));
        }
        if !locked(dir)? {
            // A shim may have come and gone between the two looks.
            if tree(&run)?.is_some() {
                continue;
            }
            return Ok(Found::Nothing);
        }
        if waited >= PATIENCE {
            return Err(ProcessError::Locked { path: dir.path().into() });
        }
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
    }
}

/// How a run ended, once its process is gone: the shim's record, or that there is none. Then nothing of its tree lives,
/// or its shim cannot kill what does.
pub async fn ending(dir: &InstanceDir, number: u32) -> Result<String, ProcessError> {
    let run = dir.run(number);
    let mut waited = Duration::ZERO;
    loop {
        // The lock first: a shim that held it may write its record and leave between the two looks.
        let held = locked(dir)?;
        if let Some(how) = exit(&run)? {
            return Ok(how);
        }
        if !held {
            let Some(tree) = tree(&run)? else { return Ok("ended; how is not known".into()) };
            return Ok(match ended_by_force(dir, &tree).await? {
                left if left.is_empty() => "ended; how is not known, as its shim was killed".into(),
                left => format!(
                    "ended; how is not known, as its shim was killed, and it left {left}, which cannot be killed"
                ),
            });
        }
        if waited >= PATIENCE && !stopping::goes_on(&run) {
            let left = match tree(&run)? {
                Some(tree) => members(dir, &tree).await?,
                None => Members::default(),
            };
            if left.is_empty() {
                return Ok("ended; how is not known, as its shim does not answer".into());
            }
            return Ok(format!("ended, but its shim still waits for {left}, which cannot be killed"));
        }
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
    }
}

/// Everything of a tree that lives: a look at every process, so not on the runtime's threads.
async fn members(dir: &InstanceDir, tree: &Tree) -> Result<Members, ProcessError> {
    look(dir, tree, Tree::members).await
}

async fn look<T: Send + 'static>(
    dir: &InstanceDir,
    tree: &Tree,
    look: impl FnOnce(&Tree) -> io::Result<T> + Send + 'static,
) -> Result<T, ProcessError> {
    let tree = tree.clone();
    let looked = tokio::task::spawn_blocking(move || look(&tree)).await;
    looked.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(io_error("look for the processes of", dir.path()))
}

/// Kills a whole tree, until nothing is left of it or killing does not help; returns what is left.
async fn ended_by_force(dir: &InstanceDir, tree: &Tree) -> Result<Members, ProcessError> {
    let mut waited = Duration::ZERO;
    let mut pause = LOOK;
    let mut gone = false;
    loop {
        let left = look(dir, tree, Tree::kill).await?;
        // Looked twice: a process that is just becoming another program shows no mark for a moment.
        if left.is_empty() && !std::mem::replace(&mut gone, true) {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        if left.is_empty() {
            look(dir, tree, |tree| {
                tree.tidy();
                Ok(())
            })
            .await?;
            return Ok(left);
        }
        gone = false;
        if waited >= PATIENCE {
            return Ok(left);
        }
        tokio::time::sleep(pause).await;
        waited += pause;
        pause = (pause * 2).min(PATIENCE / 20);
    }
}

/// Waits until nothing lives of the runs before this one, and kills what does: their shims may have been killed, and
/// they hold the instance's ports.
pub async fn clear(dir: &InstanceDir, number: u32) -> Result<(), ProcessError> {
    for before in 1..number {
        let run = dir.run(before);
        let Some(tree) = tree(&run)? else { continue };
        if exit(&run)?.is_some() {
            // Written when nothing was left.
            continue;
        }
        let left = ended_by_force(dir, &tree).await?;
        if !left.is_empty() {
            return Err(ProcessError::Left { who: left.to_string() });
        }
    }
    Ok(())
}

/// Starts a run under a shim, or finds that it has been started. `program` is `slipwayd` itself.
pub async fn start(program: &Path, dir: &InstanceDir, number: u32, launch: &Launch) -> Result<Found, ProcessError> {
    let run = dir.run(number);
    files::ensure_dir(run.path()).map_err(io_error("make", run.path()))?;
    let bytes = serde_json::to_vec(launch).map_err(|e| io_error("write", &run.launch())(e.into()))?;
    // The program may run as another user: it reads this before it becomes that user.
    files::replace(&run.launch(), &bytes, 0o600).map_err(io_error("write", &run.launch()))?;
    let mut status = String::new();
    for _ in 0..5 {
        match find(dir, number).await? {
            found @ (Found::Running(_) | Found::Ended(_)) => return Ok(found),
            Found::Nothing => {}
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.path().join("shim.log"));
        let log = log.map_err(io_error("open the shim's log in", dir.path()))?;
        let mut shim = tokio::process::Command::new(program)
            .arg("shim")
            .arg(dir.path())
            .arg(number.to_string())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(io_error("start", program))?;
        loop {
            if tree(&run)?.is_some() {
                return find(dir, number).await;
            }
            if let Some(left) = shim.try_wait().map_err(io_error("wait for", program))? {
                status = super::shim::describe(left);
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(ProcessError::Shim { path: dir.path().into(), detail: status })
}

impl Process {
    /// Sends a signal; a process that is gone is fine.
    pub fn signal(&self, signal: Signal) {
        match pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => tracing::warn!(pid = self.tree.first.pid, "cannot signal: {e}"),
        }
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        // A pidfd becomes readable when its process has ended, and stays so.
        if let Err(e) = self.pidfd.readable().await {
            tracing::warn!(pid = self.tree.first.pid, "cannot wait for the process: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;
    use crate::{
        agent::{kin::Identity, tree},
        model::{Period, StopSpec, StopTo},
    };

    #[test]
    fn every_signal_of_a_spec_is_known_here() {
        for name in crate::model::signal::SIGNALS {
            assert!(stopping::signal_named(name).is_some(), "{name}");
        }
    }

    fn instance(root: &Path) -> InstanceDir {
        let dir = InstanceDir::at(&root.join("59-0"));
        files::ensure_dir(dir.run(1).path()).unwrap();
        dir
    }

    /// That of a process whose shim is gone.
    fn tree_of(first: Identity) -> Tree {
        Tree { instance: "59-0".into(), shim: Identity { pid: 0, start: 0, ..first.clone() }, first, cgroup: None }
    }

    fn write(dir: &InstanceDir, tree: &Tree) {
        fs::write(dir.run(1).identity(), serde_json::to_vec(tree).unwrap()).unwrap();
    }

    #[tokio::test]
    async fn nothing_began_without_lock_and_identity() {
        let root = tempfile::tempdir().unwrap();
        let dir = instance(root.path());
        assert!(matches!(find(&dir, 1).await.unwrap(), Found::Nothing));
        fs::write(dir.run(1).exit(), "exited with status 3").unwrap();
        let Found::Ended(how) = find(&dir, 1).await.unwrap() else { panic!("not ended") };
        assert_eq!(how, "exited with status 3");
    }

    #[tokio::test]
    async fn a_run_that_the_journal_names_and_that_has_no_directory_never_began() {
        let root = tempfile::tempdir().unwrap();
        let dir = InstanceDir::at(&root.path().join("59-0"));
        assert!(matches!(find(&dir, 1).await.unwrap(), Found::Nothing));
        assert!(!dir.path().exists(), "looking makes nothing");
    }

    #[tokio::test]
    async fn a_recycled_pid_and_another_boot_are_not_our_process() {
        let root = tempfile::tempdir().unwrap();
        let dir = instance(root.path());
        let me = Identity::own().unwrap();
        write(&dir, &tree_of(me.clone()));
        let Found::Running(found) = find(&dir, 1).await.unwrap() else { panic!("not found") };
        assert_eq!(found.tree.first, me);
        write(&dir, &tree_of(Identity { start: me.start + 1, ..me.clone() }));
        assert!(matches!(find(&dir, 1).await.unwrap(), Found::Ended(_)));
        write(&dir, &tree_of(Identity { boot: "another".into(), ..me }));
        let Found::Ended(how) = find(&dir, 1).await.unwrap() else { panic!("not ended") };
        assert_eq!(how, "the machine restarted");
    }

    #[tokio::test]
    async fn a_process_is_stopped_by_its_signal_or_killed_after_its_grace() {
        for (signal, ignores, expected) in
            [("TERM", false, 15), ("TERM", true, 9), ("RTMIN+3", false, 37), ("RTMAX-1", false, 63), ("RTMIN", true, 9)]
        {
            let root = tempfile::tempdir().unwrap();
            let dir = instance(root.path());
            let ready = root.path().join("ready");
            let trap = if ignores { "trap '' TERM 34;" } else { "" };
            let script = format!("{trap} : > {}; while :; do sleep 0.05; done", ready.display());
            let mut child =
                tokio::process::Command::new("/bin/sh").args(["-c", &script]).process_group(0).spawn().unwrap();
            let pid = i32::try_from(child.id().unwrap()).unwrap();
            while !ready.exists() {
                tokio::time::sleep(LOOK).await;
            }
            let process = open(tree_of(Identity::of(pid).unwrap())).unwrap().unwrap();
            let how = StopSpec { signal: signal.into(), to: StopTo::Group, grace: Period(300) };
            process.stop(&dir, 1, &how).await.unwrap();
            let status = child.wait().await.unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(expected));
        }
    }

    /// A process that bears the mark of a run, in a group of its own.
    fn stray(tree: &Tree) -> Child {
        use std::os::unix::process::CommandExt;
        let mark = tree::mark(&tree.instance, tree.first.pid, tree.first.start);
        Command::new("sleep").arg("60").env(tree::MARK, mark).process_group(0).spawn().unwrap()
    }

    #[tokio::test]
    async fn a_next_run_waits_for_strays_of_the_one_before_and_kills_them() {
        let root = tempfile::tempdir().unwrap();
        let dir = instance(root.path());
        // Its first process has ended, and its shim was killed before it could write how.
        let tree = tree_of(Identity { pid: i32::MAX, ..Identity::own().unwrap() });
        write(&dir, &tree);
        let (mut ours, mut other) = (stray(&tree), stray(&Tree { instance: "60-0".into(), ..tree.clone() }));
        clear(&dir, 2).await.unwrap();
        assert!(ours.wait().unwrap().code().is_none(), "killed");
        assert!(other.try_wait().unwrap().is_none(), "another instance's");
        other.kill().unwrap();
        other.wait().unwrap();
        // So does whoever asks how it ended.
        let mut ours = stray(&tree);
        let Found::Ended(how) = find(&dir, 1).await.unwrap() else { panic!("not ended") };
        assert!(how.contains("its shim was killed"), "{how}");
        assert!(ours.wait().unwrap().code().is_none(), "killed");
    }
}
