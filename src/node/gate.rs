//! Limits on the connections of one listener; each listener has its own gate.
//!
//! Invariants: a connection that has sent nothing holds no slot; at most `silent` such connections are kept, the oldest
//! is closed first, and each is closed after a time, so a flood of idle connections costs a fixed amount and keeps no
//! well-behaved client out. At most `open` connections are served at a time, and a client beyond that is told so. A
//! connection on which nothing moves for `idle` is closed, so a peer that vanished gives its slot back (a live gRPC
//! peer sends keep-alives). Not here: limits within a connection (`rpc`, `http`), and DNS, whose listeners have limits
//! of their own.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::Stream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{AbortHandle, JoinHandle},
    time::{Sleep, sleep, timeout},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::supervise;

const HANDED: usize = 64;
const REST: Duration = Duration::from_millis(50);
/// One in so many troubles of the same kind is logged.
const TELL_EVERY: u64 = 1000;
/// Gated listeners of a node.
const LISTENERS: u64 = 3;
/// Open files that are not gated connections: the store, DNS over TCP, calls to peers, logs.
const OTHER_FILES: u64 = 1024;
/// The fewest slots that are of use.
const LEAST_OPEN: u64 = 32;

/// Bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct GateLimits {
    /// Connections that are served at a time.
    pub(super) open: usize,
    /// Connections that have said nothing yet.
    pub(super) silent: usize,
    /// How long one may say nothing after it was made.
    pub(super) first_byte: Duration,
    /// How long nothing may move on one.
    pub(super) idle: Duration,
}

impl GateLimits {
    fn of(open: u64) -> Self {
        let open = usize::try_from(open).unwrap_or(usize::MAX);
        let silent = (open / 8).clamp(64, 512);
        Self { open, silent, first_byte: Duration::from_secs(5), idle: Duration::from_secs(30) }
    }

    /// For a node whose listeners are to serve `wanted` connections each. Raises the process's own limit of open files
    /// as far as that needs and the system allows; where it does not, the listeners share what there is.
    pub(super) fn for_node(wanted: u32) -> Self {
        let need = LISTENERS * u64::from(wanted) * 9 / 8 + OTHER_FILES;
        let allowed = raise_open_files(need);
        let open = within(u64::from(wanted), allowed);
        if open < u64::from(wanted) {
            tracing::warn!(
                wanted,
                open,
                open_files = allowed,
                "fewer connections than set: raise the limit of open files"
            );
        }
        Self::of(open)
    }
}

/// Connections that one listener may have with so many open files, at most `wanted`.
fn within(wanted: u64, open_files: u64) -> u64 {
    let room = open_files.saturating_sub(OTHER_FILES) / LISTENERS * 8 / 9;
    wanted.min(room.max(LEAST_OPEN))
}

/// Raises the soft limit of open files to `need`, as far as the hard one allows; what it is then.
fn raise_open_files(need: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let now = limit.current.unwrap_or(u64::MAX);
    if now >= need {
        return now;
    }
    let aim = need.min(limit.maximum.unwrap_or(u64::MAX));
    match setrlimit(Resource::Nofile, Rlimit { current: Some(aim), maximum: limit.maximum }) {
        Ok(()) => aim,
        Err(_) => now,
    }
}

/// What the listener speaks, for the words of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// gRPC over HTTP/2.
    Grpc,
    /// HTTP/1.1.
    Http,
}

impl Speaks {
    fn refusal(self, limit: usize) -> Vec<u8> {
        let text = format!("too many connections: the limit of this listener is {limit}");
        match self {
            Self::Grpc => {
                // An empty SETTINGS frame, and GOAWAY with ENHANCE_YOUR_CALM and the text.
                let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
                let len = u8::try_from(text.len().saturating_add(8)).unwrap_or(u8::MAX);
                bytes.extend_from_slice(&[0, 0, len, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]);
                bytes.extend_from_slice(text.as_bytes());
                bytes
            }
            Self::Http => format!(
                "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: text/plain\r\n\
                 content-length: {}\r\n\r\n{text}\n",
                text.len().saturating_add(1)
            )
            .into_bytes(),
        }
    }
}

/// What a gate has seen since the process started.
#[derive(Debug, Default)]
pub(super) struct GateCounts {
    /// Connections that hold a slot now.
    pub(super) open: AtomicU64,
    /// Told that there are too many.
    pub(super) refused: AtomicU64,
    /// Cut because they said nothing while others waited, or nothing in time.
    pub(super) silent: AtomicU64,
    /// Cut because nothing moved on them.
    pub(super) idle: AtomicU64,
}

/// Counts one; whether it is time for a line of the log.
fn counted(n: &AtomicU64) -> bool {
    n.fetch_add(1, Ordering::Relaxed).is_multiple_of(TELL_EVERY)
}

/// A listener with limits.
pub(super) struct Gate {
    incoming: mpsc::Receiver<Guarded>,
    addr: SocketAddr,
    accepting: JoinHandle<()>,
    counts: Arc<GateCounts>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Gate {
    pub(super) fn new(
        listener: TcpListener,
        what: &'static str,
        speaks: Speaks,
        limits: GateLimits,
    ) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let (out, incoming) = mpsc::channel(HANDED);
        let counts = Arc::<GateCounts>::default();
        let entry = Entry { what, speaks, limits, counts: counts.clone(), out };
        let slots = Arc::new(Semaphore::new(entry.limits.open));
        let accepting = tokio::spawn(async move {
            // Who was let in keeps its slot, whatever happens here.
            let say =
                |words: &str| tracing::error!(listener = what, "letting connections in panicked ({words}); it goes on");
            supervise::kept(say, || entry.clone().accept(&listener, &slots)).await;
        });
        Ok(Self { incoming, addr, accepting, counts })
    }

