//! The floods: datagrams at a fixed pace whose source and question change, and connections of several bad kinds, all
//! held.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::client::{connect_from, framed, runtime};
use crate::lab::SHOP;

/// Datagrams of a socket before another one, elsewhere, takes its place.
const OF_ONE_SOURCE: u32 = 8;
/// Datagrams between two looks at the clock.
const BURST: u32 = 32;
/// Connections of one bad address; the server's limit is 64.
const OF_ONE_ADDRESS: u32 = 50;

/// A query of class IN with its header, recursion desired.
pub fn query(name: &str, kind: u16, id: u16) -> Vec<u8> {
    let mut out = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.').filter(|l| !l.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out
}

/// What comes over UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Names that do not exist, in the service and outside the zone, from two networks.
    RandomNames,
    /// ANY, from one network.
    Any,
    /// Good questions from ever new networks, as forged sources have it.
    Sources,
}

impl Kind {
    fn question(self, n: u32) -> Vec<u8> {
        let id = rand::random();
        match self {
            Self::RandomNames if n.is_multiple_of(4) => query(&format!("x{id}-{n}.example.com"), 1, id),
            Self::RandomNames => query(&format!("x{id}-{n}.{SHOP}"), 1, id),
            Self::Any => query(SHOP, 255, id),
            Self::Sources => query(SHOP, if n.is_multiple_of(2) { 1 } else { 28 }, id),
        }
    }

    /// Source of the `n`-th socket: 127.20.0.0 and up, where no test listens.
    fn source(self, n: u32) -> Ipv4Addr {
        let network = match self {
            Self::RandomNames => n % 2,
            Self::Any => 0,
            Self::Sources => n % (70 * 256),
        };
        Ipv4Addr::from(0x7f14_0000 + (network << 8) + 1 + n % 250)
    }
}

/// A flood of datagrams from one thread.
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Flood {
    pub fn start(kind: Kind, server: SocketAddr, per_s: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (begun, mut sent) = (Instant::now(), 0_u32);
            let mut socket = None;
            while !stopped.load(Ordering::Relaxed) {
                for _ in 0..BURST {
                    if sent.is_multiple_of(OF_ONE_SOURCE) {
                        // Answers that are in the old one are lost with it.
                        socket = UdpSocket::bind((kind.source(sent / OF_ONE_SOURCE), 0)).ok();
                    }
                    if let Some(socket) = &socket {
                        let _ = socket.send_to(&kind.question(sent), server);
                    }
                    sent = sent.wrapping_add(1);
                }
                let due = Duration::from_secs(1) * sent / per_s;
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            u64::from(sent)
        });
        Self { stop, thread }
    }

    /// Datagrams sent.
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// What came of opening many connections.
pub struct Crowd {
    pub held: Vec<TcpStream>,
    pub refused: u32,
    pub took: Duration,
}

/// So many connections from many addresses: silent ones, halves of a length and of a query, questions whose answers
/// nobody reads, and some that send an octet now and then. All are held at this end.
pub fn crowd(server: SocketAddr, many: u32) -> Crowd {
    let (runtime, begun) = (runtime(), Instant::now());
    let good = framed(&query(SHOP, 33, 7));
    let unread = good.repeat(10);
    let (mut held, mut refused) = (Vec::new(), 0);
    for n in 0..many {
        let source = Ipv4Addr::from(0x7f60_0001 + (n / OF_ONE_ADDRESS));
        let Ok(mut stream) = connect_from(&runtime, source, server) else {
            refused += 1;
            continue;
        };
        let say: &[u8] = match n % 5 {
            0 => &[],
            1 => &good[..1],
            2 => &good[..good.len() / 2],
            3 => &unread,
            // The longest query there is, an octet at a time.
            _ => &[0xff, 0xff, 1],
        };
        // It may be cut already.
        let _ = stream.write_all(say);
        if n % 5 == 4 && n > 500 {
            let before: Option<&mut TcpStream> = held.get_mut(usize::try_from(n - 500).unwrap());
            let _ = before.map(|dripping| dripping.write_all(&[0]));
        }
        held.push(stream);
    }
    Crowd { held, refused, took: begun.elapsed() }
}

/// Connections that are half of a query each, from as few addresses as the limits allow: every place of the server
/// taken by someone who is in the middle of speaking.
pub fn half_open(server: SocketAddr, many: u32) -> Vec<TcpStream> {
    let runtime = runtime();
    let good = framed(&query(SHOP, 1, 7));
    let open = |n| {
        let mut stream = connect_from(&runtime, Ipv4Addr::from(0x7f61_0001 + n / OF_ONE_ADDRESS), server).ok()?;
        stream.write_all(&good[..good.len() / 2]).ok()?;
        Some(stream)
    };
    (0..many).filter_map(open).collect()
}
