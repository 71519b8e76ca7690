//! Many datagrams by one system call: `recvmmsg` and `sendmmsg` over a fixed set of buffers.
//!
//! A response is made where its query lies, so nothing is copied, and on a socket that is bound to a wildcard it goes
//! out from the address that was asked: a client takes no response from another one. The arrays that the kernel wants
//! are made anew for each call: that costs a few nanoseconds a datagram, and no pointer outlives its call. Invariant:
//! every pointer handed to the kernel is into memory that this call borrows. Not here: what the bytes mean. Also
//! compiled into the load client of `make bench-dns`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd as _,
};

/// Datagrams of one call at most.
pub const BATCH: usize = 64;
/// Longest datagram that is read; what is longer is cut.
pub const LONGEST: usize = 4096;
/// Distance of two buffers: no multiple of 4,096, or all of them would compete for the same lines of the processor's
/// cache.
const STRIDE: usize = LONGEST + 64;
/// Size of `sockaddr_in6`, the largest address of a UDP socket.
const NAME: usize = 28;

/// Room for one control message with an `in6_pktinfo`, the larger of the two that say which address was asked.
const CONTROL: usize = HEADER + 24;
/// Size of a control message's header; what it says follows.
const HEADER: usize = size_of::<libc::cmsghdr>();

/// A control message as the kernel writes it: a length, a level, a type, and what it says.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

impl Control {
    /// Makes of "this address was asked" the order to send from it; gives how many bytes of it are to be handed over.
    fn turn_around(&mut self, length: usize) -> usize {
        let number = |at: usize| i32::from_ne_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]]);
        let (level, kind) = (number(HEADER - 8), number(HEADER - 4));
        match (level, kind) {
            // Interface, address of this machine, address in the datagram.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if length >= HEADER + 12 => {
                // The way out need not be the way in.
                self.0[HEADER..HEADER + 4].fill(0);
                HEADER + 16
            }
            // Address, interface.
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if length >= HEADER + 20 => {
                let (first, second) = (self.0[HEADER], self.0[HEADER + 1]);
                if first == 0xff {
                    // Asked by multicast: nothing can be sent from that.
                    return 0;
                }
                if !(first == 0xfe && second & 0xc0 == 0x80) {
                    // But for addresses that mean something on one link alone.
                    self.0[HEADER + 16..HEADER + 20].fill(0);
                }
                HEADER + 24
            }
            _ => 0,
        }
    }
}

/// A socket address as the kernel writes it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct RawAddr([u8; NAME]);

/// One direction of traffic: so many buffers, each with an address and two lengths.
pub struct Datagrams {
    bytes: Box<[u8]>,
    names: [RawAddr; BATCH],
    name_lengths: [u32; BATCH],
    /// Bytes of each received datagram.
    received: [usize; BATCH],
    /// Bytes to send from each buffer; 0: nothing.
    outgoing: [usize; BATCH],
    controls: [Control; BATCH],
    /// Bytes of each received control message, then of each to be sent.
    control_lengths: [usize; BATCH],
    connected: bool,
    /// Whether datagrams come with the address that was asked.
    wildcard: bool,
}

impl Datagrams {
    /// Buffers for a socket; a connected one needs no addresses.
    pub fn new(connected: bool) -> Self {
        Self {
            bytes: vec![0; BATCH * STRIDE].into_boxed_slice(),
            names: [RawAddr([0; NAME]); BATCH],
            name_lengths: [0; BATCH],
            received: [0; BATCH],
            outgoing: [0; BATCH],
            controls: [Control([0; CONTROL]); BATCH],
            control_lengths: [0; BATCH],
            connected,
            wildcard: false,
        }
    }

