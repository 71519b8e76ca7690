//! Simulated workers: they fetch, start, probe and report as their assignments and their release's behaviour say; and
//! the traffic that their instances see.

use std::collections::{BTreeMap, BTreeSet};

use slipway::model::{Digest, Health, Histogram, InstanceId, Life, Pair, Permit, Sample, StepId, WorkerName};
use slipway::state::{Fit, InstanceFact, Reached, ReachedFact, StepCounts, WorkerFacts};

use super::{Fleet, Word};

const FETCH: u64 = 500;
const SPAWN: u64 = 250;
const STOP: u64 = 500;
const REPORT: u64 = 2000;
/// Between the end of a process that had passed and its next start.
const PUT_OFF: u64 = 1000;

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

#[derive(Clone)]
struct Process {
    pair: Pair,
    started: u64,
    life: Life,
    health: Health,
    failures: u32,
    restarts: u32,
    passed: bool,
    exit: Option<String>,
    stopping: Option<u64>,
}

/// Requests and errors by pair, in thousandths.
type Totals = BTreeMap<Pair, (u64, u64)>;

/// A worker's agent.
#[derive(Clone, Default)]
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
    /// Instances whose program dies at the next step and is started again by the agent.
    crash: Vec<InstanceId>,
    /// True time until which the agent's process is not there; its instances are.
    down_until: u64,
    /// How often each instance was begun, over all of the agent's lives.
    pub begun: BTreeMap<InstanceId, u32>,
}

