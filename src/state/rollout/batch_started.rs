//! `BatchStarted`: new instances, and in place the drain of those that they replace.

use super::{
    batches::{self, SLACK},
    steps::{self, PROBATION},
};
use crate::state::{
    base::prelude::*,
    fleet::{alloc, assign, drain, serving},
};

fields! {
    /// Starts a batch of the running installation.
    #[derive(Debug, Clone, PartialEq)]
    pub struct BatchStarted {
        /// Which step of which rollout.
        1 [required] pub at: StepRef,
        /// Batch number, one more than the row's.
        2 pub batch: u32,
        /// New instances by worker.
        3 pub add: Vec<(WorkerName, u32)>,
        /// Instances they take the place of (in place: drained first; replace: drained when the batch passes).
        4 pub replace: Vec<InstanceId>,
        /// Whether the new ones wait for those they replace, at their addresses. A rollback does so wherever room is
        /// short.
        5 pub in_place: bool,
    }
}

impl Apply for BatchStarted {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { at: StepRef { rollout: id, seen, .. }, .. } = self;
        let mut r = cx.rollout_seen(id, seen)?;
        batches::check_status(&r)?;
        let row = steps::running(&r, self.at.step)?.clone();
        let StepKind::Install { share, mode, batch: most, .. } = row.step.kind else {
            return guard("the running step installs nothing");
        };
        let Some(pair) = r.target().cloned() else { return guard("there is nothing to install") };
        let last = row.batch.as_ref().map_or(0, |x| x.n);
        if self.batch != last.saturating_add(1) {
            return guard(format!("batch {} is next", last.saturating_add(1)));
        }
        if let Some(x) = row.batch.as_ref().filter(|x| !x.passed || cx.now() < x.next_at) {
            return guard(format!("batch {} is under way or its delay is not over", x.n));
        }
        let adding = self.add.iter().fold(0u32, |n, (_, k)| n.saturating_add(*k));
        if adding == 0 || adding > most {
            return guard(format!("a batch adds 1 to {most} instances, not {adding}"));
        }
        let have = serving::there(cx.s, &r.deployment, &pair);
        let goal = share.of_rounded_up(r.desired);
        if have.saturating_add(adding) > goal {
            return guard(format!("{have} of {goal} instances are there: {adding} more are too many"));
        }
        check_places(&r, mode, self)?;
        let replaced = check_replaced(cx, &r, &pair, adding, &self.replace)?;
        if self.in_place {
            batches::check_unavailable(cx, &r, &self.replace)?;
        } else {
            check_surge(cx, &r, mode, adding)?;
        }
        let Some(spec) = cx.s.spec(&r.deployment, pair.spec).cloned() else { return guard("its spec is gone") };
        if self.in_place {
            drain::begin(cx, &self.replace);
        }
        let added = make(cx, &r, &pair, &spec, self, replaced)?;
        let drains = if self.in_place { spec.drain.0.0.saturating_add(60_000) } else { 0 };
        let health = r.params.health_timeout.map_or(spec.health.start_within.0.saturating_add(SLACK.0), |t| t.0);
        let limit = health.saturating_add(drains);
        if let Some(row) = r.steps.get_mut(self.at.step as usize) {
            row.batch = Some(Batch {
                n: self.batch,
                added,
                replaced: self.replace.to_vec(),
                started_at: cx.now(),
                deadline: cx.now().plus(Period(limit)),
                passed: false,
                next_at: cx.now(),
                in_place: self.in_place,
            });
        }
        cx.emit(batches::event(&r, self.at.step, self.batch, false));
        cx.put_rollout(r.clone());
        batches::set_want(cx, &r.deployment, &pair)
    }
}

/// Which batches an installation may have. Going forward in place comes first or never; where an update with surge has
/// no room left it takes places over, and a rollback does so in every mode.
fn check_places(r: &Rollout, mode: BatchMode, b: &BatchStarted) -> Done {
    if b.in_place && b.replace.is_empty() {
        return guard("a batch in place replaces something");
    }
    match mode {
        BatchMode::Beside if !r.is_rollback() && !b.replace.is_empty() => {
            guard("an installation beside replaces nothing")
        }
        BatchMode::InPlace if !r.is_rollback() && !b.in_place && !b.replace.is_empty() => {
            guard("an installation in place replaces nothing later")
        }
        BatchMode::Beside | BatchMode::Replace | BatchMode::InPlace => Ok(()),
    }
}

