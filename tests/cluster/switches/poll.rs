//! Asks every node's DNS for one name, 200 times a second each, and keeps every answer with its times.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, RecordType},
};

use crate::lab::SHOP;

/// 200 a second.
const EVERY: Duration = Duration::from_millis(5);

/// One question and what came back.
pub struct Polled {
    /// From 1.
    pub node: usize,
    pub sent: Instant,
    pub received: Instant,
    /// Versions of the addresses in the answer; empty when it had none.
    pub versions: Vec<String>,
}

/// Threads that ask until they are told to stop.
pub struct Polls {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Polled>>>,
}

pub fn start(servers: &[SocketAddr], versions: &Arc<BTreeMap<Ipv4Addr, String>>) -> Polls {
    let stop = Arc::new(AtomicBool::new(false));
    let ask = |(n, server): (usize, &SocketAddr)| {
        let (stop, versions, server) = (Arc::clone(&stop), Arc::clone(versions), *server);
        std::thread::spawn(move || ask(n + 1, server, &versions, &stop))
    };
    Polls { threads: servers.iter().enumerate().map(ask).collect(), stop }
}

/// Everything that was asked.
pub fn poller(polls: Polls) -> Vec<Polled> {
    polls.stop.store(true, Ordering::Relaxed);
    polls.threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
}

fn ask(node: usize, server: SocketAddr, versions: &BTreeMap<Ipv4Addr, String>, stop: &AtomicBool) -> Vec<Polled> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let mut question = Message::new(0, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(SHOP).unwrap(), RecordType::A));
    let bytes = question.to_vec().unwrap();
    // By id: a node that was paused answers late, and an answer counts from when it was asked for.
    let mut asked: Vec<Option<Instant>> = vec![None; 1 << 16];
    let (mut id, mut next, mut polled) = (0u16, Instant::now(), Vec::new());
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= next {
            // Without catching up: a machine that was busy must not be flooded.
            next = now + EVERY;
            id = id.wrapping_add(1);
            let mut message = bytes.clone();
            message[..2].copy_from_slice(&id.to_be_bytes());
            asked[usize::from(id)] = Some(Instant::now());
            // Refused while the node is down.
            let _ = socket.send_to(&message, server);
        }
        let wait = next.saturating_duration_since(Instant::now()).max(Duration::from_micros(200));
        socket.set_read_timeout(Some(wait)).unwrap();
        let Ok((n, from)) = socket.recv_from(&mut buffer) else { continue };
        let received = Instant::now();
        if from != server || n < 2 {
            continue;
        }
        let Some(sent) = asked[usize::from(u16::from_be_bytes([buffer[0], buffer[1]]))].take() else { continue };
        let Ok(answer) = Message::from_vec(&buffer[..n]) else { panic!("n{node} sent what cannot be read") };
        let addresses = answer.answers.iter().filter_map(|r| match &r.data {
            RData::A(a) => Some(a.0),
            _ => None,
        });
        let versions = addresses.map(|a| versions.get(&a).cloned().unwrap_or_else(|| format!("unknown {a}"))).collect();
        polled.push(Polled { node, sent, received, versions });
    }
    polled
}
