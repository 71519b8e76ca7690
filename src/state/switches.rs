//! The commands of the fenced switch: arms, and switches of several deployments.
//!
//! Invariants: one entry moves all deployments of a switch or none; a switch that says "fenced" names for every server of the fence
//! set its word or the end of its lease; nothing else moves a deployment's traffic while a switch is under way.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Arm, ArmOwner, Deployment, EventBody, Fences, LeaseMode, Rejection, RolloutStatus, State, Switch, SwitchAsk,
    SwitchEnd, SwitchTarget, SwitchTo, Track, TrackName, WaitLevel, assign, catalog,
    context::{Cx, Done, guard},
    differs,
    fences::{KEPT, bound, fence_set},
    routes, serving,
};
use crate::model::{BasisPoints, DeploymentId, Millis, NodeId, Pair, Period, StepKind, WHOLE};

/// Deployments of one switch at most.
const MAX_DEPLOYMENTS: usize = 64;
/// Switches under way at most.
const MAX_OPEN: usize = 16;
/// Longest wait for confirmations.
const MAX_WITHIN: Period = Period::minutes(10);
/// Longest note of an end.
const MAX_NOTE: usize = 2048;

/// Changes the row, with its revision.
pub(super) fn edit<T>(cx: &mut Cx<'_>, with: impl FnOnce(&mut Fences) -> T) -> T {
    let f = Arc::make_mut(&mut cx.s.fences);
    f.revision = f.revision.saturating_add(1);
    with(f)
}

/// Refuses what would change the traffic of a deployment that is being switched.
pub(super) fn not_switching(cx: &Cx<'_>, id: &DeploymentId) -> Done {
    match cx.s.fences.switching(id) {
        Some(s) => Err(Rejection::Conflict {
            what: format!("{id} is being switched (s-{}): try again when that is over", s.id),
        }),
        None => Ok(()),
    }
}

/// Where a deployment goes: its stable pair and the one beside it.
fn target(
    cx: &Cx<'_>,
    d: &Deployment,
    to: &dyn Fn(TrackName, &Pair) -> bool,
    said: &str,
) -> Result<SwitchTarget, Rejection> {
    let refused = |text: String| Err(Rejection::Precondition(text));
    if let Some(rollout) = d.live {
        return Err(Rejection::Busy { rollout });
    }
    not_switching(cx, &d.id)?;
    let (Some(stable), Some(route)) = (&d.tracks.stable, &d.route) else {
        return refused(format!("nothing serves {} yet: `slipway rollout start` it first", d.id));
    };
    if route.weights != routes::ALL_STABLE {
        return refused(format!("{} still shares its traffic after an abort: wait until stable carries it", d.id));
    }
    let beside = d.tracks.iter().find(|(name, t)| *name != TrackName::Stable && to(*name, &t.pair));
    let Some((_, beside)) = beside else {
        if stable.pair.version.to_string() == said {
            return refused(format!("{} runs {said} already", d.id));
        }
        let have: Vec<String> =
            d.tracks.iter().filter(|(n, _)| *n != TrackName::Stable).map(|(_, t)| t.pair.version.to_string()).collect();
        return refused(format!(
            "{} has no {said} beside {} (it has {}): `slipway rollout start {} --to {said}` brings it there",
            d.id,
            stable.pair.version,
            if have.is_empty() { "nothing".into() } else { have.join(", ") },
            d.id
        ));
    };
    let target = SwitchTarget { deployment: d.id.clone(), from: stable.pair.clone(), to: beside.pair.clone() };
    carries(&cx.s, d, &target.to).map_err(Rejection::Precondition)?;
    Ok(target)
}

/// Whether a pair can take all of a deployment's traffic.
fn carries(s: &State, d: &Deployment, pair: &Pair) -> Result<(), String> {
    let (have, need) = (serving::passing(s, &d.id, pair), d.desired.max(1));
    if have >= need {
        return Ok(());
    }
    Err(format!(
        "{have} of {need} instances of {} {} pass their checks: wait for them, or start a rollout",
        d.id, pair.version
    ))
}

