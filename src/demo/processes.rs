//! The demo's processes: started with their output in files, killed with -9 on purpose, stopped at the end.
//!
//! Invariant: every process the demo starts carries the demo's directory in its command line, so that `left` finds what
//! remains.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::layout::Layout;

/// Longest time one command of the demo may take.
const LONGEST: Duration = Duration::from_secs(180);

/// Runs programs for one demo. Cloning is cheap: it holds paths.
#[derive(Clone)]
pub struct Processes {
    dir: PathBuf,
    slipwayd: PathBuf,
    slipway: PathBuf,
    clients: String,
}

/// What a command printed and how it ended.
pub struct Output {
    /// Exit status; 255 when a signal ended it.
    pub code: i32,
    /// Standard output and standard error, in this order.
    pub text: String,
}

impl Processes {
    /// Copies the programs next to this one into the demo's directory.
    pub fn new(layout: &Layout) -> io::Result<Self> {
        let own = std::env::current_exe()?;
        let beside = own.parent().unwrap_or(Path::new("."));
        Ok(Self {
            dir: layout.dir.clone(),
            slipwayd: layout.install(&beside.join("slipwayd"), "slipwayd")?,
            slipway: layout.install(&own, "slipway")?,
            clients: layout.clients(),
        })
    }

    /// Starts `slipwayd KIND --config FILE` in a process group of its own; output goes to `NAME.log`. Gives its pid.
    pub fn start(&self, kind: &str, name: &str, config: &Path) -> io::Result<u32> {
        use std::os::unix::process::CommandExt;
        let log = File::options().create(true).append(true).open(self.dir.join(format!("{name}.log")))?;
        let child = Command::new(&self.slipwayd)
            .args([kind, "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let pid = child.id();
        fs::write(self.dir.join(format!("{name}.pid")), pid.to_string())?;
        // The child is reaped by this thread, so that a killed one is gone and not a zombie that `left` would count.
        std::thread::spawn(move || {
            let mut child = child;
            let _ = child.wait();
        });
        Ok(pid)
    }

    /// `kill -9`.
    pub fn kill(&self, name: &str) -> io::Result<()> {
        let pid = self.pid(name)?;
        kill_process(pid, Signal::KILL).map_err(io::Error::from)
    }

    fn pid(&self, name: &str) -> io::Result<Pid> {
        read_pid(&self.dir.join(format!("{name}.pid")))
    }

    /// Runs one command of the CLI against the demo's nodes, as a user would, and hands on each line as it comes.
    pub async fn slipway(&self, args: &[String], line: impl Fn(&str)) -> io::Result<Output> {
        let mut child = tokio::process::Command::new(&self.slipway)
            .args(args)
            .env("SLIPWAY_NODES", &self.clients)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("the command has no output pipes"));
        };
        let (mut out, mut err) = (BufReader::new(out).lines(), BufReader::new(err).lines());
        let mut text = String::new();
        let work = async {
            let (mut out_open, mut err_open) = (true, true);
            while out_open || err_open {
                let next = tokio::select! {
                    l = out.next_line(), if out_open => { let l = l?; out_open = l.is_some(); l }
                    l = err.next_line(), if err_open => { let l = l?; err_open = l.is_some(); l }
                };
                if let Some(l) = next {
                    line(&l);
                    text.push_str(&l);
                    text.push('\n');
                }
            }
            child.wait().await
        };
        let status = tokio::time::timeout(LONGEST, work)
            .await
            .map_err(|_| io::Error::other(format!("slipway {} did not end within {LONGEST:?}", args.join(" "))))??;
        Ok(Output { code: status.code().unwrap_or(255), text })
    }
}

fn read_pid(path: &Path) -> io::Result<Pid> {
    let text = fs::read_to_string(path)?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other(format!("{} holds no process id", path.display())))
}

/// Processes whose command line names the directory (instances' too: their programs lie below it), but this one.
pub fn left(dir: &Path) -> Vec<(Pid, String)> {
    let needle = dir.display().to_string();
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|e| {
            let id: i32 = e.file_name().to_str()?.parse().ok()?;
            let line = String::from_utf8_lossy(&fs::read(e.path().join("cmdline")).ok()?).replace('\0', " ");
            let at = fs::read_link(e.path().join("cwd")).ok();
            let inside = at.is_some_and(|p| p.starts_with(dir)) || names(&line, &needle);
            (inside && id.unsigned_abs() != own).then(|| Some((Pid::from_raw(id)?, line.trim().to_string())))?
        })
        .collect()
}

/// Whether the line names the directory itself, and not one whose name only begins alike.
fn names(line: &str, dir: &str) -> bool {
    line.match_indices(dir).any(|(at, m)| line[at + m.len()..].chars().next().is_none_or(|c| c == '/' || c == ' '))
}

/// Stops everything of a demo: the agents, then their instances, then the nodes, each asked before it is killed. Gives
/// what had to be killed although it was asked.
pub async fn stop_all(dir: &Path) -> Vec<String> {
    // An agent that still runs holds the lock that a drain needs, and would start again what is stopped under it.
    let agents = || left(dir).into_iter().filter(|(_, line)| is_agent(line));
    for (pid, _) in agents() {
        let _ = kill_process(pid, Signal::TERM);
    }
    gone(|| agents().next().is_none()).await;
    for worker in 1..=super::layout::WORKERS {
        let data = dir.join(format!("w{worker}"));
        if data.exists() {
            let drain = tokio::process::Command::new(dir.join("bin/slipwayd"))
                .args(["agent", "drain", "--data-dir"])
                .arg(&data)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .status();
            let _ = tokio::time::timeout(Duration::from_secs(20), drain).await;
        }
    }
    for (pid, _) in left(dir) {
        let _ = kill_process(pid, Signal::TERM);
    }
    gone(|| left(dir).is_empty()).await;
    let stubborn = left(dir);
    for (pid, _) in &stubborn {
        let _ = kill_process(*pid, Signal::KILL);
    }
    stubborn.into_iter().map(|(_, line)| line).collect()
}

/// Whether the line is that of a worker's agent, and not that of a drain or of a shim, which are programs of the same
/// name.
fn is_agent(line: &str) -> bool {
    line.contains("bin/slipwayd agent --config ")
}

/// Waits until it is so, ten seconds at most.
async fn gone(done: impl Fn() -> bool) {
    for _ in 0..100 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_told_from_its_shims() {
        assert!(is_agent("/tmp/slipway-demo-0/bin/slipwayd agent --config /tmp/slipway-demo-0/w1.toml"));
        assert!(!is_agent("/tmp/slipway-demo-0/bin/slipwayd agent drain --data-dir /tmp/slipway-demo-0/w1"));
        assert!(!is_agent(
            "/tmp/slipway-demo-0/bin/slipwayd shim /tmp/slipway-demo-0/w2/deployments/p/instances/221-3 2"
        ));
    }

    #[test]
    fn a_directory_is_not_one_that_begins_alike() {
        assert!(names("slipwayd node --config /tmp/slipway-demo-1/n1.toml", "/tmp/slipway-demo-1"));
        assert!(!names("slipwayd node --config /tmp/slipway-demo-12/n1.toml", "/tmp/slipway-demo-1"));
    }
}
