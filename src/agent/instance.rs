//! One instance from its first start to its end: run after run under the shim, checked, scraped, restarted, stopped.
//!
//! Invariants: each act is journalled before it is done; a run's number is used once, so a process is never started
//! twice; before the first pass an exit is a failure at once, after it a restart with growing pauses. Not here: which
//! instances there are and what a failure means for the others (`reconcile`).

mod ports;
mod restarts;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use restarts::{MAX_RESTARTS, RESTART_WINDOW_MS, may_restart};
use tokio::sync::{mpsc, watch};

use super::{
    assignment::Entry,
    cgroup::Keeping,
    check::{self, Check, OWNER_EVERY},
    files,
    journal::JournalError,
    launch::launch,
    layout::{DeploymentDir, InstanceDir},
    ledger::{Book, Known, Record},
    probe::{self, Hysteresis},
    process::{self, Found, Process, ProcessError},
    runtime::Runtime,
    scrape::{self, Reading},
    shim::Launch,
};
use crate::{
    ask::Way,
    clock::{Backoff, Clock},
    model::{DeploymentId, Health, Life, MetricName, Selector, Spec},
    supervise::Lately,
};

/// Between an end and the next start.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// Time between checks before the first pass, and after an agent found its instance again: nobody knows yet.
const EAGER: Duration = Duration::from_millis(100);
/// Shorter than a new step waits for scrapes.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between scrapes while a step is counted, and otherwise.
const SCRAPE_MARKED: Duration = Duration::from_secs(1);
const SCRAPE_IDLE: Duration = Duration::from_secs(10);

/// What reports say of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub life: Life,
    /// After the hysteresis.
    pub health: Health,
    /// Failed checks in a row, of one that has passed.
    pub failures: u32,
    pub restarts: u32,
    /// How its last run ended.
    pub exit: String,
}

/// What an instance tells its deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Its status changed.
    Status(Status),
    /// What it counts, or that its page could not be read.
    Scraped {
        run: u32,
        /// What they show; `None` when the spec has no metrics.
        shown: Option<Shown>,
    },
    /// It is over; the journal says so.
    Ended,
    /// The journal cannot be written: nothing may be done any more.
    Journal(String),
    /// Its task panicked, and why.
    Died(String),
}

/// What a scrape found, or why it found nothing.
pub type Shown = Result<Reading, String>;

/// What the instances of a deployment share.
#[derive(Debug)]
pub struct Shared {
    /// The worker's name.
    pub worker: String,
    /// Whose instances.
    pub deployment: DeploymentId,
    /// Its directory.
    pub dir: DeploymentDir,
    pub book: Book,
    /// `slipwayd` itself, for shims.
    pub program: PathBuf,
    /// What runs instances, for whose sockets are whose.
    pub runtime: Arc<dyn Runtime>,
    /// How the processes of an instance are kept together.
    pub keeping: Keeping,
    /// For the window of restarts.
    pub clock: Clock,
}

/// What the deployment tells an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders {
    /// Stop for good.
    pub stop: bool,
    /// A step is counted: scrape often.
    pub marked: bool,
    /// Scrape now, whenever this changes.
    pub poke: u64,
}

/// An instance's task.
pub struct Instance {
    shared: Arc<Shared>,
    entry: Entry,
    spec: Arc<Spec>,
    release: PathBuf,
    dir: InstanceDir,
    orders: watch::Receiver<Orders>,
    news: mpsc::UnboundedSender<(crate::model::InstanceId, News)>,
    status: Status,
    way: Way,
    selectors: Option<Arc<Result<BTreeMap<MetricName, Selector>, String>>>,
    run: u32,
    passed: bool,
    stopping: bool,
    restarts: Lately,
}

/// Why a run is over.
enum Over {
    Exited,
    Stop,
    NeverPassed(String),
}

