//! Which process listens where, as /proc shows it: tables of sockets, their inodes, and the processes that hold them.
//!
//! Invariants: what cannot be read is an error, never "nobody"; of TCP only listening sockets count, so closing ones
//! (TIME_WAIT) do not; of UDP only unconnected ones. Not here: which processes are an instance's, and what follows
//! (`runtime`).

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use crate::model::Protocol;

/// A socket that takes what is sent to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// Where it is bound: the address itself, or a wildcard.
    pub on: IpAddr,
    /// Names it in `/proc/PID/fd`.
    pub inode: u64,
}

/// State of a listening TCP socket, and of a UDP socket that is not connected.
fn open_state(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 0x0A,
        Protocol::Udp => 0x07,
    }
}

/// Four bytes of an address as the kernel prints them: a number in the machine's own order.
fn word(hex: &str) -> Option<[u8; 4]> {
    u32::from_str_radix(hex, 16).ok().map(u32::to_ne_bytes)
}

fn address(hex: &str) -> Option<IpAddr> {
    match hex.len() {
        8 => word(hex).map(|b| IpAddr::V4(Ipv4Addr::from(b))),
        32 => {
            let mut all = [0; 16];
            for (i, part) in all.chunks_mut(4).enumerate() {
                part.copy_from_slice(&word(hex.get(i * 8..i * 8 + 8)?)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(all)))
        }
        _ => None,
    }
}

/// A line of a table: local address, port, state, inode. `None` for the heading.
fn entry(line: &str) -> Option<(IpAddr, u16, u8, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let (ip, port) = fields.nth(1)?.split_once(':')?;
    let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    Some((address(ip)?, u16::from_str_radix(port, 16).ok()?, state, inode))
}

/// The sockets of one table that take what is sent to `at`.
fn taking(table: impl BufRead, at: SocketAddr, protocol: Protocol) -> io::Result<Vec<Socket>> {
    let mut found = Vec::new();
    for line in table.lines() {
        let Some((on, port, state, inode)) = entry(&line?) else { continue };
        if state != open_state(protocol) {
            match protocol {
                // The kernel shows those that listen first; behind them there may be many connections.
                Protocol::Tcp => break,
                Protocol::Udp => continue,
            }
        }
        let on = on.to_canonical();
        let wildcard = on.is_unspecified() && (on.is_ipv6() || at.is_ipv4());
        if port == at.port() && (on == at.ip().to_canonical() || wildcard) {
            found.push(Socket { on, inode });
        }
    }
    Ok(found)
}

/// The sockets that take what is sent to an address: those on the address itself, else those on a wildcard, the nearer
/// ones first.
pub fn at(at: SocketAddr, protocol: Protocol) -> io::Result<Vec<Socket>> {
    let tables = match protocol {
        Protocol::Tcp => ["/proc/self/net/tcp", "/proc/self/net/tcp6"],
        Protocol::Udp => ["/proc/self/net/udp", "/proc/self/net/udp6"],
    };
    let mut all = Vec::new();
    for table in tables {
        match fs::File::open(table) {
            Ok(file) => all.extend(taking(BufReader::new(file), at, protocol)?),
            // A kernel without IPv6.
            Err(e) if e.kind() == io::ErrorKind::NotFound && table.ends_with('6') => {}
            Err(e) => return Err(e),
        }
    }
    Ok(nearest(&all))
}

/// A socket on the address itself gets everything; one on `0.0.0.0` before one on `::`.
fn nearest(all: &[Socket]) -> Vec<Socket> {
    let rank = |s: &Socket| (s.on.is_unspecified(), s.on.is_unspecified() && s.on.is_ipv6());
    let best = all.iter().map(rank).min();
    all.iter().filter(|s| Some(rank(s)) == best).copied().collect()
}

/// Whether the kernel refuses another socket there. A wildcard of IPv6 may leave IPv4 alone; the table does not show
/// it.
pub fn is_taken(at: SocketAddr, protocol: Protocol) -> bool {
    let bound = match protocol {
        Protocol::Tcp => std::net::TcpListener::bind(at).map(drop),
        Protocol::Udp => std::net::UdpSocket::bind(at).map(drop),
    };
    bound.is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse)
}

