//! The world around the real `facts`, `plan` and `apply`: one log, one leader at a time, agents, DNS servers, traffic.
//! It jumps from one moment at which something changes to the next.
//!
//! Invariants: nothing but the story's seed decides; the leader sees only what was said to it in its term; every entry
//! is looked at by `watch`. Not here: what comes when (`play`), what may be an end (`law`).

use std::collections::{BTreeMap, VecDeque};

use slipway::model::{DeploymentId, Millis, NodeId, Principal, Wait, WorkerName};
use slipway::state::{Command, DeliveryKey, LogId, Observations, Rejection, Stamped, State, apply, apply_blank};

use super::catalogue::Catalogue;
use super::dice::Dice;
use super::server::Server;
use super::shape::Shape;
use super::tale::Tale;
use super::tally::Tally;
use super::watch::Watch;
use super::worker::Agent;

/// How closely entries are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Every entry, by all invariants.
    All,
    /// Only what the story itself is about.
    Story,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: &'static str,
    pub text: String,
}

/// What the next pass does not carry to its end.
#[derive(Clone, Default)]
pub struct Trouble {
    /// The leader dies after so many more entries, and so long nobody leads.
    pub dies: Option<(u64, u64)>,
    /// So many commands of the next plan arrive.
    pub loses: Option<u64>,
}

#[derive(Clone)]
pub struct World {
    pub shape: Shape,
    pub state: State,
    pub seen: Observations,
    pub agents: BTreeMap<WorkerName, Agent>,
    pub servers: BTreeMap<NodeId, Server>,
    pub catalogue: Catalogue,
    pub trouble: Trouble,
    pub watch: Watch,
    pub tally: Tally,
    pub tale: Tale,
    pub finding: Option<Finding>,
    pub look: Look,
    pub dice: Dice,
    pub waits: BTreeMap<DeploymentId, Vec<Wait>>,
    /// Cluster time at which the last plan wants to be made anew, and whether it had nothing to propose.
    pub wake: Option<Millis>,
    /// True time.
    pub real: u64,
    pub index: u64,
    pub term: u64,
    /// Cluster time and true time at which the present leader began.
    anchor: (u64, u64),
    /// Until when nobody leads.
    pub leaderless: Option<u64>,
    pub last_tick: u64,
    pub deliveries: BTreeMap<DeliveryKey, u64>,
    /// The index at which the world stands still, wherever its leader is.
    pub stop_at: Option<u64>,
    /// Index and true time of the newest entries.
    pub entries: VecDeque<(u64, u64)>,
}

impl World {
    pub fn new(shape: &Shape, catalogue: Catalogue, seed: u64, look: Look, tale: Tale) -> Self {
        Self {
            shape: shape.clone(),
            state: State::default(),
            seen: Observations::default(),
            agents: BTreeMap::new(),
            servers: (1..).zip(&shape.lags).map(|(n, lag)| (n, Server::new(*lag))).collect(),
            catalogue,
            trouble: Trouble::default(),
            watch: Watch::default(),
            tally: Tally::default(),
            tale,
            finding: None,
            look,
            dice: Dice::new(seed ^ 0x5eed),
            waits: BTreeMap::new(),
            wake: None,
            real: 0,
            index: 0,
            term: 1,
            anchor: (0, 0),
            leaderless: None,
            last_tick: 0,
            deliveries: BTreeMap::new(),
            stop_at: None,
            entries: VecDeque::new(),
        }
    }

    /// Cluster time as the leader reckons it.
    pub fn now(&self) -> Millis {
        match self.leaderless {
            Some(_) => self.state.now,
            None => Millis(self.anchor.0 + (self.real - self.anchor.1)),
        }
    }

    /// True time of a moment of cluster time, under this leader.
    pub fn real_of(&self, at: Millis) -> u64 {
        self.anchor.1 + at.0.saturating_sub(self.anchor.0)
    }

    pub fn found(&mut self, kind: &'static str, text: String) {
        if self.finding.is_none() {
            self.tale.line(|| format!("!! {kind}: {text}"));
            self.finding = Some(Finding { kind, text });
        }
    }

    /// Whether the story ends here, with a finding.
    pub fn over(&self) -> bool {
        self.finding.is_some()
    }

