//! All processes of one run of an instance: which they are, and signals to all of them.
//!
//! Invariants: a process belongs to a tree only by what the kernel says and pids that are used again cannot fake: its
//! cgroup; descent, group or session of a first process or shim whose start time is the recorded one; or the mark in
//! its environment, by which strays are found after their shim was killed. What may be of a tree but cannot be told
//! (its session's leader is gone) is waited for and never killed. Not here: when what is killed (`shim`, `process`),
//! sockets (`runtime`).

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::{
    cgroup::Cgroup,
    kin::{self, Identity, Kin},
};

/// The variable that names the run that a process belongs to, in every process of an instance.
pub const MARK: &str = "SLIPWAY_RUN";
/// The variables that name its instance and deployment.
pub const INSTANCE: &str = "SLIPWAY_INSTANCE";
/// See there.
pub const DEPLOYMENT: &str = "SLIPWAY_DEPLOYMENT";
/// Processes that are named to people.
const NAMED: usize = 3;

/// What is kept of a run: enough to find all of its processes again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tree {
    /// Its instance, by its directory's name.
    pub instance: String,
    /// Its first process, which is the program.
    pub first: Identity,
    /// Its shim, which leads the session.
    pub shim: Identity,
    pub cgroup: Option<PathBuf>,
}

/// Processes of a tree that live.
#[derive(Debug, Default)]
pub struct Members {
    /// Those of the tree for sure, without the shim.
    pub sure: Vec<Kin>,
    /// Those that have its session's number, whose leader is gone: the number may have been used again.
    pub unsure: Vec<Kin>,
}

/// The mark of a run.
pub fn mark(instance: &str, pid: i32, start: u64) -> String {
    format!("{instance}.{pid}.{start}")
}

/// Whether a process is there under its own start time; it may have ended and wait for its parent.
fn is_there(it: &Identity, everyone: &[Kin]) -> bool {
    everyone.iter().any(|k| k.pid == it.pid && k.start == it.start)
}

impl Tree {
    /// Everything of it that lives now.
    pub fn members(&self) -> io::Result<Members> {
        if kin::boot_id()? != self.first.boot {
            return Ok(Members::default());
        }
        let inside = self.cgroup().map(|c| c.pids()).transpose()?.unwrap_or_default();
        let everyone = kin::everyone()?;
        let mark = mark(&self.instance, self.first.pid, self.first.start);
        let marked = |k: &Kin| kin::variable(k.pid, MARK).is_some_and(|m| m == mark);
        Ok(self.among(&everyone, &inside, marked))
    }

    fn among(&self, everyone: &[Kin], inside: &[i32], marked: impl Fn(&Kin) -> bool) -> Members {
        let first = is_there(&self.first, everyone);
        let shim = is_there(&self.shim, everyone);
        // While the shim lives, all other processes descend from it, so no environment need be read. An ended shim that
        // was not noticed yet has no children any more.
        let inherits = shim && everyone.iter().any(|k| k.pid == self.shim.pid && !k.ended);
        let near = |k: &&Kin| {
            let of_first = first && (k.pid == self.first.pid || k.group == self.first.pid);
            of_first || inside.contains(&k.pid) || (!inherits && marked(k))
        };
        let mut own: BTreeSet<i32> = everyone.iter().filter(near).map(|k| k.pid).collect();
        if shim {
            own.insert(self.shim.pid);
        }
        // Zero is the session of the kernel's own.
        let in_session = |k: &Kin| self.shim.pid > 0 && k.session == self.shim.pid;
        loop {
            // No number of a session is used again while one process is left in it.
            let session = everyone.iter().any(|k| in_session(k) && own.contains(&k.pid));
            let more = |k: &&Kin| !own.contains(&k.pid) && (own.contains(&k.parent) || (session && in_session(k)));
            let more: Vec<i32> = everyone.iter().filter(more).map(|k| k.pid).collect();
            if more.is_empty() {
                break;
            }
            own.extend(more);
        }
        own.remove(&self.shim.pid);
        let sure: Vec<Kin> = everyone.iter().filter(|k| own.contains(&k.pid) && !k.ended).copied().collect();
        let leaderless = !everyone.iter().any(|k| k.pid == self.shim.pid);
        let unsure = |k: &&Kin| leaderless && in_session(k) && !own.contains(&k.pid) && !k.ended;
        Members { sure, unsure: everyone.iter().filter(unsure).copied().collect() }
    }

    fn cgroup(&self) -> Option<Cgroup<'_>> {
        self.cgroup.as_deref().map(Cgroup::at)
    }

    /// Kills the processes that exist now and returns them. The next call finds those that are being born meanwhile,
    /// and those that could not be killed.
    pub fn kill(&self) -> io::Result<Members> {
        let members = self.members()?;
        if let Some(cgroup) = self.cgroup() {
            cgroup.kill()?;
        }
        for kin in &members.sure {
            let _ = kin.signal(Signal::KILL);
        }
        Ok(members)
    }

    /// Removes its cgroup once nothing is in it. A cgroup that stays does no harm, but shows in lists.
    pub fn tidy(&self) {
        if let Some(Err(e)) = self.cgroup().map(|c| c.remove()) {
            let path = self.cgroup.as_deref().unwrap_or(Path::new("?"));
            tracing::debug!(instance = %self.instance, "cgroup {} stays: {e}", path.display());
        }
    }
}

