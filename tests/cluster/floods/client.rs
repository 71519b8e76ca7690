//! A client that behaves: a question at a time, at a calm pace, by UDP with one repetition as stubs do it and over TCP
//! when the answer says so, or by a new TCP connection each. Its address is in a network where nobody else is.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hickory_proto::op::{Message, ResponseCode};
use tokio::{net::TcpSocket, runtime::Runtime};

use super::load::query;
use crate::lab::SHOP;

/// After so long a stub asks again, once.
const AGAIN: Duration = Duration::from_secs(1);

/// How it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Udp,
    Tcp,
}

/// What came of its questions.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Microseconds to each answer, in order of size.
    pub took: Vec<u128>,
    /// Questions that had to be asked again, or over TCP.
    pub again: usize,
    /// Why questions got no answer.
    pub failed: Vec<String>,
}

impl Seen {
    pub fn percentile_ms(&self, of: usize) -> f64 {
        let at = (self.took.len() * of / 100).min(self.took.len().saturating_sub(1));
        self.took.get(at).map_or(f64::INFINITY, |us| *us as f64 / 1000.0)
    }
}

/// The client at work.
pub struct Calm {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Calm {
    pub fn start(by: By, source: Ipv4Addr, server: SocketAddr, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut seen, runtime) = (Seen::default(), runtime());
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let answer = match by {
                    By::Udp => udp(&runtime, source, server, &mut seen.again),
                    By::Tcp => tcp(&runtime, source, server),
                };
                match answer.and_then(|bytes| right(&bytes)) {
                    Ok(()) => seen.took.push(begun.elapsed().as_micros()),
                    Err(why) => seen.failed.push(why),
                }
                std::thread::sleep(every.saturating_sub(begun.elapsed()));
            }
            seen.took.sort_unstable();
            seen
        });
        Self { stop, thread }
    }

    pub fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// An answer with the service's addresses, and nothing else, is one.
fn right(bytes: &[u8]) -> Result<(), String> {
    let m = Message::from_vec(bytes).map_err(|e| e.to_string())?;
    if m.metadata.response_code == ResponseCode::NoError && !m.answers.is_empty() {
        return Ok(());
    }
    Err(format!("{} with {} records", m.metadata.response_code, m.answers.len()))
}

fn udp(runtime: &Runtime, source: Ipv4Addr, server: SocketAddr, again: &mut usize) -> Result<Vec<u8>, String> {
    let why = |e: std::io::Error| format!("UDP: {e}");
    let bytes = query(SHOP, 1, rand::random());
    let socket = UdpSocket::bind((source, 0)).map_err(why)?;
    socket.connect(server).map_err(why)?;
    socket.set_read_timeout(Some(AGAIN)).map_err(why)?;
    let mut buffer = [0; 2048];
    for attempt in 0..2 {
        *again += attempt;
        socket.send(&bytes).map_err(why)?;
        match socket.recv(&mut buffer) {
            Ok(n) if buffer[2] & 2 != 0 => {
                *again += 1;
                return if buffer[..2] == bytes[..2] {
                    tcp(runtime, source, server)
                } else {
                    Err(format!("{n} odd octets"))
                };
            }
            Ok(n) if buffer[..2] == bytes[..2] => return Ok(buffer[..n].to_vec()),
            Ok(n) => return Err(format!("{n} octets that answer another question")),
            Err(_) => {}
        }
    }
    Err("UDP: no answer in two tries".into())
}

fn tcp(runtime: &Runtime, source: Ipv4Addr, server: SocketAddr) -> Result<Vec<u8>, String> {
    let why = |e: std::io::Error| format!("TCP: {e}");
    let mut stream = connect_from(runtime, source, server).map_err(why)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(why)?;
    let bytes = query(SHOP, 1, rand::random());
    stream.write_all(&framed(&bytes)).map_err(why)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).map_err(why)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).map_err(why)?;
    Ok(answer)
}

pub fn framed(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A connection whose own address is chosen, by a runtime that is not running.
pub fn connect_from(runtime: &Runtime, source: Ipv4Addr, server: SocketAddr) -> std::io::Result<TcpStream> {
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        let connected = tokio::time::timeout(Duration::from_secs(5), socket.connect(server));
        let stream = connected.await.map_err(|_| std::io::ErrorKind::TimedOut)??.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    })
}

/// A runtime of one thread: for what only it can do with sockets.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
