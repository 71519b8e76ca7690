//! What must hold in every applied State and over every step; tests, transcripts and cluster tests call it. Numbers are
//! those of the list of invariants in ARCHITECTURE.md.

use std::collections::BTreeMap;

use super::bounds;
use crate::state::{
    base::{lifecycle, prelude::*},
    catalog::copies,
    fleet::{assign, serving},
    traffic::{returns, slots, switches},
};

fn ensure(ok: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if ok { Ok(()) } else { Err(text()) }
}

/// One State.
pub fn check(s: &State) -> Result<(), String> {
    for d in s.deployments.values() {
        route(d)?;
        owner(s, d)?;
    }
    steps(s)?;
    addresses(s)?;
    assignments(s)?;
    requests(s)?;
    switches::check(s)?;
    slots::check(s)?;
    returns::check(s)?;
    copies::check(s)?;
    references(s)?;
    indexes(s)
}

/// Every index is what its rows say.
fn indexes(s: &State) -> Result<(), String> {
    let all = [s.instances.check(), s.assignments.check(), s.rollouts.check(), s.workers.check()];
    all.into_iter().collect::<Result<(), &str>>().map_err(|table| format!("an index of {table} is not its rows'"))
}

/// Rows name what is there: nothing was removed that something needs.
fn references(s: &State) -> Result<(), String> {
    let cluster = s.cluster.is_some();
    ensure(!cluster || !s.environments.is_empty(), || "the last environment is gone".into())?;
    for d in s.deployments.values() {
        let homes = s.environments.contains_key(&d.id.environment) && s.services.contains_key(&d.id.service);
        ensure(homes, || format!("{} is of a service or an environment that is gone", d.id))?;
        ensure(s.spec(&d.id, d.spec).is_some(), || format!("spec {} of {} is gone", d.spec, d.id))?;
        let empty = d.arms == Arms::default() && d.route.is_none() && d.live.is_none();
        ensure(d.removing.is_none() || empty, || format!("{} is being removed and serves", d.id))?;
        stopped(s, d)?;
        for a in d.arms.iter() {
            let there = s.releases.contains_key(&(d.id.service.clone(), a.pair.version.clone()));
            ensure(there, || format!("release {} of {} is gone", a.pair.version, d.id))?;
        }
        let order = s.live_rollout(&d.id).into_iter().flat_map(|r| &r.order);
        for w in order {
            ensure(s.workers.contains_key(w), || format!("a rollout of {} counts on {w}, which is gone", d.id))?;
        }
    }
    for (service, version) in s.releases.keys() {
        ensure(s.services.contains_key(service), || format!("{service} {version} is of a service that is gone"))?;
    }
    let owners = s.rollouts.values().map(|r| &r.deployment).chain(s.instances.values().map(|i| &i.deployment));
    let owners = owners.chain(s.specs.keys().map(|(d, _)| d)).chain(s.assignments.keys().map(|(_, d)| d));
    let owners = owners.chain(s.fences.on_expiry.keys()).chain(s.backs.values().map(|b| &b.deployment));
    for d in owners {
        ensure(s.deployments.contains_key(d), || format!("something is kept for {d}, which is gone"))?;
    }
    for (w, d) in s.assignments.keys() {
        ensure(s.workers.contains_key(w), || format!("{d} is assigned to {w}, which is gone"))?;
    }
    Ok(())
}

/// Of a stopped deployment nothing is wanted or moved, and what it comes back with is there.
fn stopped(s: &State, d: &Deployment) -> Result<(), String> {
    let Some(stop) = &d.stop else { return Ok(()) };
    let moves = d.live.is_some() || d.is_stopped() && s.fences.switching(&d.id).is_some();
    ensure(!moves, || format!("{} was stopped, and a rollout or a switch moves it", d.id))?;
    let there = d.arms.get(Role::Stable).is_some() && d.removing.is_none() && stop.index <= s.applied.index;
    ensure(there, || format!("{} was stopped, and there is nothing to start", d.id))?;
    let wanted = s.instances_of(&d.id).find(|i| d.is_stopped() && i.life.is_wanted());
    ensure(wanted.is_none(), || format!("{} is stopped, and {:?} is wanted", d.id, wanted.map(|i| i.id)))
}