impl Instance {
    /// Prepares the task; `known` is what the journal says of it, if it began before.
    pub fn new(
        shared: Arc<Shared>,
        entry: Entry,
        spec: Arc<Spec>,
        release: PathBuf,
        known: Option<&Known>,
        orders: watch::Receiver<Orders>,
        news: mpsc::UnboundedSender<(crate::model::InstanceId, News)>,
    ) -> Self {
        // `apply` refuses what cannot be read here.
        let selectors = spec.metrics.as_ref().map(|m| Arc::new(m.selectors().map_err(|e| e.to_string())));
        let status = Status {
            life: Life::Starting,
            health: Health::Unknown,
            failures: 0,
            restarts: known.map_or(0, |k| k.restarts),
            exit: known.map_or(String::new(), |k| k.exit.clone()),
        };
        let dir = shared.dir.instance(entry.id);
        Self {
            run: known.map_or(0, |k| k.run),
            passed: known.is_some_and(|k| k.passed),
            stopping: known.is_some_and(|k| k.stopping),
            dir,
            shared,
            entry,
            way: Way::of(&spec.health),
            spec,
            release,
            orders,
            news,
            status,
            selectors,
            restarts: Lately::within(RESTART_WINDOW_MS),
        }
    }

    fn tell(&self, news: News) {
        // Nobody listens only when the agent ends.
        let _ = self.news.send((self.entry.id, news));
    }

    fn show(&mut self, change: impl FnOnce(&mut Status)) {
        let before = self.status.clone();
        change(&mut self.status);
        if self.status != before {
            self.tell(News::Status(self.status.clone()));
        }
    }

    async fn journal(&self, record: Record) -> Result<(), JournalError> {
        self.shared.book.write(record).await
    }

    /// Runs it to its end.
    pub async fn supervise(mut self) {
        self.tell(News::Status(self.status.clone()));
        match self.lead().await {
            Ok(()) => self.tell(News::Ended),
            Err(e) => self.tell(News::Journal(e.to_string())),
        }
    }

    async fn lead(&mut self) -> Result<(), JournalError> {
        // A run that the journal names may live, have ended, or never have come to be.
        let mut resume = self.run > 0;
        loop {
            let found = if resume { self.resume().await } else { self.begin().await? };
            resume = false;
            let ended = match found {
                Ok(Found::Running(process)) => {
                    let identity = process.tree.first.clone();
                    self.journal(Record::Running { id: self.entry.id, identity }).await?;
                    self.show(|s| s.life = Life::Running);
                    match self.watch(&process).await? {
                        Over::Exited => Ok(self.ending().await),
                        Over::Stop => return self.stop(&process).await,
                        Over::NeverPassed(why) => {
                            self.terminate(&process).await;
                            self.ending().await;
                            Err(why)
                        }
                    }
                }
                Ok(Found::Ended(how)) => Ok(how),
                Ok(Found::Nothing) if self.stopping || self.orders.borrow().stop => Ok("never started".into()),
                Ok(Found::Nothing) => continue,
                Err(why) => Err(why),
            };
            if self.stopping || self.orders.borrow().stop {
                let exit = ended.unwrap_or_else(|why| why);
                return self.gone(exit, false).await;
            }
            let how = match ended {
                Ok(how) if !self.passed => return self.gone(self.last_words(&how), true).await,
                Err(why) if !self.passed => return self.gone(why, true).await,
                Ok(how) | Err(how) => how,
            };
            if !may_restart(&mut self.restarts, self.shared.clock.mono()) {
                let why = format!("{how}; {MAX_RESTARTS} restarts within 10 minutes did not help");
                return self.gone(why, true).await;
            }
            self.journal(Record::Restarting { id: self.entry.id, exit: how.clone() }).await?;
            tracing::warn!(instance = %self.entry.id, "{how}; starting it again");
            self.show(|s| {
                s.restarts = s.restarts.saturating_add(1);
                s.health = Health::Failing;
                s.exit = how;
            });
            let before = u32::try_from(self.restarts.times().saturating_sub(1)).unwrap_or(u32::MAX);
            let _ = tokio::time::timeout(BACKOFF.after(before), self.orders.wait_for(|o| o.stop)).await;
            if self.orders.borrow().stop {
                return self.gone(self.status.exit.clone(), false).await;
            }
        }
    }

    /// Finds the run that the journal names; starts it if it never came to be.
    async fn resume(&mut self) -> Result<Found, String> {
        match process::find(&self.dir, self.run).await {
            Ok(Found::Nothing) if self.stopping || self.orders.borrow().stop => Ok(Found::Nothing),
            Ok(Found::Nothing) => self.spawn().await,
            Ok(found) => Ok(found),
            Err(e) => Err(e.to_string()),
        }
    }