/// One step of every worker.
pub fn step(fleet: &mut Fleet) {
    let names: Vec<WorkerName> = fleet.agents.keys().cloned().collect();
    for name in names {
        let Some(mut agent) = fleet.agents.remove(&name) else { continue };
        if agent.alive && fleet.real >= agent.down_until {
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
                let begun = &mut self.begun;
                self.processes.entry(*id).or_insert_with(|| {
                    *begun.entry(*id).or_default() += 1;
                    Process {
                        pair: pair.clone(),
                        started: real,
                        life: Life::Starting,
                        health: Health::Unknown,
                        failures: 0,
                        restarts: 0,
                        passed: false,
                        exit: None,
                        stopping: None,
                    }
                });
            }
        }
        // What State has seen the end of is forgotten.
        let over = |id: &InstanceId| fleet.state.instances.get(id).is_none_or(|i| !i.life.is_live());
        self.processes.retain(|id, p| wanted.contains_key(id) || p.life.is_live() || !over(id));
        // Nobody says that something has ended before its worker did: its place would be given away.
        let gone = |id: &InstanceId| fleet.state.instances.get(id).is_some_and(|i| !i.life.is_live());
        let early = self.processes.iter().find(|(id, p)| p.life.is_live() && gone(id)).map(|(id, _)| *id);
        assert_eq!(early, None, "it runs on {name} and counts as ended\n{}", fleet.transcript.join("\n"));
        let (kill, crash) = (std::mem::take(&mut self.kill), std::mem::take(&mut self.crash));
        for (id, p) in &mut self.processes {
            if kill.contains(id) {
                p.end("signal 9");
            } else if crash.contains(id) && p.life.is_live() && p.stopping.is_none() {
                p.again(real);
            } else if !wanted.contains_key(id) {
                if p.life.is_live() && p.passed && p.stopping.is_none() {
                    fleet.stops(*id);
                }
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
        self.said = Some((facts.clone(), fleet.real));
        let counts = self.mark.as_ref().map(|(id, base)| {
            let since = |pair: &Pair, of: &(u64, u64)| {
                let (requests, errors) = base.get(pair).copied().unwrap_or_default();
                let (requests, errors) = (of.0 / 1000 - requests / 1000, of.1 / 1000 - errors / 1000);
                let mut seen = crate::counted(requests, errors);
                if fleet.declares_latency(pair) {
                    seen.0.insert("latency".parse().expect("a name"), latency(requests));
                }
                (pair.clone(), seen)
            };
            let blind = |p: &&Pair| fleet.behaviour.get(&p.version.to_string()).is_some_and(|b| b.blind);
            let blinded = self.counts.keys().filter(blind);
            let unknown = blinded.map(|p| (p.clone(), crate::uncounted("no such series"))).collect();
            let seen = self.counts.iter().filter(|(p, _)| !blind(p));
            let pairs = seen.map(|(p, n)| since(p, n)).collect();
            ((shop, *id), StepCounts { pairs, unknown })
        });
        fleet.says(name, Word { facts, counts });
    }

    fn facts(&self, fleet: &Fleet, name: &WorkerName) -> WorkerFacts {
        let fact = |(id, p): (&InstanceId, &Process)| InstanceFact {
            id: *id,
            life: p.life,
            health: p.health,
            failures: p.failures,
            restarts: p.restarts,
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

/// Of ten requests nine take 5 ms and one takes 80 ms.
pub fn latency(requests: u64) -> Sample {
    let (slow, fast) = (requests / 10, requests - requests / 10);
    let buckets = vec![(10_000, fast), (50_000, fast), (100_000, requests)];
    Sample::Histogram(Histogram::new(buckets, fast * 5_000 + slow * 80_000, requests).expect("a histogram"))
}

impl Process {
    fn end(&mut self, how: &str) {
        self.life = Life::Failed;
        self.health = Health::Unknown;
        self.exit = Some(how.into());
    }

    /// It dies and its agent starts it again after a while, if it ever passed.
    fn again(&mut self, real: u64) {
        if !self.passed {
            return self.end("signal 9");
        }
        (self.started, self.restarts) = (real + PUT_OFF, self.restarts + 1);
        (self.health, self.exit) = (Health::Failing, Some("signal 9".into()));
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
        let Some(age) = real.checked_sub(self.started) else { return };
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
            (self.health, self.passed) = (Health::Passing, true);
        } else if never && age >= start_within {
            self.end("did not pass in time");
        }
    }
}

impl Fleet {
    fn declares_latency(&self, pair: &Pair) -> bool {
        let metrics = self.state.spec(&self.shop(), pair.spec).and_then(|spec| spec.metrics.as_ref());
        metrics.is_some_and(|m| !m.series.is_empty())
    }

    /// Traffic of one step, by weights, spread over the serving instances of each arm.
    pub fn traffic(&mut self) {
        let shop = self.shop();
        let Some(d) = self.state.deployments.get(&shop).cloned() else { return };
        for arm in d.arms.iter() {
            let serving = slipway::state::serving(&self.state, &shop, self.state.now);
            let of: Vec<WorkerName> = serving.iter().filter(|i| i.pair == arm.pair).map(|i| i.worker.clone()).collect();
            if of.is_empty() {
                continue;
            }
            // Thousandths of a request in this step, and of an error.
            let all = self.rate * super::STEP * u64::from(arm.weight.0) / 10_000;
            let each = all / of.len() as u64;
            let errors = self.behaviour.get(&arm.pair.version.to_string()).map_or(0, |b| b.errors);
            for worker in of {
                let Some(agent) = self.agents.get_mut(&worker) else { continue };
                let total = agent.counts.entry(arm.pair.clone()).or_default();
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

    /// An instance's program dies; its agent starts it again.
    pub fn crash(&mut self, id: InstanceId) {
        let worker = self.state.instances[&id].worker.clone();
        self.note(&format!("{id} on {worker} crashes"));
        self.agents.get_mut(&worker).expect("a known worker").crash.push(id);
    }

    /// An agent is started anew and is back after so long; with its machine also all that it runs starts anew.
    pub fn restart_agent(&mut self, name: &WorkerName, ms: u64, machine: bool) {
        self.note(&format!("{} of {name} is started anew", if machine { "the machine" } else { "the agent" }));
        let until = self.real + ms;
        let agent = self.agents.get_mut(name).expect("a known worker");
        (agent.epoch, agent.seq, agent.said, agent.down_until) = (agent.epoch + 1, 0, None, until);
        if machine {
            for p in agent.processes.values_mut().filter(|p| p.life.is_live()) {
                match p.stopping {
                    Some(_) => (p.life, p.health) = (Life::Gone, Health::Unknown),
                    None => p.again(until),
                }
            }
        }
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