/// Where a process holds a socket: `/proc/PID/fd/N`.
pub fn held(pid: i32, inode: u64) -> io::Result<Option<PathBuf>> {
    let gone = |e: &io::Error| {
        e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
    };
    let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries,
        Err(e) if gone(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    for fd in entries {
        let path = match fd {
            Ok(fd) => fd.path(),
            Err(e) if gone(&e) => continue,
            Err(e) => return Err(e),
        };
        match fs::read_link(&path) {
            Ok(target) if target.as_os_str() == name(inode).as_str() => return Ok(Some(path)),
            Ok(_) => {}
            Err(e) if gone(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// Whether a socket is still held where it was.
pub fn is_still_at(path: &Path, inode: u64) -> bool {
    fs::read_link(path).is_ok_and(|target| target.as_os_str() == name(inode).as_str())
}

fn name(inode: u64) -> String {
    format!("socket:[{inode}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_the_kernel_is_read() {
        let heading =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let line = |local: &str, state: &str, inode: u32| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0000 100 0 0 10 0\n"
            )
        };
        let v4 = |ip: &str, port: u16| {
            let n = u32::from_ne_bytes(ip.parse::<Ipv4Addr>().unwrap().octets());
            format!("{n:08X}:{port:04X}")
        };
        let at: SocketAddr = "127.0.0.5:8080".parse().unwrap();
        let table = [
            heading.to_string(),
            line(&v4("127.0.0.6", 8080), "0A", 1),
            line(&v4("127.0.0.5", 8081), "0A", 2),
            line(&v4("0.0.0.0", 8080), "0A", 3),
            line(&v4("127.0.0.5", 8080), "0A", 4),
            line(&v4("127.0.0.5", 8080), "01", 5),
            line(&v4("127.0.0.5", 8080), "06", 0),
        ];
        let found = taking(table.concat().as_bytes(), at, Protocol::Tcp).unwrap();
        assert_eq!(
            found.iter().map(|s| s.inode).collect::<Vec<_>>(),
            [3, 4],
            "no other address or port, no connection"
        );
        assert_eq!(nearest(&found).iter().map(|s| s.inode).collect::<Vec<_>>(), [4], "the address before the wildcard");
        let six = line(&format!("{}:1F90", "0".repeat(32)), "0A", 6);
        let found = taking(six.as_bytes(), at, Protocol::Tcp).unwrap();
        assert_eq!(found, [Socket { on: IpAddr::V6(Ipv6Addr::UNSPECIFIED), inode: 6 }], ":: takes IPv4 too");
    }

    #[test]
    fn this_process_is_found_behind_its_own_sockets() {
        let me = i32::try_from(std::process::id()).unwrap();
        for (bind, ask) in
            [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "127.0.0.9"), ("[::1]:0", "::1")]
        {
            let listener = std::net::TcpListener::bind(bind).unwrap();
            let place = SocketAddr::new(ask.parse().unwrap(), listener.local_addr().unwrap().port());
            let found = at(place, Protocol::Tcp).unwrap();
            assert_eq!(found.len(), 1, "{bind}");
            assert!(
                held(me, found[0].inode).unwrap().is_some_and(|p| is_still_at(&p, found[0].inode))
                    && is_taken(place, Protocol::Tcp),
                "{bind}"
            );
            assert!(held(me, u64::MAX).unwrap().is_none());
            drop(listener);
            assert!(at(place, Protocol::Tcp).unwrap().is_empty(), "{bind}");
        }
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let place = socket.local_addr().unwrap();
        assert!(at(place, Protocol::Tcp).unwrap().is_empty());
        assert!(
            held(me, at(place, Protocol::Udp).unwrap()[0].inode).unwrap().is_some() && is_taken(place, Protocol::Udp)
        );
        assert!(held(i32::MAX, 1).unwrap().is_none(), "a process that is gone holds nothing");
    }
}