/// 1, 2, 10: one active version in a switch, whole weights, no more than the cap, and each arm its own version.
fn route(d: &Deployment) -> Result<(), String> {
    let w = d.arms.weights();
    let whole = if d.route.is_some() { WHOLE.0 } else { 0 };
    ensure(w.sum() == whole, || format!("2: weights of {} sum to {}", d.id, w.sum()))?;
    for a in d.arms.iter() {
        let cap = a.cap.unwrap_or(WHOLE);
        ensure(a.weight <= cap, || format!("10: the {} of {} has {} above its cap {cap}", a.role, d.id, a.weight))?;
        let one = d.arms.of(&a.pair).is_some_and(|first| first.role == a.role);
        ensure(one, || format!("{}: two arms run one pair", d.id))?;
    }
    let switches = d.route.as_ref().is_some_and(|r| r.mode == RouteMode::Switch);
    ensure(!switches || w.iter().count() == 1, || format!("1: two versions of {} are active: {w:?}", d.id))
}

/// 9: at most one live rollout, and the deployment names it.
fn owner(s: &State, d: &Deployment) -> Result<(), String> {
    let live: Vec<RolloutId> =
        s.rollouts.values().filter(|r| r.deployment == d.id && !r.status.is_terminal()).map(|r| r.id).collect();
    let named: Vec<RolloutId> = d.live.into_iter().collect();
    ensure(live == named, || format!("9: {} names {named:?} and {live:?} are live", d.id))
}

/// 6: at most one step runs, at the cursor, and everything before it has ended. 7: what goes back neither pauses nor
/// goes forward.
fn steps(s: &State) -> Result<(), String> {
    for r in s.rollouts.values() {
        let back = match r.status {
            RolloutStatus::Pending | RolloutStatus::Active | RolloutStatus::Paused | RolloutStatus::Promoting => false,
            RolloutStatus::RollingBack
            | RolloutStatus::Completed
            | RolloutStatus::RolledBack
            | RolloutStatus::Failed
            | RolloutStatus::Aborted => true,
        };
        ensure(back || r.phase == RolloutPhase::Forward, || {
            format!("7: {} is being rolled back and {}", r.id, r.status)
        })?;
        for (n, row) in r.steps.iter().enumerate() {
            let before = n < r.cursor as usize;
            let ended = match row.status {
                StepStatus::Passed | StepStatus::Skipped | StepStatus::Cancelled | StepStatus::Undone => true,
                StepStatus::Waiting | StepStatus::Running | StepStatus::Failed => false,
            };
            ensure(!before || ended, || format!("6: step {n} of {} is before the cursor and has not ended", r.id))?;
            let runs = row.status == StepStatus::Running;
            ensure(!runs || n == r.cursor as usize, || format!("6: step {n} of {} runs beside the cursor", r.id))?;
            ensure(!runs || !r.status.is_terminal(), || format!("8: {} has ended and step {n} runs", r.id))?;
        }
    }
    Ok(())
}

/// No two live instances share an address and port but one and its successor; pools know their users.
fn addresses(s: &State) -> Result<(), String> {
    let mut users: BTreeMap<(&str, u16), Vec<&Instance>> = BTreeMap::new();
    for i in s.instances.values().filter(|i| i.life.is_live()) {
        ensure(s.workers.contains_key(&i.worker), || format!("{} is on no worker", i.id))?;
        for p in i.ports.values() {
            users.entry((&i.address, *p)).or_default().push(i);
        }
    }
    for ((address, port), list) in &users {
        let heads = list.iter().filter(|i| i.replaces.is_none_or(|o| !list.iter().any(|x| x.id == o))).count();
        ensure(heads <= 1, || {
            let ids: Vec<String> = list.iter().map(|i| format!("{} {}", i.id, i.life)).collect();
            format!("{address}:{port} is used by {}", ids.join(", "))
        })?;
    }
    for w in s.workers.values() {
        for (a, slot) in w.pool.iter() {
            if let PoolSlot::Used(id) = slot {
                let live =
                    s.instances.get(id).is_some_and(|i| i.life.is_live() && &i.address == a && i.worker == w.name);
                ensure(live, || format!("{a} of {} is held by {id}, which is not live there", w.name))?;
            }
        }
    }
    Ok(())
}

