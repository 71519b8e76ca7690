//! Tables that are looked up by more than their key. Each index is derived from the rows by the two functions that
//! change them (`insert`, `remove`), so it is there again after a snapshot was read, and is in no snapshot and no
//! digest.
//!
//! Invariant: an index equals the one that is computed anew from the rows (`check`; `invariants::check` asks for it
//! after every command of every property test).

use std::{collections::BTreeMap, net::IpAddr, ops::Deref, sync::Arc};

use imbl::OrdSet;

use crate::{
    model::{DeploymentId, InstanceId, RolloutId, WorkerName},
    state::{
        fleet::rows::{Assignment, Instance, Presence, Worker},
        rollout::rows::Rollout,
        store::table::{Rows, Table},
    },
};

/// A label that so many workers carry is not worth counting on.
const RARE: usize = 64;

/// Reads a table through its index' struct.
macro_rules! reads {
    ($name:ident, $key:ty, $row:ty) => {
        impl Deref for $name {
            type Target = Table<$key, $row>;

            fn deref(&self) -> &Self::Target {
                &self.rows
            }
        }

        impl<'a> IntoIterator for &'a $name {
            type Item = (&'a $key, &'a $row);
            type IntoIter = Rows<'a, $key, $row>;

            fn into_iter(self) -> Self::IntoIter {
                self.rows.iter()
            }
        }

        impl FromIterator<($key, $row)> for $name {
            fn from_iter<I: IntoIterator<Item = ($key, $row)>>(rows: I) -> Self {
                let mut table = Self::default();
                for (key, row) in rows {
                    table.insert(key, row);
                }
                table
            }
        }

        impl $name {
            /// Puts a row in place of the one that had its key.
            pub fn insert(&mut self, key: $key, row: impl Into<Arc<$row>>) {
                let row = row.into();
                let old = self.rows.insert(key.clone(), row.clone());
                if let Some(old) = &old {
                    if Self::same(old, &row) {
                        return;
                    }
                    self.unlink(&key, old);
                }
                self.link(&key, &row);
            }

            /// Takes a row out.
            pub fn remove(&mut self, key: &$key) -> Option<Arc<$row>> {
                let old = self.rows.remove(key)?;
                self.unlink(key, &old);
                Some(old)
            }

            /// Takes all rows out.
            pub fn clear(&mut self) {
                let keys: Vec<$key> = self.rows.keys().cloned().collect();
                for key in keys {
                    self.remove(&key);
                }
            }

            /// Notes what is changed from now on.
            pub(in crate::state) fn mark(&mut self) {
                self.rows.mark();
            }

            /// What was changed since the mark stays.
            pub(in crate::state) fn keep(&mut self) {
                self.rows.keep();
            }

            /// Takes back what was changed since the mark, in the indexes too.
            pub(in crate::state) fn take_back(&mut self) {
                for (key, was) in self.rows.unmark().into_iter().rev() {
                    match was {
                        Some(row) => self.insert(key, row),
                        None => drop(self.remove(&key)),
                    }
                }
            }

            /// Whether every index is what its rows say; else the table's name.
            pub(in crate::state) fn check(&self) -> Result<(), &'static str> {
                let mut anew = Self { rows: self.rows.clone(), ..Self::default() };
                for (key, row) in &self.rows {
                    anew.link(key, row);
                }
                if anew == *self { Ok(()) } else { Err(stringify!($name)) }
            }
        }
    };
}

/// Instances by id, deployment and worker.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Instances {
    rows: Table<InstanceId, Instance>,
    by_deployment: OrdSet<(DeploymentId, InstanceId)>,
    by_worker: OrdSet<(WorkerName, InstanceId)>,
}

reads!(Instances, InstanceId, Instance);

impl Instances {
    /// Instances of a deployment, in id order.
    pub fn of<'a>(&'a self, deployment: &DeploymentId) -> impl Iterator<Item = &'a Instance> + use<'a> {
        let range = (deployment.clone(), InstanceId::MIN)..=(deployment.clone(), InstanceId::MAX);
        self.by_deployment.range(range).filter_map(|(_, id)| self.rows.get(id))
    }

    /// Instances on a worker, in id order.
    pub fn on<'a>(&'a self, worker: &WorkerName) -> impl Iterator<Item = &'a Instance> + use<'a> {
        let range = (worker.clone(), InstanceId::MIN)..=(worker.clone(), InstanceId::MAX);
        self.by_worker.range(range).filter_map(|(_, id)| self.rows.get(id))
    }

    fn same(a: &Instance, b: &Instance) -> bool {
        a.deployment == b.deployment && a.worker == b.worker
    }

    fn link(&mut self, id: &InstanceId, row: &Instance) {
        self.by_deployment.insert((row.deployment.clone(), *id));
        self.by_worker.insert((row.worker.clone(), *id));
    }

    fn unlink(&mut self, id: &InstanceId, row: &Instance) {
        self.by_deployment.remove(&(row.deployment.clone(), *id));
        self.by_worker.remove(&(row.worker.clone(), *id));
    }
}

