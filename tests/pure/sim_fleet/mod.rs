//! A simulated fleet around the real `plan`, `facts` and `apply`: workers that fetch, start, pass or fail; traffic by
//! the committed weights; nodes that serve what is applied; leaders that die. One thread, one clock, nothing random but
//! from a seed: a transcript is exact.
//!
//! Invariant: no command of the engine is ever refused here, as nothing comes between a plan and its entries, but where
//! a test asks for just that (`faults`).

mod agents;
mod faults;
pub mod render;
mod servers;
mod setup;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use slipway::engine::{facts, plan};
use slipway::model::{DeploymentId, Millis, NodeId, Principal, RolloutId, Wait, WorkerName};
use slipway::state::{
    Command, DeliveryKey, LogId, Observations, Rejection, RolloutStatus, Stamped, State, apply, apply_blank,
    command::{DeliverySettled, StepEnded, SwitchEnded, Tick, TrafficBackSettled},
};

pub use agents::{Agent, Behaviour, latency};
pub use faults::{Death, Dice, Faults};
use faults::{Went, Word};
pub use servers::{Node, Truth};
pub use setup::{Shape, cart, node, params, starting, version};
pub use watch::Walked;

/// Milliseconds of one step of the simulation.
const STEP: u64 = 250;

/// Everything.
#[derive(Clone)]
pub struct Fleet {
    pub state: State,
    pub seen: Observations,
    pub agents: BTreeMap<WorkerName, Agent>,
    pub nodes: BTreeMap<NodeId, Node>,
    pub behaviour: BTreeMap<String, Behaviour>,
    pub transcript: Vec<String>,
    pub walked: Walked,
    /// Requests a second over the whole deployment.
    pub rate: u64,
    /// What the wall clock of the present leader is off by.
    pub skew: u64,
    index: u64,
    term: u64,
    /// True time, and where the present leader's anchor lies in it.
    real: u64,
    anchor: (u64, u64),
    leading: bool,
    last_tick: u64,
    waits: BTreeMap<DeploymentId, Vec<Wait>>,
    /// Smoke tests that the present leader has under way.
    deliveries: BTreeSet<DeliveryKey>,
    /// Every call of a smoke test by any leader, with the attempt that it was for.
    pub calls: Vec<(DeliveryKey, u32)>,
    pub faults: Faults,
    pub truth: Truth,
    /// Words of agents that are under way, with the true time of their arrival.
    post: BTreeMap<WorkerName, Vec<(u64, Word)>>,
}

impl Fleet {
    /// Cluster time as the leader reckons it.
    pub fn now(&self) -> Millis {
        Millis(self.anchor.0 + (self.real - self.anchor.1))
    }

    pub fn note(&mut self, text: &str) {
        self.transcript.push(format!("-- {text}"));
    }

    /// Commits one command.
    pub fn commit(&mut self, body: Command) -> Result<u64, Rejection> {
        self.index += 1;
        let at = LogId { term: self.term, index: self.index };
        let before = self.state.clone();
        let stamped = Stamped {
            at: self.now(),
            wall: self.real + self.skew,
            term: self.term,
            principal: Principal::local_operator(),
            request: None,
            body,
        };
        let result = apply(&mut self.state, at, &stamped);
        watch::check(&before, &self.state, &stamped.body);
        self.walked.note(&before, &self.state);
        self.truth.note(self.index, self.real, &self.state);
        if let Some(moved) = said_fenced(&before, &stamped.body).filter(|_| result.is_ok()) {
            self.fenced(moved);
        }
        if let Some(line) = render::command(&self.state, &before, self.index, &stamped.body, result.as_ref().err()) {
            self.transcript.push(line);
        }
        result.map(|_| self.index)
    }

    /// An operator's verb; the test says whether it must succeed.
    pub fn operator(&mut self, body: Command) -> Result<u64, Rejection> {
        let result = self.commit(body);
        self.lead();
        result
    }

    /// One step of time.
    pub fn step(&mut self) {
        self.real += STEP;
        self.traffic();
        self.look();
        agents::step(self);
        self.deliver_words();
        if self.leading {
            self.latecomers();
            self.hear();
            self.lead();
        }
    }

    /// Steps until `done`, or panics with the transcript after `limit_s` simulated seconds.
    pub fn until(&mut self, limit_s: u64, what: &str, done: impl Fn(&Self) -> bool) {
        let limit = self.real + limit_s * 1000;
        while !done(self) {
            if self.real > limit {
                panic!("not within {limit_s} s: {what}\n{}\nwaits: {:?}", self.transcript.join("\n"), self.waits);
            }
            self.step();
        }
    }

    pub fn run(&mut self, seconds: u64) {
        let end = self.real + seconds * 1000;
        while self.real < end {
            self.step();
        }
    }

    /// Steps until the rollout is in `status`.
    pub fn until_status(&mut self, limit_s: u64, id: RolloutId, status: RolloutStatus) {
        self.until(limit_s, &format!("{id} {status}"), |f| f.status(id) == status);
    }

