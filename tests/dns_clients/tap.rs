//! Everything that goes over port 53 of this namespace, read beside the clients: what they ask, in which letters, with
//! which options, over what; and what they are told. A packet socket sees it without being in the way.

use std::{
    fs::File,
    io::Read as _,
    net::{IpAddr, Ipv4Addr},
    os::fd::{FromRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType},
    rr::{RData, RecordType},
};

/// One packet of a DNS conversation.
#[derive(Debug, Clone)]
pub enum Packet {
    /// A question over UDP: to whom, and its message.
    Asked(Ipv4Addr, Message, Vec<u8>),
    /// An answer over UDP: from whom.
    Told(Ipv4Addr, Message),
    /// The beginning of a TCP connection, to whom.
    Connected(Ipv4Addr),
}

/// The tap; ends with its process.
pub struct Tap {
    packets: Arc<Mutex<Vec<Packet>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Socket option of packet sockets: what this machine sends comes by once, as it arrives.
const PACKET_IGNORE_OUTGOING: i32 = 23;

impl Tap {
    pub fn start() -> Self {
        // SAFETY: plain system calls on a descriptor that is checked and owned at once; the option's value lives longer
        // than the call.
        let socket: OwnedFd = unsafe {
            let ip = i32::from(u16::try_from(libc::ETH_P_IP).unwrap().to_be());
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM, ip);
            assert!(fd >= 0, "a packet socket: {}", std::io::Error::last_os_error());
            let owned = OwnedFd::from_raw_fd(fd);
            let (one, size) = (1_i32, 4_u32);
            let done = libc::setsockopt(fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, (&raw const one).cast(), size);
            assert_eq!(done, 0, "PACKET_IGNORE_OUTGOING: {}", std::io::Error::last_os_error());
            owned
        };
        let (packets, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (into, stopped) = (Arc::clone(&packets), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut socket = File::from(socket);
            let mut bytes = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok(n) = socket.read(&mut bytes) else { continue };
                if let Some(packet) = read(&bytes[..n]) {
                    into.lock().unwrap().push(packet);
                }
            }
        });
        Self { packets, stop, thread: Some(thread) }
    }

    /// What came by since the last time.
    pub fn take(&self) -> Seen {
        // Whoever asked has its answer; the tap may be a moment behind.
        let mut before = usize::MAX;
        loop {
            let now = self.packets.lock().unwrap().len();
            if now == before {
                return Seen(std::mem::take(&mut *self.packets.lock().unwrap()));
            }
            before = now;
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It is waiting for a packet: any will do.
        let _ = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.send_to(&[0], "127.0.0.1:9"));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(ip: &[u8]) -> Option<Packet> {
    let header = usize::from(ip.first()? & 15) * 4;
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
    let (from, to, inner) = (address(12)?, address(16)?, ip.get(header..)?);
    let port = |at: usize| Some(u16::from_be_bytes([*inner.get(at)?, *inner.get(at + 1)?]));
    let (source, target) = (port(0)?, port(2)?);
    match ip.get(9)? {
        6 if target == 53 && inner.get(13)? & 0x12 == 2 => Some(Packet::Connected(to)),
        17 if target == 53 || source == 53 => {
            let bytes = inner.get(8..)?;
            let message = Message::from_vec(bytes).ok()?;
            match message.metadata.message_type {
                MessageType::Query if target == 53 => Some(Packet::Asked(to, message, bytes.to_vec())),
                MessageType::Response if source == 53 => Some(Packet::Told(from, message)),
                MessageType::Query | MessageType::Response => None,
            }
        }
        _ => None,
    }
}

/// What a client did, in the order that it did it.
#[derive(Debug, Default)]
pub struct Seen(pub Vec<Packet>);

impl Seen {
    /// Only what goes to and comes from these servers.
    pub fn at(self, servers: &[Ipv4Addr]) -> Self {
        let keep = |p: &Packet| match p {
            Packet::Asked(at, ..) | Packet::Told(at, _) | Packet::Connected(at) => servers.contains(at),
        };
        Self(self.0.into_iter().filter(keep).collect())
    }

    /// Types asked for over UDP, in order.
    pub fn kinds(&self) -> Vec<RecordType> {
        let kind = |p: &Packet| match p {
            Packet::Asked(_, m, _) => m.queries.first().map(|q| q.query_type),
            Packet::Told(..) | Packet::Connected(_) => None,
        };
        self.0.iter().filter_map(kind).collect()
    }

    pub fn connections(&self) -> usize {
        self.0.iter().filter(|p| matches!(p, Packet::Connected(_))).count()
    }

    /// Whether some answer was cut.
    pub fn cut(&self) -> bool {
        self.0.iter().any(|p| matches!(p, Packet::Told(_, m) if m.metadata.truncation))
    }

    /// Addresses of the last answers for A and for AAAA, as they were on the wire.
    pub fn addresses(&self, kind: RecordType) -> Vec<IpAddr> {
        let of = |p: &Packet| match p {
            Packet::Told(_, m) if m.queries.first().is_some_and(|q| q.query_type == kind) => Some(m.answers.clone()),
            Packet::Told(..) | Packet::Asked(..) | Packet::Connected(_) => None,
        };
        let last = self.0.iter().rev().find_map(of).unwrap_or_default();
        let address = |data: &RData| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(a) => Some(IpAddr::V6(a.0)),
            _ => None,
        };
        last.iter().filter_map(|r| address(&r.data)).collect()
    }

    /// The options that it sends, in words: EDNS with its size, a cookie, letters mixed by itself.
    pub fn options(&self) -> String {
        let asked: Vec<(&Message, &Vec<u8>)> = self
            .0
            .iter()
            .filter_map(|p| match p {
                Packet::Asked(_, m, bytes) => Some((m, bytes)),
                Packet::Told(..) | Packet::Connected(_) => None,
            })
            .collect();
        let mut words = Vec::new();
        let sizes: std::collections::BTreeSet<u16> =
            asked.iter().filter_map(|(m, _)| m.edns.as_ref().map(hickory_proto::op::Edns::max_payload)).collect();
        match sizes.iter().map(u16::to_string).collect::<Vec<_>>() {
            none if none.is_empty() => words.push("no EDNS".to_string()),
            some => words.push(format!("EDNS {}", some.join(", "))),
        }
        if asked.iter().any(|(m, _)| m.edns.as_ref().is_some_and(|e| e.option(10.into()).is_some())) {
            words.push("cookie".into());
        }
        if asked.iter().any(|(m, _)| m.edns.as_ref().is_some_and(|e| e.flags().dnssec_ok)) {
            words.push("DO".into());
        }
        words.join(", ")
    }

    /// Whether names were asked for with capital letters.
    pub fn capitals(&self) -> bool {
        self.0.iter().any(|p| match p {
            Packet::Asked(_, m, _) => {
                m.queries.iter().any(|q| q.name.to_string().bytes().any(|b| b.is_ascii_uppercase()))
            }
            Packet::Told(..) | Packet::Connected(_) => false,
        })
    }
}
