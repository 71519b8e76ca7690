//! What must hold after every entry and in cluster time between them: the invariants of State, bounds of a rolling
//! update, traffic that is back within ten seconds where the old set still runs, what is never counted out, and what
//! `abort --as-is` promises.
//!
//! Not here: where a story may come to rest (`law`).

use std::collections::BTreeSet;

use slipway::model::{DeploymentId, Life, Millis, Pair, Period, RolloutId, StepKind, StrategyName, WorkerName};
use slipway::state::{
    Command, Deployment, Presence, Reason, Role, RolloutKind, RolloutPhase, State, StepRef, StepRow,
    command::{
        Abort, ArmAdjusted, BatchPassed, BatchStarted, CountedOut, Pause, Promote, Resume, Rollback, RollbackBegan,
        RolloutPaused,
    },
    free_addresses, invariants,
};

use super::judged;
use super::world::{Look, World};

/// Within which a rollback has all of the traffic, where everything it needs runs.
const BACK_WITHIN: Period = Period::seconds(10);

/// Traffic that is to be back by then.
#[derive(Clone)]
struct Back {
    deployment: DeploymentId,
    pair: Pair,
    due: Millis,
    asked: u64,
}

#[derive(Clone, Default)]
pub struct Watch {
    backs: Vec<Back>,
    /// Rollouts that an operator holds.
    pub held: BTreeSet<RolloutId>,
    /// Rollouts of which an operator has promoted a step.
    pub promoted: BTreeSet<RolloutId>,
}

impl Watch {
    pub fn next_due(&self) -> Option<Millis> {
        self.backs.iter().map(|b| b.due).min()
    }
}

