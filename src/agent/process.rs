//! Processes as the agent sees them: starting one under its shim, finding one again, signalling it, waiting for its end.
//!
//! Invariants: a process is touched only through a pidfd whose boot id and start time matched the run's identity; what cannot be
//! told apart is waited for, never started twice. Not here: when to start or stop (`instance`), the shim's own side (`shim`).

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use thiserror::Error;
use tokio::io::unix::AsyncFd;

use super::{
    files,
    layout::{InstanceDir, RunDir},
    shim::{Identity, Launch, boot_id, open_lock, start_time, try_lock},
};

/// How long a lock may be held without an identity, or a process be gone without an exit record.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between looks at the run's files.
const LOOK: Duration = Duration::from_millis(10);

/// Why a process could not be started or found.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// The disk or the kernel refused.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something holds the instance's lock and does not become a process.
    #[error("{path} is locked by something that is not this run's process: stop what still uses it")]
    Stuck {
        /// Which instance.
        path: PathBuf,
    },
    /// The shim leaves again and again.
    #[error("the shim for {path} ends at once: {detail}")]
    Shim {
        /// Which instance.
        path: PathBuf,
        /// Its exit status.
        detail: String,
    },
}

/// A process whose identity was checked.
#[derive(Debug)]
pub struct Process {
    /// Who it is.
    pub identity: Identity,
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
    let lock = open_lock(dir).map_err(io_error("lock", &dir.lock()))?;
    // A shim that tries in this very moment leaves; `start` then begins the run again.
    Ok(!try_lock(&lock).map_err(io_error("lock", &dir.lock()))?)
}

fn identity(run: &RunDir) -> Result<Option<Identity>, ProcessError> {
    let bytes = files::read_if_there(&run.identity()).map_err(io_error("read", &run.identity()))?;
    Ok(bytes.and_then(|b| serde_json::from_slice(&b).ok()))
}

fn exit(run: &RunDir) -> Result<Option<String>, ProcessError> {
    let bytes = files::read_if_there(&run.exit()).map_err(io_error("read", &run.exit()))?;
    Ok(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
}

/// Opens a process if it is still the one of that identity.
fn open(identity: Identity) -> io::Result<Option<Process>> {
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
    // SAFETY: the descriptor is owned by the `AsyncFd` from here on and never replaced, so it stays open until it is deregistered.
    let pidfd = unsafe { AsyncFd::register(pidfd) }?;
    Ok(Some(Process { identity, pidfd }))
}

/// Finds out what became of a run (walk-through: an agent killed between spawn and report).
pub async fn find(dir: &InstanceDir, number: u32) -> Result<Found, ProcessError> {
    let run = dir.run(number);
    let boot = boot_id().map_err(io_error("read the boot id for", dir.path()))?;
    let mut waited = Duration::ZERO;
    loop {
        if let Some(identity) = identity(&run)? {
            if identity.boot != boot {
                return Ok(Found::Ended(exit(&run)?.unwrap_or_else(|| "the machine restarted".into())));
            }
            if let Some(process) = open(identity).map_err(io_error("open the process of", dir.path()))? {
                return Ok(Found::Running(process));
            }
            return Ok(Found::Ended(ending(dir, number).await?));
        }
        if let Some(how) = exit(&run)? {
            return Ok(Found::Ended(how));
        }
        if !locked(dir)? {
            // A shim may have come and gone between the two looks.
            if identity(&run)?.is_some() {
                continue;
            }
            return Ok(Found::Nothing);
        }
        if waited >= PATIENCE {
            return Err(ProcessError::Stuck { path: dir.path().into() });
        }
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
    }
}

/// How a run ended, once its process is gone: the shim's record, or that there is none.
pub async fn ending(dir: &InstanceDir, number: u32) -> Result<String, ProcessError> {
    let run = dir.run(number);
    let mut waited = Duration::ZERO;
    loop {
        // The lock first: a shim that held it may write its record and leave between the two looks.
        let held = locked(dir)?;
        if let Some(how) = exit(&run)? {
            return Ok(how);
        }
        if !held || waited >= PATIENCE {
            return Ok("ended; how is not known, as its shim was killed".into());
        }
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
    }
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
            if identity(&run)?.is_some() {
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
            Err(e) => tracing::warn!(pid = self.identity.pid, "cannot signal: {e}"),
        }
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        // A pidfd becomes readable when its process has ended, and stays so.
        if let Err(e) = self.pidfd.readable().await {
            tracing::warn!(pid = self.identity.pid, "cannot wait for the process: {e}");
        }
    }

    /// Signals, gives it time, and kills it and its group if it needed more.
    pub async fn stop(&self, signal: Signal, grace: Duration) {
        self.signal(signal);
        if tokio::time::timeout(grace, self.ended()).await.is_ok() {
            return;
        }
        tracing::info!(pid = self.identity.pid, "did not end within its grace; killing it");
        if start_time(self.identity.pid).ok() == Some(self.identity.start)
            && let Some(group) = Pid::from_raw(self.identity.pid)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.signal(Signal::KILL);
        self.ended().await;
    }
}

