//! One deployment on this worker: compares the accepted assignment with what exists, after every event, and acts until
//! nothing is left to do.
//!
//! Invariants: an older generation is refused, and so is an equal one with other content; both are reported. The permit
//! only rises. An instance that the assignment does not name is stopped; one that it names unchanged goes on untouched.
//! When probation fails, the replaced instance is put back without any node's help. Not here: one instance's life
//! (`instance`).

mod counting;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;

use tokio::sync::{mpsc, watch};

use super::{
    AgentError,
    assignment::{Entry, Offer},
    board::Board,
    fetch::Store,
    files,
    instance::{Instance, News, Orders, Shared, Status},
    journal::JournalError,
    layout::Layout,
    ledger::{Acceptance, Known, Ledger, Record},
    lingering,
    tally::Tally,
};
use crate::{
    model::{DeploymentId, Health, InstanceId, Life, Permit},
    supervise::{self, Lately},
};

mod fitness;
mod packages;
mod shown;

use fitness::Fitness;
use packages::Fetching;

/// Time between journalled totals.
const TOTALS_EVERY: Duration = Duration::from_secs(10);
/// How long a deployment that is no longer assigned still reports its instances as gone.
const FAREWELL: Duration = Duration::from_secs(60);
/// Panics of instances' tasks within [`PANIC_WINDOW_MS`] that the deployment goes on after.
const MAX_PANICS: usize = 3;
const PANIC_WINDOW_MS: u64 = 600_000;
/// Before the task of an instance is started again.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// What a deployment is told.
#[derive(Debug)]
pub enum Instruction {
    /// Its assignment.
    Offer(Box<Offer>),
    /// It is no longer assigned.
    Remove,
    /// Stop every instance and say when they are gone.
    StopAll(tokio::sync::oneshot::Sender<()>),
}

struct Live {
    orders: watch::Sender<Orders>,
    status: Status,
    entry: Entry,
}

struct NewMark {
    step: u64,
    waiting: BTreeSet<InstanceId>,
    timer: std::pin::Pin<Box<tokio::time::Sleep>>,
}

/// A deployment's task.
pub struct Deployment {
    shared: Arc<Shared>,
    layout: Layout,
    store: Store,
    board: Board,
    told: mpsc::Receiver<Instruction>,
    news: mpsc::UnboundedReceiver<(InstanceId, News)>,
    tell: mpsc::UnboundedSender<(InstanceId, News)>,
    live: BTreeMap<InstanceId, Live>,
    tally: Tally,
    saved: Tally,
    new_mark: Option<NewMark>,
    fetching: Fetching,
    fitness: Fitness,
    conflict: Option<(u64, String)>,
    // What was last said in the log of an instance's counters.
    uncounted: BTreeMap<InstanceId, String>,
    stop_all: Option<tokio::sync::oneshot::Sender<()>>,
    panics: Lately,
    /// Directories of gone instances may be there.
    untidy: bool,
}

impl Deployment {
    /// Prepares the task; the journal is open already.
    pub fn new(shared: Shared, layout: Layout, store: Store, board: Board, told: mpsc::Receiver<Instruction>) -> Self {
        let (tell, news) = mpsc::unbounded_channel();
        let tally = shared.book.read(|l| l.tally.clone());
        Self {
            shared: Arc::new(shared),
            layout,
            store,
            board,
            told,
            news,
            tell,
            live: BTreeMap::new(),
            saved: tally.clone(),
            tally,
            new_mark: None,
            fetching: Fetching::default(),
            fitness: Fitness::default(),
            conflict: None,
            uncounted: BTreeMap::new(),
            stop_all: None,
            panics: Lately::within(PANIC_WINDOW_MS),
            untidy: true,
        }
    }

