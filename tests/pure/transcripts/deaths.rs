//! A leader that dies after every single command of the planner, in turn: each story is played once without a death,
//! and then once for each of its leaders' commands with a death right before it and once with a death right after. The
//! ends agree, but for times and names that are made of log indexes, and nothing is begun twice (invariant 5).
//!
//! Not here: deaths in the middle of a bake (`canary`), deaths at random (`rest`).

use std::collections::BTreeMap;

use slipway::model::{
    BasisPoints, Check, InstanceId, Millis, Period, Portion, RolloutId, RolloutParams, StepKind, StrategyName,
};
use slipway::state::{
    Arm, Command, PoolSlot, RolloutStatus, StepRow, SwitchAsk, SwitchTo, Unfenced, WaitLevel,
    command::{DeploymentStarted, DeploymentStopped, Rollback, SwitchAsked},
};

use crate::sim_fleet::{Behaviour, Death, Faults, Fleet, Shape, params, starting};

/// What a person does in a story, once that holds.
pub type Act = (fn(&Fleet) -> bool, fn(&Fleet) -> Command);

/// A fleet, what persons do, and where it ends.
pub struct Story {
    pub before: fn() -> Fleet,
    pub acts: &'static [Act],
    pub ends: RolloutStatus,
}

pub fn quick(strategy: StrategyName) -> RolloutParams {
    RolloutParams {
        steps: [50, 100].map(BasisPoints::percent).to_vec(),
        bake: Period::seconds(1),
        min_requests: 10,
        warm_up: Period(500),
        monitor: Period::seconds(1),
        grace: Period(0),
        parallelism: Portion::count(2),
        max_surge: Portion::count(2),
        ..params(strategy)
    }
}

/// Two workers, and caches that let go soon.
pub fn small() -> Fleet {
    Fleet::with_stable(&Shape { workers: 2, ttl: 1, ..Shape::default() })
}

pub fn failing() -> Fleet {
    let mut f = small();
    f.behaviour.insert("2.0.0".into(), Behaviour { errors: 2000, ..Behaviour::default() });
    f
}

/// 2.0.0 is stable and 1.0.0 still runs beside it.
pub fn both() -> Fleet {
    let mut f = small();
    let id = f.start("2.0.0", RolloutParams { grace: Period::minutes(10), ..quick(StrategyName::BLUE_GREEN) });
    f.until_status(90, id, RolloutStatus::Completed);
    f.run(2);
    f
}

pub fn now(_: &Fleet) -> bool {
    true
}

pub fn start(strategy: StrategyName) -> Command {
    starting("production/shop".parse().expect("an id"), "2.0.0", quick(strategy)).into()
}

pub const CANARY: Act = (now, |_| start(StrategyName::CANARY));

/// A person turns it back in its last bake.
pub const BACK: Act = (|f| f.at(last(f), "bake", "100 %"), |f| Command::Rollback(Rollback { rollout: last(f) }));

/// To the version before, fenced, and only when every cache has let go.
pub const SWITCH: Act = (now, |f| {
    let ask = SwitchAsk {
        deployments: vec![f.shop()],
        to: SwitchTo::Previous,
        wait: WaitLevel::Caches,
        unfenced: Unfenced::TakeBack,
        within: Period::seconds(30),
    };
    Command::SwitchAsked(SwitchAsked { ask })
});

/// Everything is stopped.
pub const STOP: Act = (now, |f| DeploymentStopped { deployment: f.shop() }.into());

/// And comes back once nothing of it is left.
pub const START: Act = (
    |f| !f.state.instances_of(&f.shop()).any(|i| i.life.is_live()),
    |f| DeploymentStarted { deployment: f.shop() }.into(),
);

pub fn last(f: &Fleet) -> RolloutId {
    *f.state.rollouts.keys().next_back().expect("a rollout")
}

/// Nothing is under way, and servers have said of every rollback and switch whether it is fenced.
pub fn rests(f: &Fleet) -> bool {
    use slipway::model::{
        Health,
        Life::{Draining, Running, Starting, Stopping},
    };
    let all = || f.state.instances.values();
    let moves = all().any(|i| matches!(i.life, Starting | Draining | Stopping))
        // Not every agent was heard of by this leader yet.
        || all().any(|i| i.life == Running && i.health == Health::Unknown);
    let told = f.state.backs.values().all(|b| b.end.is_some()) && f.state.fences.open().next().is_none();
    let d = &f.state.deployments[&f.shop()];
    !moves && told && d.live.is_none() && !d.stop.as_ref().is_some_and(|s| s.starting)
}

