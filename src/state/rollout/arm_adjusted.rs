//! `ArmAdjusted`: the keeper's change of an idle deployment: new instances, drains, arms whose time is over. Traffic
//! that an abort left on the candidate goes back to stable as soon as half of it passes.

use super::{back, batches, begin};
use crate::state::{
    base::prelude::*,
    fleet::{
        alloc,
        assign::{self, Allow},
        drain, serving,
    },
    traffic::switches,
};

/// Most instances one adjustment adds.
const MAX_ADD: u32 = 1000;

fields! {
    /// The keeper's change of an idle deployment: new instances on an arm, or drains.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ArmAdjusted {
        1 [required] pub deployment: DeploymentId,
        /// Its revision seen.
        2 pub seen: u64,
        /// New instances: their arm, worker, how many.
        3 pub add: Vec<(Role, WorkerName, u32)>,
        /// Instances to drain.
        4 pub drain: Vec<InstanceId>,
        /// Desired count of stable from now on.
        5 pub desired: u32,
        /// Arms whose time is over and that have no live instance left: forgotten.
        6 pub drop: Vec<Role>,
    }
}

impl Apply for ArmAdjusted {
    fn apply(&self, cx: &mut Cx<'_>) -> Done {
        let &Self { deployment: ref id, seen, .. } = self;
        let mut d = cx.lasting(id)?;
        if d.meta.revision != seen {
            return Err(Rejection::Stale { seen, now: d.meta.revision });
        }
        if let Some(rollout) = d.live {
            return guard(format!("{rollout} owns {id}"));
        }
        switches::not_switching(cx, id)?;
        let limit = cx.settings().limits.instances_per_deployment;
        let adding = self.add.iter().fold(0u32, |n, (_, _, k)| n.saturating_add(*k));
        if adding > MAX_ADD || self.desired > limit {
            return guard(format!("{adding} new instances and {} desired are over {MAX_ADD}, {limit}", self.desired));
        }
        let (stopped, starting) = (d.is_stopped(), d.is_starting());
        if stopped && (adding > 0 || self.desired != d.desired) {
            return guard(format!("{id} is stopped: nothing of it is added"));
        }
        check_drains(cx, &d, self)?;
        check_yield(cx, &d, self)?;
        if let Some(left) = d.as_is.as_ref().filter(|_| d.stop.is_none()) {
            let adds = self.add.iter().any(|(role, _, _)| d.arms.pair(*role) == Some(&left.given_up));
            if adds {
                return guard(format!(
                    "{} was given up by {}: nobody adds instances of it",
                    left.given_up, left.rollout
                ));
            }
        }
        d.desired = self.desired;
        drain::begin(cx, &self.drain);
        for (role, worker, n) in &self.add {
            add(cx, &d, *role, worker, *n)?;
        }
        if d.as_is.is_none() {
            for arm in d.arms.iter_mut() {
                // What a start is to bring back beside stable stays wanted, as far as there are workers for it.
                arm.want = match arm.role {
                    Role::Stable => self.desired,
                    Role::Candidate | Role::Previous if stopped => arm.want,
                    Role::Candidate | Role::Previous if starting => arm.want.min(most(cx.s, id, &arm.pair)),
                    Role::Candidate | Role::Previous => serving::wanted(cx.s, id, &arm.pair),
                };
            }
            if !stopped {
                back::follow_back(cx, &mut d);
            }
        }
        if starting && serving::complete(cx.s, &d, cx.now()) {
            d.stop = None;
        }
        for role in &self.drop {
            forget(cx, &mut d, *role)?;
        }
        cx.put_deployment(d);
        assign::refresh(cx, id);
        Ok(())
    }
}

/// Instances of a pair that its chosen workers take.
fn most(s: &State, id: &DeploymentId, pair: &Pair) -> u32 {
    let Some(spec) = s.spec(id, pair.spec) else { return 0 };
    let workers = u32::try_from(begin::chosen(s, spec).count()).unwrap_or(u32::MAX);
    workers.saturating_mul(spec.placement.per_worker)
}