    /// Buffers for a socket that answers everybody. If it is bound to a wildcard, it is told to say which address was
    /// asked.
    pub fn answering(socket: &UdpSocket) -> io::Result<Self> {
        let at = socket.local_addr()?.ip();
        if at.is_unspecified() {
            let (level, option) = match at {
                IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
                IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            };
            let on: libc::c_int = 1;
            // SAFETY: the descriptor is open while `socket` is borrowed, and the kernel reads one integer, which lives
            // until then.
            let set = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    level,
                    option,
                    (&raw const on).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            };
            if set != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self { wildcard: at.is_unspecified(), ..Self::new(false) })
    }

    /// The buffer of a place.
    pub fn buffer(&mut self, at: usize) -> &mut [u8] {
        &mut self.bytes[at * STRIDE..at * STRIDE + LONGEST]
    }

    /// Bytes received at a place.
    pub fn received(&self, at: usize) -> usize {
        self.received[at]
    }

    /// Says what of a place's buffer is to be sent; 0: nothing.
    pub fn set_outgoing(&mut self, at: usize, length: usize) {
        self.outgoing[at] = length.min(LONGEST);
    }

    /// Who sent what was received at a place.
    pub fn client(&self, at: usize) -> Option<SocketAddr> {
        address(&self.names[at].0)
    }

    /// Receives datagrams into the first places and says how many. Waits for the first as long as the socket's read
    /// timeout says, for the others not at all.
    pub fn receive(&mut self, socket: &UdpSocket, wait: bool) -> io::Result<usize> {
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        self.name_lengths = [NAME as u32; BATCH];
        self.control_lengths = [CONTROL; BATCH];
        let lengths = [LONGEST; BATCH];
        let places: [usize; BATCH] = std::array::from_fn(|i| i);
        let (mut parts, mut headers) = (empty_parts(), empty_headers());
        self.describe(&places, &lengths, &mut parts, &mut headers);
        // SAFETY: `headers` holds BATCH entries. Each points to a part in `parts`, which points to LONGEST bytes of
        // `self.bytes`, and to an address of NAME bytes in `self.names` and CONTROL bytes in `self.controls`; all of
        // them live, and are not otherwise touched, until the call returns.
        let n = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), BATCH as u32, flags as _, std::ptr::null_mut())
        };
        let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        for (i, header) in headers.iter().enumerate().take(n) {
            self.received[i] = header.msg_len as usize;
            self.name_lengths[i] = header.msg_hdr.msg_namelen;
            self.outgoing[i] = 0;
            if self.wildcard {
                self.control_lengths[i] = self.controls[i].turn_around(header.msg_hdr.msg_controllen);
            }
        }
        Ok(n)
    }

    /// Sends what is to go out of the first `n` places. What the kernel refuses is passed over; says how many that
    /// were, and why the last was.
    pub fn send(&mut self, socket: &UdpSocket, n: usize) -> (usize, Option<io::Error>) {
        let (mut places, mut lengths, mut count) = ([0; BATCH], [0; BATCH], 0);
        for at in (0..n.min(BATCH)).filter(|at| self.outgoing[*at] > 0) {
            (places[count], lengths[count]) = (at, self.outgoing[at]);
            count += 1;
        }
        let (mut parts, mut headers) = (empty_parts(), empty_headers());
        self.describe(&places[..count], &lengths, &mut parts, &mut headers);
        let (mut done, mut refused, mut why) = (0, 0, None);
        while done < count {
            let rest = &mut headers[done..count];
            // SAFETY: as in `receive`; `rest` are initialised entries, and the kernel only reads what they point to.
            let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => done += sent,
                Ok(_) | Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        (done, refused, why) = (done + 1, refused + 1, Some(error));
                    }
                }
            }
        }
        (refused, why)
    }

    fn describe(
        &mut self,
        places: &[usize],
        lengths: &[usize; BATCH],
        parts: &mut [libc::iovec; BATCH],
        headers: &mut [libc::mmsghdr; BATCH],
    ) {
        let (bytes, names) = (self.bytes.as_mut_ptr(), self.names.as_mut_ptr());
        let controls = self.controls.as_mut_ptr();
        for (i, &at) in places.iter().enumerate() {
            debug_assert!(at < BATCH && lengths[i] <= LONGEST);
            parts[i].iov_base = bytes.wrapping_add(at * STRIDE).cast();
            parts[i].iov_len = lengths[i];
            let header = &mut headers[i].msg_hdr;
            if !self.connected {
                header.msg_name = names.wrapping_add(at).cast();
                header.msg_namelen = self.name_lengths[at];
            }
            if self.wildcard && self.control_lengths[at] > 0 {
                header.msg_control = controls.wrapping_add(at).cast();
                header.msg_controllen = self.control_lengths[at];
            }
            header.msg_iov = &raw mut parts[i];
            header.msg_iovlen = 1;
        }
    }
}

