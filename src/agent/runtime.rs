//! What a runtime knows of sockets: whether an address is free for an instance, and whether the instance itself answers
//! there.
//!
//! Invariants: health belongs to an instance and not to an address: an answer counts only when one of the instance's
//! own processes holds the socket. What cannot be found out is reported as unknown, never guessed. Not here: starting
//! and stopping (`process`), what follows (`instance`, `check`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use parking_lot::Mutex;

use super::{
    kin::{self, start_time},
    sockets::{self, Socket},
    tree::{self, Tree},
};
use crate::model::Protocol;

/// Who has a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Where the socket is bound.
    pub on: IpAddr,
    /// Its process; `None` when this agent may not see it.
    pub process: Option<HolderProcess>,
}

/// A process, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderProcess {
    pub pid: i32,
    pub command: String,
    /// The instance and deployment it says that it belongs to.
    pub instance: Option<(String, String)>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(process) = &self.process else { return f.write_str("a process that this agent may not see") };
        write!(f, "pid {} ({})", process.pid, process.command)?;
        match &process.instance {
            Some((id, deployment)) => write!(f, " of instance {id} of {deployment}"),
            None => Ok(()),
        }
    }
}

/// Whose socket answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// The instance's.
    Own,
    /// Somebody else's.
    Other(Holder),
    /// Nothing listens there, as far as this machine knows.
    Nobody,
    /// The instance's process has ended meanwhile.
    Gone,
    /// It cannot be found out; why.
    Unknown(String),
}

/// What runs instances, as far as sockets are concerned. Both ask the kernel and may block for milliseconds.
pub trait Runtime: fmt::Debug + Send + Sync {
    /// Whether somebody has an address and port: a quick look.
    fn is_free(&self, at: SocketAddr, protocol: Protocol) -> io::Result<bool>;
    /// Who has an address and port, if anybody: looks at every process.
    fn holder(&self, at: SocketAddr, protocol: Protocol) -> io::Result<Option<Holder>>;
    /// Whose socket answers at a TCP address: that of this tree?
    fn answers(&self, of: &Tree, at: SocketAddr) -> Answers;
}

/// Instances are processes of this machine, each a tree of its own.
#[derive(Debug, Default)]
pub struct Processes {
    // Where an instance's socket was seen, so that the next look is one link and not all open files.
    seen: Mutex<BTreeMap<(Tree, u64), PathBuf>>,
}

/// Places that are remembered; more are looked for again.
const MAX_SEEN: usize = 4096;

impl Processes {
    fn taking(at: SocketAddr, protocol: Protocol) -> io::Result<Option<Socket>> {
        let Some(first) = sockets::at(at, protocol)?.first().copied() else { return Ok(None) };
        // A socket on the address itself or on 0.0.0.0 is in the way for sure.
        let unsure = first.on.is_unspecified() && first.on.is_ipv6() != at.is_ipv6();
        Ok(Some(first).filter(|_| !unsure || sockets::is_taken(at, protocol)))
    }

    fn was_own(&self, of: &Tree, socket: &Socket) -> bool {
        let seen = self.seen.lock();
        seen.get(&(of.clone(), socket.inode)).is_some_and(|path| sockets::is_still_at(path, socket.inode))
    }

    /// Whether one of these processes has the socket; the first that cannot be looked at is an error, if none has it.
    fn is_own(&self, of: &Tree, pids: &BTreeSet<i32>, socket: &Socket) -> io::Result<bool> {
        let mut hidden = None;
        for pid in pids {
            match sockets::held(*pid, socket.inode) {
                Ok(Some(path)) => {
                    let mut seen = self.seen.lock();
                    if seen.len() >= MAX_SEEN {
                        seen.clear();
                    }
                    seen.insert((of.clone(), socket.inode), path);
                    return Ok(true);
                }
                Ok(None) => {}
                Err(e) => hidden = Some(e),
            }
        }
        hidden.map_or(Ok(false), Err)
    }
}

impl Runtime for Processes {
    fn is_free(&self, at: SocketAddr, protocol: Protocol) -> io::Result<bool> {
        Ok(Self::taking(at, protocol)?.is_none())
    }

    fn holder(&self, at: SocketAddr, protocol: Protocol) -> io::Result<Option<Holder>> {
        Ok(Self::taking(at, protocol)?.map(|s| holder(&s)))
    }