    /// Begins the next run.
    async fn begin(&mut self) -> Result<Result<Found, String>, JournalError> {
        if self.orders.borrow().stop {
            return Ok(Ok(Found::Nothing));
        }
        // Also when no process comes of it: a directory without a log says that nothing began.
        if let Err(e) = files::ensure_dir(self.dir.path()) {
            tracing::warn!(instance = %self.entry.id, "no directory for its log: {e}");
        }
        self.run = self.run.saturating_add(1);
        self.journal(Record::Starting { entry: self.entry.clone(), run: self.run }).await?;
        Ok(self.spawn().await)
    }

    async fn spawn(&mut self) -> Result<Found, String> {
        let launch = self.launch().await?;
        process::clear(&self.dir, self.run).await.map_err(|e| e.to_string())?;
        self.tidy_runs();
        if let Some(found) = self.ports_free().await? {
            return Ok(found);
        }
        let started = process::start(&self.shared.program, &self.dir, self.run, &launch).await;
        started.map_err(|e: ProcessError| e.to_string())
    }

    /// What to execute. Files and users are looked up, which may take its time.
    async fn launch(&self) -> Result<Launch, String> {
        let (shared, entry) = (Arc::clone(&self.shared), self.entry.clone());
        let (spec, release) = (Arc::clone(&self.spec), self.release.clone());
        let prepare = move || launch(&shared.worker, &shared.deployment, &entry, &spec, &release, &shared.keeping);
        tokio::task::spawn_blocking(prepare).await.unwrap_or_else(|e| Err(e.to_string()))
    }

    /// Directories of runs that are long over.
    fn tidy_runs(&self) {
        for old in 1..self.run.saturating_sub(2) {
            if let Err(e) = files::remove_tree(self.dir.run(old).path()) {
                tracing::debug!(instance = %self.entry.id, "old run {old}: {e}");
            }
        }
    }

    fn target(&self) -> Option<SocketAddr> {
        probe::target(&self.entry, &self.spec)
    }

