//! Finds a node that answers, sends it a call, goes on at the next node when it fails, and watches events across nodes.
//!
//! Invariants: a change carries one request id and one `not_after` for all its tries, so it takes effect once however
//! often it is sent; only failures that say "not here, not now" are tried again, a refusal never is. Cluster time is
//! learned from replies. Not here: what a person types or sees (`cli`), and the agents' own session (`agent`).

mod calls;
mod error;
mod nodes;
mod push;
#[cfg(test)]
mod tests;
mod watch;

pub use error::ClientError;
pub use watch::{Watch, WatchItem};

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use error::Failure;
use nodes::Nodes;
use tonic::{Response, Status, transport::Channel};

use crate::{
    clock::{Backoff, Clock},
    wire::{APPLIED, STALE, v1},
};

/// How long a change may take effect after it was sent, in cluster time.
const NOT_AFTER: u64 = 60_000;
/// Between two rounds over all nodes.
const BACKOFF: Backoff = Backoff::new(FIRST_PAUSE, Duration::from_millis(500));
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The last try before the deadline has at least this, so that an answer which is on its way is not taken for silence.
const LAST_TRY: Duration = Duration::from_millis(250);

/// Limits of a client.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For one call with all its tries.
    pub deadline: Duration,
    /// For one try at one node.
    pub attempt: Duration,
    /// How long to go on when every node refuses the connection or says that it leads without a majority.
    pub refused: Duration,
    /// Reads take what the asked node knows, without the leader's confirmation.
    pub stale: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            attempt: Duration::from_secs(3),
            refused: Duration::from_millis(1500),
            stale: false,
        }
    }
}

/// A client of one cluster. Cloning shares connections and what was learned.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    nodes: Nodes,
    limits: Limits,
    clock: Clock,
    /// Applied index that the newest answer carried; 0: none yet.
    applied: Arc<AtomicU64>,
    /// Cluster time of the newest reply, and this process's time then; 0: none yet.
    cluster_ms: AtomicU64,
    heard_ms: AtomicU64,
    /// Whether that time is what an earlier process heard, and no node has told it since.
    guessed: AtomicBool,
    /// Tries that may have reached a node and were not answered for good.
    doubts: AtomicU64,
}

/// How things stood when a change was sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    guessed: bool,
    doubts: u64,
}

impl Client {
    /// A client over these client addresses (`host:port`); nothing is connected yet.
    pub fn new(addresses: &[String], limits: Limits, clock: Clock) -> Result<Self, ClientError> {
        Ok(Self {
            inner: Arc::new(Inner {
                nodes: Nodes::new(addresses)?,
                limits,
                clock,
                applied: Arc::new(AtomicU64::new(0)),
                cluster_ms: AtomicU64::new(0),
                heard_ms: AtomicU64::new(0),
                guessed: AtomicBool::new(false),
                doubts: AtomicU64::new(0),
            }),
        })
    }

    /// The clock this client measures with.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Address of the node that is asked first, with its name once known.
    pub fn node(&self) -> String {
        self.inner.nodes.label(self.inner.nodes.current())
    }