fn empty_parts() -> [libc::iovec; BATCH] {
    [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH]
}

fn empty_headers() -> [libc::mmsghdr; BATCH] {
    // SAFETY: a header is integers and pointers; all bytes zero is a value of it, and means "nothing".
    unsafe { std::mem::zeroed() }
}

/// Reads `sockaddr_in` or `sockaddr_in6`.
fn address(raw: &[u8; NAME]) -> Option<SocketAddr> {
    let part = |at: usize| [raw[at], raw[at + 1], raw[at + 2], raw[at + 3]];
    let port = u16::from_be_bytes([raw[2], raw[3]]);
    match i32::from(u16::from_ne_bytes([raw[0], raw[1]])) {
        libc::AF_INET => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(part(4))), port)),
        libc::AF_INET6 => {
            let ip: [u8; 16] = raw[8..24].try_into().ok()?;
            let (flow, scope) = (u32::from_be_bytes(part(4)), u32::from_ne_bytes(part(24)));
            Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope)))
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::time::Duration;

    fn echo(address: &str, connected: bool) {
        let (server, client) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
        let me = client.local_addr().unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        if connected {
            server.connect(me).unwrap();
        }
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for n in 1..=100_usize {
            client.send(&vec![n as u8; n]).unwrap();
        }
        let (mut all, mut seen) = (Datagrams::new(connected), 0);
        while seen < 100 {
            let n = all.receive(&server, true).unwrap();
            assert!(n <= BATCH);
            for at in 0..n {
                seen += 1;
                assert_eq!(all.received(at), seen);
                assert_eq!(all.client(at), (!connected).then_some(me));
                // Every third gets no answer.
                all.set_outgoing(at, if seen % 3 == 0 { 0 } else { seen });
            }
            assert_eq!(all.send(&server, n).0, 0);
        }
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for n in (1..=100_usize).filter(|n| n % 3 != 0) {
            let mut buffer = [0; 200];
            assert_eq!(client.recv(&mut buffer).unwrap(), n);
            assert_eq!(buffer[..n], vec![n as u8; n]);
        }
    }

    // The same over IPv6, which a machine may lack, is asked of the whole server (tests/dns/wire.rs).
    #[test]
    fn what_comes_goes_back_to_who_sent_it() {
        echo("127.0.0.1:0", false);
        echo("127.0.0.1:0", true);
    }

    #[test]
    fn a_wildcard_answers_from_the_address_that_was_asked() {
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Connected: the kernel hands on what comes from this address alone.
        client.connect(("127.0.0.2", server.local_addr().unwrap().port())).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut all = Datagrams::answering(&server).unwrap();
        for n in 1..=3_u8 {
            client.send(&[n]).unwrap();
            assert_eq!(all.receive(&server, true).unwrap(), 1);
            all.set_outgoing(0, 1);
            assert_eq!(all.send(&server, 1).0, 0);
            let mut buffer = [0; 2];
            assert_eq!(client.recv(&mut buffer).unwrap(), 1);
            assert_eq!(buffer[0], n);
        }
    }

    #[test]
    fn a_quiet_socket_gives_the_thread_back() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let error = Datagrams::new(false).receive(&server, true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