    /// Runs until it is no longer assigned and everything is gone, or the agent ends.
    pub async fn run(mut self) -> Result<(), AgentError> {
        let mut save = tokio::time::interval(TOTALS_EVERY);
        save.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut farewell: Option<std::pin::Pin<Box<tokio::time::Sleep>>> = None;
        loop {
            self.step().await?;
            self.hang();
            self.tidy();
            if self.live.is_empty()
                && let Some(done) = self.stop_all.take()
            {
                let _ = done.send(());
            }
            if !(self.live.is_empty() && self.read(|l| l.removed)) {
                farewell = None;
            } else if farewell.is_none() {
                farewell = Some(Box::pin(tokio::time::sleep(FAREWELL)));
            }
            tokio::select! {
                told = self.told.recv() => match told {
                    None => return Ok(()),
                    Some(Instruction::Offer(offer)) => self.offer(*offer).await?,
                    Some(Instruction::Remove) => self.remove().await?,
                    Some(Instruction::StopAll(done)) => self.stop_all = Some(done),
                },
                Some((id, news)) = self.news.recv() => self.hear(id, news).await?,
                Some(done) = self.fetching.done() => self.fetched(done).await?,
                Some(found) = self.fitness.done() => self.fitness.take(found),
                () = until(self.new_mark.as_mut().map(|m| &mut m.timer)) => self.begin_mark().await?,
                _ = save.tick() => self.save().await?,
                () = until(farewell.as_mut()) => return Ok(self.forget()?),
            }
        }
    }

    fn read<R>(&self, look: impl FnOnce(&Ledger) -> R) -> R {
        self.shared.book.read(look)
    }

    async fn offer(&mut self, offer: Offer) -> Result<(), JournalError> {
        let generation = offer.assigned.generation;
        match self.read(|l| l.judge(&offer.assigned)) {
            Acceptance::Accept => {
                self.shared.book.write(Record::from(&offer)).await?;
                self.conflict = None;
                // What it needs is on the board before anything is started from it (`Store::collect`).
                self.hang();
                self.fetching.cancel();
            }
            Acceptance::Same => self.conflict = None,
            Acceptance::Older => {
                tracing::warn!(deployment = %offer.deployment, generation, "an older generation; refused");
                return Ok(());
            }
            Acceptance::Conflict => {
                let why = format!("generation {generation} came again with other content; refused");
                tracing::error!(deployment = %offer.deployment, "{why}");
                self.conflict = Some((generation, why));
                return Ok(());
            }
        }
        self.mark(offer.mark).await
    }

    async fn remove(&mut self) -> Result<(), JournalError> {
        if self.read(|l| l.removed) {
            return Ok(());
        }
        self.save().await?;
        self.shared.book.write(Record::Removed).await
    }

    fn order(&self, change: impl Fn(&mut Orders)) {
        self.live.values().for_each(|l| l.orders.send_modify(&change));
    }

    async fn hear(&mut self, id: InstanceId, news: News) -> Result<(), AgentError> {
        match news {
            News::Status(status) => {
                if let Some(live) = self.live.get_mut(&id) {
                    live.status = status;
                }
            }
            News::Scraped { run, shown } => {
                if let Some(live) = self.live.get(&id)
                    && let Some(shown) = shown
                {
                    let pair = live.entry.pair.clone();
                    self.scraped(id, run, &pair, shown);
                }
                let ready = self.new_mark.as_mut().is_some_and(|m| {
                    m.waiting.remove(&id);
                    m.waiting.is_empty()
                });
                if ready {
                    self.begin_mark().await?;
                }
            }
            News::Ended => {
                self.live.remove(&id);
                self.untidy = true;
                self.save().await?;
                self.tally.forget(id);
                self.uncounted.remove(&id);
                if let Some(m) = &mut self.new_mark {
                    m.waiting.remove(&id);
                }
            }
            News::Journal(e) => {
                let path = self.shared.dir.journal();
                return Err(JournalError::Io { path, source: std::io::Error::other(e) }.into());
            }
            News::Died(why) => {
                tracing::error!(instance = %id, "its task panicked ({why}); it is started again");
                if self.panics.note(self.shared.clock.mono()) > MAX_PANICS {
                    return Err(AgentError::Task { what: format!("instance {id}"), why });
                }
                // The journal knows how far it was: `step` takes it up again.
                self.live.remove(&id);
                if let Some(m) = &mut self.new_mark {
                    m.waiting.remove(&id);
                }
            }
        }
        Ok(())
    }