/// Entries are live instances of that worker; digests are those of the contents.
fn assignments(s: &State) -> Result<(), String> {
    for ((w, d), a) in &s.assignments {
        ensure(a.content_digest == assign::content_digest(&a.content), || {
            format!("digest of {w} {d} is not its content's")
        })?;
        for e in &a.content.instances {
            let ok = s.instances.get(&e.id).is_some_and(|i| i.life.is_live() && &i.worker == w && &i.deployment == d);
            ensure(ok, || format!("{w} is to run {}, which is not live there", e.id))?;
            ensure(a.content.hold.contains(&e.pair.digest), || format!("{w} runs {} without holding it", e.pair))?;
        }
    }
    Ok(())
}

/// 4: the table and its index agree.
fn requests(s: &State) -> Result<(), String> {
    let same = s.requests.len() == s.requests_by_expiry.len();
    ensure(same, || "4: the requests' index by expiry has another length".into())?;
    for ((p, id), r) in &s.requests {
        let there = s.requests_by_expiry.contains_key(&(r.not_after, p.clone(), id.clone()));
        ensure(there, || format!("4: request {id} is not in the index"))?;
    }
    Ok(())
}

/// From one applied State to the next.
pub fn check_step(before: &State, after: &State) -> Result<(), String> {
    ensure(after.now >= before.now, || format!("now went from {} to {}", before.now, after.now))?;
    ensure(after.incarnation >= before.incarnation, || "the incarnation went back".into())?;
    for (id, old) in &before.rollouts {
        rollout(id, old, after.rollouts.get(id))?;
    }
    for (key, old) in &before.requests {
        let same = after.requests.get(key).is_none_or(|new| new == old);
        ensure(same, || format!("4: the first result of {} changed", key.1))?;
    }
    for (id, old) in &before.deployments {
        let Some(new) = after.deployments.get(id) else {
            let ran = old.live.is_some() || before.instances_of(id).any(|i| i.life.is_live());
            ensure(!ran, || format!("{id} is gone and something of it ran"))?;
            continue;
        };
        generation(before, after, id, old, new)?;
        held_still(id, old, new)?;
        bounds::check_step(before, after, old, new)?;
        slots::check_step(before, after, old, new)?;
    }
    bounds::addresses(before, after)?;
    for (key, old) in &before.assignments {
        let Some(new) = after.assignments.get(key) else { continue };
        ensure(new.generation >= old.generation, || format!("generation of {} went back", key.0))?;
        if new.generation == old.generation {
            ensure(new.content == old.content, || format!("content of {} changed within a generation", key.0))?;
            ensure(new.permit >= old.permit, || format!("permit of {} fell within a generation", key.0))?;
        }
    }
    for ((service, version), digest) in &before.tombstones {
        let key = (service.clone(), version.clone());
        let same = after.tombstones.get(&key) == Some(digest);
        let same = same && after.releases.get(&key).is_none_or(|r| &r.digest == digest);
        ensure(same, || format!("{service} {version} ran with other bytes"))?;
    }
    for (name, old) in &before.workers {
        let Some(new) = after.workers.get(name) else {
            let counts = before.instances.on(name).any(|i| i.life.is_live() && serving::hears(before, name));
            ensure(!counts, || format!("worker {name} is gone and was heard"))?;
            continue;
        };
        ensure(new.set_generation >= old.set_generation && new.report >= old.report, || format!("{name} went back"))?;
    }
    for (id, old) in &before.nodes {
        let Some(new) = after.nodes.get(id).filter(|n| n.name == old.name) else {
            return Err(format!("node {id} is another one now"));
        };
        ensure(along(old.role, new.role, lifecycle::ROLE), || {
            format!("node {id} went from {:?} to {:?}", old.role, new.role)
        })?;
    }
    for (key, old) in &before.specs {
        ensure(after.specs.get(key).is_none_or(|n| n == old), || format!("spec {} of {} changed", key.1, key.0))?;
    }
    for (id, old) in &before.instances {
        let same = after.instances.get(id).is_none_or(|n| {
            n.pair == old.pair
                && n.worker == old.worker
                && n.address == old.address
                && (n.life == old.life || old.life.is_live())
        });
        ensure(same, || format!("instance {id} changed what it is, or came back to life"))?;
        let moved = after.instances.get(id).is_none_or(|n| along(old.life, n.life, lifecycle::LIFE));
        ensure(moved, || format!("instance {id} left the table of lives from {}", old.life))?;
        let stops = old.life != Life::Stopping && after.instances.get(id).is_some_and(|n| n.life == Life::Stopping);
        let clear = old.drain.and_then(|d| d.clear_at).is_some_and(|t| t <= after.now);
        ensure(!stops || clear, || format!("20: {id} is to stop before every cache has let go of it"))?;
    }
    Ok(())
}

