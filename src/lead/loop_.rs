//! The leader's loop for one term: each planning pass takes State and observations, proposes facts and planned
//! commands, starts deliveries of the outbox, and lets cluster time go on.
//!
//! Invariants: a pass waits for the results of its own proposals before the next one plans; State is read before the
//! lease table, so a lease that was granted below State's index is in the table; a refused command makes its own
//! deployment rest (`rests`), and only proposals without an answer pause the whole loop; a panic names the part that
//! panicked and costs the leadership.
//!
//! Not here: what to propose (`engine`), what was heard (`observe`), how a smoke test is made (`act`), when panics stop
//! the loop (`panics`).

use std::{any::Any, collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use parking_lot::Mutex;
use tokio::{sync::mpsc, task::JoinSet};

use super::{LastPlan, LeadCounts, Panic, Panics, Part, PlanBoard, counts::add, published::aged, rests::Rests};
use crate::{
    act::{self, Courier, DeliveryOutcome},
    clock::{Backoff, Clock, Mono},
    engine::{facts, plan},
    model::{Millis, Period, Principal},
    observe::Collector,
    raft::{Consensus, ProposeError},
    state::{
        Command, DeliveryKey, Observations, Presence, Rejection, Secret, State,
        command::{CookieRotated, DeliverySettled, DigestProbe, Tick},
        cookie_due,
    },
    supervise,
    traffic::lease::Left,
};

/// Facts are committed at most this often.
const FACTS_EVERY: Duration = Duration::from_millis(100);
/// Ticks while something is due, and otherwise.
const TICK_BUSY: Duration = Duration::from_secs(1);
const TICK_IDLE: Duration = Duration::from_secs(30);
/// After a pass with refused or failed proposals.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// Between two passes: under load a State is published every millisecond, and each pass looks at all of it.
const REST: Duration = Duration::from_millis(5);
/// After a panic, if no other node leads by then.
const AFTER_FALL: Duration = Duration::from_secs(1);

/// What happens after a panic of the loop was noted: the others are told, and another node leads.
pub type Fallen = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// The loop's parts; `run` goes through all terms that this node leads.
#[derive(Clone)]
pub struct Lead {
    consensus: Consensus,
    clock: Clock,
    collector: Arc<Collector>,
    courier: Courier,
    board: PlanBoard,
    counts: Arc<LeadCounts>,
    probe_every: Duration,
    leases: Option<Leases>,
    panics: Arc<Panics>,
    fallen: Option<Fallen>,
    /// What is being done, for the case that it panics.
    part: Arc<Mutex<Part>>,
    fault: Option<String>,
}

/// What is left of servers' leases, by the term that asks.
pub type Leases = Arc<dyn Fn(u64) -> Option<Left> + Send + Sync>;

struct Term {
    term: u64,
    since: Millis,
    last_tick: Mono,
    last_probe: Mono,
    last_facts: Option<Mono>,
    backoff: Backoff,
    rests: Rests,
    delivering: BTreeSet<DeliveryKey>,
    couriers: JoinSet<()>,
    settled: mpsc::UnboundedReceiver<(DeliveryKey, u32, DeliveryOutcome)>,
    settle: mpsc::UnboundedSender<(DeliveryKey, u32, DeliveryOutcome)>,
}

/// What a pass asks for afterwards.
struct Next {
    wait: Duration,
    /// Whether a proposal got no answer, or one that belongs to no deployment was refused.
    failed: bool,
}

/// What became of a proposal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Became {
    Effect,
    Refused,
    NoAnswer,
}

impl Lead {
    /// A loop that does nothing until `run`.
    pub fn new(
        consensus: Consensus,
        collector: Arc<Collector>,
        courier: Courier,
        board: PlanBoard,
        counts: Arc<LeadCounts>,
    ) -> Self {
        let clock = consensus.clock().clone();
        Self {
            consensus,
            clock,
            collector,
            courier,
            board,
            counts,
            probe_every: Duration::ZERO,
            leases: None,
            panics: Arc::default(),
            fallen: None,
            part: Arc::default(),
            fault: None,
        }
    }

    /// Keeps what is known of panics there, and does that after one of its own.
    #[must_use]
    pub fn falling(mut self, panics: Arc<Panics>, fallen: Fallen) -> Self {
        (self.panics, self.fallen) = (panics, Some(fallen));
        self
    }

    /// Panics whenever it would plan for a live rollout of this service, for tests.
    #[must_use]
    pub fn with_fault(mut self, service: Option<String>) -> Self {
        self.fault = service;
        self
    }

