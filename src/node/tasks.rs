//! The node's background tasks. Each has a name, and none ends unnoticed.
//!
//! Invariants: a task that panics or ends is started again after a second, as each follows State and holds nothing
//! else. It is counted, and `/readyz` names it until it has run for a while. The fourth time within ten minutes ends
//! the node with the task's name. Not here: what the tasks do, and the leader's loop, which catches its own panics
//! (`lead`).

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{
    clock::{Clock, Mono},
    supervise::{self, Lately},
};

/// Deaths within [`WINDOW_MS`] that a task is started again after.
const MOST: usize = 3;
const WINDOW_MS: u64 = 600_000;
/// Before it is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// After a start, the time until the task counts as well.
const PROVEN_MS: u64 = 5_000;

#[derive(Debug)]
struct Deaths {
    total: u64,
    lately: Lately,
    last: String,
}

impl Default for Deaths {
    fn default() -> Self {
        Self { total: 0, lately: Lately::within(WINDOW_MS), last: String::new() }
    }
}

/// What has become of the tasks.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<BTreeMap<&'static str, Deaths>>);

impl Watched {
    /// Notes a death; whether it may be started again.
    fn died(&self, name: &'static str, why: &str, now: Mono) -> bool {
        let mut all = self.0.lock();
        let deaths = all.entry(name).or_default();
        deaths.total += 1;
        deaths.last = why.into();
        deaths.lately.note(now) <= MOST
    }

    /// Which task does not run, or has run again for a moment only.
    pub(super) fn problem(&self, now: Mono) -> Option<String> {
        let all = self.0.lock();
        let down = all.iter().find(|(_, d)| d.lately.last().is_some_and(|at| now.since(at) < PROVEN_MS));
        down.map(|(name, d)| format!("the task {name:?} of this node {} and is started again", d.last))
    }

    /// Starts after a death, by task.
    pub(super) fn restarts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().iter().map(|(name, d)| (*name, d.total)).collect()
    }
}

/// A task that cannot be kept running, and why.
pub(super) type Dead = (&'static str, String);

/// The tasks of one node.
#[derive(Debug)]
pub(super) struct Tasks {
    set: JoinSet<Dead>,
    watched: Arc<Watched>,
    clock: Clock,
    pause: Duration,
    /// A task that is to panic, for tests.
    fault: Option<String>,
}

impl Tasks {
    pub(super) fn new(watched: Arc<Watched>, clock: Clock, fault: Option<&str>) -> Self {
        let fault = fault.and_then(|f| f.strip_prefix("task:")).map(str::to_owned);
        Self { set: JoinSet::new(), watched, clock, pause: PAUSE, fault }
    }

    /// Keeps a task running that never ends by itself while the node is well.
    pub(super) fn keep<F>(&mut self, name: &'static str, make: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.add(name, make, false);
    }

    /// The same for a task that ends by itself when its work is done.
    pub(super) fn once<F>(&mut self, name: &'static str, make: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.add(name, make, true);
    }

    fn add<F>(&mut self, name: &'static str, make: impl Fn() -> F + Send + 'static, may_end: bool)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (watched, clock, pause) = (self.watched.clone(), self.clock.clone(), self.pause);
        let fault = self.fault.as_deref() == Some(name);
        self.set.spawn(async move {
            loop {
                let task = make();
                let task = async move {
                    // Asked for by a hidden flag alone.
                    assert!(!fault, "a fault was asked for");
                    task.await;
                };
                let why = match AssertUnwindSafe(task).catch_unwind().await {
                    Ok(()) if may_end => return std::future::pending().await,
                    Ok(()) => "ended by itself".to_string(),
                    Err(panic) => format!("panicked ({})", supervise::words(panic.as_ref())),
                };
                let again = watched.died(name, &why, clock.mono());
                if !again {
                    return (name, why);
                }
                tracing::error!(task = name, "{why}; it is started again");
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// Waits for a task that cannot be kept running.
    pub(super) async fn dead(&mut self) -> Dead {
        match self.set.join_next().await {
            Some(Ok(dead)) => dead,
            // The keeper itself; nothing in it can panic but the making of a task.
            Some(Err(e)) => ("keeper", e.to_string()),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_started_again_counted_and_shown_and_ends_the_node_the_fourth_time() {
        let (watched, clock) = (Arc::<Watched>::default(), Clock::manual(0));
        let mut tasks = Tasks::new(watched.clone(), clock.clone(), None);
        tasks.pause = Duration::from_millis(1);
        let starts = Arc::new(AtomicU32::new(0));
        let counted = starts.clone();
        tasks.keep("relay", move || {
            let n = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                // Once it ends, which it should not do either.
                assert!(n == 1, "broken {n}");
            }
        });
        let (name, why) = tasks.dead().await;
        assert_eq!((name, why.as_str()), ("relay", "panicked (broken 3)"));
        assert_eq!(starts.load(Ordering::Relaxed), 4);
        assert_eq!(watched.restarts(), [("relay", 4)].into());
        let why = watched.problem(clock.mono()).unwrap();
        assert!(why.contains("\"relay\"") && why.contains("broken 3"), "{why}");
        assert_eq!(watched.problem(Mono(PROVEN_MS)), None);
    }

    #[test]
    fn deaths_that_are_far_apart_end_nothing() {
        let watched = Watched::default();
        for n in 0..20 {
            assert!(watched.died("dns views", "panicked", Mono(n * 300_000)), "{n}");
        }
        assert!(watched.died("dns views", "panicked", Mono(5_700_001)));
        assert!(!watched.died("dns views", "panicked", Mono(5_700_002)));
    }

    #[tokio::test]
    async fn a_task_that_may_end_does() {
        let mut tasks = Tasks::new(Arc::default(), Clock::manual(0), None);
        let (done, wait) = tokio::sync::mpsc::channel::<()>(1);
        tasks.once("ready", move || {
            let done = done.clone();
            async move { drop(done) }
        });
        let mut wait = wait;
        // The task has ended, and its maker is kept.
        tokio::task::yield_now().await;
        assert!(wait.try_recv().is_err());
        assert!(tasks.dead().now_or_never().is_none());
    }
}