/// A stop and what follows it leave the weights as they are, until something is started.
fn held_still(id: &DeploymentId, old: &Deployment, new: &Deployment) -> Result<(), String> {
    let weight =
        |d: &Deployment| d.arms.iter().filter(|a| a.weight.0 > 0).map(|a| (a.pair.clone(), a.weight)).collect();
    let (was, is): (Vec<_>, Vec<_>) = (weight(old), weight(new));
    let same = was == is && old.route == new.route;
    ensure(!new.is_stopped() || same, || format!("{id} is stopped, and its traffic was moved"))
}

/// Whether a table leads from one to the other, in one move or, as one entry may take two (a promotion out of a pause),
/// in two.
fn along<T: Copy + PartialEq>(from: T, to: T, table: &[(T, T)]) -> bool {
    let mut next = table.iter().filter(|(a, _)| *a == from).map(|(_, b)| *b);
    from == to || next.any(|mid| mid == to || table.contains(&(mid, to)))
}

/// 7, 8: along the table only, and a terminal one never changes (but for the name of what undid it).
fn rollout(id: &RolloutId, old: &Rollout, new: Option<&Rollout>) -> Result<(), String> {
    let Some(new) = new else {
        return ensure(old.status.is_terminal(), || format!("8: live {id} is gone"));
    };
    if old.status.is_terminal() {
        let mut same = new.clone();
        same.undone_by = old.undone_by;
        same.meta = old.meta.clone();
        return ensure(same == *old, || format!("8: {id} had ended and changed"));
    }
    ensure(along(old.status, new.status, lifecycle::ROLLOUT), || {
        format!("7: {id} went from {} to {}", old.status, new.status)
    })?;
    let turned = old.phase == RolloutPhase::Undo && new.phase != old.phase;
    ensure(!turned, || format!("7: {id} was being rolled back and goes forward"))?;
    // Where the rollback has its own steps, those that went forward stand aside.
    let rows = if new.undo_compiled && !old.undo_compiled { &new.forward_steps } else { &new.steps };
    for (n, (a, b)) in old.steps.iter().zip(rows).enumerate() {
        ensure(along(a.status, b.status, lifecycle::STEP), || {
            format!("7: step {n} of {id} went from {:?} to {:?}", a.status, b.status)
        })?;
    }
    ensure(new.meta.revision >= old.meta.revision, || format!("{id}: its revision went back"))?;
    let silent = new.meta.revision == old.meta.revision && new != old;
    ensure(!silent, || format!("{id} changed without a new revision"))
}

/// 10, 17: generations rise with every change, and no candidate's weight rises while its rollout is held or on its way
/// back.
fn generation(
    before: &State,
    after: &State,
    id: &DeploymentId,
    old: &Deployment,
    new: &Deployment,
) -> Result<(), String> {
    let silent = new.meta.revision == old.meta.revision && new != old;
    ensure(!silent, || format!("{id} changed without a new revision"))?;
    if let (Some(a), Some(b)) = (&old.route, &new.route) {
        let same = old.arms.weights() == new.arms.weights() && a.form() == b.form();
        ensure(b.generation >= a.generation, || format!("17: generation of {id} went back"))?;
        ensure(same || b.generation > a.generation, || format!("17: {id} changed its route within a generation"))?;
        let stable_moved = old.arms.pair(Role::Stable) != new.arms.pair(Role::Stable);
        ensure(!stable_moved || b.generation > a.generation, || {
            format!("17: {id} changed stable within a generation")
        })?;
        let held = after.live_rollout(id).is_some_and(|r| match r.status {
            RolloutStatus::Paused => true,
            RolloutStatus::RollingBack => before.rollouts.get(&r.id).is_some_and(|o| o.status == r.status),
            RolloutStatus::Pending
            | RolloutStatus::Active
            | RolloutStatus::Promoting
            | RolloutStatus::Completed
            | RolloutStatus::RolledBack
            | RolloutStatus::Failed
            | RolloutStatus::Aborted => false,
        });
        for arm in new.arms.iter().filter(|a| held && a.role.on_trial()) {
            let more = arm.weight > old.arms.weight(arm.role);
            ensure(!more, || format!("10: {id} gave the {} more while held", arm.role))?;
        }
    }
    Ok(())
}