    /// Also asks all nodes for digests of their State this often; never with zero.
    #[must_use]
    pub fn probing_every(mut self, every: Duration) -> Self {
        self.probe_every = every;
        self
    }

    /// Tells the planner how long servers may still hold leases.
    #[must_use]
    pub fn waiting_for(mut self, leases: Leases) -> Self {
        self.leases = Some(leases);
        self
    }

    /// Leads whenever this node leads; ends with the consensus.
    pub async fn run(self) {
        let mut leadership = self.consensus.leader();
        loop {
            let Ok(seen) = leadership.wait_for(|l| l.is_me && l.ready).await.map(|l| l.term) else { return };
            tracing::info!(term = seen, "leading");
            // Nothing of the term outlives a panic: all it had is dropped with it, and State is another module's.
            let term = AssertUnwindSafe(self.term(seen)).catch_unwind().await;
            if let Err(panic) = term {
                self.fell(seen, supervise::words(panic.as_ref()).into()).await;
            }
            tracing::info!(term = seen, "no longer leading");
        }
    }

    fn enter(&self, part: Part) {
        *self.part.lock() = part;
    }

    /// Notes a panic and lets another node lead. If none can, this one tries again.
    async fn fell(&self, term: u64, reason: String) {
        let (now, part) = (self.clock.mono(), *self.part.lock());
        add(&self.counts.panics);
        tracing::error!(term, %part, reason, "the leader's loop panicked; another node is to lead");
        let node = self.consensus.node_id();
        self.panics.learn(Panic { node, id: rand::random(), at: now, part, reason }, now);
        if let Some((stopped, _)) = self.panics.stopped(part, now) {
            tracing::error!("{stopped}");
        }
        if let Some(fallen) = &self.fallen {
            fallen().await;
        }
        tokio::time::sleep(AFTER_FALL).await;
    }

    fn leads(&self, term: u64) -> bool {
        let leadership = self.consensus.leader();
        let now = leadership.borrow();
        now.is_me && now.ready && now.term == term
    }

    async fn term(&self, term: u64) {
        self.collector.begin_term(term);
        let since = self.consensus.cluster_now().unwrap_or_else(|| self.consensus.view().now);
        let (settle, settled) = mpsc::unbounded_channel();
        let mut t = Term {
            term,
            since,
            last_tick: self.clock.mono(),
            last_probe: self.clock.mono(),
            last_facts: None,
            backoff: BACKOFF,
            rests: Rests::default(),
            delivering: BTreeSet::new(),
            couriers: JoinSet::new(),
            settled,
            settle,
        };
        let mut leadership = self.consensus.leader();
        let mut views = self.consensus.view_changes();
        let mut heard = self.collector.changes();
        while self.leads(term) {
            views.borrow_and_update();
            heard.borrow_and_update();
            leadership.borrow_and_update();
            while let Ok((key, attempt, outcome)) = t.settled.try_recv() {
                self.settle(&mut t, key, attempt, outcome).await;
            }
            let Some(next) = self.pass(&mut t).await else { return };
            if next.failed {
                // The view moves with every proposal: without this pause the loop would spin.
                tokio::time::sleep(t.backoff.pause()).await;
                continue;
            }
            t.backoff.reset();
            tokio::time::sleep(REST).await;
            tokio::select! {
                seen = views.changed() => if seen.is_err() { return },
                _ = heard.changed() => {}
                _ = leadership.changed() => {}
                Some((key, attempt, outcome)) = t.settled.recv() => self.settle(&mut t, key, attempt, outcome).await,
                () = tokio::time::sleep(next.wait) => {}
            }
        }
    }