/// A signal by its name in a spec.
pub fn signal_named(name: &str) -> Option<Signal> {
    Some(match name {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "HUP" => Signal::HUP,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "WINCH" => Signal::WINCH,
        "KILL" => Signal::KILL,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_of_a_spec_is_known_here() {
        for name in crate::model::spec::SIGNALS {
            assert!(signal_named(name).is_some(), "{name}");
        }
    }

    fn instance(root: &Path) -> InstanceDir {
        let dir = InstanceDir::at(root);
        files::ensure_dir(dir.run(1).path()).unwrap();
        dir
    }

    fn write_identity(dir: &InstanceDir, identity: &Identity) {
        fs::write(dir.run(1).identity(), serde_json::to_vec(identity).unwrap()).unwrap();
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
    async fn a_recycled_pid_and_another_boot_are_not_our_process() {
        let root = tempfile::tempdir().unwrap();
        let dir = instance(root.path());
        let pid = i32::try_from(std::process::id()).unwrap();
        let me = Identity { boot: boot_id().unwrap(), pid, start: start_time(pid).unwrap() };
        write_identity(&dir, &me);
        let Found::Running(found) = find(&dir, 1).await.unwrap() else { panic!("not found") };
        assert_eq!(found.identity, me);
        write_identity(&dir, &Identity { start: me.start + 1, ..me.clone() });
        assert!(matches!(find(&dir, 1).await.unwrap(), Found::Ended(_)));
        write_identity(&dir, &Identity { boot: "another".into(), ..me });
        let Found::Ended(how) = find(&dir, 1).await.unwrap() else { panic!("not ended") };
        assert_eq!(how, "the machine restarted");
    }

    #[tokio::test]
    async fn a_process_is_stopped_by_its_signal_or_killed_after_its_grace() {
        for (ignores, expected) in [(false, 15), (true, 9)] {
            let root = tempfile::tempdir().unwrap();
            let ready = root.path().join("ready");
            let trap = if ignores { "trap '' TERM;" } else { "" };
            let script = format!("{trap} : > {}; while :; do sleep 0.05; done", ready.display());
            let mut child =
                tokio::process::Command::new("/bin/sh").args(["-c", &script]).process_group(0).spawn().unwrap();
            let pid = i32::try_from(child.id().unwrap()).unwrap();
            while !ready.exists() {
                tokio::time::sleep(LOOK).await;
            }
            let identity = Identity { boot: boot_id().unwrap(), pid, start: start_time(pid).unwrap() };
            let process = open(identity).unwrap().unwrap();
            process.stop(Signal::TERM, Duration::from_millis(300)).await;
            let status = child.wait().await.unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(expected));
        }
    }
}
