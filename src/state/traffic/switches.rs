//! What the commands of the fenced switch share: armings, and switches of several deployments.
//!
//! Invariants: one entry moves all deployments of a switch or none; nothing else moves a deployment's traffic while a
//! switch is under way. Not here: the commands (`switch_asked`, `arming_confirmed`, `switch_moved`, `switch_ended`).

use std::{collections::BTreeSet, sync::Arc};

use super::{
    bound::{bound, fence_set},
    routes,
};
use crate::state::{
    base::{prelude::*, servers::differs},
    catalog::statuses,
    fleet::{assign, serving},
};

/// Changes the row, with its revision.
pub(in crate::state) fn edit<T>(cx: &mut Cx<'_>, with: impl FnOnce(&mut Fences) -> T) -> T {
    let f = Arc::make_mut(&mut cx.s.fences);
    f.revision = f.revision.saturating_add(1);
    with(f)
}

/// Refuses what would change the traffic of a deployment that is being switched.
pub(in crate::state) fn not_switching(cx: &Cx<'_>, id: &DeploymentId) -> Done {
    match cx.s.fences.switching(id) {
        Some(s) => Err(Rejection::Conflict {
            what: format!("{id} is being switched (s-{}): try again when that is over", s.id),
        }),
        None => Ok(()),
    }
}

/// Whether a pair can take all of a deployment's traffic.
pub(in crate::state) fn carries(s: &State, d: &Deployment, pair: &Pair) -> Result<(), String> {
    let (have, need) = (serving::passing(s, &d.id, pair), d.desired.max(1));
    if have >= need {
        return Ok(());
    }
    Err(format!(
        "{have} of {need} instances of {} {} pass their checks: wait for them, or start a rollout",
        d.id, pair.version
    ))
}

pub(in crate::state) fn announce(cx: &mut Cx<'_>, switch: u64, deployment: &DeploymentId, what: &str) {
    cx.emit(EventBody::SwitchChanged { switch, deployment: deployment.clone(), what: what.into() });
}

/// Why a switch that is under way cannot be made now, judged on committed rows.
pub fn obstacle(s: &State, switch: &Switch) -> Option<String> {
    switch.targets.iter().find_map(|t| {
        let Some(d) = s.deployments.get(&t.deployment) else { return Some(format!("{} is gone", t.deployment)) };
        let there = d.arms.of(&t.to).is_some_and(|a| a.role != Role::Stable);
        let same = d.arms.pair(Role::Stable) == Some(&t.from);
        if d.live.is_some() || !there || !same {
            return Some(format!("{} is no longer what it was", t.deployment));
        }
        carries(s, d, &t.to).err()
    })
}

/// Moves all deployments of a switch, or none.
pub(in crate::state) fn apply_targets(cx: &mut Cx<'_>, switch: &Switch) -> Done {
    if let Some(why) = obstacle(cx.s, switch) {
        return guard(why);
    }
    for t in &switch.targets {
        let mut d = cx.deployment(&t.deployment)?;
        let role = d.arms.of(&t.to).map(|a| a.role);
        let to = role.and_then(|role| d.arms.take(role)).unwrap_or_else(|| Arm::new(Role::Stable, t.to.clone()));
        let grace = cx.s.spec(&d.id, t.from.spec).map_or(Period::minutes(60), |s| s.rollout.grace);
        let (desired, retire_at) = (d.desired, cx.now().plus(grace));
        routes::become_stable(cx, &mut d, to, desired, Some(retire_at));
        let form = d.route.as_ref().map(Route::form);
        let Some(form) = form else { return guard(format!("{} has no route", d.id)) };
        d.as_is = None;
        routes::write(cx, &mut d, &Weights::all(Role::Stable), form);
        cx.put_deployment(d);
        statuses::settle_versions(cx, &t.deployment.service, [t.to.version.clone(), t.from.version.clone()]);
        announce(cx, switch.id, &t.deployment, &format!("traffic to {}", t.to.version));
        assign::refresh(cx, &t.deployment);
    }
    Ok(())
}

/// Notes which servers have served which arming. Says whether that was news.
pub(in crate::state) fn confirm(cx: &mut Cx<'_>, served: &[(NodeId, u64)]) -> bool {
    let known: Vec<(NodeId, u64)> =
        served.iter().filter(|(n, _)| cx.s.nodes.contains_key(n) && !differs(cx.s, *n)).copied().collect();
    let news = |a: &Arming| known.iter().any(|(n, at)| *at >= a.index && !a.confirmed.contains(n));
    if !cx.s.fences.armed.values().chain(&cx.s.fences.always).any(news) {
        return false;
    }
    edit(cx, |f| {
        for arming in f.armed.values_mut().chain(&mut f.always) {
            arming.confirmed.extend(known.iter().filter(|(_, at)| *at >= arming.index).map(|(n, _)| *n));
        }
    });
    let servers = fence_set(cx.s);
    let knows = |s: &&Switch| s.targets.iter().all(|t| servers.iter().all(|n| bound(cx.s, &t.deployment, *n, 0)));
    let ready: Vec<u64> = cx.s.fences.open().filter(|s| s.ready.is_none()).filter(knows).map(|s| s.id).collect();
    let now = cx.now();
    edit(cx, |f| {
        for id in ready {
            if let Some(s) = f.switches.get_mut(&id) {
                s.ready = Some(now);
                s.revision = s.revision.saturating_add(1);
            }
        }
    });
    true
}

