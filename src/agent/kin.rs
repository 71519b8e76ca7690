//! Processes as /proc shows them: which exist, their parents, start times and environments.
//!
//! Invariants: a pid is identified only together with its start time, as pids are used again; a process that vanishes
//! while it is read is left out. Not here: which of them belong to an instance (`tree`), sockets (`sockets`).

use std::{fs, io};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// Which process it is: a pid alone is not enough, pids are used again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The machine's boot.
    pub boot: String,
    /// Its pid in that boot.
    pub pid: i32,
    /// Its start time in clock ticks since that boot.
    pub start: u64,
}

impl Identity {
    /// A process's that lives now.
    pub fn of(pid: i32) -> io::Result<Self> {
        Ok(Self { boot: boot_id()?, pid, start: start_time(pid)? })
    }

    /// This process's.
    pub fn own() -> io::Result<Self> {
        Self::of(i32::try_from(std::process::id()).map_err(io::Error::other)?)
    }
}

/// The id of the machine's present boot.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A process's start time in clock ticks since boot.
pub fn start_time(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let kin = parse(pid, &stat);
    kin.map(|k| k.start)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has no start time")))
}

/// A process as it stands in its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kin {
    pub pid: i32,
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    pub session: i32,
    /// When it began, as in [`Identity`].
    pub start: u64,
    /// Whether it has ended and waits for its parent to notice.
    pub ended: bool,
}

impl Kin {
    /// Sends it a signal; whether it was still there.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(false) };
        let sent = (|| {
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            // In this order: the descriptor stays with the process whose start time is read, or that one is gone.
            if start_time(self.pid).ok() != Some(self.start) {
                return Err(rustix::io::Errno::SRCH);
            }
            pidfd_send_signal(&pidfd, signal)
        })();
        match sent {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

fn parse(pid: i32, stat: &str) -> Option<Kin> {
    // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let mut number = || fields.next()?.parse().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    let start = fields.nth(15)?.parse().ok()?;
    Some(Kin { pid, parent, group, session, start, ended })
}

/// Reads one; `None` when it is gone.
pub fn kin(pid: i32) -> Option<Kin> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// All processes that can be seen.
pub fn everyone() -> io::Result<Vec<Kin>> {
    let pids = fs::read_dir("/proc")?.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(kin).collect())
}

/// A process's name, for people.
pub fn command(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().chars().filter(|c| !c.is_control()).collect()
}

/// A variable of the environment that a process was started with, if this agent may see it.
pub fn variable(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|b| *b == 0);
    let value = variables.find_map(|v| v.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_tell_processes_apart() {
        let me = Identity::own().unwrap();
        assert_eq!(start_time(me.pid).unwrap(), me.start);
        assert!(me.start > start_time(1).unwrap());
        assert!(start_time(-1).is_err());
        assert_eq!(me.boot.len(), 36);
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b (c) Z 3 4 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        let kin = parse(7, stat).unwrap();
        assert_eq!(kin, Kin { pid: 7, parent: 3, group: 4, session: 5, start: 98765, ended: true });
        assert_eq!(parse(7, "7 (a) S 3"), None);
    }

    #[test]
    fn another_process_of_the_same_pid_gets_no_signal() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let it = kin(i32::try_from(child.id()).unwrap()).unwrap();
        assert_eq!(it.parent, i32::try_from(std::process::id()).unwrap());
        assert!(everyone().unwrap().iter().any(|k| k.pid == it.pid));
        assert!(!Kin { start: it.start + 1, ..it }.signal(Signal::KILL).unwrap());
        assert!(child.try_wait().unwrap().is_none());
        assert!(it.signal(Signal::KILL).unwrap());
        child.wait().unwrap();
        assert!(!it.signal(Signal::KILL).unwrap());
    }

    #[test]
    fn variables_are_read_from_a_processs_environment() {
        let mut child = std::process::Command::new("sleep").arg("60").env("SLIPWAY_X", "a=b").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // It has none for a moment while it becomes another program.
        while fs::read(format!("/proc/{pid}/environ")).unwrap().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(variable(pid, "SLIPWAY_X").as_deref(), Some("a=b"));
        assert_eq!(variable(pid, "SLIPWAY_"), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