/// The end without times and indexes: instances are called by their place among all that were ever made.
pub fn end(f: &Fleet) -> Vec<String> {
    let s = &f.state;
    let names: BTreeMap<InstanceId, usize> = s.instances.keys().enumerate().map(|(n, id)| (*id, n)).collect();
    let mut all = Vec::new();
    let step = |row: &StepRow| {
        let batch = row.batch.as_ref().map(|b| {
            let of = |ids: &[InstanceId]| ids.iter().map(|id| names.get(id).copied()).collect::<Vec<_>>();
            (b.n, of(&b.added), of(&b.replaced), b.passed, b.in_place)
        });
        // Of a step that does not judge, a new leader says nothing of what the dead one had heard.
        let judged =
            matches!(row.step.kind, StepKind::Bake { .. }) && row.step.kind.checks().iter().any(Check::needs_traffic);
        let verdict = row.evidence.as_ref().filter(|_| judged).map(|e| e.verdict);
        format!(
            "  {} {:?} {} {:?} {batch:?} {:?} {verdict:?}",
            row.step.kind, row.status, row.attempt, row.step.group, row.hook
        )
    };
    for (n, r) in s.rollouts.values().enumerate() {
        let reason = r.reason.as_ref().map(|x| x.label());
        all.push(format!(
            "{n}: {} {:?} {:?} -> {} {} switched {} {reason:?} {:?} without {:?}",
            r.status, r.strategy, r.from, r.to, r.desired, r.switched, r.order, r.without
        ));
        all.extend(r.forward_steps.iter().chain(&r.steps).map(step));
    }
    for d in s.deployments.values() {
        let arm = |a: &Arm| (a.role, a.pair.clone(), a.want, a.weight, a.cap, a.retire_at.is_some());
        let arms: Vec<_> = d.arms.iter().map(arm).collect();
        let route = d.route.as_ref().map(|r| (r.mode, r.ttl));
        let stop = d.stop.as_ref().map(|s| (s.by.as_str(), s.starting));
        all.push(format!(
            "{} {:?} {arms:?} {route:?} desired {} as is {:?} stop {stop:?}",
            d.id, d.live, d.desired, d.as_is
        ));
    }
    for i in s.instances.values() {
        all.push(format!("{} {} on {} at {}: {} {}", names[&i.id], i.pair, i.worker, i.address, i.life, i.health));
    }
    for ((w, d), a) in &s.assignments {
        let entries: Vec<_> = a.content.instances.iter().map(|e| names.get(&e.id)).collect();
        all.push(format!(
            "{w} {d} {:?} {:?} {entries:?} {:?}",
            a.permit,
            a.content.hold,
            a.reached.as_ref().map(|r| &r.1)
        ));
    }
    for w in s.workers.values() {
        let used = w.pool.values().filter(|slot| matches!(slot, PoolSlot::Used(_))).count();
        all.push(format!("{} {:?} staged {:?} used {used}", w.name, w.presence, w.staged));
    }
    for x in s.fences.switches.values() {
        let end = x.end.as_ref().map(|e| (e.switched, e.fenced_at.is_some(), e.clear_at.is_some(), e.note.clone()));
        all.push(format!("switch {:?} moved {} {end:?}", x.targets, x.moved.is_some()));
    }
    for b in s.backs.values() {
        let end = b.end.as_ref().map(|e| (e.fenced_at.is_some(), e.note.clone()));
        all.push(format!("back to {:?} from {} {end:?}", b.deployment, b.left));
    }
    all.push(format!("owed {} armed {}", s.outbox.len(), s.fences.armed.len()));
    all
}

/// Nothing was begun twice: no instance by its agent, no smoke test under two keys.
pub fn once(f: &Fleet, what: &str) {
    let twice: Vec<_> = f.agents.values().flat_map(|a| &a.begun).filter(|(_, n)| **n != 1).collect();
    assert!(twice.is_empty(), "{what}: begun more than once: {twice:?}");
    let keys: std::collections::BTreeSet<_> = f.calls.iter().map(|(key, _)| *key).collect();
    let rows = f.state.rollouts.values().flat_map(|r| r.forward_steps.iter().chain(&r.steps));
    let smokes = rows.filter(|row| row.step.kind.name() == "smoke" && row.attempt > 0).count();
    assert_eq!(keys.len(), smokes, "{what}: {:?}", f.calls);
}

