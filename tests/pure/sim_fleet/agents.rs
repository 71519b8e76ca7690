//! Simulated workers: they fetch, start, probe and report as their assignments and their release's behaviour say; and the traffic that
//! their instances see.

use std::collections::{BTreeMap, BTreeSet};

use slipway::model::{Digest, Health, InstanceId, Life, Pair, Permit, StepId, WorkerName};
use slipway::state::{Fit, InstanceFact, PairCounts, Reached, ReachedFact, Seen, StepCounts, TrackName, WorkerFacts};

use super::Fleet;

const FETCH: u64 = 500;
const SPAWN: u64 = 250;
const STOP: u64 = 500;
const REPORT: u64 = 2000;

/// How a release's instances behave.
#[derive(Clone)]
pub struct Behaviour {
    /// Milliseconds until the first pass; `None`: never.
    pub passes_after: Option<u64>,
    /// Exits so long after its start.
    pub exits_after: Option<u64>,
    /// Begins to fail its checks so long after its start.
    pub fails_after: Option<u64>,
    /// Where the two above hold; empty: everywhere.
    pub only_on: BTreeSet<String>,
    /// Errors in basis points of its requests.
    pub errors: u64,
    /// Whether its smoke test passes.
    pub smoke: bool,
    /// What machines lack that it asks for, by worker.
    pub lacks: BTreeMap<String, String>,
    /// Whether its workers can not read how many of its requests failed.
    pub blind: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            passes_after: Some(1000),
            exits_after: None,
            fails_after: None,
            only_on: BTreeSet::new(),
            errors: 0,
            lacks: BTreeMap::new(),
            blind: false,
            smoke: true,
        }
    }
}

struct Process {
    pair: Pair,
    started: u64,
    life: Life,
    health: Health,
    failures: u32,
    exit: Option<String>,
    stopping: Option<u64>,
}

/// Requests and errors by pair, in thousandths.
type Totals = BTreeMap<Pair, (u64, u64)>;

/// A worker's agent.
#[derive(Default)]
pub struct Agent {
    pub alive: bool,
    pub epoch: u64,
    pub seq: u64,
    staged: BTreeSet<Digest>,
    fetching: BTreeMap<Digest, u64>,
    processes: BTreeMap<InstanceId, Process>,
    /// Requests and errors since ever, by pair, in thousandths.
    counts: Totals,
    mark: Option<(StepId, Totals)>,
    /// True time before which nothing of it reaches a leader.
    pub quiet_until: u64,
    /// What it reported last, and when; `None`: nothing in this term.
    pub said: Option<(WorkerFacts, u64)>,
    /// Instances to be killed at the next step.
    pub kill: Vec<InstanceId>,
}

/// One step of every worker.
pub fn step(fleet: &mut Fleet) {
    let names: Vec<WorkerName> = fleet.agents.keys().cloned().collect();
    for name in names {
        let Some(mut agent) = fleet.agents.remove(&name) else { continue };
        if agent.alive {
            agent.obey(fleet, &name);
            if fleet.leading && fleet.real >= agent.quiet_until {
                agent.report(fleet, &name);
            }
        }
        fleet.agents.insert(name, agent);
    }
}

impl Agent {
    pub fn new() -> Self {
        Self { alive: true, epoch: 1, ..Self::default() }
    }

