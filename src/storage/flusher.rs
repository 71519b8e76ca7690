//! Group commit: one thread that syncs the write-ahead log once for everyone who waits, and completes them in order.
//!
//! Invariants: a callback reports success only if a sync that began after its write has succeeded; callbacks complete
//! in the order in which they were handed over; after the first failure every callback gets that first reason and no
//! sync is tried again (what a failed fsync left in the page cache is unknown, so a later success would prove nothing).
//! A panic is such a failure: nobody is left waiting.
//!
//! Deliberately not here: what is written. The caller writes first, then hands over its callback.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use tokio::sync::watch;

use super::{LogMeters, Result, StorageError};
use crate::{clock::Clock, supervise};

/// How the reason of a failed sync begins.
pub(super) const SYNC_FAILED: &str = "sync of the write-ahead log failed";

/// Called once a write is durable, or with the reason why it is not.
pub type Durable = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Remembers the first failure for ever and tells everyone who watches.
pub(super) struct Poison {
    first: watch::Sender<Option<String>>,
}

impl Poison {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { first: watch::Sender::new(None) })
    }

    pub(super) fn set(&self, reason: String) {
        self.first.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                tracing::error!(%reason, "log database failed; no further write is attempted");
                *first = Some(reason);
            }
            is_first
        });
    }

    pub(super) fn check(&self) -> Result<()> {
        match &*self.first.borrow() {
            Some(reason) => Err(StorageError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<String>> {
        self.first.subscribe()
    }
}

/// The sync thread. Dropping it completes what waits and joins the thread.
pub(super) struct Flusher {
    queue: Option<mpsc::Sender<Durable>>,
    thread: Option<JoinHandle<()>>,
    poison: Arc<Poison>,
    meters: LogMeters,
}

impl Flusher {
    /// Starts the thread; `sync` makes everything written so far durable.
    pub(super) fn start(
        sync: impl Fn() -> std::result::Result<(), String> + Send + 'static,
        poison: Arc<Poison>,
    ) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel::<Durable>();
        let shared = poison.clone();
        let meters = LogMeters::default();
        let (seen, clock) = (meters.clone(), Clock::real());
        let thread = thread::Builder::new().name("log-sync".into()).spawn(move || {
            while let Ok(first) = waiting.recv() {
                // Whoever is in the queue now wrote before this sync begins, so one sync covers all of them.
                let mut batch = vec![first];
                batch.extend(waiting.try_iter());
                if shared.check().is_ok() {
                    let began = clock.micros();
                    match catch_unwind(AssertUnwindSafe(&sync)) {
                        Ok(Ok(())) => {
                            seen.sync.observe(clock.micros().saturating_sub(began) as f64 / 1e6);
                            seen.writes.observe(batch.len() as f64);
                        }
                        Ok(Err(reason)) => shared.set(format!("{SYNC_FAILED}: {reason}")),
                        Err(panic) => shared.set(format!("{SYNC_FAILED}: {}", fell(panic.as_ref()))),
                    }
                }
                for done in batch {
                    let result = shared.check().map_err(StorageError::into_io);
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| done(result))) {
                        shared.set(format!("{SYNC_FAILED}: {}", fell(panic.as_ref())));
                    }
                }
            }
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), poison, meters })
    }

    /// What was measured so far, and goes on being measured.
    pub(super) fn meters(&self) -> LogMeters {
        self.meters.clone()
    }

    /// Calls `done` after the next sync that begins from now on.
    pub(super) fn after_sync(&self, done: Durable) {
        let Some(queue) = &self.queue else { return };
        if let Err(mpsc::SendError(done)) = queue.send(done) {
            self.poison.set("the sync thread ended".into());
            done(self.poison.check().map_err(StorageError::into_io));
        }
    }
}

fn fell(panic: &(dyn std::any::Any + Send)) -> String {
    format!("the sync thread panicked ({})", supervise::words(panic))
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.queue.take();
        let Some(thread) = self.thread.take() else { return };
        // The last handle may be dropped inside a callback, on the sync thread itself, which cannot join itself.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("the sync thread of the log database panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn one_sync_serves_all_who_wait_and_completes_in_order() {
        let syncs = Arc::new(AtomicUsize::new(0));
        let (gate, opened) = mpsc::channel::<()>();
        let counted = syncs.clone();
        let flusher = Flusher::start(
            move || {
                counted.fetch_add(1, Ordering::SeqCst);
                opened.recv().map_err(|e| e.to_string())
            },
            Poison::new(),
        )
        .unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let (seen, all) = mpsc::channel();
        for i in 0..50 {
            let (order, seen) = (order.clone(), seen.clone());
            flusher.after_sync(Box::new(move |r| {
                r.unwrap();
                order.lock().unwrap().push(i);
                seen.send(()).unwrap();
            }));
        }
        // The first sync may have taken one or several; a second one takes all the rest.
        gate.send(()).unwrap();
        gate.send(()).unwrap();
        for _ in 0..50 {
            all.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
        assert!(syncs.load(Ordering::SeqCst) <= 2);
    }

    #[test]
    fn a_failed_sync_is_never_tried_again_and_its_reason_stays() {
        let syncs = Arc::new(AtomicUsize::new(0));
        let counted = syncs.clone();
        let poison = Poison::new();
        let flusher = Flusher::start(
            move || Err(format!("disk on fire, try {}", counted.fetch_add(1, Ordering::SeqCst))),
            poison.clone(),
        )
        .unwrap();
        for _ in 0..3 {
            let (tell, told) = mpsc::channel();
            flusher.after_sync(Box::new(move |r| tell.send(r.unwrap_err().to_string()).unwrap()));
            let said = told.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
            assert!(said.contains("disk on fire, try 0"), "{said}");
        }
        assert_eq!(syncs.load(Ordering::SeqCst), 1);
        assert!(poison.watch().borrow().as_ref().unwrap().contains("disk on fire"));
    }

    #[test]
    fn a_sync_thread_that_panics_says_so_and_leaves_nobody_waiting() {
        let wait = |flusher: &Flusher| {
            let (tell, told) = mpsc::channel();
            flusher.after_sync(Box::new(move |r| tell.send(r.map_err(|e| e.to_string())).unwrap()));
            told.recv_timeout(std::time::Duration::from_secs(10)).expect("an answer")
        };
        let poison = Poison::new();
        let flusher = Flusher::start(|| panic!("no words"), poison.clone()).unwrap();
        for _ in 0..2 {
            let said = wait(&flusher).unwrap_err();
            assert!(said.contains("the sync thread panicked (no words)"), "{said}");
        }
        assert!(poison.watch().borrow().is_some(), "whoever watches ends the node");
        let poison = Poison::new();
        let flusher = Flusher::start(|| Ok(()), poison.clone()).unwrap();
        flusher.after_sync(Box::new(|_| panic!("a callback's")));
        let said = wait(&flusher).unwrap_err();
        assert!(said.contains("the sync thread panicked (a callback's)"), "{said}");
    }

    #[test]
    fn dropping_completes_what_waits() {
        let flusher = Flusher::start(|| Ok(()), Poison::new()).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        for _ in 0..10 {
            let count = count.clone();
            flusher.after_sync(Box::new(move |r| {
                r.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
            }));
        }
        drop(flusher);
        assert_eq!(count.load(Ordering::SeqCst), 10);
    }
}