    async fn pass(&self, t: &mut Term) -> Option<Next> {
        self.enter(Part::Rest);
        if let Some((why, left)) = self.panics.stopped(Part::Rest, self.clock.mono()) {
            return Some(self.rests(t, why, left));
        }
        let now = self.consensus.cluster_now()?;
        let mut state = self.consensus.view();
        let Some(cluster) = &state.cluster else { return Some(Next { wait: TICK_BUSY, failed: false }) };
        let silent_after = cluster.settings.lost_after.max(cluster.settings.node_silent_after);
        // Once a pass: all that was heard of a fleet is much, and what comes while facts are committed wakes the next
        // one.
        let mut seen = self.collector.observations(t.term, t.since, now, silent_after);
        let mut failed = false;
        let mut wait = TICK_IDLE;

        if !self.probe_every.is_zero() {
            let since = Duration::from_millis(self.clock.mono().since(t.last_probe));
            if since >= self.probe_every {
                t.last_probe = self.clock.mono();
                self.propose(vec![Command::DigestProbe(DigestProbe {})]).await;
                state = self.consensus.view();
            }
            wait =
                wait.min(self.probe_every.saturating_sub(Duration::from_millis(self.clock.mono().since(t.last_probe))));
        }
        if self.consensus.diverged().is_some() {
            // Nothing may be decided from this State; leadership is being handed over.
            return Some(Next { wait: wait.min(TICK_BUSY), failed: false });
        }

        self.enter(Part::Facts);
        let resting = self.panics.stopped(Part::Facts, self.clock.mono());
        let differences = if resting.is_some() { Vec::new() } else { facts(&state, &seen, now) };
        self.enter(Part::Rest);
        if !differences.is_empty() {
            let rest = t.last_facts.map_or(0, |at| millis(FACTS_EVERY).saturating_sub(self.clock.mono().since(at)));
            if rest == 0 {
                t.last_facts = Some(self.clock.mono());
                failed |= !self.took(differences).await;
                state = self.consensus.view();
            } else {
                wait = wait.min(Duration::from_millis(rest));
            }
        }

        let now = self.consensus.cluster_now()?;
        if let Some(seen) = cookie_due(&state, now) {
            // Randomness comes with the command: `apply` has none.
            let secret = Secret::new(rand::random());
            failed |= !self.took(vec![Command::CookieRotated(CookieRotated { secret, seen })]).await;
            state = self.consensus.view();
        }
        // Read after State: a lease that was granted for an index below State's is in the table by now.
        seen.leases = self.leases.as_ref().and_then(|left| left(t.term));
        if let Some((why, left)) = resting.or_else(|| self.panics.stopped(Part::Plan, self.clock.mono())) {
            let next = self.rests(t, why, left);
            self.tick(t, TICK_IDLE).await;
            return Some(Next { wait: wait.min(next.wait), failed });
        }
        add(&self.counts.passes);
        self.enter(Part::Plan);
        self.trip(&state);
        let planned = plan(&state, &seen, now);
        self.enter(Part::Rest);
        let busy = planned.wake_at.is_some() || pending(&state, &seen);
        if let Some(at) = planned.wake_at {
            // A millisecond later than due, so that the pass finds it due.
            wait = wait.min(Duration::from_millis(at.since(now).0.saturating_add(1)));
        }
        let waits = aged(&self.board.last(), t.term, now, planned.waits);
        self.board.publish(LastPlan { term: t.term, now, waits, stopped: None });
        let (due, next) = t.rests.due(&state, planned.commands, &self.clock);
        wait = next.map_or(wait, |rest| wait.min(rest));
        let (owners, commands): (Vec<_>, Vec<_>) = due.into_iter().unzip();
        for (owner, became) in owners.into_iter().zip(self.propose(commands).await) {
            failed |= became == Became::NoAnswer;
            t.rests.note(owner, became == Became::Effect, &self.clock);
        }
        self.deliver(t, &state, now);

        let every = if busy { TICK_BUSY } else { TICK_IDLE };
        wait = wait.min(self.tick(t, every).await);
        Some(Next { wait, failed })
    }

    /// Lets cluster time go on when that is due; gives the time until it is.
    async fn tick(&self, t: &mut Term, every: Duration) -> Duration {
        let since = Duration::from_millis(self.clock.mono().since(t.last_tick));
        if since < every {
            return every.saturating_sub(since);
        }
        t.last_tick = self.clock.mono();
        self.propose(vec![Command::Tick(Tick {})]).await;
        every
    }

    /// Nothing is planned: says why, and looks again when it may be tried, or a second from now.
    fn rests(&self, t: &Term, why: String, left: u64) -> Next {
        let now = self.consensus.cluster_now().unwrap_or_default();
        self.board.publish(LastPlan { term: t.term, now, stopped: Some(why), ..LastPlan::default() });
        Next { wait: Duration::from_millis(left.saturating_add(1)).min(TICK_BUSY), failed: false }
    }

    /// The panic that a test asked for.
    fn trip(&self, state: &State) {
        let Some(service) = &self.fault else { return };
        let asked = |id: &crate::model::DeploymentId| id.service.as_str() == service;
        if state.deployments.iter().any(|(id, d)| d.live.is_some() && asked(id)) {
            // Asked for by a hidden flag alone.
            panic!("a fault was asked for: {service} is rolled out");
        }
    }

