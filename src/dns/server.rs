//! The listeners: UDP and TCP sockets that the caller has bound, with limits on what one client can hold.
//!
//! A datagram is answered in the task that read it, so work in progress is bounded by the number of tasks. TCP (RFC 7766) has a
//! limit on connections in all and per address, an idle time, and one query at a time a connection. Not here: what the bytes mean.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    respond::{Responder, Transport},
    stats::add,
};

/// Queries are small; what is longer is cut by the socket and then malformed.
const UDP_READ: usize = 4096;
/// Pause after a socket error, so that a lasting one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// Limits on clients.
#[derive(Debug, Clone)]
pub struct DnsLimits {
    /// Tasks reading one UDP socket.
    pub udp_tasks: usize,
    /// TCP connections in all.
    pub tcp_connections: usize,
    /// TCP connections from one address.
    pub tcp_per_address: usize,
    /// Longest wait for the next query of a connection.
    pub tcp_idle: Duration,
    /// Longest time for the rest of a query to come, or a response to go.
    pub tcp_transfer: Duration,
    /// Queries of one connection.
    pub tcp_queries: u32,
}

impl Default for DnsLimits {
    fn default() -> Self {
        Self {
            udp_tasks: 4,
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
}

impl DnsServer {
    /// Serves on sockets that the caller has bound. Must be called inside a tokio runtime.
    pub fn start(udp: Vec<UdpSocket>, tcp: Vec<TcpListener>, responder: Arc<Responder>, limits: &DnsLimits) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        for socket in udp.into_iter().map(Arc::new) {
            for _ in 0..limits.udp_tasks.max(1) {
                let (socket, responder) = (Arc::clone(&socket), Arc::clone(&responder));
                let serve = async move { datagrams(&socket, &responder).await };
                tasks.spawn(stop.clone().run_until_cancelled_owned(serve));
            }
        }
        let clients = Arc::new(Clients::default());
        for listener in tcp {
            let all = Acceptor {
                responder: Arc::clone(&responder),
                limits: limits.clone(),
                clients: Arc::clone(&clients),
                stop: stop.clone(),
                tasks: tasks.clone(),
            };
            tasks.spawn(stop.clone().run_until_cancelled_owned(async move { all.accept(&listener).await }));
        }
        tasks.close();
        Self { responder, stop, tasks }
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

async fn datagrams(socket: &UdpSocket, responder: &Responder) {
    let mut buffer = [0; UDP_READ];
    loop {
        match socket.recv_from(&mut buffer).await {
            // Port 0 cannot be answered.
            Ok((n, client)) if client.port() != 0 => {
                let Some(response) = responder.respond(&buffer[..n], client, Transport::Udp) else { continue };
                if let Err(error) = socket.send_to(&response, client).await {
                    tracing::debug!(%client, %error, "DNS response not sent");
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "DNS socket");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

struct Acceptor {
    responder: Arc<Responder>,
    limits: DnsLimits,
    clients: Arc<Clients>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn accept(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    let Some(seat) = Clients::seat(&self.clients, client.ip(), &self.limits) else {
                        add(&self.responder.stats.tcp_refused);
                        continue;
                    };
                    let (responder, limits) = (Arc::clone(&self.responder), self.limits.clone());
                    let serve = async move {
                        let _seat = seat;
                        connection(stream, client, &responder, &limits).await;
                    };
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

/// Serves one connection until it ends, idles, or breaks a rule; any error just closes it.
async fn connection(mut stream: TcpStream, client: SocketAddr, responder: &Responder, limits: &DnsLimits) {
    for _ in 0..limits.tcp_queries {
        let Ok(Ok(length)) = timeout(limits.tcp_idle, stream.read_u16()).await else { return };
        let mut query = vec![0; usize::from(length)];
        let Ok(Ok(_)) = timeout(limits.tcp_transfer, stream.read_exact(&mut query)).await else { return };
        let Some(response) = responder.respond(&query, client, Transport::Tcp) else { return };
        let Ok(length) = u16::try_from(response.len()) else { return };
        let framed = [&length.to_be_bytes()[..], &response].concat();
        let Ok(Ok(())) = timeout(limits.tcp_transfer, stream.write_all(&framed)).await else { return };
    }
}

/// Connections open now, in all and by address.
#[derive(Debug, Default)]
struct Clients(Mutex<(usize, HashMap<IpAddr, usize>)>);

/// One connection's place; given back when dropped.
struct Seat {
    clients: Arc<Clients>,
    ip: IpAddr,
}

impl Clients {
    fn seat(this: &Arc<Self>, ip: IpAddr, limits: &DnsLimits) -> Option<Seat> {
        let mut guard = this.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_ip) = &mut *guard;
        let mine = by_ip.get(&ip).copied().unwrap_or(0);
        if *all >= limits.tcp_connections || mine >= limits.tcp_per_address {
            return None;
        }
        *all += 1;
        by_ip.insert(ip, mine + 1);
        Some(Seat { clients: Arc::clone(this), ip })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut guard = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_ip) = &mut *guard;
        *all = all.saturating_sub(1);
        if let Some(n) = by_ip.get_mut(&self.ip) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}