/// `SwitchAsked`: everything that can be refused is refused here; then the deployments are armed. With `quorum` it is made at once.
pub(super) fn asked(cx: &mut Cx<'_>, ask: &SwitchAsk) -> Done {
    if ask.within > MAX_WITHIN {
        return Err(Rejection::Invalid(format!("waiting for servers for {} is over {MAX_WITHIN}", ask.within)));
    }
    if cx.s.fences.open().count() >= MAX_OPEN {
        return Err(Rejection::Exhausted {
            what: "switches under way".into(),
            limit: MAX_OPEN as u64,
            fix: "wait until they are over".into(),
        });
    }
    let (targets, undoes) = targets(cx, ask)?;
    let (id, now) = (cx.at.index, cx.now());
    let ttl = targets.iter().filter_map(|t| largest_ttl(&cx.s, &t.deployment)).max().unwrap_or_default();
    let row = Switch {
        id,
        revision: 1,
        targets,
        wait: ask.wait,
        unfenced: ask.unfenced,
        within: ask.within,
        asked_at: now,
        undoes,
        ttl,
        ready: None,
        moved: None,
        end: None,
    };
    for t in &row.targets {
        announce(cx, id, &t.deployment, "asked for");
    }
    if ask.wait == WaitLevel::Quorum {
        let mut row = row;
        apply_targets(cx, &row)?;
        row.moved = Some((id, now));
        row.end = Some(SwitchEnd {
            at: now,
            switched: true,
            fenced_at: None,
            servers: Vec::new(),
            clear_at: None,
            note: "committed; nobody waited for the servers".into(),
        });
        edit(cx, |f| drop(f.switches.insert(id, row)));
        forget(cx);
        return Ok(());
    }
    edit(cx, |f| {
        for t in &row.targets {
            let arm = Arm { index: id, since: now, owner: ArmOwner::Switch(id), confirmed: BTreeSet::new() };
            f.arms.insert(t.deployment.clone(), arm);
        }
        f.switches.insert(id, row);
    });
    Ok(())
}

fn targets(cx: &Cx<'_>, ask: &SwitchAsk) -> Result<(Vec<SwitchTarget>, Option<u64>), Rejection> {
    if let SwitchTo::Back(id) = ask.to {
        let Some(old) = cx.s.fences.switches.get(&id) else {
            return Err(Rejection::not_found(
                "switch",
                format!("s-{id}"),
                ", or no longer: name deployments and a version",
            ));
        };
        if !ask.deployments.is_empty() {
            return Err(Rejection::Invalid("a switch is taken back as a whole: name no deployments".into()));
        }
        if !old.end.as_ref().is_some_and(|e| e.switched) {
            return Err(Rejection::Precondition(format!("s-{id} is under way, or moved nothing")));
        }
        let all: Result<Vec<_>, _> = old
            .targets
            .iter()
            .map(|t| {
                let d = cx.deployment(&t.deployment)?;
                target(cx, &d, &|_, pair| *pair == t.from, &t.from.version.to_string())
            })
            .collect();
        return Ok((all?, Some(id)));
    }
    let distinct: BTreeSet<&DeploymentId> = ask.deployments.iter().collect();
    if ask.deployments.is_empty() || ask.deployments.len() > MAX_DEPLOYMENTS || distinct.len() != ask.deployments.len()
    {
        return Err(Rejection::Invalid(format!("name 1 to {MAX_DEPLOYMENTS} deployments, each once")));
    }
    let fits = |name: TrackName, pair: &Pair| match &ask.to {
        SwitchTo::Version(v) => pair.version == *v,
        SwitchTo::Previous => name == TrackName::Previous,
        SwitchTo::Back(_) => false,
    };
    let said = match &ask.to {
        SwitchTo::Version(v) => v.to_string(),
        SwitchTo::Previous | SwitchTo::Back(_) => "previous version".into(),
    };
    let all: Result<Vec<_>, _> =
        ask.deployments.iter().map(|id| target(cx, &cx.deployment(id)?, &fits, &said)).collect();
    Ok((all?, None))
}

/// The largest TTL with which the old version may have been handed out: names of the route, tracks and pins.
fn largest_ttl(s: &State, id: &DeploymentId) -> Option<Period> {
    s.deployments.get(id)?.route.as_ref().map(|r| r.ttl)
}

