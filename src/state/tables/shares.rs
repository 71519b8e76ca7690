//! While a snapshot is read: what many rows hold alike is kept once, as in a State that commands made. A third of a
//! large State's memory would otherwise be copies of a few thousand names.
//!
//! Invariant: a value is only ever replaced by an equal one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    model::{DeploymentId, Digest, Pair, WorkerName},
    state::fleet::rows::{Assignment, Instance, PoolSlot, Worker},
};

/// The first of each value seen.
#[derive(Default)]
pub(in crate::state) struct Shares {
    deployments: BTreeSet<DeploymentId>,
    workers: BTreeSet<WorkerName>,
    digests: BTreeSet<Digest>,
    ports: BTreeSet<Arc<BTreeMap<String, u16>>>,
}

fn one<T: Ord + Clone>(known: &mut BTreeSet<T>, value: &mut T) {
    match known.get(value) {
        Some(first) => value.clone_from(first),
        None => drop(known.insert(value.clone())),
    }
}

impl Shares {
    fn pair(&mut self, pair: &mut Pair) {
        one(&mut self.digests, &mut pair.digest);
    }

    /// Lets an instance share what equal ones hold already.
    pub fn instance(&mut self, row: &mut Instance) {
        one(&mut self.deployments, &mut row.deployment);
        one(&mut self.workers, &mut row.worker);
        one(&mut self.ports, &mut row.ports);
        self.pair(&mut row.pair);
    }

    /// The same for a worker.
    pub fn worker(&mut self, row: &mut Worker) {
        one(&mut self.workers, &mut row.name);
        for digest in &mut row.staged {
            one(&mut self.digests, digest);
        }
        // Fresh from its bytes, so nobody else has it and nothing is copied.
        for slot in Arc::make_mut(&mut row.pool).values_mut() {
            match slot {
                PoolSlot::Used(_) | PoolSlot::Free { last: None, .. } => {}
                PoolSlot::Free { last: Some(last), .. } => one(&mut self.deployments, last),
            }
        }
    }

    /// The same for an assignment and its key.
    pub fn assignment(&mut self, worker: &mut WorkerName, deployment: &mut DeploymentId, row: &mut Assignment) {
        one(&mut self.workers, worker);
        one(&mut self.deployments, deployment);
        let content = &mut row.content;
        for digest in &mut content.hold {
            one(&mut self.digests, digest);
        }
        for entry in &mut content.instances {
            self.pair(&mut entry.pair);
            one(&mut self.ports, &mut entry.ports);
        }
        for pair in content.current.iter_mut().chain(&mut content.previous) {
            self.pair(pair);
        }
    }
}