    /// Proposes and waits for all; whether every one took effect.
    async fn took(&self, commands: Vec<Command>) -> bool {
        self.propose(commands).await.into_iter().all(|became| became == Became::Effect)
    }

    /// Proposes and waits for all; what became of each.
    async fn propose(&self, commands: Vec<Command>) -> Vec<Became> {
        let results = join_all(commands.into_iter().map(|command| async {
            add(&self.counts.proposed);
            let name = command.name();
            (name, self.consensus.propose(Principal::leader(), None, command).await)
        }))
        .await;
        let mut all = Vec::new();
        for (name, result) in results {
            let refusal = match result {
                Ok(applied) => match applied.result {
                    Ok(_) => {
                        all.push(Became::Effect);
                        continue;
                    }
                    Err(r) => r,
                },
                Err(error) => {
                    add(&self.counts.failed);
                    all.push(match error {
                        ProposeError::TooLarge { .. } | ProposeError::Encoding { .. } => {
                            tracing::error!(command = name, %error, "proposal impossible");
                            Became::Refused
                        }
                        ProposeError::NotLeader { .. }
                        | ProposeError::NoQuorum
                        | ProposeError::Refusing { .. }
                        | ProposeError::Unknown { .. }
                        | ProposeError::Stopped { .. } => {
                            tracing::debug!(command = name, %error, "proposal without result");
                            Became::NoAnswer
                        }
                    });
                    continue;
                }
            };
            all.push(Became::Refused);
            add(if matches!(refusal, Rejection::Stale { .. }) {
                &self.counts.stale
            } else if matches!(refusal, Rejection::Guard(_)) {
                &self.counts.guarded
            } else {
                &self.counts.refused
            });
            tracing::debug!(command = name, %refusal, "proposal refused");
        }
        all
    }

    /// Starts a courier for every delivery that has none.
    fn deliver(&self, t: &mut Term, state: &State, now: Millis) {
        while t.couriers.try_join_next().is_some() {}
        for (key, delivery) in &state.outbox {
            if !t.delivering.insert(*key) {
                continue;
            }
            let limit = Duration::from_millis(delivery.expires.since(now).0);
            let (courier, settle, key, delivery) = (self.courier.clone(), t.settle.clone(), *key, delivery.clone());
            let spec =
                state.rollouts.get(&delivery.rollout).and_then(|r| state.spec(&r.deployment, r.to.spec)).cloned();
            let (counts, clock) = (self.counts.clone(), self.clock.clone());
            let refused = act::refusal(state, &delivery);
            t.couriers.spawn(async move {
                let began = clock.micros();
                let check = spec.as_ref().map(|s| &s.health);
                let outcome = match refused {
                    None => {
                        // One that falls would else owe its outcome until the next term.
                        let asking =
                            AssertUnwindSafe(courier.deliver(key, &delivery, check, limit)).catch_unwind().await;
                        let fell = |panic: &(dyn Any + Send)| {
                            format!("asking the targets panicked ({})", supervise::words(panic))
                        };
                        asking.unwrap_or_else(|panic| DeliveryOutcome { ok: false, detail: fell(panic.as_ref()) })
                    }
                    Some(detail) => DeliveryOutcome { ok: false, detail },
                };
                counts.deliveries.0.observe(clock.micros().saturating_sub(began) as f64 / 1e6);
                add(if outcome.ok { &counts.delivered } else { &counts.undelivered });
                // The receiver goes with the term; the next leader delivers again.
                let _ = settle.send((key, delivery.attempt, outcome));
            });
        }
    }

    async fn settle(&self, t: &mut Term, key: DeliveryKey, attempt: u32, outcome: DeliveryOutcome) {
        let DeliveryOutcome { ok, detail } = outcome;
        self.propose(vec![Command::DeliverySettled(DeliverySettled { key, attempt, ok, detail })]).await;
        t.delivering.remove(&key);
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Whether anything in State waits for cluster time to pass.
fn pending(state: &State, seen: &Observations) -> bool {
    let live = state.deployments.values().any(|d| d.live.is_some());
    let settings = state.cluster.as_ref().map(|c| &c.settings);
    let out = settings.map_or(Period(0), |s| s.dns_out_after);
    let leaving = state.workers.values().any(|w| match w.presence {
        Presence::Lost => w.lost_at.is_some_and(|at| at.plus(out) >= state.now),
        Presence::Ready => seen.workers.get(&w.name).is_none_or(|s| s.known().is_none()),
    });
    live || leaving || state.fences.open().next().is_some() || state.fences.unsettled() || !state.outbox.is_empty()
}