    /// Everything that can be done now.
    async fn step(&mut self) -> Result<(), JournalError> {
        let ledger = self.read(Clone::clone);
        self.fetch(&ledger);
        let wanted = self.wanted(&ledger);
        for (id, live) in &self.live {
            if self.stop_all.is_some() || !wanted.contains(id) {
                live.orders.send_if_modified(|o| !std::mem::replace(&mut o.stop, true));
            }
        }
        if self.stop_all.is_some() {
            // Those that a crash left running are found again, to be stopped too.
            self.resume(&ledger, |_| true, true);
            return Ok(());
        }
        self.resume(&ledger, |id| !wanted.contains(id), true);
        self.resume(&ledger, |id| wanted.contains(id), false);
        for id in &wanted {
            let put_back = ledger.instances.get(id).filter(|k| k.ended.is_some()).filter(|k| self.is_free(&k.entry));
            if let Some(known) = put_back
                && !ledger.entries().iter().any(|e| e.id == *id)
            {
                self.shared.book.write(Record::Reverting { id: *id }).await?;
                tracing::warn!(instance = %id, "putting it back: what replaced it failed");
                let known = Known { stopping: false, ended: None, ..known.clone() };
                self.start(&ledger, known.entry.clone(), Some(&known), false);
            }
        }
        if ledger.permit() >= Permit::Activate {
            for entry in ledger.entries() {
                if !ledger.instances.contains_key(&entry.id)
                    && !self.live.contains_key(&entry.id)
                    && self.store.has(&entry.pair.digest)
                    && self.is_free(entry)
                {
                    self.start(&ledger, entry.clone(), None, false);
                }
            }
        }
        self.look(&ledger);
        self.commit(&ledger).await?;
        self.link(&ledger);
        Ok(())
    }

    /// Ids that should run: the entries, and in the place of one that failed, or cannot start yet, the one it replaces.
    fn wanted(&self, ledger: &Ledger) -> BTreeSet<InstanceId> {
        let failed = |id: &InstanceId| ledger.instances.get(id).is_some_and(|k| k.ended == Some(true));
        let entries = ledger.entries();
        let back = entries.iter().filter(|e| failed(&e.id)).filter_map(|e| e.replaces);
        let back = back.filter(|id| ledger.instances.get(id).is_some_and(|k| k.passed));
        // What is to be replaced runs on until its successor could start.
        let waits = |e: &&Entry| {
            !ledger.instances.contains_key(&e.id)
                && (ledger.permit() < Permit::Activate || !self.store.has(&e.pair.digest))
        };
        let not_yet = entries.iter().filter(waits).filter_map(|e| e.replaces);
        let not_yet = not_yet.filter(|id| ledger.instances.get(id).is_some_and(|k| k.ended.is_none()));
        entries.iter().map(|e| e.id).chain(back).chain(not_yet).collect()
    }

    /// Whether nothing of this worker's deployment runs at an entry's address and ports any more.
    fn is_free(&self, entry: &Entry) -> bool {
        let same = |l: &Live| {
            l.entry.id != entry.id
                && l.entry.address == entry.address
                && l.entry.ports.values().any(|p| entry.ports.values().any(|q| p == q))
        };
        !self.live.contains_key(&entry.id) && !self.live.values().any(same)
    }

    /// Takes up instances that the journal knows and that have not ended.
    fn resume(&mut self, ledger: &Ledger, which: impl Fn(&InstanceId) -> bool, stop: bool) {
        for (id, known) in &ledger.instances {
            if known.ended.is_none() && which(id) && !self.live.contains_key(id) {
                self.start(ledger, known.entry.clone(), Some(known), stop);
            }
        }
    }