/// Stable never loses more than what is above the desired count (with what is added) or on lost workers.
fn check_drains(cx: &Cx<'_>, d: &Deployment, c: &ArmAdjusted) -> Done {
    let leaving = drain::check_ids(cx, &d.id, &c.drain)?;
    let Some(stable) = d.arms.pair(Role::Stable) else { return Ok(()) };
    let of_stable = |i: &&Instance| &i.pair == stable && i.life.is_wanted() && serving::ready(cx.s, i);
    let loses = leaving.iter().filter(of_stable).count();
    let has = cx.s.instances_of(&d.id).filter(of_stable).count();
    let adds = c.add.iter().filter(|(role, _, _)| *role == Role::Stable).map(|(_, _, n)| *n as usize);
    let then = adds.fold(has.saturating_sub(loses), usize::saturating_add);
    if loses > 0 && then < c.desired as usize {
        return guard(format!("{then} of {} stable instances would be left", c.desired));
    }
    Ok(())
}

/// What serves beside stable makes room for it bit by bit: never more than may be missing goes at once.
fn check_yield(cx: &Cx<'_>, d: &Deployment, c: &ArmAdjusted) -> Done {
    let shares = |i: &Instance| d.arms.of(&i.pair).is_some_and(|a| a.role != Role::Stable && a.weight.0 > 0);
    let leaving = drain::check_ids(cx, &d.id, &c.drain)?;
    let serves = |i: &Instance| i.serves() && serving::ready(cx.s, i);
    if !leaving.iter().any(|i| shares(i) && serves(i)) {
        return Ok(());
    }
    let is_stable = |i: &Instance| d.arms.pair(Role::Stable) == Some(&i.pair);
    let stays = |i: &&Instance| serves(i) && (is_stable(i) || shares(i)) && !c.drain.contains(&i.id);
    let left = cx.s.instances_of(&d.id).filter(stays).count();
    let floor = cx.s.floor(d, c.desired) as usize;
    if left < floor {
        return guard(format!("{left} healthy instances would be left and at least {floor} must be"));
    }
    Ok(())
}

fn add(cx: &mut Cx<'_>, d: &Deployment, role: Role, worker: &WorkerName, n: u32) -> Done {
    let id = &d.id;
    let Some(pair) = d.arms.pair(role) else { return guard(format!("there is no {role} arm")) };
    let Some(spec) = cx.s.spec(id, pair.spec).cloned() else { return guard("its spec is gone") };
    if !serving::hears(cx.s, worker) {
        return guard(format!("worker {worker} is unknown or lost"));
    }
    let ports = alloc::ports(&spec);
    for _ in 0..n {
        let mut i = batches::new_instance(cx, id, pair, worker);
        i.ports = ports.clone();
        i.address = alloc::take(cx, worker, id, &spec, i.id)?;
        let entry = assign::entry(&i);
        cx.put_instance(i);
        // A known-good pair: no probation, so that a slow start is waited for and not undone.
        assign::edit(cx, worker, id, Allow::Set(Permit::Commit), true, |c| c.instances.push(entry));
    }
    Ok(())
}

/// Forgets an arm that has neither traffic nor instances.
fn forget(cx: &Cx<'_>, d: &mut Deployment, role: Role) -> Done {
    if role == Role::Stable {
        return guard("the stable arm is never dropped");
    }
    let Some(arm) = d.arms.take(role) else { return guard(format!("there is no {role} arm")) };
    if arm.weight.0 > 0 {
        return guard(format!("the {role} arm still has traffic"));
    }
    match cx.s.instances_of(&d.id).filter(|i| i.pair == arm.pair && drain::holds_up(cx.s, i)).count() {
        0 => Ok(()),
        live => guard(format!("{live} instances of {} are still there", arm.pair)),
    }
}
