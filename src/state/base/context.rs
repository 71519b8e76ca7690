//! The State a command works on. Rows are read as values and put back: putting one back bumps its revision once per
//! entry and only when it changed, so that "every change bumps" and "nothing else does" hold by construction. No update
//! is lost: an entry that would put back a copy which is older than the row is refused as a whole.

use std::{collections::BTreeSet, fmt::Display};

use super::{
    event::EventBody,
    lifecycle,
    rejection::Rejection,
    rows::{Draft, LogId, Meta},
};
use crate::{
    model::{DeploymentId, InstanceId, Life, Millis, Named, NodeId, Principal, RolloutId, WorkerName},
    state::{
        State,
        cluster::rows::{NodeRole, NodeRow, Settings},
        fleet::rows::{Assignment, Instance, Worker},
        rollout::rows::{Rollout, RolloutStatus},
        traffic::rows::Deployment,
    },
};

/// Result of a command's own code.
pub(in crate::state) type Done = Result<(), Rejection>;

/// A command: its guards and effects.
pub(in crate::state) trait Apply {
    /// The lowest active feature level at which it may be proposed.
    const LEVEL: u32 = 1;

    /// Whether it stops or turns what is under way: such a verb has places of its own in the table of requests, so that
    /// one who asks without end for other things locks nobody out who wants to stop.
    fn steers(&self) -> bool {
        false
    }

    /// Refuses everything that can be refused, then changes rows; what a refusal leaves half done is taken back.
    fn apply(&self, cx: &mut Cx<'_>) -> Done;
}

/// Shorthand for a refused guard.
pub(in crate::state) fn guard<T>(text: impl Into<String>) -> Result<T, Rejection> {
    Err(Rejection::Guard(text.into()))
}

/// What a command works on and needs to know.
pub(in crate::state) struct Cx<'a> {
    /// State itself: what a refused command has changed in it is taken back (`base::savepoint`).
    pub s: &'a mut State,
    /// The entry.
    pub at: LogId,
    pub principal: &'a Principal,
    events: Vec<EventBody>,
    deployments: BTreeSet<DeploymentId>,
    instances: u32,
    deliveries: u32,
    overwritten: Option<String>,
}

impl<'a> Cx<'a> {
    pub fn new(s: &'a mut State, at: LogId, principal: &'a Principal) -> Self {
        let (events, deployments) = (Vec::new(), BTreeSet::new());
        Self { s, at, principal, events, deployments, instances: 0, deliveries: 0, overwritten: None }
    }

    /// What the entry told, unless an update was lost.
    pub fn finish(self) -> Result<Vec<EventBody>, Rejection> {
        match self.overwritten {
            Some(what) => guard(format!("this build would lose a change of {what} in this entry: please report it")),
            None => Ok(self.events),
        }
    }

    /// Deployments that this entry changed so far; what follows from them is done at its end (`log::apply`).
    pub fn changed_deployments(&mut self) -> BTreeSet<DeploymentId> {
        std::mem::take(&mut self.deployments)
    }

    /// Cluster time of the entry.
    pub fn now(&self) -> Millis {
        self.s.now
    }

    /// Adds an event to those of the entry.
    pub fn emit(&mut self, body: EventBody) {
        self.events.push(body);
    }

    /// The settings of the cluster; the defaults before there is one.
    pub fn settings(&self) -> Settings {
        self.s.cluster.as_ref().map(|c| c.settings.clone()).unwrap_or_default()
    }

    /// Row data of a new row.
    pub fn new_meta(&self) -> Meta {
        let index = self.at.index;
        Meta { revision: 1, created_index: index, updated_index: index, ..Meta::default() }
    }

    /// Marks a row as changed by this entry; once, however often it is touched.
    pub fn touch(&self, meta: &mut Meta) {
        if meta.updated_index != self.at.index {
            meta.revision = meta.revision.saturating_add(1);
            meta.updated_index = self.at.index;
        }
    }

