//! What an entry may do to traffic, to running instances and to addresses, judged by its effects and on committed rows
//! alone: numbers 11 and 12 of the list in ARCHITECTURE.md, and to whom an address may go.
//!
//! Invariant: each bound is judged on both States of a step, never on the command between them. Not here: what must
//! hold in one State (`invariants`), the guards that keep it so.

use crate::state::{
    base::prelude::*,
    fleet::{alloc, serving},
    rollout::weights,
};

/// From one applied State to the next, for one deployment.
pub(super) fn check_step(before: &State, after: &State, old: &Deployment, new: &Deployment) -> Result<(), String> {
    let Some(r) = after.live_rollout(&new.id).filter(|r| !r.is_rollback()) else { return Ok(()) };
    let active = |s: &State| s.rollouts.get(&r.id).is_some_and(|r| r.status == RolloutStatus::Active);
    if !active(before) {
        return Ok(());
    }
    if active(after) || r.status == RolloutStatus::Promoting {
        rises(after, r, old, new)?;
    }
    if let Some(budget) = r.budget.filter(|_| active(after) && r.from.is_some() && old.as_is.is_none()) {
        unavailable(before, after, r, budget)?;
        surge(before, after, r, budget)?;
    }
    Ok(())
}

/// 11: what rises is carried by instances that pass.
fn rises(after: &State, r: &Rollout, old: &Deployment, new: &Deployment) -> Result<(), String> {
    let passing = |pair: &Pair| serving::passing(after, &new.id, pair);
    let total = new.arms.iter().map(|a| passing(&a.pair)).fold(0, u32::saturating_add);
    let installs = |k: &StepKind| matches!(k, StepKind::Install { routing: Routing::ByCapacity, .. });
    let by_capacity = r.running().is_some_and(|(_, row)| installs(&row.step.kind));
    for arm in new.arms.iter() {
        let (want, have) = (arm.weight, passing(&arm.pair));
        // The same version's, whatever its role was.
        let had = old.arms.of(&arm.pair).map_or(BasisPoints(0), |a| a.weight);
        let enough = have >= weights::need(after, r, want);
        // Each share is rounded down.
        let carried = BasisPoints::ratio(u64::from(have), u64::from(total)).0.saturating_add(2);
        if want > had && !enough && !(by_capacity && want.0 <= carried) {
            return Err(format!("11: {} of {} rises to {want} and {have} pass", arm.pair, new.id));
        }
    }
    Ok(())
}

/// 12: no entry takes out of service what must be available. What an earlier rollout left beside both versions goes
/// first, all at once: it has no traffic.
fn unavailable(before: &State, after: &State, r: &Rollout, budget: Budget) -> Result<(), String> {
    let taken = |i: &&Instance| {
        let leaves = |n: &Instance| matches!(n.life, Life::Draining | Life::Stopping | Life::Gone);
        let ours = i.pair == r.to || r.from.as_ref() == Some(&i.pair);
        ours && serving::passes(before, i) && after.instances.get(&i.id).is_some_and(leaves)
    };
    let takes = before.instances_of(&r.deployment).any(|i| taken(&i));
    let left = after.instances_of(&r.deployment).filter(|i| serving::passes(after, i)).count();
    let floor = r.desired.saturating_sub(budget.unavailable) as usize;
    if takes && left < floor {
        return Err(format!("12: {left} of at least {floor} instances of {} serve", r.deployment));
    }
    Ok(())
}

/// 12: no entry adds more than surge allows.
fn surge(before: &State, after: &State, r: &Rollout, budget: Budget) -> Result<(), String> {
    let replaces = |k: &StepKind| matches!(k, StepKind::Install { mode: BatchMode::Replace, .. });
    if !r.running().is_some_and(|(_, row)| replaces(&row.step.kind)) {
        return Ok(());
    }
    let mine = |i: &&Instance| i.life.is_wanted() && serving::ready(after, i) && r.order.contains(&i.worker);
    let new = |i: &Instance| i.made_by == Some(r.id) && i.replaces.is_none() && !before.instances.contains_key(&i.id);
    let adds = after.instances_of(&r.deployment).any(new);
    let wanted = after.instances_of(&r.deployment).filter(mine).count();
    let roof = r.desired.saturating_add(budget.surge) as usize;
    if adds && wanted > roof {
        return Err(format!("12: {wanted} instances of {} are meant to run, {roof} at most", r.deployment));
    }
    Ok(())
}

/// An address that another deployment had goes on only when no server that counts may still name who had it.
pub(super) fn addresses(before: &State, after: &State) -> Result<(), String> {
    let for_good = after.cluster.as_ref().map(|c| c.settings.silent_for_good);
    let counts = |n: &&NodeRow| {
        let gone = n.silent_since.zip(for_good).is_some_and(|(t, after_long)| after.now >= t.plus(after_long));
        n.role.serves_dns() && !gone
    };
    for w in after.workers.values() {
        let Some(old) = before.workers.get(&w.name).filter(|old| old.pool != w.pool) else { continue };
        for (address, slot) in w.pool.iter() {
            let PoolSlot::Used(user) = slot else { continue };
            let Some(PoolSlot::Free { since, last }) = old.pool.get(address) else { continue };
            let other = |d: &DeploymentId| last.as_ref() != Some(d);
            let taken = after.instances.get(user).is_some_and(|i| other(&i.deployment));
            if taken && let Some(owner) = old.pool.get(address).and_then(|slot| alloc::kept_for(before, slot)) {
                return Err(format!("{address} goes to {user} and is kept for {owner}, which is stopped"));
            }
            let late = after.nodes.values().filter(counts).find(|n| n.served < *since);
            if let Some(late) = late.filter(|_| after.instances.get(user).is_some_and(|i| other(&i.deployment))) {
                return Err(format!("{address} of {last:?} goes to {user} and {} may still name it", late.name));
            }
        }
    }
    Ok(())
}
