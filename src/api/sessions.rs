//! The workers' sessions at this node: the newest report of each, and a way to tell the agent something.
//!
//! Invariants: one session a worker, the newest; a report is state, so only the last is kept. Not here: the protocol
//! (`workers`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::{ApiError, Many};
use crate::{
    clock::{Clock, Mono},
    model::WorkerName,
    state::Reported,
    wire::v1,
};

/// Log lines that may wait for their reader.
const LOG_BUFFER: usize = 256;
const TELL_BUFFER: usize = 64;
/// How long a word for an agent may wait for those before it: the logs of many instances are asked for at once.
const TELL_LIMIT: Duration = Duration::from_secs(5);

/// Where the lines that answer a request go.
type Reader = mpsc::Sender<Result<v1::LogChunk, ApiError>>;

/// A worker's report, as it came for other nodes and read for this one.
#[derive(Debug, Clone)]
pub struct Report {
    pub sent: Arc<v1::Report>,
    pub read: Arc<Reported>,
}

#[derive(Debug)]
struct OpenSession {
    id: u64,
    report: Option<Report>,
    heard: Mono,
    tell: mpsc::Sender<v1::TailLogs>,
}

/// What the relay needs of one session.
#[derive(Debug, Clone)]
pub struct SessionView {
    pub worker: WorkerName,
    /// Differs from session to session of one process.
    pub id: u64,
    /// Milliseconds since its last message.
    pub age_ms: u64,
    /// Its last report.
    pub report: Option<Report>,
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    clock: Clock,
    open: Mutex<BTreeMap<WorkerName, OpenSession>>,
    changed: watch::Sender<u64>,
    next: AtomicU64,
    readers: Mutex<BTreeMap<u64, Reader>>,
}

/// One session's end for its own task: the session ends with it, however the task does.
pub struct Held {
    pub id: u64,
    pub told: mpsc::Receiver<v1::TailLogs>,
    worker: WorkerName,
    all: Arc<Sessions>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.end(&self.worker, self.id);
    }
}

impl Sessions {
    /// None yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            open: Mutex::default(),
            changed: watch::Sender::new(0),
            next: AtomicU64::new(1),
            readers: Mutex::default(),
        }
    }

    fn bump(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Changes with every report and with every session that begins or ends.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// All sessions as they are now.
    pub fn all(&self) -> Vec<SessionView> {
        let now = self.clock.mono();
        let view = |(worker, s): (&WorkerName, &OpenSession)| SessionView {
            worker: worker.clone(),
            id: s.id,
            age_ms: now.since(s.heard),
            report: s.report.clone(),
        };
        self.open.lock().iter().map(view).collect()
    }

    /// Begins a session; an older one of the same worker ends.
    pub fn begin(self: &Arc<Self>, worker: &WorkerName) -> Held {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = mpsc::channel(TELL_BUFFER);
        let session = OpenSession { id, report: None, heard: self.clock.mono(), tell };
        self.open.lock().insert(worker.clone(), session);
        self.bump();
        Held { id, told, worker: worker.clone(), all: self.clone() }
    }

    /// Takes a report; `false` when the session is no longer the worker's.
    pub fn report(&self, worker: &WorkerName, id: u64, report: Report) -> bool {
        let mut open = self.open.lock();
        let Some(session) = open.get_mut(worker).filter(|s| s.id == id) else { return false };
        session.heard = self.clock.mono();
        session.report = Some(report);
        drop(open);
        self.bump();
        true
    }

    /// Ends it, unless a newer one has taken its place.
    fn end(&self, worker: &WorkerName, id: u64) {
        let mut open = self.open.lock();
        if open.get(worker).is_some_and(|s| s.id == id) {
            open.remove(worker);
            drop(open);
            self.bump();
        }
    }

    /// Asks a worker's agent for logs; `None` when its session is not here, or takes no more words.
    pub(super) async fn tail(&self, worker: &WorkerName, mut ask: v1::TailLogs) -> Option<Many<v1::LogChunk>> {
        let tell = self.open.lock().get(worker)?.tell.clone();
        // Nobody who was not told it can guess it, and so push lines to this reader.
        let request = rand::random();
        ask.request = request;
        let (send, receive) = mpsc::channel(LOG_BUFFER);
        {
            let mut readers = self.readers.lock();
            readers.retain(|_, r| !r.is_closed());
            readers.insert(request, send);
        }
        if let Ok(Ok(())) = tokio::time::timeout(TELL_LIMIT, tell.send(ask)).await {
            return Some(receive);
        }
        self.readers.lock().remove(&request);
        None
    }

    /// Somebody begins to answer; what is answered ends with the result, however it ends.
    pub(super) fn answers(self: &Arc<Self>) -> Answers {
        Answers { requests: BTreeSet::new(), all: Arc::clone(self) }
    }
}

