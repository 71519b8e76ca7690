//! The law: once faults stop, every deployment comes to rest in bounded cluster time. What rest is, and when a story
//! makes a wait all right: computed from what the story set (behaviours, packages, machines, policies), never from what
//! the product says of itself.
//!
//! Not here: how a wait that is all right is ended (`way_out`).

use slipway::model::{FailureAction, Millis, Pair, Period, Portion, StrategyName, Version};
use slipway::state::{Deployment, Presence, Role, Rollout, RolloutKind, RolloutPhase, RolloutStatus};

use super::catalogue::{digest, number};
use super::shape::Laid;
use super::story::{Ill, Package};
use super::watch::share;
use super::world::World;

/// Why a deployment is not at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unrest {
    /// Only something that is kept until then is left.
    Kept(Millis),
    Because(String),
}

fn because<T>(text: String) -> Result<T, Unrest> {
    Err(Unrest::Because(text))
}

/// Whether one deployment is at rest.
pub fn rest(w: &World, laid: &Laid) -> Result<(), Unrest> {
    let s = &w.state;
    let Some(d) = s.deployments.get(&laid.id) else { return Ok(()) };
    if let Some(id) = d.live {
        return because(format!("{id} is {}", s.rollouts[&id].status));
    }
    if d.as_is.is_some() {
        return because("it was ended as it is".into());
    }
    let mut kept = None;
    for arm in d.arms.iter().filter(|a| a.role != slipway::state::Role::Stable) {
        match arm.retire_at {
            Some(at) => kept = kept.max(Some(at)),
            None => return because(format!("{} {} is there for ever", arm.role, arm.pair)),
        }
    }
    let stable = d.arms.pair(Role::Stable);
    let reachable = |i: &&slipway::state::Instance| i.life.is_live() && ready(w, i);
    let others: Vec<String> = s
        .instances_of(&laid.id)
        .filter(reachable)
        .filter(|i| Some(&i.pair) != stable && d.arms.of(&i.pair).is_none())
        .map(|i| format!("{} {} is {}", i.id, i.pair, i.life))
        .collect();
    if !others.is_empty() {
        return because(others.join(", "));
    }
    match stable {
        Some(pair) => whole(w, laid, d, pair)?,
        None if d.route.is_some() => return because("there is a route and nothing stable".into()),
        None => {}
    }
    if let Some(waits) = w.waits.get(&laid.id).filter(|_| kept.is_none()) {
        return because(format!("it waits: {waits:?}"));
    }
    kept.map_or(Ok(()), |at| Err(Unrest::Kept(at)))
}

fn ready(w: &World, i: &slipway::state::Instance) -> bool {
    w.state.workers.get(&i.worker).is_some_and(|w| w.presence == Presence::Ready)
}

/// One version at its full number on every machine that lives, with all of the traffic, and named alone.
fn whole(w: &World, laid: &Laid, d: &Deployment, pair: &Pair) -> Result<(), Unrest> {
    let s = &w.state;
    let alive: Vec<_> = w.agents.iter().filter(|(_, a)| a.alive).map(|(name, _)| name).collect();
    for name in &alive {
        if s.workers.get(*name).is_none_or(|w| w.presence == Presence::Lost) {
            return because(format!("{name} lives and counts as lost"));
        }
        let here: Vec<_> =
            s.instances_of(&laid.id).filter(|i| &i.pair == pair && &i.worker == *name && i.life.is_live()).collect();
        let passing = here.iter().filter(|i| i.serves()).count();
        if passing != laid.per_worker as usize || here.len() != passing {
            return because(format!("{name} runs {} of {}, {passing} pass", here.len(), laid.per_worker));
        }
        let runs = &w.agents[*name].processes;
        if !here.iter().all(|i| runs.get(&i.id).is_some_and(|p| p.serves(w.real))) {
            return because(format!("{name} does not run what State says"));
        }
    }
    let desired = alive.len() as u32 * laid.per_worker;
    if d.desired != desired && !alive.is_empty() {
        return because(format!("desired is {} and should be {desired}", d.desired));
    }
    if share(d, pair) != 10_000 {
        return because(format!("{pair} has {} of the traffic", share(d, pair)));
    }
    let named = slipway::state::serving(s, &laid.id, w.now());
    if let Some(dead) = named.iter().find(|i| !alive.contains(&&i.worker)).filter(|_| !alive.is_empty()) {
        return because(format!("DNS names {} on {}, which is dead", dead.id, dead.worker));
    }
    Ok(())
}

/// Whether the program of a release does well on every machine that lives.
fn runs_well(w: &World, version: &Version) -> bool {
    let r = w.catalogue.of(version);
    let bad = match r.ill {
        Ill::Exits(_) | Ill::Hangs | Ill::Fades(_) => true,
        Ill::Nothing | Ill::Errors(_) | Ill::Smoke | Ill::Uncounted => false,
    };
    let shows = |n: u32| r.only_on.is_none_or(|on| on == n);
    !bad || !w.agents.iter().any(|(name, a)| a.alive && shows(number(name)))
}

