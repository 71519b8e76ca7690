//! The listeners: UDP and TCP sockets that the caller has bound, with limits on what one client can hold.
//!
//! A datagram is answered in the thread that read it, so the number of threads bounds the work in progress. These
//! threads are no tasks of the runtime, so a busy node and busy clients do not wait for each other. TCP (RFC 7766) has
//! a limit on connections in all and for each address. When a new connection finds no room, the connection with the
//! oldest last answer is closed. Queries of one connection may follow each other without waiting and are answered in
//! that order, a bounded part at a time; a client that does not read its answers, or sends slowly, is cut off. DNS over
//! TLS is the same behind a handshake, under the same limits, counted together. Not here: what the bytes mean.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, UdpSocket},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    mmsg::Datagrams,
    respond::{Responder, Transport},
    stats::add,
    tls::TlsIdentity,
};
use crate::supervise;

/// Queries of one connection that are taken in at once, in octets.
const TCP_READ: usize = 4096;
/// Answers of one connection that are held back to be sent together, in octets.
const TCP_WRITE: usize = 16 * 1024;
/// Threads of one UDP socket by default, where there are so many cores.
const MOST_THREADS: usize = 4;
/// How soon a quiet thread sees that it is to end.
const STOP_WITHIN: Duration = Duration::from_millis(50);
/// Pause after a socket error, so that a lasting one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// Limits on clients.
#[derive(Debug, Clone)]
pub struct DnsLimits {
    /// Threads serving one UDP socket.
    pub udp_threads: usize,
    /// TCP connections in all, those with TLS among them.
    pub tcp_connections: usize,
    /// TCP connections from one address.
    pub tcp_per_address: usize,
    /// Longest wait for the next query of a connection.
    pub tcp_idle: Duration,
    /// Longest time for a handshake, for the rest of a query to come, or a response to go.
    pub tcp_transfer: Duration,
    /// Queries of one connection.
    pub tcp_queries: u32,
}

impl Default for DnsLimits {
    fn default() -> Self {
        Self {
            udp_threads: std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS),
            tcp_connections: 512,
            tcp_per_address: 64,
            tcp_idle: Duration::from_secs(10),
            tcp_transfer: Duration::from_secs(5),
            tcp_queries: 10_000,
        }
    }
}

/// A running DNS server. Dropping it stops it.
#[derive(Debug)]
pub struct DnsServer {
    responder: Arc<Responder>,
    stop: CancellationToken,
    tasks: TaskTracker,
    broken: Option<String>,
}

/// A panic while serving: said, and then it goes on.
fn fell(task: &str) -> impl Fn(&str) + '_ {
    move |words| tracing::error!(task, "panicked ({words}); it goes on")
}

impl DnsServer {
    /// Serves on sockets that the caller has bound. Must be called inside a tokio runtime.
    pub fn start(udp: Vec<UdpSocket>, tcp: Vec<TcpListener>, responder: Arc<Responder>, limits: &DnsLimits) -> Self {
        Self::start_with_tls(udp, tcp, None, responder, limits)
    }

    /// The same, and DNS over TLS on a listener of its own.
    pub fn start_with_tls(
        udp: Vec<UdpSocket>,
        tcp: Vec<TcpListener>,
        tls: Option<(TcpListener, Arc<TlsIdentity>)>,
        responder: Arc<Responder>,
        limits: &DnsLimits,
    ) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let mut broken = None;
        for socket in udp {
            match blocking(socket) {
                Ok(socket) => {
                    for n in 0..limits.udp_threads.max(1) {
                        let (socket, responder, stop) = (Arc::clone(&socket), Arc::clone(&responder), stop.clone());
                        let ended = tasks.token();
                        let serve = move || {
                            // Whatever a datagram does to it, the thread goes on with the next one.
                            let task = format!("dns-udp-{n}");
                            supervise::kept_here(fell(&task), || datagrams(&socket, &responder, &stop));
                            // Whoever waits for the end may bind the port again.
                            drop(socket);
                            drop(ended);
                        };
                        if let Err(error) = thread::Builder::new().name(format!("dns-udp-{n}")).spawn(serve) {
                            broken = Some(format!("no thread for it: {error}"));
                        }
                    }
                }
                Err(error) => broken = Some(format!("its socket: {error}")),
            }
        }
        let clients = Arc::new(Clients::default());
        if let Some((_, identity)) = &tls {
            let identity = Arc::clone(identity);
            let follow = supervise::kept(fell("dns-certificate"), move || Arc::clone(&identity).follow());
            tasks.spawn(stop.clone().run_until_cancelled_owned(follow));
        }
        let plain = tcp.into_iter().map(|listener| (listener, None));
        for (listener, identity) in plain.chain(tls.map(|(listener, identity)| (listener, Some(identity)))) {
            let all = Acceptor {
                responder: Arc::clone(&responder),
                limits: limits.clone(),
                clients: Arc::clone(&clients),
                identity,
                stop: stop.clone(),
                tasks: tasks.clone(),
            };
            let (all, listener) = (Arc::new(all), Arc::new(listener));
            let accept = supervise::kept(fell("dns-tcp"), move || {
                let (all, listener) = (Arc::clone(&all), Arc::clone(&listener));
                async move { all.accept(&listener).await }
            });
            tasks.spawn(stop.clone().run_until_cancelled_owned(accept));
        }
        tasks.close();
        Self { responder, stop, tasks, broken }
    }

    /// Why it does not answer on all of its sockets, if so.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// What answers.
    pub fn responder(&self) -> &Arc<Responder> {
        &self.responder
    }

    /// Closes the sockets and waits until every task has ended.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The socket, for threads that wait in it.