/// Compares two ends line by line.
pub fn agree(want: &[String], f: &Fleet, what: &str) {
    let is = end(f);
    let other = want.iter().zip(&is).find(|(a, b)| a != b);
    let other = other.map(|(a, b)| format!("without: {a}\nnow:     {b}"));
    assert!(
        other.is_none() && want.len() == is.len(),
        "{what}: another end, of {} and {} lines\n{}\n{}",
        want.len(),
        is.len(),
        other.unwrap_or_default(),
        f.transcript.join("\n")
    );
}

/// A place in a story: what has been done of its acts, and for how many steps it has been at rest.
#[derive(Clone)]
pub struct Place {
    pub fleet: Fleet,
    pub done: usize,
    pub rested: u32,
    /// Steps of rest that are the end.
    pub rest: u32,
}

impl Place {
    /// One step on; whether the story goes on.
    pub fn on(&mut self, acts: &[Act]) -> bool {
        match acts.get(self.done) {
            Some((ready, body)) if ready(&self.fleet) => {
                self.done += 1;
                let body = body(&self.fleet);
                self.fleet.operator(body).expect("the act is taken");
                self.rested = 0;
            }
            Some(_) | None => self.fleet.step(),
        }
        let rests = self.done == acts.len() && rests(&self.fleet);
        self.rested = if rests { self.rested + 1 } else { 0 };
        assert!(self.fleet.now() < Millis(600_000), "it does not end\n{}", self.fleet.transcript.join("\n"));
        self.rested < self.rest
    }
}

/// Plays one story with every death; says how often a smoke test was called twice.
fn all_deaths(story: &Story) -> usize {
    let mut place = Place { fleet: (story.before)(), done: 0, rested: 0, rest: 4 };
    place.fleet.faults = Faults::default();
    // Where a leader may die: right before a command, and right after. That is the same place for two commands in a
    // row.
    let mut deaths: Vec<(Place, Death)> = Vec::new();
    loop {
        let (here, first) = (place.clone(), place.fleet.faults.proposed + 1);
        let goes_on = place.on(story.acts);
        let new = first..=place.fleet.faults.proposed;
        let before = (!new.is_empty()).then_some(Death::Before(first));
        let all = before.into_iter().chain(new.map(Death::After));
        deaths.extend(all.map(|death| (here.clone(), death)));
        if !goes_on {
            break;
        }
    }
    let whole = place.fleet;
    assert_eq!(whole.status(last(&whole)), story.ends);
    once(&whole, "without a death");
    let (want, mut again) = (end(&whole), 0);
    assert!(deaths.len() > 4, "{} deaths", deaths.len());
    for (mut place, death) in deaths {
        place.fleet.faults.death = Some(death);
        while place.on(story.acts) {}
        let f = &place.fleet;
        let what = format!("{death:?} of {}", whole.faults.proposed);
        assert!(f.faults.death.is_none(), "{what} never came");
        agree(&want, f, &what);
        once(f, &what);
        again += f.calls.len() - whole.calls.len();
    }
    again
}

macro_rules! deaths {
    ($($name:ident: $before:ident, [$($act:expr),*], $ends:ident, $smoke:literal;)*) => {
        $(#[test]
        fn $name() {
            let again = all_deaths(&Story { before: $before, acts: &[$($act),*], ends: RolloutStatus::$ends });
            assert_eq!(again > 0, $smoke, "a smoke test was called {again} times more");
        })*
    };
}

deaths!(
    a_canary_goes_on_whichever_command_its_leader_dies_at: small, [CANARY], Completed, false;
    a_rolling_update_goes_on_whichever_command_its_leader_dies_at:
        small, [(now, |_| start(StrategyName::ROLLING))], Completed, false;
    a_blue_green_rollout_goes_on_and_its_smoke_test_counts_once:
        small, [(now, |_| start(StrategyName::BLUE_GREEN))], Completed, true;
    a_direct_rollout_goes_on_whichever_command_its_leader_dies_at:
        small, [(now, |_| start(StrategyName::DIRECT))], Completed, false;
    a_rollback_goes_on_whichever_command_its_leader_dies_at: small, [CANARY, BACK], RolledBack, false;
    a_rollout_that_turns_by_itself_turns_once_whoever_leads: failing, [CANARY], RolledBack, false;
    a_fenced_switch_goes_on_whichever_command_its_leader_dies_at: both, [SWITCH], Completed, false;
    a_stop_goes_on_whichever_command_its_leader_dies_at: both, [STOP], Completed, false;
    a_stop_and_a_start_go_on_whichever_command_their_leader_dies_at: both, [STOP, START], Completed, false;
);
