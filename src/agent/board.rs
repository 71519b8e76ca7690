//! What the next report says: each deployment posts its part here, and the session sends the whole.
//!
//! Invariant: a report is state, not an event: the newest whole picture, never a difference. Not here: sending it
//! (`session`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    model::{DeploymentId, Digest},
    wire::v1,
};

/// A deployment's part.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeploymentReport {
    pub instances: Vec<v1::InstanceReport>,
    /// How far its newest generation got; `None` when it is no longer assigned.
    pub reached: Option<v1::ReachedReport>,
    /// The running step's counts.
    pub counts: Option<v1::StepCounts>,
    /// Packages it needs on disk.
    pub needs: BTreeSet<Digest>,
    /// Whether every instance that was found again has a health that is known.
    pub settled: bool,
}

/// Shared by the deployments and the session.
#[derive(Debug, Clone)]
pub struct Board {
    views: Arc<Mutex<BTreeMap<DeploymentId, DeploymentReport>>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Default for Board {
    fn default() -> Self {
        Self { views: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }
    }
}

impl Board {
    /// Hangs a deployment's part. Counts that grow are not a change worth a report of its own.
    pub fn hang(&self, id: &DeploymentId, view: DeploymentReport) {
        let mut views = self.views.lock();
        let quiet = |v: &DeploymentReport| DeploymentReport { counts: None, ..v.clone() };
        let step = |v: &DeploymentReport| v.counts.as_ref().map(|c| (c.step_id, c.pairs.len(), c.uncounted.clone()));
        let same = views.get(id).is_some_and(|old| quiet(old) == quiet(&view) && step(old) == step(&view));
        views.insert(id.clone(), view);
        drop(views);
        if !same {
            self.changed.send_modify(|n| *n = n.wrapping_add(1));
        }
    }

    /// Takes a deployment's part down.
    pub fn remove(&self, id: &DeploymentId) {
        self.views.lock().remove(id);
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Tells when something changed.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Says that something changed that is not on the board.
    pub fn touch(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Whether all parts are hung and settled.
    pub fn settled(&self, deployments: &[DeploymentId]) -> bool {
        let views = self.views.lock();
        deployments.iter().all(|id| views.get(id).is_some_and(|v| v.settled))
    }

    /// Packages that some deployment needs; `None` while one of them has not said.
    pub fn needs(&self, deployments: &[DeploymentId]) -> Option<BTreeSet<Digest>> {
        let views = self.views.lock();
        if !deployments.iter().all(|id| views.contains_key(id)) {
            return None;
        }
        Some(views.values().flat_map(|v| v.needs.iter().cloned()).collect())
    }

    /// The whole report.
    pub fn report(&self, epoch: u64, seq: u64, staged: &[Digest]) -> v1::Report {
        let views = self.views.lock();
        v1::Report {
            epoch,
            seq,
            instances: views.values().flat_map(|v| v.instances.iter().cloned()).collect(),
            reached: views.values().filter_map(|v| v.reached.clone()).collect(),
            staged: staged.iter().map(|d| d.as_str().to_owned()).collect(),
            counts: views.values().filter_map(|v| v.counts.clone()).collect(),
        }
    }
}
