//! Sends what this node hears of workers, and what its own DNS has served, to the leader; to itself when it leads.
//!
//! Invariants: a new leader gets the newest report of every session at once; afterwards it gets only what is new, and
//! signs of life. The index that is reported as served is one below which no answer is under way, and the TTLs are read
//! after it. Not here: what the leader makes of it (`observe`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::start::Parts;
use crate::{
    api::{ApiError, Report, Sessions},
    model::{ModelError, NodeId, WorkerName},
    observe::{ObserveError, WorkerWord},
    raft::{Consensus, Leadership},
    wire::{
        convert_worker::read_report,
        v1::{self, relay_item::Body},
    },
};

/// Signs of life at least this often.
const PULSE: Duration = Duration::from_millis(1000);
/// How soon it is looked again whether the last answers of an older view are out.
const LAST_ANSWERS: Duration = Duration::from_millis(5);
/// Gathers what changes together.
const GATHER: Duration = Duration::from_millis(2);
const RETRY: Duration = Duration::from_millis(100);
const BUFFER: usize = 256;

/// Something new of what this node hears.
struct Item {
    word: Word,
    /// A worker's report as it came, for another node.
    sent: Option<Arc<v1::Report>>,
}

/// The same, read.
pub(super) enum Word {
    Worker(WorkerWord),
    Node(v1::NodeSeen),
}

impl Item {
    fn of(worker: WorkerName, age_ms: u64, report: Option<Report>, gone: bool) -> Self {
        let (read, sent) = report.map(|r| (r.read, r.sent)).unzip();
        Self { word: Word::Worker(WorkerWord { worker, age_ms, report: read, gone }), sent }
    }

    /// As another node gets it.
    fn body(self) -> Body {
        match self.word {
            Word::Node(seen) => Body::Node(seen),
            Word::Worker(WorkerWord { worker, age_ms, report: _, gone }) => {
                let report = self.sent.map(|sent| sent.as_ref().clone());
                Body::Worker(v1::WorkerSeen { worker: worker.to_string(), age_ms, report, gone })
            }
        }
    }
}

/// What one leader was told.
struct Feed {
    parts: Arc<Parts>,
    consensus: Consensus,
    sessions: Arc<Sessions>,
    told: BTreeMap<WorkerName, (u64, Option<(u64, u64)>)>,
    /// The index that was said to be served.
    served: u64,
}

impl Feed {
    /// What is new since the last call; with `pulse` also that the rest is alive.
    fn items(&mut self, pulse: bool) -> Vec<Item> {
        let mut items = vec![Item { word: Word::Node(self.node()), sent: None }];
        let now = self.sessions.all();
        let ended: Vec<WorkerName> =
            self.told.keys().filter(|w| !now.iter().any(|s| &s.worker == *w)).cloned().collect();
        for worker in ended {
            self.told.remove(&worker);
            items.push(Item::of(worker, 0, None, true));
        }
        for s in now {
            let newest = s.report.as_ref().map(|r| (r.sent.epoch, r.sent.seq));
            let fresh = self.told.get(&s.worker) != Some(&(s.id, newest));
            if !fresh && !pulse {
                continue;
            }
            self.told.insert(s.worker.clone(), (s.id, newest));
            items.push(Item::of(s.worker, s.age_ms, s.report.filter(|_| fresh), false));
        }
        items
    }

    fn node(&mut self) -> v1::NodeSeen {
        let now = self.parts.clock.mono();
        // In this order: an answer of an older view is then in the one or in the other.
        self.served = self.parts.dns.settled_index();
        let ttls = self.parts.dns.ttls_handed_out(now);
        v1::NodeSeen {
            served_index: self.served,
            ttls_ms: ttls.into_iter().map(|(d, ttl)| (d.to_string(), ttl)).collect(),
            serving_for_ms: self.parts.dns_since.get().map_or(0, |since| now.since(*since)),
            dns_ready: self.parts.dns.is_ready(),
        }
    }
}

/// What another node says of a worker, read once here.
pub(super) fn read(seen: &v1::WorkerSeen) -> Result<WorkerWord, ModelError> {
    let worker = WorkerName::new(&seen.worker)?;
    let report = seen.report.as_ref().map(|r| read_report(&worker, r)).transpose()?.map(Arc::new);
    Ok(WorkerWord { worker, age_ms: seen.age_ms, report, gone: seen.gone })
}

