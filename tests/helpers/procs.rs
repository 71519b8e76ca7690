//! Processes of the machine that belong to a test: those whose command line, program or working directory lies in its
//! directory; and those that must not outlive it.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proc {
    pub pid: i32,
    pub exe: PathBuf,
    pub command: String,
}

/// Everything that names `dir`, except this process.
pub fn naming(dir: &Path) -> Vec<Proc> {
    let me = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        if u32::try_from(pid) == Ok(me) {
            continue;
        }
        let at = entry.path();
        let exe = fs::read_link(at.join("exe")).unwrap_or_default();
        let cwd = fs::read_link(at.join("cwd")).unwrap_or_default();
        let command = fs::read(at.join("cmdline")).unwrap_or_default();
        let needle = dir.as_os_str().as_bytes();
        if exe.starts_with(dir) || cwd.starts_with(dir) || command.windows(needle.len()).any(|w| w == needle) {
            let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_string();
            found.push(Proc { pid, exe, command });
        }
    }
    found
}

/// Has the kernel kill the process when the thread that starts it ends, however that comes: a runner may be killed.
pub fn dies_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only one system call is made, which allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            Ok(())
        })
    }
}

/// Sends a signal to one process.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // Gone already is as good.
        let _ = kill_process(pid, signal);
    }
}

/// Kills all of them until none is left; gives what withstood.
pub fn kill_all(dir: &Path) -> Vec<Proc> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let left = naming(dir);
        if left.is_empty() || Instant::now() > until {
            return left;
        }
        for p in &left {
            signal(p.pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