impl Members {
    /// Whether nothing lives.
    pub fn is_empty(&self) -> bool {
        self.sure.is_empty() && self.unsure.is_empty()
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<i32> = self.sure.iter().chain(&self.unsure).map(|k| k.pid).collect();
        let named = all.iter().take(NAMED).map(|pid| format!("pid {pid} ({})", kin::command(*pid)));
        f.write_str(&named.collect::<Vec<_>>().join(", "))?;
        match all.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIM: i32 = 10;

    fn id(pid: i32, start: u64) -> Identity {
        Identity { boot: "b".into(), pid, start }
    }

    fn tree() -> Tree {
        Tree { instance: "59-0".into(), first: id(11, 11), shim: id(SHIM, 10), cgroup: None }
    }

    fn kin(pid: i32, parent: i32, group: i32, session: i32) -> Kin {
        Kin { pid, parent, group, session, start: u64::try_from(pid).unwrap(), ended: false }
    }

    fn pids(all: &[Kin]) -> Vec<i32> {
        all.iter().map(|k| k.pid).collect()
    }

    #[test]
    fn an_instance_is_its_whole_tree() {
        let all = [
            kin(SHIM, 1, SHIM, SHIM),
            kin(11, SHIM, 11, SHIM),
            kin(12, 11, 11, SHIM), // of its group
            kin(13, 1, 13, SHIM),  // of the session, with a lost parent
            kin(14, 12, 14, 14),   // a descendant in a session of its own
            kin(15, SHIM, 15, 15), // that one's child, which the shim inherited
            Kin { ended: true, ..kin(16, 11, 11, SHIM) },
            kin(20, 1, 20, 20),
            kin(21, 1, 21, 21), // in the cgroup
            kin(22, 21, 21, 21),
        ];
        let members = tree().among(&all, &[21], |_| false);
        assert_eq!((pids(&members.sure), members.unsure.len()), (vec![11, 12, 13, 14, 15, 21, 22], 0));
    }

    #[test]
    fn strays_of_a_killed_shim_are_found_by_their_mark_and_nobody_else_is_killed() {
        // Shim and first process are gone; a helper carries the mark, and its child does not.
        let stray = [kin(14, 1, 14, 14), kin(17, 14, 14, 14), kin(20, 1, 20, 20)];
        let members = tree().among(&stray, &[], |k| k.pid == 14);
        assert_eq!((pids(&members.sure), members.unsure.len()), (vec![14, 17], 0));
        // Nor does it matter whether anybody has noticed the shim's end.
        let unnoticed = [Kin { ended: true, ..kin(SHIM, 1, SHIM, SHIM) }, stray[0], stray[1]];
        assert_eq!(pids(&tree().among(&unnoticed, &[], |k| k.pid == 14).sure), [14, 17]);
        // Of the session one is left with the mark: so the session is still the same.
        let both = [kin(13, 1, 13, SHIM), kin(18, 1, 18, SHIM)];
        let members = tree().among(&both, &[], |k| k.pid == 13);
        assert_eq!((pids(&members.sure), members.unsure.len()), (vec![13, 18], 0));
        // Without a mark the number of the session may be another's by now: waited for, not killed.
        let members = tree().among(&both, &[], |_| false);
        assert_eq!((members.sure.len(), pids(&members.unsure)), (0, vec![13, 18]));
        assert!(!members.is_empty());
    }

    #[test]
    fn pids_that_are_used_again_are_nobodys() {
        let other = [
            Kin { start: 99, ..kin(11, 1, 11, 11) },
            kin(12, 11, 11, 11),
            Kin { start: 98, ..kin(SHIM, 1, SHIM, SHIM) },
            kin(13, SHIM, 13, SHIM),
        ];
        assert!(tree().among(&other, &[], |_| false).is_empty());
        // Nor the kernel's own, whatever a record says.
        let kernel = [kin(2, 0, 0, 0), kin(3, 2, 0, 0)];
        let nobody = Tree { first: id(0, 0), shim: id(0, 0), ..tree() };
        assert!(nobody.among(&kernel, &[], |_| false).is_empty());
        // Nor anything of another boot.
        assert!(tree().members().unwrap().is_empty());
    }

    #[test]
    fn those_that_are_left_are_named() {
        let all: Vec<Kin> = (0..5).map(|n| kin(i32::MAX - n, 1, 1, 1)).collect();
        let said = Members { sure: all[..4].to_vec(), unsure: all[4..].to_vec() }.to_string();
        assert!(said.starts_with(&format!("pid {} ()", i32::MAX)) && said.ends_with(" and 2 more"), "{said}");
    }
}