    fn start(&mut self, ledger: &Ledger, entry: Entry, known: Option<&Known>, stop: bool) {
        let Some(spec) = ledger.specs.get(&entry.pair.spec) else {
            tracing::error!(instance = %entry.id, "spec {} is not known; not started", entry.pair.spec);
            return;
        };
        let marked = self.tally.mark.is_some() || self.new_mark.is_some();
        let (orders, ordered) = watch::channel(Orders { stop, marked, poke: 0 });
        let release = self.layout.release(&entry.pair.digest);
        let instance = Instance::new(
            Arc::clone(&self.shared),
            entry.clone(),
            Arc::new(spec.clone()),
            release,
            known,
            ordered,
            self.tell.clone(),
        );
        let status = Status {
            life: if known.is_some_and(|k| k.passed) { Life::Running } else { Life::Starting },
            health: Health::Unknown,
            failures: 0,
            restarts: known.map_or(0, |k| k.restarts),
            exit: known.map_or(String::new(), |k| k.exit.clone()),
        };
        let (id, tell) = (entry.id, self.tell.clone());
        self.live.insert(id, Live { orders, status, entry });
        tokio::spawn(async move {
            if let Err(panic) = AssertUnwindSafe(instance.supervise()).catch_unwind().await {
                tokio::time::sleep(PANIC_PAUSE).await;
                // Nobody listens only when the agent ends.
                let _ = tell.send((id, News::Died(supervise::words(panic.as_ref()).into())));
            }
        });
    }

    /// Removes what instances that are gone left, but for the newest.
    fn tidy(&mut self) {
        if !std::mem::take(&mut self.untidy) {
            return;
        }
        let mut keep: BTreeSet<InstanceId> = self.live.keys().copied().collect();
        self.read(|ledger| {
            keep.extend(self.wanted(ledger));
            keep.extend(ledger.instances.iter().filter(|(_, k)| k.ended.is_none()).map(|(id, _)| *id));
            // What may be put back when its successor fails.
            keep.extend(ledger.entries().iter().filter_map(|e| e.replaces));
        });
        let instances = self.shared.dir.instances();
        tokio::task::spawn_blocking(move || {
            if let Err(e) = lingering::remove_old(&instances, &keep) {
                tracing::warn!(at = %instances.display(), "directories of gone instances stay: {e}");
            }
        });
    }

    /// Probation is over when the cluster says so and everything runs.
    async fn commit(&mut self, ledger: &Ledger) -> Result<(), JournalError> {
        let Some(assigned) = ledger.assigned.as_ref().filter(|_| !ledger.removed) else { return Ok(()) };
        if assigned.permit == Permit::Commit && ledger.committed < assigned.generation && self.is_active(ledger) {
            self.shared.book.write(Record::Committed { generation: assigned.generation }).await?;
        }
        Ok(())
    }

    /// Whether exactly the entries run.
    fn is_active(&self, ledger: &Ledger) -> bool {
        let runs = |e: &Entry| self.live.get(&e.id).is_some_and(|l| l.status.life == Life::Running);
        let strangers = self.live.keys().any(|id| !ledger.entries().iter().any(|e| e.id == *id));
        self.is_staged(ledger) && !strangers && ledger.entries().iter().all(runs)
    }

    /// Everything is gone and told: the directory too.
    fn forget(self) -> Result<(), JournalError> {
        let path = self.shared.dir.path();
        self.board.remove(&self.shared.deployment);
        files::remove_tree(path).map_err(|source| JournalError::Io { path: path.into(), source })
    }
}

async fn until(timer: Option<&mut std::pin::Pin<Box<tokio::time::Sleep>>>) {
    match timer {
        Some(timer) => timer.as_mut().await,
        None => std::future::pending().await,
    }
}

/// The deployments that have a directory.
pub fn on_disk(layout: &Layout) -> Vec<DeploymentId> {
    let entries = std::fs::read_dir(layout.deployments()).into_iter().flatten().flatten();
    entries.filter_map(|e| super::layout::deployment_of(e.file_name().to_str()?)).collect()
}
