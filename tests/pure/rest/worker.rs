//! Simulated agents: they fetch, unpack, start, check, restart and report as their assignments and the releases say.
//! They run on true time and know when something of theirs changes next, so that the world can jump.
//!
//! Invariant: what an agent does follows from its assignments alone, as on a real worker: it does not know State. Not
//! here: what the leader makes of its word.

use std::collections::{BTreeMap, BTreeSet};

use slipway::model::{DeploymentId, Digest, Health, InstanceId, Life, Pair, Permit, Samples, StepId, WorkerName};
use slipway::state::{Assignment, Fit, InstanceFact, Reached, ReachedFact, State, WorkerFacts};

use super::catalogue::{Catalogue, Fetch};
use super::process::Process;

/// Milliseconds that a fetch with its unpacking takes.
const FETCH: u64 = 500;

/// Requests and errors by pair, in thousandths.
pub type Totals = BTreeMap<Pair, (u64, u64)>;

/// A worker's agent, and the machine below it.
#[derive(Clone, Default)]
pub struct Agent {
    pub alive: bool,
    /// True time until which nothing of it is heard and it hears nothing.
    pub away_until: u64,
    pub epoch: u64,
    pub seq: u64,
    pub staged: BTreeSet<Digest>,
    fetching: BTreeMap<Digest, u64>,
    /// Packages that could not be unpacked, and in which generation.
    refused: BTreeMap<DeploymentId, (u64, BTreeSet<Digest>)>,
    pub processes: BTreeMap<InstanceId, Process>,
    pub counts: BTreeMap<DeploymentId, Totals>,
    pub marks: BTreeMap<DeploymentId, (StepId, Totals)>,
    /// What it reported last in this term.
    pub said: Option<WorkerFacts>,
}

impl Agent {
    pub fn new() -> Self {
        Self { alive: true, epoch: 1, ..Self::default() }
    }

    /// Whether word passes between it and a leader.
    pub fn connected(&self, real: u64) -> bool {
        self.alive && real >= self.away_until
    }

    /// It is cut off until then, or its machine is started anew by then.
    pub fn leave(&mut self, until: u64, reboots: bool) {
        self.away_until = self.away_until.max(until);
        if reboots {
            self.reboot(until);
        }
    }

    /// All processes end with the machine; an agent that comes back starts those that had passed.
    fn reboot(&mut self, real: u64) {
        self.epoch += 1;
        self.seq = 0;
        self.said = None;
        for p in self.processes.values_mut() {
            p.reboot(real);
        }
    }

    /// Time passes for what runs; assignments are obeyed when they can be heard.
    pub fn step(&mut self, state: &State, name: &WorkerName, catalogue: &Catalogue, real: u64) {
        if !self.alive {
            return;
        }
        if self.connected(real) {
            self.obey(state, name, catalogue, real);
        }
        for p in self.processes.values_mut() {
            p.advance(catalogue.behaviour(&p.pair, name), real);
        }
    }

    fn obey(&mut self, state: &State, name: &WorkerName, catalogue: &Catalogue, real: u64) {
        let mut wanted: BTreeSet<InstanceId> = BTreeSet::new();
        let mut held: BTreeSet<Digest> = BTreeSet::new();
        let assignments: Vec<_> = state.assignments.of_worker(name).collect();
        for (deployment, a) in &assignments {
            for d in &a.content.hold {
                held.insert(d.clone());
                self.fetch(deployment, a.generation, d, catalogue, real);
            }
            wanted.extend(a.content.instances.iter().map(|e| e.id));
        }
        self.staged.retain(|d| held.contains(d));
        self.fetching.retain(|d, _| held.contains(d));
        for (_, a) in &assignments {
            for e in a.content.instances.iter().filter(|_| a.permit >= Permit::Activate) {
                let free = e.replaces.is_none_or(|old| self.processes.get(&old).is_none_or(|p| !p.life.is_live()));
                if free && self.staged.contains(&e.pair.digest) && !self.processes.contains_key(&e.id) {
                    self.processes.insert(e.id, Process::new(e.pair.clone(), real));
                }
            }
        }
        self.put_back(&assignments, catalogue, name, real, &mut wanted);
        // What State has seen the end of is forgotten.
        let over = |id: &InstanceId| state.instances.get(id).is_none_or(|i| !i.life.is_live());
        self.processes.retain(|id, p| wanted.contains(id) || p.life.is_live() || !over(id));
        for (id, p) in &mut self.processes {
            if !wanted.contains(id) {
                p.stop(real);
            }
        }
    }