/// Assignments by worker and deployment, and by deployment alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assignments {
    rows: Table<(WorkerName, DeploymentId), Assignment>,
    by_deployment: OrdSet<(DeploymentId, WorkerName)>,
}

type AssignmentKey = (WorkerName, DeploymentId);

reads!(Assignments, AssignmentKey, Assignment);

impl Assignments {
    /// A worker's assignments, in order of deployments.
    pub fn of_worker<'a>(
        &'a self,
        worker: &'a WorkerName,
    ) -> impl Iterator<Item = (&'a DeploymentId, &'a Assignment)> + 'a {
        let from = self.rows.range((worker.clone(), DeploymentId::least())..);
        from.take_while(move |((w, _), _)| w == worker).map(|((_, d), row)| (d, row))
    }

    /// Workers that have an assignment for a deployment, by name.
    pub fn workers_of<'a>(&'a self, deployment: &'a DeploymentId) -> impl Iterator<Item = &'a WorkerName> + 'a {
        let from = self.by_deployment.range((deployment.clone(), WorkerName::least())..);
        from.take_while(move |(d, _)| d == deployment).map(|(_, w)| w)
    }

    /// Rows have no part in the index; their keys have.
    fn same(_: &Assignment, _: &Assignment) -> bool {
        true
    }

    fn link(&mut self, (worker, deployment): &AssignmentKey, _: &Assignment) {
        self.by_deployment.insert((deployment.clone(), worker.clone()));
    }

    fn unlink(&mut self, (worker, deployment): &AssignmentKey, _: &Assignment) {
        self.by_deployment.remove(&(deployment.clone(), worker.clone()));
    }
}

/// Rollouts by id and deployment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rollouts {
    rows: Table<RolloutId, Rollout>,
    by_deployment: OrdSet<(DeploymentId, RolloutId)>,
}

reads!(Rollouts, RolloutId, Rollout);

impl Rollouts {
    /// Rollouts of a deployment, oldest first.
    pub fn of<'a>(&'a self, deployment: &DeploymentId) -> impl DoubleEndedIterator<Item = &'a Rollout> + use<'a> {
        let range = (deployment.clone(), RolloutId(0))..=(deployment.clone(), RolloutId(u64::MAX));
        self.by_deployment.range(range).filter_map(|(_, id)| self.rows.get(id))
    }

    fn same(a: &Rollout, b: &Rollout) -> bool {
        a.deployment == b.deployment
    }

    fn link(&mut self, id: &RolloutId, row: &Rollout) {
        self.by_deployment.insert((row.deployment.clone(), *id));
    }

    fn unlink(&mut self, id: &RolloutId, row: &Rollout) {
        self.by_deployment.remove(&(row.deployment.clone(), *id));
    }
}

/// Workers by name, address of their pool, label, and those that are lost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workers {
    rows: Table<WorkerName, Worker>,
    by_address: OrdSet<(IpAddr, WorkerName)>,
    by_label: OrdSet<(Arc<str>, Arc<str>, WorkerName)>,
    lost: OrdSet<WorkerName>,
}

reads!(Workers, WorkerName, Worker);

impl Workers {
    /// Workers with this address in their pool, by name.
    pub fn with_address<'a>(&'a self, address: IpAddr) -> impl Iterator<Item = &'a WorkerName> + 'a {
        let from = self.by_address.range((address, WorkerName::least())..);
        from.take_while(move |(a, _)| *a == address).map(|(_, w)| w)
    }

    /// Workers that carry all these labels (all workers, if none is asked for), by name.
    pub fn carrying<'a>(&'a self, labels: &'a BTreeMap<String, String>) -> impl Iterator<Item = &'a Worker> + 'a {
        let rarest = labels.iter().min_by_key(|(k, v)| self.labelled(k, v).take(RARE).count());
        let all = rarest.is_none().then(|| self.rows.values());
        let some = rarest.map(|(k, v)| self.labelled(k, v).filter_map(|w| self.rows.get(w)));
        let rows = all.into_iter().flatten().chain(some.into_iter().flatten());
        rows.filter(move |w| labels.iter().all(|(k, v)| w.meta.labels.get(k) == Some(v)))
    }

    /// Workers that are lost, by name.
    pub fn lost(&self) -> impl Iterator<Item = &Worker> {
        self.lost.iter().filter_map(|w| self.rows.get(w))
    }

    fn labelled<'a>(&'a self, key: &'a str, value: &'a str) -> impl Iterator<Item = &'a WorkerName> + 'a {
        let from = self.by_label.range((Arc::from(key), Arc::from(value), WorkerName::least())..);
        from.take_while(move |(k, v, _)| k.as_ref() == key && v.as_ref() == value).map(|(_, _, w)| w)
    }

    fn same(a: &Worker, b: &Worker) -> bool {
        let pools = Arc::ptr_eq(&a.pool, &b.pool) || a.pool.keys().eq(b.pool.keys());
        pools && a.presence == b.presence && a.meta.labels == b.meta.labels
    }

    fn link(&mut self, name: &WorkerName, row: &Worker) {
        for address in addresses(row) {
            self.by_address.insert((address, name.clone()));
        }
        for (k, v) in &row.meta.labels {
            self.by_label.insert((k.as_str().into(), v.as_str().into(), name.clone()));
        }
        if row.presence == Presence::Lost {
            self.lost.insert(name.clone());
        }
    }

    fn unlink(&mut self, name: &WorkerName, row: &Worker) {
        for address in addresses(row) {
            self.by_address.remove(&(address, name.clone()));
        }
        for (k, v) in &row.meta.labels {
            self.by_label.remove(&(k.as_str().into(), v.as_str().into(), name.clone()));
        }
        self.lost.remove(name);
    }
}

