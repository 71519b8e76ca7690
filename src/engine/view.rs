//! One deployment as a pass sees it: its instances gathered once, counts by pair, who was heard, and the notes a pass
//! takes.
//!
//! Invariant: capacity counts an instance only when it serves *and* its worker is heard of.

use super::prelude::*;

/// What a pass notes beside commands.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Reasons for waiting.
    pub waits: Vec<Wait>,
    /// The earliest moment something is due.
    pub wake: Option<Millis>,
}

impl Notes {
    /// Notes a reason once.
    pub fn wait(&mut self, wait: Wait) {
        if !self.waits.contains(&wait) {
            self.waits.push(wait);
        }
    }

    /// Asks to look again at this moment, or earlier.
    pub fn wake_at(&mut self, at: Millis) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }
}

/// One deployment, State and Observations around it.
pub(super) struct View<'a> {
    pub state: &'a State,
    pub seen: &'a Observations,
    pub now: Millis,
    pub settings: &'a Settings,
    pub deployment: &'a Deployment,
    /// Its instances in id order, ended ones included.
    pub instances: Vec<&'a Instance>,
}

impl<'a> View<'a> {
    pub fn new(
        state: &'a State,
        seen: &'a Observations,
        now: Millis,
        settings: &'a Settings,
        deployment: &'a Deployment,
    ) -> Self {
        let instances = state.instances_of(&deployment.id).collect();
        Self { state, seen, now, settings, deployment, instances }
    }

    /// The deployment that is looked at.
    pub fn id(&self) -> &'a DeploymentId {
        &self.deployment.id
    }

    /// Whether a worker is heard of.
    pub fn worker_ready(&self, name: &WorkerName) -> bool {
        hears(self.state, name)
    }

    /// Serves, on a worker that is heard of.
    pub fn passes(&self, i: &Instance) -> bool {
        passes(self.state, i)
    }

    /// Instances of a pair that are meant to serve and were not counted out.
    pub fn wanted<'b>(&'b self, pair: &'b Pair) -> impl Iterator<Item = &'a Instance> + 'b {
        let is = move |i: &&Instance| &i.pair == pair && i.life.is_wanted() && i.counted_out.is_none();
        self.instances.iter().copied().filter(is)
    }

    /// How many of them stand on workers that are heard of: what stands on a lost one can neither be relied on nor
    /// waited for.
    pub fn there(&self, pair: &Pair) -> u32 {
        count(self.wanted(pair).filter(|i| self.worker_ready(&i.worker)))
    }

    /// Passing instances of a pair.
    pub fn passing(&self, pair: &Pair) -> u32 {
        count(self.wanted(pair).filter(|i| self.passes(i)))
    }

    /// Instances whose process may exist, on workers that can act on it.
    pub fn live(&self) -> impl Iterator<Item = &'a Instance> + '_ {
        self.instances.iter().copied().filter(|i| i.life.is_live())
    }

    /// Those that make room, as far as their workers are heard of.
    pub fn leaving(&self) -> impl Iterator<Item = &'a Instance> + '_ {
        self.live().filter(|i| !i.life.is_wanted() && self.worker_ready(&i.worker))
    }

    /// The end of the grace of a new term.
    pub fn grace_end(&self) -> Millis {
        self.seen.leader_since.plus(self.settings.term_grace)
    }

    /// Whether the worker was heard from in this term, then or later.
    pub fn heard_since(&self, worker: &WorkerName, then: Millis) -> bool {
        match self.seen.workers.get(worker) {
            Some(Seen::Known { at, .. }) => *at >= then,
            Some(Seen::Unknown | Seen::Silent { .. }) | None => false,
        }
    }

    /// Of these workers, those that a new leader has not heard yet and still waits for.
    pub fn awaiting<'b>(&self, workers: impl Iterator<Item = &'b WorkerName>) -> bool {
        let unknown = |w: &WorkerName| match self.seen.workers.get(w) {
            None | Some(Seen::Unknown) => true,
            Some(Seen::Silent { .. } | Seen::Known { .. }) => false,
        };
        self.now < self.grace_end() && workers.into_iter().any(|w| self.worker_ready(w) && unknown(w))
    }

    /// Notes that the new leader is still listening; returns whether it is.
    pub fn observing<'b>(&self, workers: impl Iterator<Item = &'b WorkerName>, notes: &mut Notes) -> bool {
        let waits = self.awaiting(workers);
        if waits {
            notes.wait(Wait::Observing { until: self.grace_end() });
            notes.wake_at(self.grace_end());
        }
        waits
    }

    /// The spec of a pair; absent once it is no longer kept.
    pub fn spec(&self, pair: &Pair) -> Option<&'a Spec> {
        self.state.spec(&self.deployment.id, pair.spec).map(AsRef::as_ref)
    }

    /// What a worker is to run and hold of the deployment.
    pub fn assignment(&self, worker: &WorkerName) -> Option<&'a Assignment> {
        self.state.assignments.get(&(worker.clone(), self.deployment.id.clone()))
    }

    /// Whether the worker is known to have what the pair that is to run there next asks for.
    pub fn fits(&self, worker: &WorkerName) -> bool {
        self.assignment(worker).is_none_or(Assignment::fits)
    }

    /// Whether a worker has a package unpacked.
    pub fn staged(&self, worker: &WorkerName, digest: &Digest) -> bool {
        staged(self.state, worker, digest)
    }
}

/// Names in a row, for notes.
pub(super) fn names(workers: &[WorkerName]) -> String {
    workers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// How many, as State counts.
pub(super) fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// Whether an instance runs into its life's end before it ever passed, or did not come up at all.
pub(super) fn fell_over(i: &Instance) -> bool {
    i.life == Life::Failed || (!i.passed_once && i.health != Health::Passing && (i.restarts > 0 || i.exit.is_some()))
}