fn blocking(socket: UdpSocket) -> io::Result<Arc<std::net::UdpSocket>> {
    let socket = socket.into_std()?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(STOP_WITHIN))?;
    socket.set_write_timeout(Some(STOP_WITHIN))?;
    Ok(Arc::new(socket))
}

fn datagrams(socket: &std::net::UdpSocket, responder: &Responder, stop: &CancellationToken) {
    // Without it, clients of a wildcard may get answers from an address that they did not ask.
    let answering = Datagrams::answering(socket);
    let mut all = answering.unwrap_or_else(|error| {
        tracing::warn!(%error, "DNS socket: responses may come from another address than was asked");
        Datagrams::new(false)
    });
    while !stop.is_cancelled() {
        match all.receive(socket, true) {
            Ok(n) => {
                let served = responder.respond_all(&mut all, n);
                if let (refused @ 1.., Some(error)) = all.send(socket, n) {
                    tracing::debug!(refused, %error, "DNS responses not sent");
                }
                drop(served);
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(error) => {
                tracing::warn!(%error, "DNS socket");
                thread::sleep(ERROR_PAUSE);
            }
        }
    }
}

struct Acceptor {
    responder: Arc<Responder>,
    limits: DnsLimits,
    clients: Arc<Clients>,
    /// What a client is shown first, where the listener speaks TLS.
    identity: Option<Arc<TlsIdentity>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn accept(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    // An answer is one write: held back until the other side has acknowledged what went before (the end
                    // of a handshake, the last answer), it would come 40 ms late. A connection without it is served all
                    // the same.
                    let _ = stream.set_nodelay(true);
                    let (seat, evicted) = Clients::seat(&self.clients, client.ip(), &self.limits);
                    if evicted {
                        add(&self.responder.stats.tcp_evicted);
                    }
                    let Some(seat) = seat else {
                        add(&self.responder.stats.tcp_refused);
                        continue;
                    };
                    let (responder, limits) = (Arc::clone(&self.responder), self.limits.clone());
                    let (cut, identity) = (seat.cut.clone(), self.identity.clone());
                    let serve = async move {
                        match identity {
                            None => plain(stream, client, &responder, &limits, &seat).await,
                            Some(identity) => secured(&identity, stream, client, &responder, &limits, &seat).await,
                        }
                    };
                    let serve = cut.run_until_cancelled_owned(serve);
                    self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(serve));
                }
                Err(error) => {
                    tracing::warn!(%error, "DNS listener");
                    sleep(ERROR_PAUSE).await;
                }
            }
        }
    }
}

async fn plain(mut stream: TcpStream, client: SocketAddr, responder: &Responder, limits: &DnsLimits, seat: &Seat) {
    let (read, write) = stream.split();
    connection(read, write, client, responder, limits, seat).await;
}

/// A handshake first; who takes too long for it, or speaks something else, is cut off.
async fn secured(
    identity: &TlsIdentity,
    stream: TcpStream,
    client: SocketAddr,
    responder: &Responder,
    limits: &DnsLimits,
    seat: &Seat,
) {
    let shaken = timeout(limits.tcp_transfer, identity.acceptor().accept(stream)).await;
    let Ok(Ok(stream)) = shaken else {
        add(&responder.stats.tls_failed);
        return;
    };
    add(&responder.stats.tls);
    let (read, write) = tokio::io::split(stream);
    connection(read, write, client, responder, limits, seat).await;
}