/// The kind of a finding, and its text.
pub type Broken = (&'static str, String);

/// After an entry.
pub fn entry(w: &mut World, before: &State, body: &Command, ok: bool) -> Result<(), Broken> {
    if w.look == Look::All {
        let held = invariants::check(&w.state).and_then(|()| invariants::check_step(before, &w.state));
        held.map_err(|e| ("an invariant is broken", e))?;
    }
    if !ok {
        return Ok(());
    }
    operators(w, before, body);
    lost(w, before, body)?;
    as_is(w, before, body)?;
    fled(w, before, body)?;
    stood_still(before, body)?;
    judged::entry(w, before, body)?;
    for d in w.state.deployments.values() {
        rolling(before, &w.state, d, body)?;
    }
    Ok(())
}

/// Whether every ready worker runs its full number of passing instances of the pair.
pub fn runs_whole(s: &State, d: &DeploymentId, pair: &Pair) -> bool {
    let Some(spec) = s.spec(d, pair.spec) else { return false };
    let ready: Vec<_> = s.workers.values().filter(|w| w.presence == Presence::Ready).collect();
    let whole = |w: &&slipway::state::Worker| {
        let here = s.instances_of(d).filter(|i| &i.pair == pair && i.worker == w.name && i.serves());
        here.count() >= spec.placement.per_worker as usize
    };
    !ready.is_empty() && ready.iter().all(whole)
}

/// Verbs: who holds what, and traffic that is to be back soon.
fn operators(w: &mut World, before: &State, body: &Command) {
    let (rollout, back) = match body {
        Command::Pause(Pause { rollout }) => {
            w.watch.held.insert(*rollout);
            (*rollout, false)
        }
        Command::Resume(Resume { rollout }) => {
            w.watch.held.remove(rollout);
            (*rollout, false)
        }
        Command::Promote(Promote { rollout, .. }) => {
            w.watch.held.remove(rollout);
            w.watch.promoted.insert(*rollout);
            (*rollout, false)
        }
        Command::Abort(Abort { rollout, as_is }) => (*rollout, !as_is),
        Command::Rollback(Rollback { rollout }) | Command::RollbackBegan(RollbackBegan { rollout, .. }) => {
            (*rollout, true)
        }
        Command::StartRollout(s) => {
            w.watch.backs.retain(|b| b.deployment != s.deployment);
            return;
        }
        _ => return,
    };
    let Some(r) = before.rollouts.get(&rollout) else { return };
    w.watch.backs.retain(|b| b.deployment != r.deployment);
    let Some(pair) = r.from.clone().filter(|_| back) else { return };
    if runs_whole(before, &r.deployment, &pair) {
        let due = w.state.now.plus(BACK_WITHIN);
        w.watch.backs.push(Back { deployment: r.deployment.clone(), pair, due, asked: w.index });
        w.tally.note("a rollback where the old set runs");
    }
}

/// What was due by now.
pub fn due(w: &mut World) {
    let now = w.now();
    let (due, later): (Vec<Back>, Vec<Back>) = w.watch.backs.drain(..).partition(|b| b.due <= now);
    w.watch.backs = later;
    for b in due {
        let Some(d) = w.state.deployments.get(&b.deployment) else { continue };
        if runs_whole(&w.state, &b.deployment, &b.pair) && share(d, &b.pair) < 10_000 {
            let text = format!("{} of {}, asked for at #{}: {:?}", b.pair.version, b.deployment, b.asked, d.route);
            w.found("traffic is not back within 10 s", text);
        }
    }
}

/// The weight of a pair, in basis points.
pub fn share(d: &Deployment, pair: &Pair) -> u32 {
    d.arms.of(pair).map_or(0, |a| a.weight.0)
}

/// Which pairs have which weight.
fn shares(d: &Deployment) -> Vec<(Pair, u32)> {
    let mut all: Vec<_> = d.arms.iter().map(|a| (a.pair.clone(), a.weight.0)).collect();
    all.retain(|(_, n)| *n > 0);
    all.sort();
    all
}

/// Nothing is counted out that may still run behind a cut, and nothing before its time.
fn lost(w: &World, before: &State, body: &Command) -> Result<(), Broken> {
    let Command::CountedOut(CountedOut { deployment, worker }) = body else { return Ok(()) };
    let Some(laid) = w.shape.deployments.iter().find(|l| &l.id == deployment) else { return Ok(()) };
    let row = before.workers.get(worker);
    let since = row.filter(|w| w.presence == Presence::Lost).and_then(|w| w.lost_at);
    let Some(since) = since else { return Err(("counted out too early", format!("{worker} is not lost"))) };
    if laid.singleton {
        return Err(("a singleton is counted out", format!("{deployment} on {worker}")));
    }
    if w.state.now.since(since) < Period(laid.lost_for_good) {
        let text = format!("{worker} of {deployment}, silent since {since}, at {}", w.state.now);
        return Err(("counted out too early", text));
    }
    Ok(())
}

/// A rolling update runs into no deadline while all that there is passes, its workers are heard of, and one has room
/// for what it lacks.
fn stood_still(before: &State, body: &Command) -> Result<(), Broken> {
    let (Command::RollbackBegan(RollbackBegan { rollout, reason: Reason::Deadline, .. })
    | Command::RolloutPaused(RolloutPaused { rollout, reason: Reason::Deadline, .. })) = body
    else {
        return Ok(());
    };
    let r = &before.rollouts[rollout];
    // A batch that is under way waits for its own, also for those on a worker that is lost meanwhile.
    let between = |s: &StepRow| s.batch.as_ref().is_none_or(|b| b.passed);
    let installs = r.running().is_some_and(|(_, s)| matches!(s.step.kind, StepKind::Install { .. }) && between(s));
    let ready = |w: &WorkerName| before.workers.get(w).is_some_and(|w| w.presence == Presence::Ready);
    // What a lost worker of its order had may be all that may be missing.
    if r.strategy != StrategyName::ROLLING || !installs || !r.order.iter().all(ready) {
        return Ok(());
    }
    let mut live = before.instances_of(&r.deployment).filter(|i| i.life.is_live() && ready(&i.worker));
    let per_worker = before.spec(&r.deployment, r.to.spec).map_or(1, |s| s.placement.per_worker as usize);
    let lacks = |name: &&WorkerName| {
        let Some(worker) = before.workers.get(*name).filter(|_| ready(name)) else { return false };
        let on = before.instances.on(name).filter(|i| i.life.is_live());
        let (mut all, mut new) = (0, 0);
        for i in on {
            all += 1;
            new += usize::from(i.deployment == r.deployment && i.pair == r.to);
        }
        let free = free_addresses(before, worker, &r.deployment).len();
        new < per_worker && free > 0 && all < worker.capacity as usize
    };
    match r.order.iter().find(lacks) {
        Some(worker) if live.all(|i| i.serves()) => {
            Err(("it stood still until its deadline", format!("{rollout}: {worker} has room and all that runs passes")))
        }
        Some(_) | None => Ok(()),
    }
}

/// No verb on a rollback gives traffic to the version that it leaves.
fn fled(w: &World, before: &State, body: &Command) -> Result<(), Broken> {
    let rollout = match body {
        Command::Abort(Abort { rollout, .. })
        | Command::Rollback(Rollback { rollout })
        | Command::Promote(Promote { rollout, .. }) => rollout,
        _ => return Ok(()),
    };
    let Some(r) = before.rollouts.get(rollout).filter(|r| r.is_rollback() && !r.status.is_terminal()) else {
        return Ok(());
    };
    let left = if r.phase == RolloutPhase::Undo { Some(&r.to) } else { r.from.as_ref() };
    let Some(left) = left else { return Ok(()) };
    let of = |s: &State| s.deployments.get(&r.deployment).map_or(0, |d| share(d, left));
    // Of three versions that share, `--as-is` lets one go, whose share somebody must take.
    let as_is = matches!(body, Command::Abort(Abort { as_is: true, .. }));
    if as_is && before.deployments.get(&r.deployment).is_some_and(|d| shares(d).len() > 2) {
        return Ok(());
    }
    if of(&w.state) > of(before) {
        return Err((
            "traffic for what was left",
            format!("{} had {}, has {}", left.version, of(before), of(&w.state)),
        ));
    }
    Ok(())
}

/// A rollback that is ended where it stands keeps weights and instances; the keeper adds none of what was given up.
fn as_is(w: &mut World, before: &State, body: &Command) -> Result<(), Broken> {
    let by_plan = !matches!(body, Command::Abort(_) | Command::StartRollout(_));
    for d in before.deployments.values().filter(|d| by_plan && d.as_is.is_some()) {
        let new = &w.state.deployments[&d.id];
        if new.as_is.is_some() && d.live.is_none() && new.live.is_none() && shares(d) != shares(new) {
            return Err(("as is moves traffic", format!("{:?} -> {:?}", d.route, new.route)));
        }
    }
    match body {
        Command::Abort(Abort { rollout, as_is: true }) => {
            let Some(id) = before.rollouts.get(rollout).map(|r| r.deployment.clone()) else { return Ok(()) };
            let (old, new) = (&before.deployments[&id], &w.state.deployments[&id]);
            if new.as_is.is_none() {
                return Ok(());
            }
            // Of three versions one is let go of.
            if shares(old).len() < 3 && shares(old) != shares(new) {
                return Err(("as is moves traffic", format!("{:?} -> {:?}", old.route, new.route)));
            }
            // What waits for a place that it now does not get was never told to anybody.
            for i in before.instances_of(&id).filter(|i| i.life == Life::Running) {
                if !w.state.instances.get(&i.id).is_some_and(|n| n.life.is_wanted()) {
                    return Err(("as is stopped an instance", format!("{} {}", i.id, i.pair)));
                }
            }
            w.tally.note("ended as it is");
            Ok(())
        }
        Command::ArmAdjusted(ArmAdjusted { deployment, add, .. }) => {
            let d = &before.deployments[deployment];
            let Some(as_is) = &d.as_is else { return Ok(()) };
            let of = |role: Role| d.arms.pair(role) == Some(&as_is.given_up);
            match add.iter().find(|(role, ..)| of(*role)) {
                Some((_, worker, n)) => Err(("as is was added to", format!("{n} of {} on {worker}", as_is.given_up))),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// A rolling update's own entries stay within surge and unavailable.
fn rolling(before: &State, after: &State, d: &Deployment, body: &Command) -> Result<(), Broken> {
    let rollout = match body {
        Command::BatchStarted(BatchStarted { at: StepRef { rollout, .. }, .. })
        | Command::BatchPassed(BatchPassed { at: StepRef { rollout, .. }, .. }) => *rollout,
        _ => return Ok(()),
    };
    if d.live != Some(rollout) {
        return Ok(());
    }
    let r = &after.rollouts[&rollout];
    let back = r.phase == RolloutPhase::Undo || r.kind != RolloutKind::Forward;
    if r.strategy != StrategyName::ROLLING || back || r.from.is_none() {
        return Ok(());
    }
    let ready = |s: &State, i: &slipway::state::Instance| {
        s.workers.get(&i.worker).is_some_and(|w| w.presence == Presence::Ready)
    };
    let serving = |s: &State| s.instances_of(&d.id).filter(|i| i.serves() && ready(s, i)).count();
    let floor = r.desired.saturating_sub(r.params.unavailable(r.desired)) as usize;
    let (was, is) = (serving(before), serving(after));
    if is < floor && is < was {
        return Err(("fewer than desired - unavailable", format!("{is} of at least {floor} serve, {was} before")));
    }
    let waits = |s: &State, i: &slipway::state::Instance| {
        let old = i.replaces.and_then(|o| s.instances.get(&o));
        i.life == Life::Starting && old.is_some_and(|o| o.life.is_live())
    };
    // What it goes without is nobody's surge, nor what an earlier rollout left beside both of its versions.
    let mine = |i: &slipway::state::Instance| r.order.contains(&i.worker);
    let counted = |s: &State, i: &slipway::state::Instance| i.life.is_live() && ready(s, i) && !waits(s, i) && mine(i);
    let live = |s: &State| s.instances_of(&d.id).filter(|i| counted(s, i)).count();
    if before.deployments[&d.id].as_is.is_some() {
        return Ok(());
    }
    if after.instances_of(&d.id).any(|i| i.life.is_live() && i.pair != r.to && Some(&i.pair) != r.from.as_ref()) {
        return Ok(());
    }
    if r.params.max_surge.is_none() {
        // In place: by worker, as surplus that an earlier rollout left on one keeps no other from being filled.
        let per_worker = after.spec(&d.id, r.to.spec).map_or(1, |s| s.placement.per_worker as usize);
        let on = |s: &State, w: &WorkerName| s.instances_of(&d.id).filter(|i| counted(s, i) && &i.worker == w).count();
        let over = r.order.iter().find(|w| on(after, w) > per_worker.max(on(before, w)));
        return match over.filter(|_| matches!(body, Command::BatchStarted(_))) {
            Some(w) => {
                Err(("more than per_worker", format!("{} processes on {w}, {per_worker} at most", on(after, w))))
            }
            None => Ok(()),
        };
    }
    let roof = (r.desired + r.params.surge(r.desired)) as usize;
    // Machines that come back bring theirs along: that is nobody's batch.
    let (was, is) = (live(before), live(after));
    if matches!(body, Command::BatchStarted(_)) && is > roof && was <= roof {
        return Err(("more than desired + surge", format!("{is} processes, {roof} at most, {was} before")));
    }
    Ok(())
}