/// Takes a word in, of this node or another, while this node leads that term.
pub(super) fn take(parts: &Parts, from: NodeId, term: u64, word: Word) -> Result<(), ApiError> {
    let leadership = parts.slot.get().map(|c| c.leader().borrow().clone()).unwrap_or_default();
    // Of an older term it must not take anything, and a term that its own Raft does not know yet would make it deaf for
    // the real ones: whoever heard of this node's victory before it did tries again.
    if leadership.term != term || (leadership.leader.is_some() && !leadership.is_me) {
        return Err(ApiError::precondition(format!("this node does not lead term {term}")));
    }
    let taken = match word {
        Word::Worker(seen) => parts.collector.worker(from, term, seen),
        Word::Node(seen) => parts.collector.node(from, term, &seen),
    };
    taken.map_err(|e| match e {
        ObserveError::Term { .. } => ApiError::precondition(e.to_string()),
        ObserveError::Malformed(_) => ApiError::bad(e.to_string()),
    })
}

/// Follows the leadership for ever.
pub(super) async fn run(parts: Arc<Parts>, consensus: Consensus, sessions: Arc<Sessions>) {
    let mut leadership = consensus.leader();
    loop {
        let seen = leadership.borrow_and_update().clone();
        if let Some(leader) = seen.leader.as_ref().map(|l| l.id) {
            let feed = Feed {
                parts: parts.clone(),
                consensus: consensus.clone(),
                sessions: sessions.clone(),
                told: BTreeMap::new(),
                served: 0,
            };
            let ended = if leader == consensus.node_id() {
                to_self(feed, &seen, leadership.clone()).await
            } else {
                to_leader(feed, leader, &seen, leadership.clone()).await
            };
            if let Err(status) = ended {
                tracing::debug!(leader, term = seen.term, %status, "relay interrupted");
                tokio::time::sleep(RETRY).await;
            }
        } else if leadership.changed().await.is_err() {
            return;
        }
        if leadership.has_changed().is_err() {
            return;
        }
    }
}

/// Whether this is still the leadership that the feed was opened for.
fn same(now: &watch::Receiver<Leadership>, then: &Leadership) -> bool {
    let now = now.borrow();
    now.term == then.term && now.leader == then.leader
}

/// Waits until something may be new; `true` when only the pulse is due.
async fn wait(
    told: u64,
    sessions: &mut watch::Receiver<u64>,
    served: &mut watch::Receiver<u64>,
    leadership: &mut watch::Receiver<Leadership>,
) -> bool {
    // When this was sent an older view was still answered from; no signal says when that is over.
    let old = told < *served.borrow();
    let pulse = tokio::select! {
        () = tokio::time::sleep(LAST_ANSWERS), if old => false,
        _ = sessions.changed() => false,
        _ = served.changed() => false,
        _ = leadership.changed() => false,
        () = tokio::time::sleep(PULSE) => true,
    };
    if !pulse {
        tokio::time::sleep(GATHER).await;
    }
    sessions.borrow_and_update();
    served.borrow_and_update();
    pulse
}

async fn to_self(mut feed: Feed, then: &Leadership, mut leadership: watch::Receiver<Leadership>) -> Result<(), Status> {
    let (mut sessions, mut served) = (feed.sessions.changes(), feed.parts.dns.served_index());
    let me = feed.consensus.node_id();
    let mut pulse = true;
    while same(&leadership, then) {
        for item in feed.items(pulse) {
            take(&feed.parts, me, then.term, item.word)?;
        }
        pulse = wait(feed.served, &mut sessions, &mut served, &mut leadership).await;
    }
    Ok(())
}

async fn to_leader(
    mut feed: Feed,
    leader: u64,
    then: &Leadership,
    mut leadership: watch::Receiver<Leadership>,
) -> Result<(), Status> {
    let mut client = feed.consensus.peer_client(leader).ok_or_else(|| Status::unavailable("no connection"))?;
    let header = Some(feed.consensus.peer_header(leader));
    let (mut sessions, mut served) = (feed.sessions.changes(), feed.parts.dns.served_index());
    // The first items go into the buffer before the call, so that the leader hears all in one round trip.
    let first = feed.items(true);
    let (send, receive) = mpsc::channel(first.len().saturating_add(BUFFER));
    for item in first {
        let item = v1::RelayItem { header: header.clone(), term: then.term, body: Some(item.body()) };
        send.try_send(item).map_err(|e| Status::internal(e.to_string()))?;
    }
    let mut acks = client.relay(ReceiverStream::new(receive)).await?.into_inner();
    while same(&leadership, then) {
        let pulse = tokio::select! {
            ack = acks.message() => match ack? {
                // What `wait` had noticed when the acknowledgement came is looked for below.
                Some(_) => false,
                None => return Err(Status::unavailable("the leader ended the stream")),
            },
            pulse = wait(feed.served, &mut sessions, &mut served, &mut leadership) => pulse,
        };
        for item in feed.items(pulse) {
            let item = v1::RelayItem { header: header.clone(), term: then.term, body: Some(item.body()) };
            if send.send(item).await.is_err() {
                return Err(Status::unavailable("the stream to the leader ended"));
            }
        }
    }
    Ok(())
}
