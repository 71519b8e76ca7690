//! The deployments' tasks: started for what the disk and the assignments name, told what is desired, and heard when one fails.
//!
//! Not here: what each does (`reconcile`), who desires it (`session`).

use std::{collections::BTreeMap, panic::AssertUnwindSafe, path::PathBuf, sync::Arc};

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};

use super::{
    AgentError,
    assignment::Offer,
    board::Board,
    cgroup::Keeping,
    fetch::Store,
    files,
    instance::Shared,
    layout::Layout,
    ledger::Book,
    reconcile::{Deployment, Told, on_disk},
    runtime::{Processes, Runtime},
};
use crate::{clock::Clock, model::DeploymentId, supervise};

/// Deployments on one worker at most.
const MAX_DEPLOYMENTS: usize = 1000;

/// All deployments of this worker.
pub struct Fleet {
    worker: String,
    layout: Layout,
    store: Store,
    board: Board,
    program: PathBuf,
    keeping: Keeping,
    runtime: Arc<dyn Runtime>,
    clock: Clock,
    tasks: BTreeMap<DeploymentId, mpsc::Sender<Told>>,
    fail: mpsc::UnboundedSender<AgentError>,
    failures: mpsc::UnboundedReceiver<AgentError>,
}

impl Fleet {
    /// Takes up every deployment that the disk knows.
    pub fn open(
        worker: &str,
        layout: &Layout,
        store: &Store,
        board: &Board,
        program: PathBuf,
        keeping: Keeping,
    ) -> Result<Self, AgentError> {
        let path = layout.deployments();
        files::ensure_dir(&path).map_err(|source| AgentError::Disk { path, source })?;
        let (fail, failures) = mpsc::unbounded_channel();
        let mut fleet = Self {
            worker: worker.into(),
            layout: layout.clone(),
            store: store.clone(),
            board: board.clone(),
            program,
            keeping,
            runtime: Arc::new(Processes::default()),
            clock: Clock::real(),
            tasks: BTreeMap::new(),
            fail,
            failures,
        };
        for id in on_disk(layout) {
            fleet.start(&id)?;
        }
        Ok(fleet)
    }

    /// The deployments with a task.
    pub fn deployments(&self) -> Vec<DeploymentId> {
        self.tasks.iter().filter(|(_, t)| !t.is_closed()).map(|(id, _)| id.clone()).collect()
    }

    fn start(&mut self, id: &DeploymentId) -> Result<(), AgentError> {
        let dir = self.layout.deployment(id);
        let path = dir.instances();
        files::ensure_dir(&path).map_err(|source| AgentError::Disk { path, source })?;
        let shared = Shared {
            worker: self.worker.clone(),
            deployment: id.clone(),
            book: Book::open(&dir.journal())?,
            dir,
            program: self.program.clone(),
            keeping: self.keeping.clone(),
            runtime: Arc::clone(&self.runtime),
            clock: self.clock.clone(),
        };
        let (tell, told) = mpsc::channel(16);
        let task = Deployment::new(shared, self.layout.clone(), self.store.clone(), self.board.clone(), told);
        let (fail, what) = (self.fail.clone(), format!("deployment {id}"));
        tokio::spawn(async move {
            let ended = AssertUnwindSafe(task.run()).catch_unwind().await;
            let error = match ended {
                Ok(Ok(())) => return,
                Ok(Err(e)) => e,
                Err(panic) => AgentError::Task { what, why: supervise::words(panic.as_ref()).into() },
            };
            let _ = fail.send(error);
        });
        self.tasks.insert(id.clone(), tell);
        Ok(())
    }

    /// Tells every deployment what is desired; those that are absent are to go.
    pub async fn obey(&mut self, offers: BTreeMap<DeploymentId, Offer>) -> Result<(), AgentError> {
        if offers.len() > MAX_DEPLOYMENTS {
            return Err(AgentError::TooMany { count: offers.len() });
        }
        for (id, task) in &self.tasks {
            if !offers.contains_key(id) {
                // One that has just ended is gone anyway.
                let _ = task.send(Told::Remove).await;
            }
        }
        self.tasks.retain(|_, t| !t.is_closed());
        for (id, offer) in offers {
            if self.tasks.get(&id).is_none_or(mpsc::Sender::is_closed) {
                self.start(&id)?;
            }
            if let Some(task) = self.tasks.get(&id) {
                // If it ends in this very moment, the next desired state starts it again.
                let _ = task.send(Told::Offer(Box::new(offer))).await;
            }
        }
        Ok(())
    }

    /// Waits until a deployment cannot go on.
    pub async fn failed(&mut self) -> AgentError {
        match self.failures.recv().await {
            Some(e) => e,
            // `fail` is kept in self, so the channel never closes.
            None => std::future::pending().await,
        }
    }

    /// Stops every instance and waits until all are gone.
    pub async fn stop_all(&mut self) -> Result<(), AgentError> {
        let mut waits = Vec::new();
        for task in self.tasks.values() {
            let (done, wait) = oneshot::channel();
            if task.send(Told::StopAll(done)).await.is_ok() {
                waits.push(wait);
            }
        }
        for wait in waits {
            tokio::select! {
                _ = wait => {}
                e = self.failed() => return Err(e),
            }
        }
        Ok(())
    }
}