    pub(super) fn counts(&self) -> Arc<GateCounts> {
        self.counts.clone()
    }
}

/// What lets connections in.
#[derive(Clone)]
struct Entry {
    what: &'static str,
    speaks: Speaks,
    limits: GateLimits,
    counts: Arc<GateCounts>,
    out: mpsc::Sender<Guarded>,
}

impl Entry {
    async fn accept(self, listener: &TcpListener, slots: &Arc<Semaphore>) {
        let mut silent: VecDeque<AbortHandle> = VecDeque::new();
        let failed = AtomicU64::new(0);
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if counted(&failed) {
                        tracing::warn!(listener = self.what, %error, "cannot accept a connection");
                    }
                    sleep(REST).await;
                    continue;
                }
            };
            if silent.len() >= self.limits.silent {
                self.make_room(&mut silent).await;
            }
            let waiting = tokio::spawn(self.clone().admit(stream, slots.clone()));
            silent.push_back(waiting.abort_handle());
        }
    }

    /// Cuts the oldest that have said nothing, an eighth of them, so that a flood costs little for each.
    async fn make_room(&self, silent: &mut VecDeque<AbortHandle>) {
        // Many may have come at once and spoken: first the network is looked at, then they get their turn.
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        silent.retain(|waiting| !waiting.is_finished());
        let keep = self.limits.silent.saturating_sub(self.limits.silent / 8 + 1);
        while silent.len() > keep {
            if let Some(oldest) = silent.pop_front() {
                oldest.abort();
                self.cut_silent();
            }
        }
    }

    fn cut_silent(&self) {
        if counted(&self.counts.silent) {
            tracing::warn!(listener = self.what, limit = self.limits.silent, "connections that say nothing are cut");
        }
    }

    /// Waits for the first byte, which stays unread, then for nothing: a slot is free or not.
    async fn admit(self, stream: TcpStream, slots: Arc<Semaphore>) {
        let mut first = [0u8; 1];
        match timeout(self.limits.first_byte, stream.peek(&mut first)).await {
            Ok(Ok(1..)) => {}
            // It left by itself.
            Ok(Ok(0) | Err(_)) => return,
            Err(_) => return self.cut_silent(),
        }
        let Ok(slot) = slots.try_acquire_owned() else { return self.refuse(stream).await };
        // Without it small answers would wait for the next packet.
        let _ = stream.set_nodelay(true);
        let guarded = Guarded::new(stream, slot, self.what, self.limits.idle, self.counts.clone());
        if let Err(mpsc::error::TrySendError::Full(guarded)) = self.out.try_send(guarded) {
            // In a task of its own: this one counts as silent until it ends.
            let out = self.out;
            tokio::spawn(async move { drop(out.send(guarded).await) });
        }
    }

    async fn refuse(self, mut stream: TcpStream) {
        if counted(&self.counts.refused) {
            tracing::warn!(listener = self.what, limit = self.limits.open, "connections are refused: too many");
        }
        // Read what came, or the close would throw away our words.
        let mut sink = [0u8; 4096];
        let _ = stream.try_read(&mut sink);
        let words = self.speaks.refusal(self.limits.open);
        let _ = timeout(self.limits.first_byte, async {
            stream.write_all(&words).await?;
            stream.shutdown().await
        })
        .await;
    }
}

/// A connection that holds its slot, and is cut when nothing moves.
pub(super) struct Guarded {
    stream: TcpStream,
    what: &'static str,
    idle: Duration,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
    counts: Arc<GateCounts>,
    _slot: OwnedSemaphorePermit,
}

impl Guarded {
    fn new(
        stream: TcpStream,
        slot: OwnedSemaphorePermit,
        what: &'static str,
        idle: Duration,
        counts: Arc<GateCounts>,
    ) -> Self {
        counts.open.fetch_add(1, Ordering::Relaxed);
        Self { stream, what, idle, reading: None, writing: None, counts, _slot: slot }
    }

    fn cut(&self) -> io::Error {
        if counted(&self.counts.idle) {
            tracing::warn!(listener = self.what, after = ?self.idle, "connections on which nothing moves are cut");
        }
        io::Error::new(io::ErrorKind::TimedOut, "nothing moved on this connection")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Passes what is ready on; while nothing is, lets the idle time run.
fn watched<T>(
    poll: Poll<io::Result<T>>,
    cx: &mut Context<'_>,
    wait: &mut Option<Pin<Box<Sleep>>>,
    idle: Duration,
) -> Poll<Option<io::Result<T>>> {
    if let Poll::Ready(done) = poll {
        *wait = None;
        return Poll::Ready(Some(done));
    }
    let wait = wait.get_or_insert_with(|| Box::pin(sleep(idle)));
    ready!(wait.as_mut().poll(cx));
    Poll::Ready(None)
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.stream).poll_read(cx, buf);
        let done = ready!(watched(poll, cx, &mut this.reading, this.idle));
        Poll::Ready(done.unwrap_or_else(|| Err(this.cut())))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.stream).poll_write(cx, buf);
        let done = ready!(watched(poll, cx, &mut this.writing, this.idle));
        Poll::Ready(done.unwrap_or_else(|| Err(this.cut())))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        let done = ready!(watched(poll, cx, &mut this.writing, this.idle));
        Poll::Ready(done.unwrap_or_else(|| Err(this.cut())))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Guarded {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl Stream for Gate {
    type Item = io::Result<Guarded>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.incoming.poll_recv(cx).map(|next| next.map(Ok))
    }
}

impl axum::serve::Listener for Gate {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        match self.incoming.recv().await {
            Some(guarded) => (guarded, self.addr),
            // The accepting task ends with this gate only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

#[cfg(test)]
mod tests;