/// Registration lets nothing else in, so an address that cannot be read is none that anyone could ask for.
fn addresses(row: &Worker) -> impl Iterator<Item = IpAddr> {
    row.pool.keys().filter_map(|a| a.parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::state::{Meta, PoolSlot};

    fn name(n: u8) -> WorkerName {
        WorkerName::new(&format!("w{n}")).unwrap()
    }

    fn worker(n: u8, labels: &[(u8, u8)], pool: &[u8], lost: bool) -> Worker {
        let labels = labels.iter().map(|(k, v)| (format!("k{k}"), format!("v{v}"))).collect();
        let free = PoolSlot::Free { since: 0, last: None };
        Worker {
            meta: Meta { labels, ..Meta::default() },
            name: name(n),
            key: String::new(),
            capacity: 1,
            build: String::new(),
            host: String::new(),
            pool: Arc::new(pool.iter().map(|a| (format!("10.0.0.{a}"), free.clone())).collect()),
            absent: Vec::new(),
            withdrawn: std::collections::BTreeSet::new(),
            keeping: String::new(),
            presence: if lost { Presence::Lost } else { Presence::Ready },
            registered_at: crate::model::Millis(0),
            lost_at: None,
            set_generation: 0,
            staged: Vec::new(),
            report: (0, 0),
            rekey_until: None,
        }
    }

    proptest! {
        #[test]
        fn workers_are_found_as_a_walk_over_all_finds_them(
            changes in prop::collection::vec(
                (0u8..6, prop::collection::vec((0u8..3, 0u8..3), 0..3), prop::collection::vec(0u8..9, 0..4), any::<bool>(), 0u8..8),
                1..40,
            ),
        ) {
            let mut all = Workers::default();
            for (n, labels, pool, lost, what) in changes {
                if what == 0 {
                    all.remove(&name(n));
                } else {
                    all.insert(name(n), worker(n, &labels, &pool, lost));
                }
                prop_assert_eq!(all.check(), Ok(()));
                let lost: Vec<_> = all.values().filter(|w| w.presence == Presence::Lost).collect();
                prop_assert_eq!(all.lost().collect::<Vec<_>>(), lost);
                for a in 0..9 {
                    let text = format!("10.0.0.{a}");
                    let walked: Vec<_> = all.values().filter(|w| w.pool.contains_key(&text)).map(|w| &w.name).collect();
                    prop_assert_eq!(all.with_address(text.parse().unwrap()).collect::<Vec<_>>(), walked);
                }
                for asked in [vec![], vec![(0, 1)], vec![(1, 1), (2, 0)], vec![(0, 0), (1, 2), (2, 2)]] {
                    let asked = worker(0, &asked, &[], false).meta.labels;
                    let carries = |w: &&Worker| asked.iter().all(|(k, v)| w.meta.labels.get(k) == Some(v));
                    prop_assert_eq!(all.carrying(&asked).collect::<Vec<_>>(), all.values().filter(carries).collect::<Vec<_>>());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_back_is_as_it_was_at_the_mark(
            before in prop::collection::vec((0u8..6, 0u8..3, any::<bool>(), 0u8..9), 0..20),
            after in prop::collection::vec((0u8..6, 0u8..3, any::<bool>(), 0u8..9), 0..20),
        ) {
            let change = |all: &mut Workers, (who, label, lost, what): (u8, u8, bool, u8)| match what {
                0 => all.clear(),
                1..=3 => drop(all.remove(&name(who))),
                _ => all.insert(name(who), worker(who, &[(label, label)], &[label], lost)),
            };
            let mut all = Workers::default();
            before.into_iter().for_each(|c| change(&mut all, c));
            let was = all.clone();
            all.mark();
            for c in after {
                change(&mut all, c);
                for n in 0..6 {
                    let (noted, row) = (all.was(&name(n)), was.get(&name(n)));
                    prop_assert_eq!(noted.as_deref(), row);
                }
            }
            all.take_back();
            prop_assert_eq!(&all, &was);
            prop_assert_eq!(all.check(), Ok(()));
        }
    }

    #[test]
    fn an_index_that_missed_a_change_is_noticed() {
        let mut all = Workers::default();
        all.insert(name(1), worker(1, &[(1, 1)], &[1], true));
        all.by_label.clear();
        assert_eq!(all.check(), Err("Workers"));
    }
}
