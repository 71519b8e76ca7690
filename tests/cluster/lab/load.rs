//! A client that asks DNS before every request, the next node when one does not answer, and never repeats a request.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use hickory_proto::op::ResponseCode;

use super::dns;

/// What came of the requests so far.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Answers with 200, by version.
    pub good: BTreeMap<String, u64>,
    /// Answers with 500, by version.
    pub bad: BTreeMap<String, u64>,
    /// Requests without an answer, and why.
    pub failed: Vec<String>,
}

/// Requests going on in the background.
pub struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Mutex<Counts>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// A request every `every`, asked of these DNS servers in turn.
    pub fn start(servers: Vec<SocketAddr>, name: &str, every: Duration) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Counts::default())));
        let (stopped, into, name) = (Arc::clone(&stop), Arc::clone(&counts), name.to_string());
        let thread = std::thread::spawn(move || {
            let mut turn = 0;
            while !stopped.load(Ordering::Relaxed) {
                turn += 1;
                let result = look_up(&servers, turn, &name).and_then(|ip| get(ip, "/"));
                let mut counts = into.lock().unwrap();
                match result {
                    Ok((200, version)) => *counts.good.entry(version).or_default() += 1,
                    Ok((_, version)) => *counts.bad.entry(version).or_default() += 1,
                    Err(why) => counts.failed.push(why),
                }
                drop(counts);
                std::thread::sleep(every);
            }
        });
        Self { stop, counts, thread: Some(thread) }
    }

    /// Counts so far.
    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap().clone()
    }

    /// Stops; the final counts.
    pub fn end(mut self) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.counts()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look_up(servers: &[SocketAddr], turn: usize, name: &str) -> Result<Ipv4Addr, String> {
    let mut whys = Vec::new();
    for i in 0..servers.len() {
        match dns::ask(servers[(turn + i) % servers.len()], name) {
            Ok(answer) if answer.code == ResponseCode::NoError && !answer.addresses.is_empty() => {
                let all: Vec<_> = answer.addresses.into_iter().collect();
                return Ok(all[turn % all.len()]);
            }
            Ok(answer) => whys.push(format!("{:?} {:?}", answer.code, answer.addresses)),
            Err(why) => whys.push(why),
        }
    }
    Err(format!("no server names an address: {}", whys.join("; ")))
}

/// GET of a path at an instance: status and version.
pub fn get(ip: Ipv4Addr, path: &str) -> Result<(u16, String), String> {
    let why = |e: std::io::Error| format!("{ip}: {e}");
    let limit = Some(Duration::from_secs(5));
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((ip, 8080)), Duration::from_secs(5)).map_err(why)?;
    stream.set_read_timeout(limit).map_err(why)?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n").as_bytes())
        .map_err(why)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).map_err(why)?;
    let text = String::from_utf8_lossy(&text);
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or(format!("{ip}: no status in {text:?}"))?;
    let version = text.lines().find_map(|l| l.strip_prefix("x-version: ")).unwrap_or_default();
    Ok((status, version.trim().to_string()))
}