/// Serves one connection until it ends, idles, or breaks a rule; any error just closes it.
async fn connection(
    read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    client: SocketAddr,
    responder: &Responder,
    limits: &DnsLimits,
    seat: &Seat,
) {
    let mut read = BufReader::with_capacity(TCP_READ, read);
    let mut answers = Vec::new();
    for _ in 0..limits.tcp_queries {
        seat.answered();
        let Ok(Ok(length)) = timeout(limits.tcp_idle, read.read_u16()).await else { return };
        let mut query = vec![0; usize::from(length)];
        let Ok(Ok(_)) = timeout(limits.tcp_transfer, read.read_exact(&mut query)).await else { return };
        let Some(response) = responder.respond(&query, client, Transport::Tcp) else { return };
        let Ok(length) = u16::try_from(response.len()) else { return };
        answers.extend_from_slice(&length.to_be_bytes());
        answers.extend_from_slice(&response);
        if answers.len() < TCP_WRITE && more(read.buffer()) {
            continue;
        }
        let Ok(Ok(())) = timeout(limits.tcp_transfer, send(&mut write, &answers)).await else { return };
        answers.clear();
    }
    // The last query may have left answers behind.
    let _ = timeout(limits.tcp_transfer, send(&mut write, &answers)).await;
}

/// All of it, out of TLS's buffer too.
async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Whether a whole query has come already.
fn more(buffer: &[u8]) -> bool {
    buffer.split_first_chunk().is_some_and(|(length, rest)| rest.len() >= usize::from(u16::from_be_bytes(*length)))
}

/// Connections open now.
#[derive(Debug, Default)]
struct Clients(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    by_id: BTreeMap<u64, Held>,
    by_ip: HashMap<IpAddr, usize>,
    /// Connections by when they came, or were answered last. Half a query counts for nothing: whoever only begins to
    /// speak, or does not listen, would else keep everyone out.
    by_age: BTreeMap<u64, u64>,
    /// Counts connections and answers.
    next: u64,
}

#[derive(Debug)]
struct Held {
    ip: IpAddr,
    cut: CancellationToken,
    since: u64,
}

impl Open {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Closes the oldest; whether there was one.
    fn evict(&mut self) -> bool {
        let oldest = self.by_age.first_key_value().map(|(_, id)| *id);
        oldest.and_then(|id| self.remove(id)).map(|held| held.cut.cancel()).is_some()
    }

    fn remove(&mut self, id: u64) -> Option<Held> {
        let held = self.by_id.remove(&id)?;
        self.by_age.remove(&held.since);
        if let Some(n) = self.by_ip.get_mut(&held.ip) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.by_ip.remove(&held.ip);
            }
        }
        Some(held)
    }

    fn renew(&mut self, id: u64) {
        let since = self.number();
        let Some(held) = self.by_id.get_mut(&id) else { return };
        self.by_age.remove(&std::mem::replace(&mut held.since, since));
        self.by_age.insert(since, id);
    }
}

/// One connection's place; given back when dropped.
struct Seat {
    clients: Arc<Clients>,
    id: u64,
    cut: CancellationToken,
}

impl Seat {
    fn answered(&self) {
        self.clients.0.lock().renew(self.id);
    }
}

impl Clients {
    /// A place, unless this address has its share or nobody can make room; and whether another had to go.
    fn seat(this: &Arc<Self>, ip: IpAddr, limits: &DnsLimits) -> (Option<Seat>, bool) {
        let mut open = this.0.lock();
        let mine = open.by_ip.get(&ip).copied().unwrap_or(0);
        if mine >= limits.tcp_per_address {
            return (None, false);
        }
        let full = open.by_id.len() >= limits.tcp_connections;
        if full && !open.evict() {
            return (None, false);
        }
        let (id, cut) = (open.number(), CancellationToken::new());
        open.by_id.insert(id, Held { ip, cut: cut.clone(), since: id });
        open.by_age.insert(id, id);
        *open.by_ip.entry(ip).or_insert(0) += 1;
        (Some(Seat { clients: Arc::clone(this), id, cut }), full)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.clients.0.lock().remove(self.id);
    }
}