pub(in crate::state) fn open(cx: &Cx<'_>, id: u64, seen: u64) -> Result<Switch, Rejection> {
    let Some(s) = cx.s.fences.switches.get(&id) else { return guard(format!("there is no switch s-{id}")) };
    if s.revision != seen {
        return Err(Rejection::Stale { seen, now: s.revision });
    }
    if s.end.is_some() { guard(format!("s-{id} is over")) } else { Ok(s.clone()) }
}

/// Keeps the newest of the ended switches.
pub(in crate::state) fn forget(cx: &mut Cx<'_>) {
    let ended: Vec<u64> = cx.s.fences.switches.values().filter(|s| s.end.is_some()).map(|s| s.id).collect();
    let old = ended.len().saturating_sub(KEPT);
    if old > 0 {
        edit(cx, |f| f.switches.retain(|id, _| !ended.iter().take(old).any(|o| o == id)));
    }
}

/// A node was removed: it may hold a lease.
pub(in crate::state) fn removed(cx: &mut Cx<'_>, id: NodeId) {
    edit(cx, |f| {
        f.left.insert(id, None);
        for arming in f.armed.values_mut().chain(&mut f.always) {
            arming.confirmed.remove(&id);
        }
    });
}

/// A rollout's `switch` step begins: its deployment is armed.
pub(in crate::state) fn arm_step(cx: &mut Cx<'_>, id: crate::model::RolloutId, step: u32, deployment: &DeploymentId) {
    let owner = ArmedBy::Step(id, step);
    let arming = Arming { index: cx.at.index, since: cx.now(), owner, confirmed: BTreeSet::new() };
    edit(cx, |f| drop(f.armed.insert(deployment.clone(), arming)));
}

/// Disarms what no running `switch` step owns any more; after every command, as steps end in many places.
pub(in crate::state) fn sweep(cx: &mut Cx<'_>) {
    let over = |arming: &Arming| match arming.owner {
        ArmedBy::Cluster | ArmedBy::Switch(_) => false,
        ArmedBy::Step(id, step) => !cx.s.rollouts.get(&id).is_some_and(|r| {
            r.status == RolloutStatus::Active
                && r.running().is_some_and(|(at, row)| at == step && row.step.kind == StepKind::Switch)
        }),
    };
    let gone: Vec<DeploymentId> = cx.s.fences.armed.iter().filter(|(_, a)| over(a)).map(|(d, _)| d.clone()).collect();
    if !gone.is_empty() {
        edit(cx, |f| f.armed.retain(|d, _| !gone.contains(d)));
    }
}

/// What a restored cluster begins with: its settings; nothing is under way, and nobody has confirmed anything.
pub(in crate::state) fn restored(f: &Fences, index: u64, now: Millis) -> Fences {
    if *f == Fences::default() {
        return Fences::default();
    }
    let always =
        f.always.as_ref().map(|_| Arming { index, since: now, owner: ArmedBy::Cluster, confirmed: BTreeSet::new() });
    let over = |s: &&Switch| s.end.is_some();
    Fences {
        revision: f.revision.saturating_add(1),
        mode: f.mode,
        terms: f.terms,
        on_expiry: f.on_expiry.clone(),
        always,
        switches: f.switches.values().filter(over).map(|s| (s.id, s.clone())).collect(),
        ..Fences::default()
    }
}

/// What must hold in every State.
pub(in crate::state) fn check(s: &State) -> Result<(), String> {
    let f = &s.fences;
    if (f.mode == LeaseMode::Always) != f.always.is_some() {
        return Err("the mode of leases and its arming differ".into());
    }
    for (d, arming) in &f.armed {
        let owned = match arming.owner {
            ArmedBy::Cluster => false,
            ArmedBy::Switch(id) => f.switches.get(&id).is_some_and(|x| x.end.is_none()),
            ArmedBy::Step(id, step) => s.rollouts.get(&id).is_some_and(|r| {
                r.deployment == *d
                    && r.running().is_some_and(|(at, row)| at == step && row.step.kind == StepKind::Switch)
            }),
        };
        if !owned {
            return Err(format!("{d} is armed by {:?}, which is over", arming.owner));
        }
    }
    for x in f.open() {
        for t in &x.targets {
            let armed = f.armed.get(&t.deployment).is_some_and(|a| a.owner == ArmedBy::Switch(x.id));
            let d = s.deployments.get(&t.deployment);
            let at = if x.moved.is_some() { &t.to } else { &t.from };
            let stable = d.and_then(|d| d.arms.get(Role::Stable));
            let there = stable.is_some_and(|a| a.pair == *at && a.weight == WHOLE);
            if !armed || !there || d.is_some_and(|d| d.live.is_some()) {
                return Err(format!("s-{} is under way and {} is in between", x.id, t.deployment));
            }
        }
    }
    Ok(())
}
