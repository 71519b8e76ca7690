//! A cgroup (version 2) for each instance, where this agent may make cgroups. A process that is born in it stays in it,
//! and the cgroup is killed as a whole.
//!
//! Invariants: the agent finds out at its start, by trying, whether cgroups work; it makes only directories below its
//! own, in a directory that bears its key. No controller is turned on: a cgroup keeps processes together here and
//! limits nothing. Not here: which instance has which cgroup, and when it is killed (`tree`, `shim`).

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// How often a process is moved in when its directory was just removed.
const TRIES: usize = 3;
/// How long what was killed in a trial may take to be gone.
const TRIAL: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);

/// How this agent keeps the processes of an instance together.
#[derive(Debug, Clone, PartialEq, Eq, derive_more::Display)]
pub enum Keeping {
    /// In a cgroup each, below this directory.
    #[display("cgroup")]
    Cgroups(PathBuf),
    /// The shim inherits what loses its parent; why there are no cgroups.
    #[display("subreaper: {_0}")]
    Subreaper(String),
}

impl Keeping {
    /// Finds out. `name` is the directory to be made in the agent's own cgroup, `idle` a program that waits until it is
    /// killed.
    pub fn find(name: &str, idle: Command) -> Self {
        let found = own().and_then(|own| {
            let home = own.join(name);
            let tried = try_out(&home, idle).map_err(|e| format!("cgroups below {} do not work: {e}", own.display()));
            tried.map(|()| home)
        });
        match found {
            Ok(home) => {
                // Of instances whose shims were killed.
                for child in children(&home).unwrap_or_default() {
                    let cgroup = Cgroup::at(&child);
                    if cgroup.pids().is_ok_and(|pids| pids.is_empty()) {
                        let _ = cgroup.remove();
                    }
                }
                Self::Cgroups(home)
            }
            Err(why) => Self::Subreaper(why),
        }
    }

    /// Where an instance's cgroup is to be.
    pub fn place(&self, instance: &str) -> Option<PathBuf> {
        match self {
            Self::Cgroups(home) => Some(home.join(instance)),
            Self::Subreaper(_) => None,
        }
    }
}

/// Makes a cgroup, moves a child in, kills and removes it.
fn try_out(home: &Path, mut idle: Command) -> io::Result<()> {
    let mut child = idle.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let path = home.join(format!("trial-{}", child.id()));
    let tried = (|| {
        let cgroup = Cgroup::take_in(&path, child.id())?;
        if !path.join("cgroup.kill").exists() {
            return Err(io::Error::other("they have no cgroup.kill, which is there since Linux 5.14"));
        }
        let killed = cgroup.kill();
        let mut waited = Duration::ZERO;
        while killed.is_ok() && child.try_wait()?.is_none() {
            if waited >= TRIAL {
                return Err(io::Error::other("cgroup.kill does not kill"));
            }
            std::thread::sleep(LOOK);
            waited += LOOK;
        }
        killed
    })();
    let _ = child.kill();
    child.wait()?;
    let removed = Cgroup::at(&path).remove();
    tried.and(removed)
}

/// The directory of the cgroup that this process is in.
fn own() -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
    own_of(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
}

fn own_of(cgroup: &str, mounts: &str) -> Result<PathBuf, String> {
    let none = || "this machine has no cgroups of version 2".to_owned();
    let path = cgroup.lines().find_map(|l| l.strip_prefix("0::")).ok_or_else(none)?;
    // Fields 4 and 5 are what is mounted and where; the type follows a lone hyphen.
    let mounted = mounts.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3);
        (right.split(' ').next() == Some("cgroup2")).then_some((fields.next()?, fields.next()?))
    });
    let mounted: Vec<(&str, &str)> = mounted.collect();
    if mounted.is_empty() {
        return Err(none());
    }
    let below = |(root, at): &(&str, &str)| {
        let inside = Path::new(path).strip_prefix(root).ok()?;
        let plain = inside.components().all(|c| matches!(c, std::path::Component::Normal(_)));
        let dir = Path::new(at);
        plain.then(|| if inside.as_os_str().is_empty() { dir.into() } else { dir.join(inside) })
    };
    mounted.iter().find_map(below).ok_or_else(|| format!("the agent's cgroup {path} is not in what is mounted here"))
}

fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            all.push(entry.path());
        }
    }
    Ok(all)
}