    fn answers(&self, of: &Tree, at: SocketAddr) -> Answers {
        let found = match sockets::at(at, Protocol::Tcp) {
            Ok(found) => found,
            Err(e) => return Answers::Unknown(format!("the kernel's table of sockets cannot be read: {e}")),
        };
        if found.is_empty() {
            return Answers::Nobody;
        }
        if start_time(of.first.pid).ok() != Some(of.first.start) {
            // Its pid may be another's by now.
            return Answers::Gone;
        }
        if found.iter().all(|s| self.was_own(of, s)) {
            return Answers::Own;
        }
        // Mostly it is the first process itself, and no other need be looked at.
        let first = BTreeSet::from([of.first.pid]);
        if found.iter().all(|s| self.is_own(of, &first, s).unwrap_or(false)) {
            return Answers::Own;
        }
        let own: BTreeSet<i32> = match of.members() {
            Ok(members) => members.sure.iter().map(|k| k.pid).collect(),
            Err(e) => return Answers::Unknown(format!("/proc cannot be read: {e}")),
        };
        for socket in &found {
            match self.is_own(of, &own, socket) {
                Ok(true) => {}
                Ok(false) => return Answers::Other(holder(socket)),
                Err(e) => return Answers::Unknown(format!("the open files of its processes cannot be read: {e}")),
            }
        }
        Answers::Own
    }
}

fn holder(socket: &Socket) -> Holder {
    let everyone = kin::everyone().unwrap_or_default();
    let has = |pid: &i32| sockets::held(*pid, socket.inode).is_ok_and(|path| path.is_some());
    let mut pids = everyone.iter().map(|k| k.pid).filter(has);
    let instance = |pid| Some((kin::variable(pid, tree::INSTANCE)?, kin::variable(pid, tree::DEPLOYMENT)?));
    let seen = |pid| HolderProcess { pid, command: kin::command(pid), instance: instance(pid) };
    Holder { on: socket.on, process: pids.next().map(seen) }
}

/// What is said of a port that is not free, with what can be done about it. `variable` holds the address that the
/// instance should use.
pub fn in_use(at: SocketAddr, protocol: Protocol, holder: &Holder, variable: &str) -> String {
    let kind = match protocol {
        Protocol::Tcp => "port",
        Protocol::Udp => "UDP port",
    };
    let ours = holder.process.as_ref().is_some_and(|p| p.instance.is_some());
    let any = if holder.on.is_ipv6() { "[::]" } else { "0.0.0.0" };
    let fix = match (holder.on.is_unspecified(), ours) {
        (true, true) => format!("listen on ${{{variable}}} instead of {any}, or replace in place"),
        (true, false) => {
            format!("it listens on {any}: let it listen on one address, or stop it, or choose another port")
        }
        (false, _) => "stop it, or choose another port".to_owned(),
    };
    format!("{kind} {at} is in use by {holder}: {fix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::kin::Identity;

    /// That of a process without a shim.
    fn tree(pid: i32) -> Tree {
        let first = Identity::of(pid).unwrap();
        Tree { instance: "1-0".into(), shim: Identity { pid: 0, start: 0, ..first.clone() }, first, cgroup: None }
    }

    fn me() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn what_answers_belongs_to_the_instance_or_is_named() {
        let processes = Processes::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        for _ in 0..2 {
            assert_eq!(processes.answers(&tree(me()), at), Answers::Own, "also by what is remembered");
        }
        // Another process, in a group of its own, is not the one that listens.
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(other.id()).unwrap();
        let Answers::Other(holder) = processes.answers(&tree(pid), at) else { panic!("not told apart") };
        assert_eq!(holder.process.as_ref().map(|p| p.pid), Some(me()));
        assert_eq!(processes.holder(at, Protocol::Tcp).unwrap(), Some(holder));
        let mut recycled = tree(pid);
        recycled.first.start = 1;
        assert_eq!(processes.answers(&recycled, at), Answers::Gone);
        other.kill().unwrap();
        other.wait().unwrap();
        drop(listener);
        assert_eq!(processes.answers(&tree(me()), at), Answers::Nobody);
        assert_eq!(processes.holder(at, Protocol::Tcp).unwrap(), None);
    }

    #[test]
    fn a_port_in_use_is_said_with_what_to_do() {
        let at = "127.0.0.5:8080".parse().unwrap();
        let shop = HolderProcess {
            pid: 123,
            command: "shop".into(),
            instance: Some(("59-0".into(), "production/shop".into())),
        };
        let said = |on: &str, process: Option<HolderProcess>| {
            in_use(at, Protocol::Tcp, &Holder { on: on.parse().unwrap(), process }, "SLIPWAY_ADDR_HTTP")
        };
        let all = said("0.0.0.0", Some(shop.clone()));
        assert!(all.starts_with("port 127.0.0.5:8080 is in use by pid 123 (shop)"), "{all}");
        assert!(all.contains("instance 59-0") && all.contains("${SLIPWAY_ADDR_HTTP} instead of 0.0.0.0"), "{all}");
        assert!(said("::", Some(shop.clone())).contains("instead of [::]"));
        assert!(
            said("127.0.0.5", Some(HolderProcess { instance: None, ..shop }))
                .ends_with("stop it, or choose another port")
        );
        assert!(said("127.0.0.5", None).contains("may not see"));
    }
}