    /// Marks a row that is put back over one that is there.
    fn put_back(&mut self, what: &dyn Display, stored: Option<Draft>, meta: &mut Meta) {
        if stored.is_some_and(|there| !there.is(meta.draft)) {
            debug_assert!(false, "a copy of {what} is put back that is older than the row");
            self.overwritten.get_or_insert_with(|| what.to_string());
        }
        meta.draft = meta.draft.next();
        self.touch(meta);
    }

    /// The next instance id of this entry.
    pub fn next_instance(&mut self) -> InstanceId {
        let ordinal = self.instances;
        self.instances = ordinal.saturating_add(1);
        InstanceId { index: self.at.index, ordinal }
    }

    /// The next delivery's place in this entry.
    pub fn next_delivery(&mut self) -> u32 {
        let ordinal = self.deliveries;
        self.deliveries = ordinal.saturating_add(1);
        ordinal
    }

    /// A rollout, or "not found".
    pub fn rollout(&self, id: RolloutId) -> Result<Rollout, Rejection> {
        let found = self.s.rollouts.get(&id).cloned();
        found.ok_or_else(|| Rejection::not_there(Named::Rollout, id))
    }

    /// A rollout at the revision that an engine command saw.
    pub fn rollout_seen(&self, id: RolloutId, seen: u64) -> Result<Rollout, Rejection> {
        let r = self.rollout(id)?;
        if r.meta.revision == seen { Ok(r) } else { Err(Rejection::Stale { seen, now: r.meta.revision }) }
    }

    /// Puts a changed copy of the row back, with a new revision.
    pub fn put_rollout(&mut self, mut row: Rollout) {
        let there = self.s.rollouts.get(&row.id);
        if there != Some(&row) {
            let draft = there.map(|r| r.meta.draft);
            self.put_back(&format_args!("rollout {}", row.id), draft, &mut row.meta);
            self.s.rollouts.insert(row.id, row);
        }
    }

    /// Moves a rollout's status along the table and says so in an event.
    pub fn move_rollout(&mut self, row: &mut Rollout, to: RolloutStatus, verb: &str) -> Done {
        if !lifecycle::rollout(row.status, to) {
            return Err(lifecycle::refused(row, verb));
        }
        row.status = to;
        self.emit(EventBody::RolloutChanged {
            rollout: row.id,
            deployment: row.deployment.clone(),
            status: to,
            reason: row.reason.clone(),
        });
        Ok(())
    }

    /// A deployment, or "not found".
    pub fn deployment(&self, id: &DeploymentId) -> Result<Deployment, Rejection> {
        let found = self.s.deployments.get(id).cloned();
        found.ok_or_else(|| Rejection::missing(Named::Deployment, id, self.s.deployments.keys()))
    }

    /// A deployment that is not being removed.
    pub fn lasting(&self, id: &DeploymentId) -> Result<Deployment, Rejection> {
        let d = self.deployment(id)?;
        match d.removing {
            Some(_) => Err(Rejection::Precondition(format!(
                "{id} is being removed: `slipway deployment show {id}` says what is left of it; apply it again once it is gone"
            ))),
            None => Ok(d),
        }
    }

    /// A deployment that lasts and is not stopped. Of one that is being started the caller takes over where the start
    /// is: putting the copy back ends it.
    pub fn unstopped(&self, id: &DeploymentId) -> Result<Deployment, Rejection> {
        let d = self.lasting(id)?;
        if d.is_stopped() {
            return Err(Rejection::Precondition(format!("{id} is stopped: `slipway service start {id}` first")));
        }
        Ok(Deployment { stop: None, ..d })
    }

    /// Puts a changed deployment back; what follows from it is done at the end of the entry.
    pub fn put_deployment(&mut self, mut row: Deployment) {
        let there = self.s.deployments.get(&row.id);
        if there != Some(&row) {
            let draft = there.map(|r| r.meta.draft);
            self.put_back(&row.id, draft, &mut row.meta);
            self.deployments.insert(row.id.clone());
            self.s.deployments.insert(row.id.clone(), row);
        }
    }

    /// The same for a worker.
    pub fn put_worker(&mut self, mut row: Worker) {
        let there = self.s.workers.get(&row.name);
        if there != Some(&row) {
            let draft = there.map(|r| r.meta.draft);
            self.put_back(&row.name, draft, &mut row.meta);
            self.s.workers.insert(row.name.clone(), row);
        }
    }