fn announce(cx: &mut Cx<'_>, switch: u64, deployment: &DeploymentId, what: &str) {
    cx.emit(EventBody::SwitchChanged { switch, deployment: deployment.clone(), what: what.into() });
}

/// Why a switch that is under way cannot be made now, judged on committed rows.
pub fn obstacle(s: &State, switch: &Switch) -> Option<String> {
    switch.targets.iter().find_map(|t| {
        let Some(d) = s.deployments.get(&t.deployment) else { return Some(format!("{} is gone", t.deployment)) };
        let there = d.tracks.iter().any(|(n, x)| n != TrackName::Stable && x.pair == t.to);
        let same = d.tracks.stable.as_ref().is_some_and(|x| x.pair == t.from);
        if d.live.is_some() || !there || !same {
            return Some(format!("{} is no longer what it was", t.deployment));
        }
        carries(s, d, &t.to).err()
    })
}

/// Moves all deployments of a switch, or none.
fn apply_targets(cx: &mut Cx<'_>, switch: &Switch) -> Done {
    if let Some(why) = obstacle(&cx.s, switch) {
        return guard(why);
    }
    for t in &switch.targets {
        let mut d = cx.deployment(&t.deployment)?;
        let mut to = d.tracks.previous.take_if(|x| x.pair == t.to);
        to = to.or_else(|| d.tracks.candidate.take_if(|x| x.pair == t.to));
        let mut stable = to.unwrap_or(Track { pair: t.to.clone(), want: 0, retire_at: None });
        (stable.want, stable.retire_at) = (d.desired.max(1), None);
        let grace = cx.s.spec(&d.id, t.from.spec).map_or(Period::minutes(60), |s| s.rollout.grace);
        if let Some(mut old) = d.tracks.stable.replace(stable) {
            old.want = serving::wanted(&cx.s, &d.id, &old.pair);
            old.retire_at = Some(cx.now().plus(grace));
            d.tracks.previous = Some(old);
        }
        let form = d.route.as_ref().map(|r| (r.mode, r.ttl));
        let Some(form) = form else { return guard(format!("{} has no route", d.id)) };
        d.as_is = None;
        routes::write(cx, &mut d, routes::ALL_STABLE, BasisPoints(0), form, true);
        cx.put_deployment(d);
        catalog::settle_versions(cx, &t.deployment.service, [t.to.version.clone(), t.from.version.clone()]);
        announce(cx, switch.id, &t.deployment, &format!("traffic to {}", t.to.version));
        assign::refresh(cx, &t.deployment);
    }
    Ok(())
}