/// The requests that one stream of lines answers. Its reader ends with it, also when the stream breaks and nobody is
/// left to say so.
pub(super) struct Answers {
    requests: BTreeSet<u64>,
    all: Arc<Sessions>,
}

impl Answers {
    /// The reader of a request, while it listens.
    pub(super) fn reader(&mut self, request: u64) -> Option<Reader> {
        self.requests.insert(request);
        self.all.readers.lock().get(&request).filter(|r| !r.is_closed()).cloned()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.all.readers.lock().retain(|request, _| !self.requests.contains(request));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::convert_worker::read_report;

    #[tokio::test]
    async fn a_newer_session_takes_the_older_ones_place() {
        let all = Arc::new(Sessions::new(Clock::manual(0)));
        let name = WorkerName::new("w1").unwrap();
        let first = all.begin(&name);
        let second = all.begin(&name);
        let report = || {
            let sent = v1::Report::default();
            Report { read: Arc::new(read_report(&name, &sent).unwrap()), sent: Arc::new(sent) }
        };
        assert!(!all.report(&name, first.id, report()));
        assert!(all.report(&name, second.id, report()));
        drop(first);
        assert_eq!(all.all().len(), 1);
        assert!(all.tail(&name, v1::TailLogs::default()).await.is_some());
        drop(second);
        assert!(all.tail(&name, v1::TailLogs::default()).await.is_none());
    }

    #[tokio::test]
    async fn more_words_than_a_session_takes_at_once_wait_for_their_turn() {
        let all = Arc::new(Sessions::new(Clock::manual(0)));
        let name = WorkerName::new("w1").unwrap();
        let mut held = all.begin(&name);
        let asks = (0..TELL_BUFFER * 3).map(|_| all.tail(&name, v1::TailLogs::default()));
        let taking = async { while held.told.recv().await.is_some() {} };
        let told = tokio::select! {
            told = futures_util::future::join_all(asks) => told,
            () = taking => panic!("the session ended"),
        };
        assert!(told.iter().all(Option::is_some), "{} were not told", told.iter().filter(|t| t.is_none()).count());
    }

    #[tokio::test]
    async fn a_stream_of_lines_that_breaks_ends_its_reader_and_no_number_can_be_guessed() {
        let all = Arc::new(Sessions::new(Clock::manual(0)));
        let name = WorkerName::new("w1").unwrap();
        let mut held = all.begin(&name);
        let mut reader = all.tail(&name, v1::TailLogs::default()).await.unwrap();
        let mut other = all.tail(&name, v1::TailLogs::default()).await.unwrap();
        let (first, second) = (held.told.recv().await.unwrap().request, held.told.recv().await.unwrap().request);
        assert!(first.abs_diff(second) > 1000 && first > 1000, "{first} {second}");
        let mut answers = all.answers();
        answers.reader(first).unwrap().send(Ok(v1::LogChunk::default())).await.unwrap();
        assert!(reader.recv().await.is_some());
        // The connection is gone, and with it the task that read from it.
        drop(answers);
        assert!(reader.recv().await.is_none());
        assert!(other.try_recv().is_err_and(|e| e == mpsc::error::TryRecvError::Empty), "the other one goes on");
    }
}