fn unless_gone<T: Default>(result: io::Result<T>) -> io::Result<T> {
    let gone = |e: &io::Error| {
        e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
    };
    result.or_else(|e| if gone(&e) { Ok(T::default()) } else { Err(e) })
}

/// Writes into a file that the kernel has there, and makes none.
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

/// A cgroup of version 2, by its directory.
#[derive(Debug)]
pub struct Cgroup<'a> {
    path: &'a Path,
}

impl<'a> Cgroup<'a> {
    /// The one at a directory, which need not be there.
    pub fn at(path: &'a Path) -> Self {
        Self { path }
    }

    /// Makes it, and moves a process into it.
    pub fn take_in(path: &'a Path, pid: u32) -> io::Result<Self> {
        let mut tried = 0;
        loop {
            let moved = fs::create_dir_all(path).and_then(|()| write(&path.join("cgroup.procs"), &pid.to_string()));
            tried += 1;
            match moved {
                Ok(()) => return Ok(Self { path }),
                // An instance that ended may have taken the empty directories with it.
                Err(e) if e.kind() == io::ErrorKind::NotFound && tried < TRIES => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Everyone in it, and in cgroups that were made below it.
    pub fn pids(&self) -> io::Result<Vec<i32>> {
        let text = unless_gone(fs::read_to_string(self.path.join("cgroup.procs")))?;
        // Zero stands for one that is not to be seen from here.
        let mut pids: Vec<i32> = text.lines().filter_map(|l| l.parse().ok()).filter(|pid| *pid > 0).collect();
        for child in unless_gone(children(self.path))? {
            pids.extend(Cgroup::at(&child).pids()?);
        }
        Ok(pids)
    }

    /// Kills everyone in it, also whoever is being born.
    pub fn kill(&self) -> io::Result<()> {
        unless_gone(write(&self.path.join("cgroup.kill"), "1"))
    }

    /// Removes it when it is empty, and the agent's directory with the last one.
    pub fn remove(&self) -> io::Result<()> {
        for child in unless_gone(children(self.path))? {
            Cgroup::at(&child).remove_alone()?;
        }
        self.remove_alone()?;
        if let Some(home) = self.path.parent() {
            // Mostly there are others.
            let _ = fs::remove_dir(home);
        }
        Ok(())
    }

    fn remove_alone(&self) -> io::Result<()> {
        for child in unless_gone(children(self.path))? {
            Cgroup::at(&child).remove_alone()?;
        }
        unless_gone(fs::remove_dir(self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "33 25 0:29 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                          34 33 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                          42 33 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_agents_own_cgroup_is_found_in_each_layout() {
        let own = |cgroup: &str, mounts: &str| own_of(cgroup, mounts).map(|p| p.display().to_string());
        let service = "4:memory:/x\n0::/system.slice/slipway-agent.service\n";
        assert_eq!(own("9:pids:/\n0::/\n", HYBRID).unwrap(), "/sys/fs/cgroup/unified");
        assert_eq!(own(service, HYBRID).unwrap(), "/sys/fs/cgroup/unified/system.slice/slipway-agent.service");
        let unified = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(own(service, unified).unwrap(), "/sys/fs/cgroup/system.slice/slipway-agent.service");
        // A part of the tree is mounted: that of a container.
        let part = "30 25 0:26 /docker/ab /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        assert_eq!(own("0::/docker/ab/in\n", part).unwrap(), "/sys/fs/cgroup/in");
        assert!(own("0::/docker/other\n", part).unwrap_err().contains("/docker/other"));
        assert!(own("0::/../up\n", unified).unwrap_err().contains("/../up"));
        assert!(own("4:memory:/\n", HYBRID).unwrap_err().contains("no cgroups of version 2"));
        assert!(own(service, "34 33 0:30 / /c rw - cgroup cgroup rw\n").unwrap_err().contains("no cgroups"));
    }

    #[test]
    fn what_does_not_work_is_said_and_leaves_nothing() {
        // A directory that is no cgroup.
        let dir = tempfile::tempdir().unwrap();
        try_out(&dir.path().join("home"), Command::new("cat")).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(try_out(Path::new("/proc/nowhere"), Command::new("cat")).is_err());
        let nothing = Keeping::find("x", Command::new("/does/not/exist"));
        assert!(nothing.to_string().starts_with("subreaper: ") && nothing.place("i").is_none(), "{nothing}");
    }
}