    /// In place: what is to be replaced runs on until its successor could start, and again when that failed.
    fn put_back(
        &mut self,
        assignments: &[(&DeploymentId, &Assignment)],
        catalogue: &Catalogue,
        name: &WorkerName,
        real: u64,
        wanted: &mut BTreeSet<InstanceId>,
    ) {
        for (_, a) in assignments {
            for e in &a.content.instances {
                let Some(old) = e.replaces else { continue };
                let could = a.permit >= Permit::Activate && self.staged.contains(&e.pair.digest);
                let failed = self.processes.get(&e.id).is_some_and(|p| p.life == Life::Failed);
                let Some(p) = self.processes.get_mut(&old) else { continue };
                if failed && p.passed {
                    p.put_back(real);
                    p.advance(catalogue.behaviour(&p.pair, name), real);
                    wanted.insert(old);
                } else if !failed && !could && p.life.is_live() && !self.processes.contains_key(&e.id) {
                    wanted.insert(old);
                }
            }
        }
    }

    fn fetch(&mut self, deployment: &DeploymentId, generation: u64, d: &Digest, catalogue: &Catalogue, real: u64) {
        let refused = self.refused.entry(deployment.clone()).or_default();
        if refused.0 != generation {
            *refused = (generation, BTreeSet::new());
        }
        if self.staged.contains(d) || refused.1.contains(d) {
            return;
        }
        let asked = *self.fetching.entry(d.clone()).or_insert(real);
        match catalogue.fetch(d) {
            Fetch::At(at) if real >= at.max(asked + FETCH) => {
                self.fetching.remove(d);
                self.staged.insert(d.clone());
            }
            Fetch::Refused if real >= asked + FETCH => {
                self.fetching.remove(d);
                refused.1.insert(d.clone());
            }
            Fetch::At(_) | Fetch::Refused | Fetch::Never => {}
        }
    }

    /// When something of it changes by itself.
    pub fn next_change(&self, name: &WorkerName, catalogue: &Catalogue, real: u64) -> Option<u64> {
        if !self.alive {
            return None;
        }
        let back = (self.away_until > real).then_some(self.away_until);
        let fetched =
            self.fetching.iter().filter(|_| back.is_none()).filter_map(|(d, asked)| match catalogue.fetch(d) {
                Fetch::At(at) => Some(at.max(asked + FETCH)),
                Fetch::Refused => Some(asked + FETCH),
                Fetch::Never => None,
            });
        let lives = self.processes.values().filter_map(|p| p.next_change(catalogue.behaviour(&p.pair, name), real));
        back.into_iter().chain(fetched).chain(lives).filter(|at| *at > real).min()
    }

    /// Its report, with the number of the last one.
    pub fn facts(&self, state: &State, name: &WorkerName) -> WorkerFacts {
        let fact = |(id, p): (&InstanceId, &Process)| InstanceFact {
            id: *id,
            life: p.life,
            health: p.health,
            failures: p.failures,
            restarts: p.restarts,
            exit: p.exit.clone(),
        };
        let mut reached = Vec::new();
        for (d, a) in state.assignments.of_worker(name) {
            let unpacked = a.content.hold.iter().all(|d| self.staged.contains(d));
            let of = || a.content.instances.iter().map(|e| self.processes.get(&e.id));
            let failed = of().flatten().find(|p| p.life == Life::Failed);
            let up = of().all(|p| p.is_some_and(|p| p.life == Life::Running && p.health == Health::Passing));
            let refused = self.refused.get(d).filter(|(g, all)| *g == a.generation && !all.is_empty());
            let word = match (failed, unpacked, up, a.permit) {
                (Some(p), _, _, _) => Reached::Failed(p.exit.clone().unwrap_or_default()),
                _ if refused.is_some() => Reached::Refused {
                    packages: refused.into_iter().flat_map(|(_, all)| all.iter().cloned()).collect(),
                    detail: "the package cannot be unpacked".into(),
                },
                (None, false, _, _) => Reached::Accepted,
                (None, true, true, Permit::Commit) => Reached::Committed,
                (None, true, true, Permit::Activate) => Reached::Active,
                (None, true, _, _) => Reached::Staged,
            };
            let next = a.content.next.as_ref().filter(|p| self.staged.contains(&p.digest));
            let fit = next.map(|_| Fit::Fits);
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

    /// Requests and errors by pair since the running step's mark.
    pub fn counted(
        &mut self,
        state: &State,
        name: &WorkerName,
    ) -> Vec<(DeploymentId, StepId, BTreeMap<Pair, Samples>)> {
        let mut all = Vec::new();
        for (d, a) in state.assignments.of_worker(name) {
            let totals = self.counts.entry(d.clone()).or_default();
            let Some(id) = a.mark else {
                self.marks.remove(d);
                continue;
            };
            let (marked, base) = self.marks.entry(d.clone()).or_insert_with(|| (id, totals.clone()));
            if *marked != id {
                (*marked, *base) = (id, totals.clone());
            }
            let since = |(pair, of): (&Pair, &(u64, u64))| {
                let (requests, errors) = base.get(pair).copied().unwrap_or_default();
                (pair.clone(), crate::counted(of.0 / 1000 - requests / 1000, of.1 / 1000 - errors / 1000))
            };
            all.push((d.clone(), id, totals.iter().map(since).collect()));
        }
        all
    }
}
