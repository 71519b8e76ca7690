//! Which of the configured addresses this machine has. The agent offers only these, as an instance on another one could
//! not listen.
//!
//! Invariant: an address is absent only when the kernel says so; an address that cannot be tried counts as present. Not
//! here: reporting to the cluster (`session`), allocating (State).

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use rustix::io::Errno;

use crate::model::lacking;

/// The configured addresses as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Those of the pool that the machine has, in order.
    pub pool: Vec<IpAddr>,
    /// Those that it does not have: of the pool in order, then its own.
    pub absent: Vec<IpAddr>,
    /// Addresses in the configured pool.
    pub configured: usize,
}

/// Looks at the addresses of the pool, and at the one of mode `host`.
pub fn look(pool: &[IpAddr], host: IpAddr) -> Addresses {
    sort(pool, host, is_here)
}

fn sort(pool: &[IpAddr], host: IpAddr, is_here: impl Fn(IpAddr) -> bool) -> Addresses {
    let (here, mut absent): (Vec<IpAddr>, Vec<IpAddr>) = pool.iter().partition(|a| is_here(**a));
    if !absent.contains(&host) && !here.contains(&host) && !is_here(host) {
        absent.push(host);
    }
    Addresses { pool: here, absent, configured: pool.len() }
}

/// Whether a socket can be bound to an address. None is left behind, and nothing listens meanwhile.
fn is_here(address: IpAddr) -> bool {
    let bind = || -> io::Result<()> {
        let socket = match address {
            IpAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            IpAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        socket.bind(SocketAddr::new(address, 0))
    };
    let says_no = |e: io::Error| {
        // The second: a machine without IPv6.
        [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT].iter().any(|no| e.raw_os_error() == Some(no.raw_os_error()))
    };
    !bind().is_err_and(says_no)
}

impl Addresses {
    /// What is missing, for people; `None` when everything is there.
    pub fn lacks(&self, host: IpAddr) -> Option<String> {
        let missing = self.configured - self.pool.len();
        let missing: Vec<String> = self.absent.iter().take(missing).map(ToString::to_string).collect();
        let host = self.absent.contains(&host).then(|| host.to_string());
        lacking(self.pool.len(), &missing, host.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn loopback_is_here_and_an_address_of_nobody_is_not() {
        let pool = [ip("127.0.2.1"), ip("192.0.2.77"), ip("127.9.8.7"), ip("2001:db8::77")];
        let found = look(&pool, ip("127.0.0.1"));
        assert_eq!(found.pool, [pool[0], pool[2]]);
        assert_eq!(found.absent, [pool[1], pool[3]]);
        let said = found.lacks(ip("127.0.0.1")).unwrap();
        assert_eq!(said, "pool 2 of 4: 192.0.2.77, 2001:db8::77 are not on this machine");
        assert_eq!(look(&pool[..1], ip("127.0.0.1")).lacks(ip("127.0.0.1")), None);
        // A busy address is here all the same.
        let _busy = std::net::TcpListener::bind("127.0.2.1:0").unwrap();
        assert!(is_here(pool[0]));
    }

    #[test]
    fn the_own_address_is_named_once_and_as_what_it_is() {
        let (pool, host) = ([ip("10.9.9.1"), ip("10.9.9.2")], ip("10.9.9.9"));
        let found = sort(&pool, host, |a| a == pool[0]);
        assert_eq!((found.pool.as_slice(), found.absent.as_slice()), (&pool[..1], &[pool[1], host][..]));
        let said = found.lacks(host).unwrap();
        assert!(said.starts_with("pool 1 of 2: 10.9.9.2 is not") && said.contains("host 10.9.9.9 is not"), "{said}");
        let both = sort(&pool, pool[1], |a| a == pool[0]);
        assert_eq!(both.absent, [pool[1]]);
    }
}