    fn obey(&mut self, fleet: &Fleet, name: &WorkerName) {
        let real = fleet.real;
        let assignments: Vec<_> = fleet.state.assignments.iter().filter(|((w, _), _)| w == name).collect();
        let mut wanted: BTreeMap<InstanceId, (Pair, Permit, Option<InstanceId>)> = BTreeMap::new();
        for (_, a) in &assignments {
            for d in &a.content.hold {
                if !self.staged.contains(d) {
                    self.fetching.entry(d.clone()).or_insert(real + FETCH);
                }
            }
            wanted.extend(a.content.instances.iter().map(|e| (e.id, (e.pair.clone(), a.permit, e.replaces))));
        }
        let held: BTreeSet<&Digest> = assignments.iter().flat_map(|(_, a)| &a.content.hold).collect();
        self.staged.retain(|d| held.contains(d));
        let ready: Vec<Digest> = self.fetching.iter().filter(|(_, at)| **at <= real).map(|(d, _)| d.clone()).collect();
        for d in ready {
            self.fetching.remove(&d);
            self.staged.insert(d);
        }
        for (id, (pair, permit, replaces)) in &wanted {
            let free = replaces.is_none_or(|old| self.processes.get(&old).is_none_or(|p| !p.life.is_live()));
            if free && *permit >= Permit::Activate && self.staged.contains(&pair.digest) {
                self.processes.entry(*id).or_insert_with(|| Process {
                    pair: pair.clone(),
                    started: real,
                    life: Life::Starting,
                    health: Health::Unknown,
                    failures: 0,
                    exit: None,
                    stopping: None,
                });
            }
        }
        // What State has seen the end of is forgotten.
        let over = |id: &InstanceId| fleet.state.instances.get(id).is_none_or(|i| !i.life.is_live());
        self.processes.retain(|id, p| wanted.contains_key(id) || p.life.is_live() || !over(id));
        let kill = std::mem::take(&mut self.kill);
        for (id, p) in &mut self.processes {
            if kill.contains(id) {
                p.end("signal 9");
            } else if !wanted.contains_key(id) {
                p.stop(real);
            } else {
                p.live(fleet, name, real);
            }
        }
    }

    fn report(&mut self, fleet: &mut Fleet, name: &WorkerName) {
        let shop = fleet.shop();
        let mark = fleet.state.assignments.get(&(name.clone(), shop.clone())).and_then(|a| a.mark);
        if self.mark.as_ref().map(|(id, _)| *id) != mark {
            self.mark = mark.map(|id| (id, self.counts.clone()));
        }
        let facts = self.facts(fleet, name);
        let same = |said: &WorkerFacts| {
            said.instances == facts.instances && said.reached == facts.reached && said.staged == facts.staged
        };
        if self.said.as_ref().is_some_and(|(said, at)| same(said) && fleet.real < at + REPORT) {
            return;
        }
        self.seq += 1;
        let facts = WorkerFacts { seq: self.seq, ..facts };
        let now = fleet.now();
        fleet.seen.workers.insert(name.clone(), Seen::Known { at: now, value: facts.clone() });
        if let Some((id, base)) = &self.mark {
            let since = |pair: &Pair, of: &(u64, u64)| {
                let (requests, errors) = base.get(pair).copied().unwrap_or_default();
                PairCounts {
                    pair: pair.clone(),
                    requests: of.0 / 1000 - requests / 1000,
                    errors: of.1 / 1000 - errors / 1000,
                }
            };
            let blind = |p: &&Pair| fleet.behaviour.get(&p.version.to_string()).is_some_and(|b| b.blind);
            let unknown = self.counts.keys().filter(blind).map(|p| (p.clone(), "no such series".to_string())).collect();
            let seen = self.counts.iter().filter(|(p, _)| !blind(p));
            let pairs = seen.map(|(p, n)| since(p, n)).collect();
            let counts = fleet.seen.counts.entry((shop, *id)).or_default();
            counts.insert(name.clone(), StepCounts { pairs, unknown });
        }
        self.said = Some((facts, fleet.real));
    }

    fn facts(&self, fleet: &Fleet, name: &WorkerName) -> WorkerFacts {
        let fact = |(id, p): (&InstanceId, &Process)| InstanceFact {
            id: *id,
            life: p.life,
            health: p.health,
            failures: p.failures,
            restarts: 0,
            exit: p.exit.clone(),
        };
        let mut reached = Vec::new();
        for ((_, d), a) in fleet.state.assignments.iter().filter(|((w, _), _)| w == name) {
            let unpacked = a.content.hold.iter().all(|d| self.staged.contains(d));
            let of = || a.content.instances.iter().map(|e| self.processes.get(&e.id));
            let failed = of().flatten().find(|p| p.life == Life::Failed);
            let up = of().all(|p| p.is_some_and(|p| p.life == Life::Running && p.health == Health::Passing));
            let word = match (failed, unpacked, up, a.permit) {
                (Some(p), _, _, _) => Reached::Failed(p.exit.clone().unwrap_or_default()),
                (None, false, _, _) => Reached::Accepted,
                (None, true, true, Permit::Commit) => Reached::Committed,
                (None, true, true, Permit::Activate) => Reached::Active,
                (None, true, _, _) => Reached::Staged,
            };
            let next = a.content.next.as_ref().filter(|p| self.staged.contains(&p.digest));
            let lacks = |p: &Pair| fleet.behaviour.get(&p.version.to_string())?.lacks.get(name.as_str()).cloned();
            let fit = next.map(|p| lacks(p).map_or(Fit::Fits, Fit::Lacks));
            reached.push(ReachedFact { deployment: d.clone(), generation: a.generation, reached: word, fit });
        }
        WorkerFacts {
            worker: name.clone(),
            epoch: self.epoch,
            seq: self.seq,
            instances: self.processes.iter().map(fact).collect(),
            reached,
            staged: Some(self.staged.iter().cloned().collect()),
        }
    }
}