/// Who is replaced must be another pair's, once each, and not already stopping.
fn check_replaced(
    cx: &Cx<'_>,
    r: &Rollout,
    pair: &Pair,
    adding: u32,
    ids: &[InstanceId],
) -> Result<Vec<Instance>, Rejection> {
    let olds = drain::check_ids(cx, &r.deployment, ids)?;
    if olds.len() > adding as usize {
        return guard(format!("{adding} instances cannot replace {}", olds.len()));
    }
    for (n, i) in olds.iter().enumerate() {
        if &i.pair == pair || ids.iter().skip(n.saturating_add(1)).any(|other| *other == i.id) {
            return guard(format!("{} is not to be replaced, or named twice", i.id));
        }
        match i.life {
            Life::Starting | Life::Running | Life::Draining => {}
            Life::Stopping | Life::Gone | Life::Failed => return guard(format!("{} is {}", i.id, i.life)),
        }
    }
    Ok(olds)
}

/// Wanted instances stay within desired + surge.
fn check_surge(cx: &Cx<'_>, r: &Rollout, mode: BatchMode, adding: u32) -> Done {
    let Some(budget) = r.bounded_by().filter(|_| mode == BatchMode::Replace) else { return Ok(()) };
    let n = batches::counted(cx.s, r).filter(|i| i.life.is_wanted()).count();
    let then = u32::try_from(n).unwrap_or(u32::MAX).saturating_add(adding);
    let roof = r.desired.saturating_add(budget.surge);
    if then > roof {
        return guard(format!("{then} instances are over desired + surge = {roof}"));
    }
    Ok(())
}

/// Makes the batch's instances. In place, one that replaces another takes its address and is told to its worker when
/// that one may be stopped.
fn make(
    cx: &mut Cx<'_>,
    r: &Rollout,
    pair: &Pair,
    spec: &Spec,
    b: &BatchStarted,
    mut replaced: Vec<Instance>,
) -> Result<Vec<InstanceId>, Rejection> {
    let mut added = Vec::new();
    let ports = alloc::ports(spec);
    for (worker, n) in &b.add {
        match cx.s.workers.get(worker) {
            Some(w) if w.presence == Presence::Ready => {}
            Some(_) => return guard(format!("worker {worker} is lost")),
            None => return guard(format!("{worker} is no worker")),
        }
        for _ in 0..*n {
            let mut i = batches::new_instance(cx, &r.deployment, pair, worker);
            i.made_by = Some(r.id);
            i.ports = ports.clone();
            let place = b.in_place.then(|| replaced.iter().position(|o| &o.worker == worker)).flatten();
            match place {
                Some(p) => {
                    let old = replaced.swap_remove(p);
                    i.address = old.address;
                    // One that its worker was never told of is gone at once; then there is nothing to wait for.
                    let waits = cx.s.instances.get(&old.id).is_some_and(|o| o.life.is_live());
                    i.replaces = waits.then_some(old.id);
                    if !waits {
                        i.address = alloc::take(cx, worker, &r.deployment, spec, i.id)?;
                    }
                    check_mode(&i, spec, cx)?;
                }
                None => i.address = alloc::take(cx, worker, &r.deployment, spec, i.id)?,
            }
            added.push(i.id);
            let (entry, waits) = (assign::entry(&i), i.replaces.is_some());
            cx.put_instance(i);
            if !waits {
                assign::edit(cx, worker, &r.deployment, PROBATION, true, |c| c.instances.push(entry));
            }
        }
    }
    if b.in_place && !replaced.is_empty() {
        return guard("an instance is to be replaced on a worker that gets none");
    }
    Ok(added)
}

/// A place taken over must be of the mode that the new spec wants.
fn check_mode(i: &Instance, spec: &Spec, cx: &Cx<'_>) -> Done {
    // A machine's own address may be one of its pool.
    let fits = cx.s.workers.get(&i.worker).is_some_and(|w| match spec.address {
        AddressMode::Host => w.host == i.address,
        AddressMode::Pool => w.pool.contains_key(&i.address),
    });
    if fits { Ok(()) } else { guard(format!("{} is not an address of mode {}", i.address, spec.address)) }
}