    /// Commits one command.
    pub fn commit(&mut self, body: Command) -> Result<u64, Rejection> {
        self.index += 1;
        let at = LogId { term: self.term, index: self.index };
        let before = self.state.clone();
        let stamped = Stamped {
            at: self.now(),
            wall: self.real,
            term: self.term,
            principal: Principal::local_operator(),
            request: None,
            body,
        };
        let result = apply(&mut self.state, at, &stamped);
        self.entries.push_back((self.index, self.real));
        if self.entries.len() > 64 {
            self.entries.pop_front();
        }
        self.tally.entry(&before, &self.state, &stamped.body, result.is_ok());
        self.tale.entry(&before, &self.state, self.index, &stamped.body, result.as_ref().err());
        let broken = super::watch::entry(self, &before, &stamped.body, result.is_ok());
        if let Err((kind, text)) = broken {
            self.found(kind, format!("#{} {}: {text}", self.index, stamped.body.name()));
        }
        result.map(|_| self.index)
    }

    /// An operator's verb, which may be refused.
    pub fn verb(&mut self, body: Command) -> bool {
        match self.commit(body) {
            Ok(_) => {
                self.settle();
                true
            }
            Err(e) => {
                self.tale.line(|| format!("   refused: {e}"));
                false
            }
        }
    }

    /// Runs to a moment of true time, from change to change.
    pub fn run_to(&mut self, end: u64) {
        while self.real < end && !self.over() && !self.stands() {
            let next = self.next_moment().clamp(self.real + 1, end);
            self.flow(next - self.real);
            self.real = next;
            self.settle();
        }
    }

    /// Whether it has come to the entry that it was to come to.
    pub fn stands(&self) -> bool {
        self.stop_at.is_some_and(|n| self.index >= n)
    }

    /// Runs until so many more entries are committed, or a minute is over.
    pub fn run_entries(&mut self, n: u64) {
        self.stop_at = Some(self.index + n);
        self.run(60_000);
        self.stop_at = None;
    }

    pub fn run(&mut self, ms: u64) {
        self.run_to(self.real + ms);
    }

    /// The next moment at which anything may change.
    fn next_moment(&self) -> u64 {
        // An idle leader ticks every half minute.
        let mut next = self.last_tick + 30_000;
        let mut sooner = |at: u64| next = next.min(at.max(self.real + 1));
        for (name, a) in &self.agents {
            a.next_change(name, &self.catalogue, self.real).into_iter().for_each(&mut sooner);
        }
        if let Some(at) = self.leaderless {
            sooner(at);
            return next;
        }
        for s in self.servers.values() {
            s.next_change(self.real, self.entries.back()).into_iter().for_each(&mut sooner);
        }
        self.wake.map(|at| self.real_of(at)).into_iter().for_each(&mut sooner);
        self.deliveries.values().copied().for_each(&mut sooner);
        self.watch.next_due().map(|at| self.real_of(at)).into_iter().for_each(&mut sooner);
        self.silences().into_iter().for_each(&mut sooner);
        if self.counting() {
            sooner(self.real + 2000);
        }
        next
    }

    /// Whether counts that grow may end a wait.
    fn counting(&self) -> bool {
        self.shape.deployments.iter().any(|laid| {
            let row = self.state.live_rollout(&laid.id).and_then(|r| r.running());
            laid.metrics && laid.rate > 0 && row.is_some()
        })
    }

    /// The leader dies: what is under way is lost, what it knew of observations too.
    pub fn leader_dies(&mut self, outage: u64) {
        self.tale.line(|| format!("-- the leader dies; {outage} ms without one"));
        self.trouble = Trouble::default();
        self.leaderless = Some(self.real + outage);
    }

    /// Another one begins its term, if it is time.
    pub fn elect(&mut self) {
        if self.leaderless.is_none_or(|at| self.real < at) {
            return;
        }
        self.term += 1;
        self.index += 1;
        apply_blank(&mut self.state, LogId { term: self.term, index: self.index });
        self.entries.push_back((self.index, self.real));
        self.anchor = (self.state.now.0, self.real);
        self.leaderless = None;
        self.last_tick = self.real;
        self.deliveries.clear();
        self.seen =
            Observations { leader_since: self.state.now, leases: self.seen.leases.clone(), ..Default::default() };
        for a in self.agents.values_mut() {
            a.said = None;
            if a.alive {
                a.away_until = a.away_until.max(self.real + self.dice.within(20, 1500));
            }
        }
        for s in self.servers.values_mut() {
            s.reconnects_at = self.real + self.dice.within(20, 800);
        }
        let term = self.term;
        self.tale.line(|| format!("-- a new leader, term {term}"));
    }
}