    pub fn status(&self, id: RolloutId) -> RolloutStatus {
        self.state.rollouts[&id].status
    }

    pub fn shop(&self) -> DeploymentId {
        setup::shop()
    }

    /// The running step: kind, group.
    pub fn at(&self, id: RolloutId, kind: &str, group: &str) -> bool {
        let r = &self.state.rollouts[&id];
        r.running().is_some_and(|(_, s)| s.step.kind.name() == kind && s.step.group == group)
    }

    /// The leader's loop: facts, then plans until there is nothing to do.
    fn lead(&mut self) {
        if !self.leading {
            return;
        }
        if self.deliver() == Went::Dead {
            return;
        }
        'passes: for _ in 0..100 {
            let mut commands = facts(&self.state, &self.seen, self.now());
            let plan = plan(&self.state, &self.seen, self.now());
            if commands.is_empty() {
                commands = plan.commands;
            }
            if commands.is_empty() {
                self.show_waits(plan.waits);
                if let Some(at) = plan.wake_at {
                    assert!(at > self.now(), "to be woken in the past, at {at}\n{}", self.transcript.join("\n"));
                }
                break;
            }
            for c in commands {
                match self.propose(c) {
                    Went::On => {}
                    // The loop rests before it tries again.
                    Went::Again => break 'passes,
                    Went::Dead => return,
                }
            }
            self.hear();
        }
        if self.real - self.last_tick >= 1000 {
            self.last_tick = self.real;
            self.commit(Command::Tick(Tick {})).expect("a tick is never refused");
        }
    }

    fn show_waits(&mut self, waits: BTreeMap<DeploymentId, Vec<Wait>>) {
        if waits == self.waits {
            return;
        }
        for (id, list) in &waits {
            if self.waits.get(id) != Some(list) {
                let text: Vec<String> = list.iter().map(ToString::to_string).collect();
                self.transcript.push(format!("   waits: {}", text.join("; ")));
            }
        }
        self.waits = waits;
    }

    /// Smoke tests are answered a step after they were queued.
    fn deliver(&mut self) -> Went {
        let due: Vec<_> = self.state.outbox.iter().map(|(k, d)| (*k, d.clone())).collect();
        for (key, d) in due {
            if self.deliveries.insert(key) {
                self.calls.push((key, d.attempt));
                continue;
            }
            let version = self.state.rollouts[&d.rollout].to.version.to_string();
            let ok = self.behaviour.get(&version).is_none_or(|b| b.smoke);
            let detail = if ok { "200 from all" } else { "500 from 1 of all" };
            let body = Command::DeliverySettled(DeliverySettled { key, attempt: d.attempt, ok, detail: detail.into() });
            let went = self.propose(body);
            if went != Went::On {
                return went;
            }
        }
        Went::On
    }

    /// Workers' sessions find no way to a leader for so long.
    pub fn quiet(&mut self, ms: u64) {
        for agent in self.agents.values_mut() {
            agent.quiet_until = self.real + ms;
        }
    }

    /// The leader dies; another one takes over after `outage_ms`. Entries of the last tick's age are all that time
    /// knows.
    pub fn change_leader(&mut self, outage_ms: u64, skew: u64) {
        self.note(&format!("the leader dies; {outage_ms} ms without one"));
        self.leading = false;
        let end = self.real + outage_ms;
        while self.real < end {
            self.step();
        }
        self.term += 1;
        self.index += 1;
        self.skew = skew;
        apply_blank(&mut self.state, LogId { term: self.term, index: self.index });
        self.truth.note(self.index, self.real, &self.state);
        // What the dead one had under way nobody knows of: it is asked again, under the same key.
        self.deliveries.clear();
        self.anchor = (self.state.now.0, self.real);
        self.last_tick = self.real;
        let leases = self.seen.leases.take();
        self.seen = Observations { leader_since: self.state.now, leases, ..Observations::default() };
        self.leading = true;
        for agent in self.agents.values_mut() {
            agent.said = None;
        }
        self.note(&format!("a new leader, term {}, at {}", self.term, self.state.now));
        // What it plans before anyone has spoken.
        self.lead();
    }
}

/// The index that an entry calls fenced.
fn said_fenced(before: &State, body: &Command) -> Option<u64> {
    match body {
        Command::SwitchEnded(SwitchEnded { switch, end, .. }) => {
            end.fenced_at?;
            before.fences.switches.get(switch)?.moved.map(|(index, _)| index)
        }
        Command::TrafficBackSettled(TrafficBackSettled { index, end, .. }) => end.fenced_at.map(|_| *index),
        Command::StepEnded(StepEnded { at, evidence }) if evidence.note.contains("; fenced after") => {
            before.rollouts.get(&at.rollout)?.running()?.1.routed.map(|(index, _)| index)
        }
        _ => None,
    }
}