    /// The same for a node.
    pub fn put_node(&mut self, mut row: NodeRow) {
        let there = self.s.nodes.get(&row.id);
        if there != Some(&row) {
            let draft = there.map(|r| r.meta.draft);
            self.put_back(&format_args!("node {}", row.id), draft, &mut row.meta);
            self.s.nodes.insert(row.id, row);
        }
    }

    /// A copy of a node's row.
    pub fn node(&self, id: NodeId) -> Result<NodeRow, Rejection> {
        let found = self.s.nodes.get(&id).cloned();
        found.ok_or_else(|| {
            let here = self.s.nodes.values().filter(|n| n.role != NodeRole::Removed);
            Rejection::missing(Named::Node, id, here.map(|n| n.id))
        })
    }

    /// The same for an assignment.
    pub fn put_assignment(&mut self, key: (WorkerName, DeploymentId), mut row: Assignment) {
        let there = self.s.assignments.get(&key);
        if there != Some(&row) {
            let draft = there.map(|r| r.meta.draft);
            self.put_back(&format_args!("the assignment of {} on {}", key.1, key.0), draft, &mut row.meta);
            self.s.assignments.insert(key, row);
        }
    }

    /// An instance of a deployment, or a refused guard.
    pub fn instance_of(&self, deployment: &DeploymentId, id: InstanceId) -> Result<Instance, Rejection> {
        match self.s.instances.get(&id) {
            Some(i) if &i.deployment == deployment => Ok(i.clone()),
            Some(_) | None => guard(format!("{id} is no instance of {deployment}")),
        }
    }

    /// Puts an instance back; a change of life or health is an event.
    pub fn put_instance(&mut self, mut row: Instance) {
        let old = self.s.instances.get(&row.id);
        if old == Some(&row) {
            return;
        }
        let same = old.is_some_and(|o| o.life == row.life && o.health == row.health);
        let draft = old.map(|r| r.meta.draft);
        self.put_back(&row.id, draft, &mut row.meta);
        if !same {
            self.emit(EventBody::InstanceChanged {
                instance: row.id,
                deployment: row.deployment.clone(),
                worker: row.worker.clone(),
                life: row.life,
                health: row.health,
                exit: row.exit.clone().filter(|_| row.life == Life::Failed),
            });
        }
        self.s.instances.insert(row.id, row);
    }

    /// Moves an instance's life along the table; a move outside it is ignored (`false`).
    pub fn move_life(&self, row: &mut Instance, to: Life) -> bool {
        let ok = lifecycle::life(row.life, to);
        if ok {
            row.life = to;
            if to == Life::Failed {
                row.failed_at = Some(self.s.now);
            }
        }
        ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Name, Permit};

    /// Takes two copies of a row, changes each otherwise, and puts both back.
    #[test]
    #[should_panic(
        expected = "a copy of the assignment of production/shop on w1 is put back that is older than the row"
    )]
    fn a_copy_that_is_older_than_its_row_is_never_put_back() {
        let (mut s, principal) = (State::default(), Principal::local_operator());
        let mut cx = Cx::new(&mut s, LogId { index: 7, term: 1 }, &principal);
        let (service, environment) = (Name::service("shop").unwrap(), Name::environment("production").unwrap());
        let key = (WorkerName::new("w1").unwrap(), DeploymentId { environment, service });
        let row = Assignment {
            meta: cx.new_meta(),
            generation: 1,
            content_digest: 0,
            permit: Permit::Stage,
            reached: None,
            content: Default::default(),
            mark: None,
            look: Default::default(),
        };
        cx.put_assignment(key.clone(), row);
        let taken = cx.s.assignments.get(&key).unwrap().clone();
        cx.put_assignment(key.clone(), Assignment { generation: 2, ..taken.clone() });
        let again = cx.s.assignments.get(&key).unwrap().clone();
        cx.put_assignment(key.clone(), Assignment { generation: 3, ..again });
        cx.put_assignment(key, Assignment { permit: Permit::Activate, ..taken });
    }
}