/// Notes which servers have served which arm. Says whether that was news.
fn confirm(cx: &mut Cx<'_>, served: &[(NodeId, u64)]) -> bool {
    let known: Vec<(NodeId, u64)> =
        served.iter().filter(|(n, _)| cx.s.nodes.contains_key(n) && !differs(&cx.s, *n)).copied().collect();
    let news = |a: &Arm| known.iter().any(|(n, at)| *at >= a.index && !a.confirmed.contains(n));
    if !cx.s.fences.arms.values().chain(&cx.s.fences.always).any(news) {
        return false;
    }
    edit(cx, |f| {
        for arm in f.arms.values_mut().chain(&mut f.always) {
            arm.confirmed.extend(known.iter().filter(|(_, at)| *at >= arm.index).map(|(n, _)| *n));
        }
    });
    let servers = fence_set(&cx.s);
    let knows = |s: &&Switch| s.targets.iter().all(|t| servers.iter().all(|n| bound(&cx.s, &t.deployment, *n, 0)));
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

/// `ArmsConfirmed`.
pub(super) fn confirmed(cx: &mut Cx<'_>, served: &[(NodeId, u64)]) -> Done {
    if confirm(cx, served) { Ok(()) } else { guard("nothing new is confirmed") }
}

fn open(cx: &Cx<'_>, id: u64, seen: u64) -> Result<Switch, Rejection> {
    let Some(s) = cx.s.fences.switches.get(&id) else { return guard(format!("there is no switch s-{id}")) };
    if s.revision != seen {
        return Err(Rejection::Stale { seen, now: s.revision });
    }
    if s.end.is_some() { guard(format!("s-{id} is over")) } else { Ok(s.clone()) }
}

/// `SwitchMoved`: the traffic moves, once every server of the fence set knows of it; without that only after the time that was given.
pub(super) fn moved(cx: &mut Cx<'_>, id: u64, seen: u64, served: &[(NodeId, u64)]) -> Done {
    let mut s = open(cx, id, seen)?;
    if s.moved.is_some() {
        return guard(format!("s-{id} has moved already"));
    }
    if confirm(cx, served) {
        s = cx.s.fences.switches.get(&id).cloned().unwrap_or(s);
    }
    if s.unfenced == super::Unfenced::TakeBack {
        let all = s.targets.iter().all(|t| fence_set(&cx.s).iter().all(|n| bound(&cx.s, &t.deployment, *n, 0)));
        if !all {
            return guard(format!("s-{id} is to be made only when every server knows of it"));
        }
    }
    apply_targets(cx, &s)?;
    s.moved = Some((cx.at.index, cx.now()));
    s.revision = s.revision.saturating_add(1);
    edit(cx, |f| drop(f.switches.insert(id, s)));
    Ok(())
}

/// `SwitchEnded`.
pub(super) fn ended(cx: &mut Cx<'_>, id: u64, seen: u64, end: &SwitchEnd) -> Done {
    let mut s = open(cx, id, seen)?;
    if end.switched != s.moved.is_some() {
        return guard(format!("s-{id} has {}moved", if s.moved.is_some() { "" } else { "not " }));
    }
    if end.note.len() > MAX_NOTE {
        return guard("its note is too long");
    }
    if end.fenced_at.is_some() {
        fenced(cx, &s, end)?;
    }
    let what = match (end.switched, end.fenced_at) {
        (true, Some(_)) => "fenced",
        (true, None) => "over, not fenced",
        (false, _) => "taken back",
    };
    for t in &s.targets {
        announce(cx, id, &t.deployment, what);
    }
    s.end = Some(SwitchEnd { at: cx.now(), ..end.clone() });
    s.revision = s.revision.saturating_add(1);
    edit(cx, |f| {
        f.arms.retain(|_, a| a.owner != ArmOwner::Switch(id));
        f.switches.insert(id, s);
    });
    forget(cx);
    Ok(())
}

/// What "fenced" says must be in its own record: every server, and only those that are bound may be waited out.
fn fenced(cx: &Cx<'_>, s: &Switch, end: &SwitchEnd) -> Done {
    for node in fence_set(&cx.s) {
        let how = end.servers.iter().find(|(n, _, _)| *n == node).map(|(_, _, how)| *how);
        let ok = match how {
            Some(super::ServerEnd::Served(_)) => !differs(&cx.s, node),
            Some(super::ServerEnd::Expired) => s.targets.iter().all(|t| bound(&cx.s, &t.deployment, node, 0)),
            Some(super::ServerEnd::Holds | super::ServerEnd::Unbound) | None => false,
        };
        if !ok {
            return guard(format!("s-{} is not fenced at node {node}", s.id));
        }
    }
    Ok(())
}

/// Keeps the newest of the ended switches.
fn forget(cx: &mut Cx<'_>) {
    let ended: Vec<u64> = cx.s.fences.switches.values().filter(|s| s.end.is_some()).map(|s| s.id).collect();
    let old = ended.len().saturating_sub(KEPT);
    if old > 0 {
        edit(cx, |f| f.switches.retain(|id, _| !ended.iter().take(old).any(|o| o == id)));
    }
}

/// `LeasesSettled`: in two entries. The first fixes a time after which nothing was granted under what is waited for; the second comes
/// once the longest such lease is over, and forgets it.
pub(super) fn settled(cx: &mut Cx<'_>, seen: u64) -> Done {
    if cx.s.fences.revision != seen {
        return Err(Rejection::Stale { seen, now: cx.s.fences.revision });
    }
    if !due(&cx.s.fences, cx.now()) {
        return guard("nothing is to be settled yet");
    }
    let now = cx.now();
    edit(cx, |f| {
        let bound = f.waited().bound();
        let over = |at: &Option<Millis>| at.is_some_and(|t| now >= t.plus(bound));
        f.left.retain(|_, at| !over(at));
        for at in f.left.values_mut() {
            *at = at.or(Some(now));
        }
        f.floor = f.floor.filter(|(_, at)| !over(at)).map(|(terms, at)| (terms, at.or(Some(now))));
    });
    Ok(())
}

/// Whether `LeasesSettled` would change something.
pub fn due(f: &Fences, now: Millis) -> bool {
    let bound = f.waited().bound();
    let ready = |at: &Option<Millis>| at.is_none_or(|t| now >= t.plus(bound));
    f.left.values().any(ready) || f.floor.as_ref().is_some_and(|(_, at)| ready(at))
}

/// A node was removed: it may hold a lease.
pub(super) fn removed(cx: &mut Cx<'_>, id: NodeId) {
    edit(cx, |f| {
        f.left.insert(id, None);
        for arm in f.arms.values_mut().chain(&mut f.always) {
            arm.confirmed.remove(&id);
        }
    });
}

/// A rollout's `switch` step begins: its deployment is armed.
pub(super) fn arm_step(cx: &mut Cx<'_>, id: crate::model::RolloutId, step: u32, deployment: &DeploymentId) {
    let owner = ArmOwner::Step(id, step);
    let arm = Arm { index: cx.at.index, since: cx.now(), owner, confirmed: BTreeSet::new() };
    edit(cx, |f| drop(f.arms.insert(deployment.clone(), arm)));
}

/// Disarms what no running `switch` step owns any more; after every command, as steps end in many places.
pub(super) fn sweep(cx: &mut Cx<'_>) {
    let over = |arm: &Arm| match arm.owner {
        ArmOwner::Cluster | ArmOwner::Switch(_) => false,
        ArmOwner::Step(id, step) => !cx.s.rollouts.get(&id).is_some_and(|r| {
            r.status == RolloutStatus::Active
                && r.running().is_some_and(|(at, row)| at == step && row.step.kind == StepKind::Switch)
        }),
    };
    let gone: Vec<DeploymentId> = cx.s.fences.arms.iter().filter(|(_, a)| over(a)).map(|(d, _)| d.clone()).collect();
    if !gone.is_empty() {
        edit(cx, |f| f.arms.retain(|d, _| !gone.contains(d)));
    }
}

/// What a restored cluster begins with: its settings; nothing is under way, and nobody has confirmed anything.
pub(super) fn restored(f: &Fences, index: u64, now: Millis) -> Fences {
    if *f == Fences::default() {
        return Fences::default();
    }
    let always =
        f.always.as_ref().map(|_| Arm { index, since: now, owner: ArmOwner::Cluster, confirmed: BTreeSet::new() });
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
pub(super) fn check(s: &State) -> Result<(), String> {
    let f = &s.fences;
    if (f.mode == LeaseMode::Always) != f.always.is_some() {
        return Err("the mode of leases and its arm differ".into());
    }
    for (d, arm) in &f.arms {
        let owned = match arm.owner {
            ArmOwner::Cluster => false,
            ArmOwner::Switch(id) => f.switches.get(&id).is_some_and(|x| x.end.is_none()),
            ArmOwner::Step(id, step) => s.rollouts.get(&id).is_some_and(|r| {
                r.deployment == *d
                    && r.running().is_some_and(|(at, row)| at == step && row.step.kind == StepKind::Switch)
            }),
        };
        if !owned {
            return Err(format!("{d} is armed by {:?}, which is over", arm.owner));
        }
    }
    for x in f.open() {
        for t in &x.targets {
            let armed = f.arms.get(&t.deployment).is_some_and(|a| a.owner == ArmOwner::Switch(x.id));
            let d = s.deployments.get(&t.deployment);
            let at = if x.moved.is_some() { &t.to } else { &t.from };
            let there = d.and_then(|d| d.tracks.stable.as_ref()).is_some_and(|y| y.pair == *at);
            let whole = d.and_then(|d| d.route.as_ref()).is_some_and(|r| r.weights.stable == WHOLE);
            if !armed || !there || !whole || d.is_some_and(|d| d.live.is_some()) {
                return Err(format!("s-{} is under way and {} is in between", x.id, t.deployment));
            }
        }
    }
    Ok(())
}