    /// The applied index that the newest answer carried, as it changes; 0 before the first.
    pub fn applied(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.inner.applied)
    }

    /// A read, marked when older answers are taken.
    fn reading<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if self.inner.limits.stale {
            request.metadata_mut().insert(STALE, tonic::metadata::MetadataValue::from_static("1"));
        }
        request
    }

    /// Tries `send` at one node after the other until one answers, it is refused, or the deadline passes.
    async fn call<T, F, Fut>(&self, send: F) -> Result<T, ClientError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_within(self.inner.limits, send).await.map(|(_, reply)| reply)
    }

    /// The same with other limits; says which node answered.
    async fn call_within<T, F, Fut>(&self, limits: Limits, send: F) -> Result<(usize, T), ClientError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let nodes = &self.inner.nodes;
        let started = self.inner.clock.mono();
        let elapsed = || Duration::from_millis(self.inner.clock.mono().since(started));
        let mut backoff = BACKOFF;
        loop {
            let mut failures = Vec::new();
            for _ in 0..nodes.len() {
                let at = nodes.current();
                let left = limits.attempt.min(limits.deadline.saturating_sub(elapsed()).max(LAST_TRY));
                let failure = match tokio::time::timeout(left, send(nodes.channel(at))).await {
                    Ok(Ok(reply)) => {
                        let applied = reply.metadata().get(APPLIED).and_then(|v| v.to_str().ok()?.parse().ok());
                        self.inner.applied.store(applied.unwrap_or_default(), Ordering::SeqCst);
                        return Ok((at, reply.into_inner()));
                    }
                    Ok(Err(status)) => error::judge(status)?,
                    Err(_) => Failure::Silent,
                };
                tracing::debug!(node = nodes.address(at), ?failure, "trying the next node");
                if !matches!(failure, Failure::Connect(_) | Failure::NoCluster(_) | Failure::Foreign) {
                    self.inner.doubts.fetch_add(1, Ordering::SeqCst);
                }
                failures.push((nodes.address(at), failure));
                nodes.leave(at);
                if elapsed() >= limits.deadline {
                    return Err(error::give_up(failures, elapsed()));
                }
            }
            let idle = failures.iter().all(|(_, f)| matches!(f, Failure::NoCluster(_) | Failure::Foreign));
            let hopeless = failures.iter().all(|(_, f)| {
                matches!(f, Failure::Connect(_) | Failure::NoQuorum(_) | Failure::NoCluster(_) | Failure::Foreign)
            });
            let wait = backoff.pause();
            if idle || elapsed() + wait >= limits.deadline || (hopeless && elapsed() >= limits.refused) {
                return Err(error::give_up(failures, elapsed()));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// One call to the first node named, and to no other: for what is about that node itself. Only a refused connection
    /// is tried again (the node may be starting).
    async fn call_this_node<T, F, Fut>(&self, limit: Duration, send: F) -> Result<T, ClientError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let started = self.inner.clock.mono();
        loop {
            let failure = match tokio::time::timeout(limit, send(self.inner.nodes.channel(0))).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) => error::judge(status)?,
                Err(_) => Failure::Silent,
            };
            let waited = Duration::from_millis(self.inner.clock.mono().since(started));
            if !matches!(failure, Failure::Connect(_)) || waited >= self.inner.limits.refused {
                return Err(error::give_up(vec![(self.inner.nodes.address(0), failure)], waited));
            }
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    /// Takes cluster time from a reply.
    fn learn(&self, now_ms: u64) {
        if now_ms > 0 {
            if self.inner.guessed.swap(false, Ordering::SeqCst) {
                self.inner.cluster_ms.store(0, Ordering::SeqCst);
            }
            let before = self.inner.cluster_ms.fetch_max(now_ms, Ordering::SeqCst);
            if now_ms > before {
                self.inner.heard_ms.store(self.inner.clock.mono().0, Ordering::SeqCst);
            }
        }
    }

    /// Cluster time now, as far as this client can tell; `None` before the first reply that told it.
    pub fn cluster_now(&self) -> Option<u64> {
        let known = self.inner.cluster_ms.load(Ordering::SeqCst);
        let since = self.inner.clock.mono().0.saturating_sub(self.inner.heard_ms.load(Ordering::SeqCst));
        (known > 0).then(|| known + since)
    }

    /// Takes this for cluster time until a node tells it: what an earlier process heard, brought up to now. It saves a
    /// change the call that would ask for the time.
    pub fn guess(&self, now_ms: u64) {
        self.inner.cluster_ms.store(now_ms, Ordering::SeqCst);
        self.inner.heard_ms.store(self.inner.clock.mono().0, Ordering::SeqCst);
        self.inner.guessed.store(now_ms > 0, Ordering::SeqCst);
    }

    /// Cluster time now by what a node told this client; `None` while it was only guessed.
    pub fn cluster_heard(&self) -> Option<u64> {
        self.cluster_now().filter(|_| !self.inner.guessed.load(Ordering::SeqCst))
    }

    /// The same request with a limit by the nodes' own time, when one by a guess was refused; nothing when the refusal
    /// stands. The id goes on only when each try before was answered: one that was not may have taken effect, and the
    /// nodes forget it with its limit; or it may still take effect, where the limit lies too far ahead.
    async fn by_their_time(
        &self,
        refused: &ClientError,
        before: Sent,
        request: Option<&v1::RequestMeta>,
    ) -> Result<Option<v1::RequestMeta>, ClientError> {
        let answered = self.inner.doubts.load(Ordering::SeqCst) == before.doubts;
        let again = before.guessed && answered && matches!(refused.reason(), "expired" | "too_far_ahead");
        let Some(request) = request.filter(|_| again) else { return Ok(None) };
        self.guess(0);
        self.status().await?;
        let not_after_ms = self.cluster_now().map_or(0, |now| now + NOT_AFTER);
        Ok(Some(v1::RequestMeta { request_id: request.request_id.clone(), not_after_ms }))
    }

    /// What a change goes out with.
    fn sent(&self) -> Sent {
        let guessed = self.inner.guessed.load(Ordering::SeqCst);
        Sent { guessed, doubts: self.inner.doubts.load(Ordering::SeqCst) }
    }

    /// A new request id with its limit. Asks a node for the cluster's time first when it is not known.
    async fn new_request(&self) -> Result<v1::RequestMeta, ClientError> {
        let now = match self.cluster_now() {
            Some(now) => now,
            None => {
                self.status().await?;
                self.cluster_now().unwrap_or_default()
            }
        };
        let request_id = format!("{:032x}", rand::random::<u128>());
        // Zero lets the node choose: a node without a cluster has no time to tell.
        Ok(v1::RequestMeta { request_id, not_after_ms: if now == 0 { 0 } else { now + NOT_AFTER } })
    }
}
