//! A node or an agent as a process that can be started, killed, paused and looked into.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    procs::{dies_with_us, signal},
    skew::forget_clock,
};

/// Most of a log that a failing test prints.
const TAIL: usize = 40;

/// One daemon; started or not.
pub struct Daemon {
    pub name: String,
    pub dir: PathBuf,
    pub config: PathBuf,
    /// Flags beside the configuration, from its next start on.
    pub flags: Vec<String>,
    command: Vec<String>,
    child: Option<Child>,
}

impl Daemon {
    /// `slipwayd VERB` with this configuration, in a directory of its own; `within` is put in front (a namespace), or
    /// empty.
    pub fn new(dir: &Path, name: &str, verb: &str, config: &str, within: &[String]) -> Self {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("config.toml");
        std::fs::write(&path, config).unwrap();
        let mut command = within.to_vec();
        command.extend([env!("CARGO_BIN_EXE_slipwayd"), verb, "--config", path.to_str().unwrap()].map(String::from));
        Self { name: name.into(), dir, config: path, flags: Vec::new(), command, child: None }
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Everything it has said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// The end of it.
    pub fn tail(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            .args(&self.flags)
            .current_dir(&self.dir)
            .env_remove("SLIPWAY_NODES")
            .env("SLIPWAY_LOG", "slipway=info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = dies_with_us(&mut command).spawn();
        self.child = Some(child.unwrap_or_else(|e| panic!("{}: {e}", self.command[0])));
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().unwrap()
    }

    /// Waits for it to end by itself; what it said.
    pub fn refuses_to_run(&mut self) -> String {
        self.start();
        let until = Instant::now() + super::SOON;
        loop {
            if let Some(status) = self.ended() {
                assert!(!status.success(), "{} ended with success", self.name);
                self.child = None;
                return self.said();
            }
            assert!(Instant::now() < until, "{} runs although it should have refused to:\n{}", self.name, self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |c| i32::try_from(c.id()).unwrap())
    }

    /// `kill -9`, and nothing of it runs when this returns.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().unwrap();
            forget_clock(child.id());
        }
    }

    /// SIGTERM, and waits for a clean end.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        signal(i32::try_from(child.id()).unwrap(), Signal::TERM);
        let until = Instant::now() + super::SOON;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{} ended with {status} on SIGTERM:\n{}", self.name, self.tail());
                return;
            }
            if Instant::now() > until {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{} does not end on SIGTERM:\n{}", self.name, self.tail());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGSTOP: it is there and does nothing.
    pub fn pause(&self) {
        signal(self.pid(), Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        signal(self.pid(), Signal::CONT);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
