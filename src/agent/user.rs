//! The user of `run.user` as this machine knows it: ids, groups, name and home. It is looked up as `login` does, so
//! users of a directory service are found too.
//!
//! Not here: becoming that user for good (`shim`).

use std::io;

use nix::unistd::{Uid, User as Entry, getgrouplist};
use rustix::{
    process::Gid,
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::shim::Credentials;
use crate::model::OF_USER;

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// Finds one by its name or number; the error says what to do.
pub fn find(name: &str) -> Result<User, String> {
    let failed = |e: nix::Error| format!("run.user: this worker cannot look {name:?} up: {e}");
    let mut found = Entry::from_name(name).map_err(failed)?;
    if found.is_none()
        && let Ok(uid) = name.parse()
    {
        found = Entry::from_uid(Uid::from_raw(uid)).map_err(failed)?;
    }
    let entry = found.ok_or_else(|| format!("run.user: this worker has no user {name:?}: create it"))?;
    Ok(User {
        uid: entry.uid.as_raw(),
        gid: entry.gid.as_raw(),
        home: entry.dir.to_string_lossy().into_owned(),
        name: entry.name,
    })
}

/// Does something with the rights of a user, in a thread of its own, whose rights end with it. Only the effective ids
/// change: with the real ones the user could signal the agent.
pub fn acting_as<T: Send>(user: &Credentials, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let acts = || {
        set_thread_groups(&groups)?;
        set_thread_res_gid(None, Gid::from_raw(user.gid), None)?;
        set_thread_res_uid(None, rustix::process::Uid::from_raw(user.uid), None)?;
        act()
    };
    std::thread::scope(|scope| scope.spawn(acts).join()).unwrap_or_else(|_| Err(io::Error::other("it panicked")))
}

impl User {
    /// What a login would put into its environment.
    pub fn variables(&self) -> [(String, String); 3] {
        let [home, user, login] = OF_USER.map(ToOwned::to_owned);
        [(home, self.home.clone()), (user, self.name.clone()), (login, self.name.clone())]
    }

    /// Whom to become; `None` when the agent is that user already.
    pub fn credentials(self) -> Result<Option<Credentials>, String> {
        let me = rustix::process::geteuid();
        if me.as_raw() == self.uid {
            return Ok(None);
        }
        if !me.is_root() {
            return Err(format!("run.user: {:?} needs an agent that runs as root, or as that user", self.name));
        }
        let name = std::ffi::CString::new(self.name.as_str()).map_err(|e| format!("run.user: {e}"))?;
        let groups = getgrouplist(&name, nix::unistd::Gid::from_raw(self.gid));
        let groups = groups.map_err(|e| format!("run.user: the groups of {:?} cannot be found: {e}", self.name))?;
        let groups = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
        Ok(Some(Credentials { uid: self.uid, gid: self.gid, groups }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_users_are_named() {
        assert!(find("no-such-user-here").unwrap_err().contains("no-such-user-here"));
        assert!(find("4294967290").unwrap_err().contains("create it"));
    }

    #[test]
    fn a_user_has_its_home_and_its_name_by_number_too() {
        let root = find("root").unwrap();
        assert_eq!(find("0").unwrap(), root);
        let variables = root.variables().map(|(k, v)| format!("{k}={v}"));
        assert_eq!(variables, ["HOME=/root", "USER=root", "LOGNAME=root"]);
        if rustix::process::geteuid().is_root() {
            assert_eq!(root.credentials(), Ok(None));
        }
    }
}