/// Whether every machine that lives has its package or can get it.
fn packaged(w: &World, version: &Version) -> bool {
    let n = w.catalogue.releases.iter().position(|r| &r.version == version).expect("a release of the story");
    match w.catalogue.releases[n].package {
        Package::Here => true,
        Package::Late(at) => at <= w.real,
        Package::Never | Package::Refused => {
            w.agents.values().filter(|a| a.alive).all(|a| a.staged.contains(&digest(n)))
        }
    }
}

/// Whether a release can run everywhere.
pub fn sound(w: &World, version: &Version) -> bool {
    runs_well(w, version) && packaged(w, version)
}

/// Whether a machine burned that the placement chose.
fn burned(w: &World) -> bool {
    w.agents.values().any(|a| !a.alive)
}

/// Which way a live rollout goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Forward,
    Undo,
    Return,
}

pub fn way(r: &Rollout) -> Way {
    match (r.kind, r.phase) {
        (RolloutKind::Return { .. }, _) => Way::Return,
        (RolloutKind::Forward, RolloutPhase::Forward) => Way::Forward,
        (RolloutKind::Forward, RolloutPhase::Undo) => Way::Undo,
    }
}

/// Why this story may leave the deployment waiting; `None`: it may not.
pub fn allowed(w: &World, laid: &Laid) -> Option<&'static str> {
    let d = w.state.deployments.get(&laid.id)?;
    if !w.agents.values().any(|a| a.alive) {
        return Some("no machine lives");
    }
    let Some(r) = w.state.live_rollout(&laid.id) else { return idle(w, d) };
    if laid.singleton && burned(w) {
        return Some("a singleton's machine burned");
    }
    if r.status == RolloutStatus::Paused && w.watch.held.contains(&r.id) {
        return Some("an operator holds it");
    }
    match way(r) {
        Way::Return => (!sound(w, &r.to.version)).then_some("the version to return to is not sound"),
        Way::Undo => {
            let from = r.from.as_ref();
            from.is_some_and(|p| !sound(w, &p.version)).then_some("the version to go back to is not sound")
        }
        Way::Forward => forward(w, laid, r),
    }
}

fn idle(w: &World, d: &Deployment) -> Option<&'static str> {
    if d.as_is.is_some() {
        return Some("an operator ended a rollback as it is");
    }
    let stable = d.arms.get(Role::Stable)?;
    (!sound(w, &stable.pair.version)).then_some("the stable version is not sound")
}

fn forward(w: &World, laid: &Laid, r: &Rollout) -> Option<&'static str> {
    if r.status == RolloutStatus::Paused && r.params.failure_action == FailureAction::Pause {
        return Some("failure_action is pause");
    }
    if r.running().is_some_and(|(_, row)| row.step.kind.facts().held) {
        return Some("nobody has promoted it");
    }
    let holds = r.params.no_data() == slipway::model::OnNoData::Hold;
    if holds && laid.metrics && laid.rate == 0 && r.from.is_some() && r.params.max_error_rate.0.is_some() {
        return Some("on_no_data is hold and there is no traffic");
    }
    let from = r.from.as_ref()?;
    let judged = laid.metrics && r.params.max_error_rate.0.is_some();
    if judged && w.catalogue.of(&r.to.version).ill == Ill::Uncounted {
        return Some("its errors cannot be counted");
    }
    (!packaged(w, &from.version)).then_some("the package to go back to is gone")
}

/// Whether it waits for anything, and so has to say for what: what a person ended as it is does not.
pub fn waits_for_something(w: &World, laid: &Laid) -> bool {
    w.state.deployments.get(&laid.id).is_some_and(|d| d.as_is.is_none())
}

/// Cluster time within which everything must be at rest once faults stop.
pub fn bound(w: &World) -> u64 {
    let mut bound: u64 = 8 * 60_000;
    for laid in &w.shape.deployments {
        let instances = u64::from(w.shape.workers * laid.per_worker);
        let live = w.state.live_rollout(&laid.id);
        let p = live.map(|r| r.params.clone()).unwrap_or_default();
        // Each is replaced, and replaced back: start, drain with its caches, stop, the delay between batches.
        let each = 25_000 + (laid.drain.max(laid.pin_ttl) + 8) * 1000 + live.map_or(0, |_| p.delay.0);
        let steps = live.map_or(0, |r| r.steps.len() as u64) * 30_000;
        let deadlines = if live.is_some() { 2 * p.deadline.0 } else { 0 };
        bound += laid.lost_for_good + 2 * instances * each + steps + deadlines;
    }
    bound
}

/// Parameters with which a person pushes a fix.
pub fn fixing() -> slipway::model::RolloutParams {
    slipway::model::RolloutParams {
        strategy: Some(StrategyName::ROLLING),
        parallelism: Portion::count(4),
        max_surge: Portion::count(0),
        max_unavailable: Portion::count(2),
        bake: Period::seconds(2),
        grace: Period(0),
        deadline: Period::minutes(10),
        on_no_data: Some(slipway::model::OnNoData::Pass),
        failure_action: FailureAction::Rollback,
        ..Default::default()
    }
}
