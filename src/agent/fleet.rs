//! The tasks of all deployments on this worker: starts one for each deployment that the disk or an assignment names,
//! passes the desired state on, and notices when a task fails.
//!
//! Invariant: a deployment has one task at most; a task that fails or panics ends the agent with the reason. Not here:
//! what each task does (`reconcile`), where the desired state comes from (`session`).

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
    reconcile::{Deployment, Instruction, on_disk},
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
    tasks: BTreeMap<DeploymentId, mpsc::Sender<Instruction>>,
    /// What is desired. An offer to a task that was just ending is lost, so it is kept here.
    offers: BTreeMap<DeploymentId, Offer>,
    tell: mpsc::UnboundedSender<TaskEnd>,
    ends: mpsc::UnboundedReceiver<TaskEnd>,
}

/// How a deployment's task ended.
enum TaskEnd {
    /// It was no longer assigned, and all of it is gone.
    Left(DeploymentId),
    /// It cannot go on.
    Failed(AgentError),
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
        let (tell, ends) = mpsc::unbounded_channel();
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
            offers: BTreeMap::new(),
            tell,
            ends,
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
        let (ends, id_of) = (self.tell.clone(), id.clone());
        tokio::spawn(async move {
            let ended = AssertUnwindSafe(task.run()).catch_unwind().await;
            let end = match ended {
                Ok(Ok(())) => TaskEnd::Left(id_of),
                Ok(Err(e)) => TaskEnd::Failed(e),
                Err(panic) => {
                    let what = format!("deployment {id_of}");
                    TaskEnd::Failed(AgentError::Task { what, why: supervise::words(panic.as_ref()).into() })
                }
            };
            // Nobody listens only when the agent ends.
            let _ = ends.send(end);
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
                let _ = task.send(Instruction::Remove).await;
            }
        }
        self.tasks.retain(|_, t| !t.is_closed());
        self.offers.clone_from(&offers);
        for (id, offer) in offers {
            if self.tasks.get(&id).is_none_or(mpsc::Sender::is_closed) {
                self.start(&id)?;
            }
            if let Some(task) = self.tasks.get(&id) {
                // If it ends in this very moment, `again` starts it anew.
                let _ = task.send(Instruction::Offer(Box::new(offer))).await;
            }
        }
        Ok(())
    }

    /// A task has ended. Starts it again if its deployment is desired again meanwhile, as the ended task did not read
    /// that offer.
    fn again(&mut self, id: &DeploymentId) -> Result<(), AgentError> {
        if self.tasks.get(id).is_some_and(|t| !t.is_closed()) {
            return Ok(());
        }
        self.tasks.remove(id);
        let Some(offer) = self.offers.get(id).cloned() else { return Ok(()) };
        self.start(id)?;
        if let Some(task) = self.tasks.get(id) {
            // A new one has room.
            let _ = task.try_send(Instruction::Offer(Box::new(offer)));
        }
        Ok(())
    }

    /// Waits until a deployment cannot go on; starts again those that ended and are desired again.
    pub async fn failed(&mut self) -> AgentError {
        loop {
            match self.ends.recv().await {
                Some(TaskEnd::Failed(e)) => return e,
                Some(TaskEnd::Left(id)) => {
                    if let Err(e) = self.again(&id) {
                        return e;
                    }
                }
                // `tell` is kept in self, so the channel never closes.
                None => std::future::pending().await,
            }
        }
    }

    /// Stops every instance and waits until all are gone.
    pub async fn stop_all(&mut self) -> Result<(), AgentError> {
        let mut waits = Vec::new();
        for task in self.tasks.values() {
            let (done, wait) = oneshot::channel();
            if task.send(Instruction::StopAll(done)).await.is_ok() {
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::{
        agent::{assignment::Assigned, nodes::Nodes},
        model::{Digest, Permit},
    };

    fn fleet(layout: &Layout, board: &Board) -> Fleet {
        let store = Store::open(layout, Nodes::new(&[], false).unwrap()).unwrap();
        let keeping = Keeping::Subreaper("a test".into());
        Fleet::open("w1", layout, &store, board, "/nowhere".into(), keeping).unwrap()
    }

    fn offer(id: &DeploymentId) -> Offer {
        let assigned = Assigned {
            generation: 1,
            content_digest: 1,
            permit: Permit::Stage,
            hold: Vec::new(),
            entries: Vec::new(),
            current: None,
            previous: None,
            next: None,
        };
        Offer { deployment: id.clone(), assigned, specs: BTreeMap::new(), mark: None }
    }

    #[tokio::test]
    async fn more_deployments_than_a_worker_takes_are_refused_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let mut fleet = fleet(&layout, &Board::default());
        let offers = (0..=MAX_DEPLOYMENTS).map(|n| {
            let id: DeploymentId = format!("production/shop-{n}").parse().unwrap();
            (id.clone(), offer(&id))
        });
        let said = fleet.obey(offers.collect()).await.unwrap_err().to_string();
        assert!(said.contains("1001 deployments are assigned to this worker: more than it takes"), "{said}");
        assert!(fleet.deployments().is_empty() && on_disk(&layout).is_empty(), "none of them is begun");
    }

    #[tokio::test]
    async fn what_was_told_while_a_deployment_was_leaving_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let board = Board::default();
        let mut fleet = fleet(&layout, &board);
        let id: DeploymentId = "production/shop".parse().unwrap();
        // Its task has ended, and still took a message.
        let (tell, told) = mpsc::channel(16);
        fleet.tasks.insert(id.clone(), tell);
        fleet.obey(BTreeMap::from([(id.clone(), offer(&id))])).await.unwrap();
        drop(told);
        fleet.tell.send(TaskEnd::Left(id.clone())).unwrap();
        let mut changed = board.watch();
        let hung = async {
            loop {
                let needs: Option<BTreeSet<Digest>> = board.needs(std::slice::from_ref(&id));
                if needs.is_some() && layout.deployment(&id).journal().exists() {
                    return;
                }
                changed.changed().await.unwrap();
            }
        };
        tokio::select! {
            e = fleet.failed() => panic!("{e}"),
            begun = tokio::time::timeout(Duration::from_secs(10), hung) => begun.unwrap(),
        }
    }
}