    /// Checks and scrapes it until it ends, is to stop, or has not passed in time.
    async fn watch(&mut self, process: &Process) -> Result<Over, JournalError> {
        let check = self.spec.health.clone();
        let millis = Duration::from_millis;
        let interval = millis(check.interval.0);
        let Some(target) = self.target() else {
            return Ok(Over::NeverPassed("it has no port that could be checked".into()));
        };
        let tree = process.tree.clone();
        let asks = Arc::new(Check::new(self.entry.id, &check, target, Arc::clone(&self.shared.runtime), tree));
        let mut hysteresis = Hysteresis::new(&check);
        // Known to pass before: it is asked eagerly until that is known again.
        let found_again = self.passed;
        let mut passed_now = false;
        let mut last = "no check yet".to_owned();
        let late = tokio::time::sleep(millis(check.start_within.0));
        let mut late = std::pin::pin!(late);
        let ask = |pause: Duration, owner: bool| {
            let asks = Arc::clone(&asks);
            Box::pin(async move {
                tokio::time::sleep(pause).await;
                asks.ask(owner).await
            })
        };
        let (mut answer, mut answers) = (ask(Duration::ZERO, true), 0_u32);
        let mut orders = self.orders.clone();
        let mut scrape = tokio::time::interval(SCRAPE_MARKED);
        scrape.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut poke, mut ticks) = (orders.borrow().poke, 0_u64);
        let mut scraping: Option<Scraping> = None;
        if self.stopping {
            return Ok(Over::Stop);
        }
        loop {
            if orders.borrow_and_update().stop {
                return Ok(Over::Stop);
            }
            tokio::select! {
                () = process.ended() => return Ok(Over::Exited),
                _ = orders.changed() => {
                    if orders.borrow().poke != poke {
                        poke = orders.borrow().poke;
                        scraping = self.scrape(target);
                    }
                }
                () = &mut late, if !passed_now => {
                    return Ok(Over::NeverPassed(format!("did not pass its health check within {}: {last}", check.start_within)));
                }
                result = &mut answer => {
                    let ok = result.is_ok();
                    if let Err(why) = result {
                        last = why;
                    }
                    // Failures while it starts are no news: only `start_within` bounds them.
                    let before = hysteresis.health();
                    if ok || passed_now || found_again {
                        hysteresis.take(ok);
                    }
                    let health = hysteresis.health();
                    if health == Health::Failing && before != health {
                        tracing::warn!(instance = %self.entry.id, "fails its health check: {last}");
                    }
                    if health == Health::Passing && !passed_now {
                        passed_now = true;
                        if !self.passed {
                            self.passed = true;
                            self.journal(Record::Passing { id: self.entry.id }).await?;
                        }
                    }
                    // A restarted one stays failing until it passes.
                    let unknown = health == Health::Unknown && self.status.health == Health::Failing;
                    self.show(|s| {
                        if !unknown {
                            s.health = health;
                        }
                        s.failures = hysteresis.failures();
                    });
                    let eager = health == Health::Unknown && (found_again || !ok);
                    answers = answers.wrapping_add(1);
                    let owner = health != Health::Passing || answers.is_multiple_of(OWNER_EVERY);
                    answer = ask(if eager && !asks.is_strange() { EAGER.min(interval) } else { interval }, owner);
                }
                _ = scrape.tick() => {
                    let every = if orders.borrow().marked { 1 } else { SCRAPE_IDLE.as_secs() / SCRAPE_MARKED.as_secs() };
                    if ticks.is_multiple_of(every) && scraping.is_none() {
                        scraping = self.scrape(target);
                    }
                    ticks += 1;
                }
                shown = next(&mut scraping) => {
                    scraping = None;
                    self.scraped(shown);
                }
            }
        }
    }

    /// Begins to read its metrics; what is not to be read is told at once.
    fn scrape(&self, target: SocketAddr) -> Option<Scraping> {
        let (Some(selectors), Some(metrics)) = (&self.selectors, &self.spec.metrics) else {
            self.tell(News::Scraped { run: self.run, shown: None });
            return None;
        };
        let (way, selectors, path) = (self.way.clone(), Arc::clone(selectors), metrics.path.clone());
        Some(Box::pin(async move {
            let selectors = selectors.as_ref().as_ref().map_err(String::clone)?;
            let page = check::page(&way, target, &path, SCRAPE_TIMEOUT).await?;
            Ok(scrape::read(&String::from_utf8_lossy(&page), selectors))
        }))
    }

    fn scraped(&self, shown: Shown) {
        self.tell(News::Scraped { run: self.run, shown: Some(shown) });
    }

    async fn stop(&mut self, process: &Process) -> Result<(), JournalError> {
        self.journal(Record::Stopping { id: self.entry.id }).await?;
        self.stopping = true;
        if let Some(scraping) = self.target().and_then(|target| self.scrape(target)) {
            self.scraped(scraping.await);
        }
        self.terminate(process).await;
        let exit = self.ending().await;
        self.gone(exit, false).await
    }

    async fn terminate(&self, process: &Process) {
        if let Err(e) = process.stop(&self.dir, self.run, &self.spec.run.stop).await {
            tracing::warn!(instance = %self.entry.id, "cannot see whether all of it has ended: {e}");
        }
    }

    async fn ending(&self) -> String {
        process::ending(&self.dir, self.run).await.unwrap_or_else(|e| format!("ended; {e}"))
    }

    async fn gone(&mut self, exit: String, failed: bool) -> Result<(), JournalError> {
        self.journal(Record::Gone { id: self.entry.id, exit: exit.clone(), failed }).await?;
        tracing::info!(instance = %self.entry.id, failed, "gone: {exit}");
        self.show(|s| {
            s.life = if failed { Life::Failed } else { Life::Gone };
            s.health = Health::Unknown;
            s.failures = 0;
            s.exit = exit;
        });
        Ok(())
    }

    /// How it ended, with the last line it wrote to its error log: mostly the reason.
    fn last_words(&self, how: &str) -> String {
        let tail = super::logs::last_bytes(&self.dir.log("err"), 2000);
        let tail = String::from_utf8_lossy(&tail);
        let line = tail.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
        let line: String = line.chars().take(200).collect();
        if line.is_empty() || line.contains(how) { how.to_string() } else { format!("{how}; its last words: {line}") }
    }
}

/// A scrape under way.
type Scraping = Pin<Box<dyn Future<Output = Shown> + Send>>;

async fn next(scraping: &mut Option<Scraping>) -> Shown {
    match scraping {
        Some(scraping) => scraping.as_mut().await,
        None => std::future::pending().await,
    }
}