impl Process {
    fn end(&mut self, how: &str) {
        self.life = Life::Failed;
        self.health = Health::Unknown;
        self.exit = Some(how.into());
    }

    fn stop(&mut self, real: u64) {
        match self.stopping {
            _ if !self.life.is_live() => {}
            None => self.stopping = Some(real + STOP),
            Some(at) if real >= at => {
                self.life = Life::Gone;
                self.health = Health::Unknown;
            }
            Some(_) => {}
        }
    }

    fn live(&mut self, fleet: &Fleet, worker: &WorkerName, real: u64) {
        if !self.life.is_live() {
            return;
        }
        let version = self.pair.version.to_string();
        let b = fleet.behaviour.get(&version).cloned().unwrap_or_default();
        let bad = b.only_on.is_empty() || b.only_on.contains(worker.as_str());
        let age = real - self.started;
        if age >= SPAWN {
            self.life = Life::Running;
        }
        let start_within = fleet.state.specs.values().map(|s| s.health.start_within.0).max().unwrap_or(0);
        if bad && b.exits_after.is_some_and(|at| age >= at) {
            return self.end("exit status 1");
        }
        let failing = bad && b.fails_after.is_some_and(|at| age >= at);
        if failing {
            self.failures += 1;
            if self.failures >= 3 {
                self.health = Health::Failing;
            }
            return;
        }
        self.failures = 0;
        let never = bad && b.passes_after.is_none();
        let after = b.passes_after.unwrap_or(1000);
        if !never && age >= after {
            self.health = Health::Passing;
        } else if never && age >= start_within {
            self.end("did not pass in time");
        }
    }
}

impl Fleet {
    /// Traffic of one step, by weights, spread over the serving instances of each track.
    pub fn traffic(&mut self) {
        let shop = self.shop();
        let Some(d) = self.state.deployments.get(&shop).cloned() else { return };
        let Some(route) = d.route else { return };
        for name in [TrackName::Stable, TrackName::Candidate, TrackName::Previous] {
            let Some(track) = d.tracks.get(name) else { continue };
            let serving = slipway::state::serving(&self.state, &shop, self.state.now);
            let of: Vec<WorkerName> =
                serving.iter().filter(|i| i.pair == track.pair).map(|i| i.worker.clone()).collect();
            if of.is_empty() {
                continue;
            }
            // Thousandths of a request in this step, and of an error.
            let all = self.rate * super::STEP * u64::from(route.weights.get(name).0) / 10_000;
            let each = all / of.len() as u64;
            let errors = self.behaviour.get(&track.pair.version.to_string()).map_or(0, |b| b.errors);
            for worker in of {
                let Some(agent) = self.agents.get_mut(&worker) else { continue };
                let total = agent.counts.entry(track.pair.clone()).or_default();
                total.0 += each;
                total.1 += each * errors / 10_000;
            }
        }
    }

    /// An instance's process dies.
    pub fn kill(&mut self, id: InstanceId) {
        let worker = self.state.instances[&id].worker.clone();
        self.note(&format!("{id} on {worker} is killed"));
        self.agents.get_mut(&worker).expect("a known worker").kill.push(id);
    }

    /// A worker vanishes or comes back with its processes as they were.
    pub fn cut_off(&mut self, worker: &str, gone: bool) {
        self.note(&format!("{worker} {}", if gone { "is cut off" } else { "is back" }));
        let name = WorkerName::new(worker).expect("a name");
        let agent = self.agents.get_mut(&name).expect("a known worker");
        agent.alive = !gone;
        agent.said = None;
    }
}
