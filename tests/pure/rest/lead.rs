//! The leader's loop: what is heard becomes facts, facts and State become a plan, a plan becomes entries, until there
//! is nothing to do.
//!
//! Invariant: what `plan` proposes on a State is never refused on that State, as nothing comes between; a refusal is a
//! finding.

use std::collections::BTreeMap;

use slipway::engine::{facts, plan};
use slipway::model::{Millis, Pair};
use slipway::state::{
    Command, NodeSeen, Presence, Seen, StepCounts,
    command::{DeliverySettled, Tick},
};

use super::story::Ill;
use super::world::World;

/// Passes in a row, five milliseconds each, after which a leader counts as running in a circle.
const PASSES: u32 = 300;
/// Milliseconds that a pass with its entries takes.
const PASS: u64 = 5;
/// How long a smoke test's answer takes.
const ANSWER: u64 = 300;

impl World {
    /// Passes until nothing is left to do at this moment.
    pub fn settle(&mut self) {
        for _ in 0..PASSES {
            self.elect();
            self.obey();
            if self.leaderless.is_some() || self.over() {
                return;
            }
            self.hear();
            super::watch::due(self);
            if !self.pass() {
                self.says_why();
                self.tick();
                return;
            }
            self.flow(PASS);
            self.real += PASS;
            if self.stands() {
                return;
            }
        }
        let waits = format!("{:?}", self.waits);
        self.found("runs in a circle", format!("{PASSES} passes in a row; waits {waits}"));
    }

    fn obey(&mut self) {
        for (name, agent) in &mut self.agents {
            agent.step(&self.state, name, &self.catalogue, self.real);
        }
    }

    /// One pass; whether anything was proposed.
    fn pass(&mut self) -> bool {
        if self.answer() {
            return true;
        }
        let now = self.now();
        let differences = facts(&self.state, &self.seen, now);
        if !differences.is_empty() {
            self.propose(differences);
            return true;
        }
        let planned = plan(&self.state, &self.seen, now);
        self.tally.waits(&planned.waits);
        if self.waits != planned.waits {
            self.tale.waits(&planned.waits);
            self.waits = planned.waits;
        }
        self.wake = planned.wake_at;
        if planned.commands.is_empty() {
            if self.wake.is_some_and(|at| at <= now) {
                let waits = format!("{:?}", self.waits);
                self.found(
                    "woken in the past",
                    format!("at {now} it wants to be woken at {:?}; waits {waits}", self.wake),
                );
            }
            return false;
        }
        let mut commands = planned.commands;
        if let Some(n) = self.trouble.loses.take() {
            self.tale.line(|| format!("-- of this plan {n} commands arrive"));
            commands.truncate(n as usize);
            if commands.is_empty() {
                // It is proposed again when the proposal has failed.
                self.flow(200);
                self.real += 200;
            }
        }
        self.propose(commands);
        true
    }

    /// What is under way and does not move says for what it waits.
    fn says_why(&mut self) {
        let silent =
            |d: &&slipway::state::Deployment| d.live.is_some() && self.waits.get(&d.id).is_none_or(Vec::is_empty);
        let Some(d) = self.state.deployments.values().find(silent) else { return };
        let r = self
            .state
            .live_rollout(&d.id)
            .map(|r| (r.id, r.status, r.cursor, r.running().map(|(_, s)| s.step.kind.clone())));
        let text = format!("{}: {r:?}", d.id);
        self.found("it stands and does not say why", text);
    }

    fn propose(&mut self, commands: Vec<Command>) {
        for c in commands {
            if let Some((left, outage)) = self.trouble.dies {
                if left == 0 {
                    self.leader_dies(outage);
                    return;
                }
                self.trouble.dies = Some((left - 1, outage));
            }
            let told = format!("{c:?}");
            let name = c.name();
            if let Err(e) = self.commit(c) {
                self.found("the law refuses the plan", format!("{name}: {e}; {}", cut(&told)));
            }
            if self.over() || self.stands() {
                return;
            }
        }
    }

    /// What agents and servers say reaches the leader.
    fn hear(&mut self) {
        let (now, real) = (self.now(), self.real);
        let lost_after = self.state.cluster.as_ref().map_or(10_000, |c| c.settings.lost_after.0);
        for (name, agent) in &mut self.agents {
            if !agent.connected(real) {
                if let Some(Seen::Known { at, .. }) = self.seen.workers.get(name)
                    && now.since(*at).0 >= lost_after
                {
                    let since = *at;
                    self.seen.workers.insert(name.clone(), Seen::Silent { since });
                    agent.said = None;
                }
                continue;
            }
            let facts = agent.facts(&self.state, name);
            let same = agent.said.as_ref().is_some_and(|said| {
                said.instances == facts.instances && said.reached == facts.reached && said.staged == facts.staged
            });
            match self.seen.workers.get_mut(name) {
                Some(Seen::Known { at, .. }) if same => *at = now,
                Some(_) | None => {
                    agent.seq += 1;
                    let facts = slipway::state::WorkerFacts { seq: agent.seq, epoch: agent.epoch, ..facts };
                    self.seen.workers.insert(name.clone(), Seen::Known { at: now, value: facts.clone() });
                    agent.said = Some(facts);
                }
            }
            let mute: Vec<Pair> = agent.processes.values().map(|p| p.pair.clone()).collect();
            let mute = mute.into_iter().filter(|p| self.catalogue.of(&p.version).ill == Ill::Uncounted);
            let unknown: BTreeMap<Pair, _> = mute.map(|p| (p, crate::uncounted("no series matches"))).collect();
            for (d, step, pairs) in agent.counted(&self.state, name) {
                let counts = self.seen.counts.entry((d, step)).or_default();
                counts.insert(name.clone(), StepCounts { pairs, unknown: unknown.clone() });
            }
        }
        let ttls = self.state.deployments.values();
        let ttls: BTreeMap<_, _> = ttls.filter_map(|d| Some((d.id.clone(), d.route.as_ref()?.ttl.0))).collect();
        let (index, began) = (self.index, self.now().0);
        for (id, server) in &mut self.servers {
            if !server.heard(real) {
                if let Some(Seen::Known { at, .. }) = self.seen.nodes.get(id)
                    && now.since(*at).0 >= lost_after
                {
                    let since = *at;
                    self.seen.nodes.insert(*id, Seen::Silent { since });
                }
                continue;
            }
            let served_index = server.serves(real, index, &self.entries);
            // How long ago it started, in cluster time.
            let serving_since = Millis(began.saturating_sub(real - server.since));
            let value = NodeSeen { served_index, ttls: ttls.clone(), serving_since, unready_since: None };
            self.seen.nodes.insert(*id, Seen::Known { at: now, value });
        }
    }

    /// When silence becomes a fact.
    pub fn silences(&self) -> Vec<u64> {
        let Some(cluster) = &self.state.cluster else { return Vec::new() };
        let s = &cluster.settings;
        let from = |at: Millis| at.max(self.seen.leader_since);
        let mut all = Vec::new();
        for w in self.state.workers.values().filter(|w| w.presence == Presence::Ready) {
            let connected = self.agents.get(&w.name).is_some_and(|a| a.connected(self.real));
            if !connected {
                all.push(from(last(self.seen.workers.get(&w.name))).plus(s.lost_after));
            }
        }
        for n in self.state.nodes.values().filter(|n| n.silent_since.is_none()) {
            if !self.servers.get(&n.id).is_some_and(|x| x.heard(self.real)) {
                all.push(from(last(self.seen.nodes.get(&n.id))).plus(s.node_silent_after));
            }
        }
        all.push(self.seen.leader_since.plus(s.term_grace));
        all.into_iter().map(|at| self.real_of(at)).filter(|at| *at > self.real).collect()
    }

    fn tick(&mut self) {
        if self.real >= self.last_tick + 30_000 {
            self.last_tick = self.real;
            let _ = self.commit(Command::Tick(Tick {}));
        }
    }

    /// Smoke tests are answered a moment after they were queued; whether one was.
    fn answer(&mut self) -> bool {
        let owed: Vec<_> = self.state.outbox.iter().map(|(k, d)| (*k, d.clone())).collect();
        self.deliveries.retain(|k, _| owed.iter().any(|(o, _)| o == k));
        for (key, d) in owed {
            let due = *self.deliveries.entry(key).or_insert(self.real + ANSWER);
            if self.real < due {
                continue;
            }
            let ok =
                self.state.rollouts.get(&d.rollout).is_none_or(|r| self.catalogue.of(&r.to.version).ill != Ill::Smoke);
            let detail = if ok { "200 from all" } else { "500 from 1 of all" };
            self.deliveries.remove(&key);
            let body = Command::DeliverySettled(DeliverySettled { key, attempt: d.attempt, ok, detail: detail.into() });
            if let Err(e) = self.commit(body) {
                self.found("a delivery is refused", e.to_string());
            }
            return true;
        }
        false
    }

    /// Traffic of so many milliseconds, by weights, over the instances that DNS names.
    pub fn flow(&mut self, ms: u64) {
        for laid in self.shape.deployments.clone() {
            if !laid.metrics || laid.rate == 0 || ms == 0 || self.state.live_rollout(&laid.id).is_none() {
                continue;
            }
            let Some(d) = self.state.deployments.get(&laid.id) else { continue };
            let serving = slipway::state::serving(&self.state, &laid.id, self.state.now);
            for arm in d.arms.iter() {
                let of: Vec<_> = serving.iter().filter(|i| i.pair == arm.pair).collect();
                let weight = u64::from(arm.weight.0);
                if of.is_empty() || weight == 0 {
                    continue;
                }
                let each = laid.rate * ms * weight / 10_000 / of.len() as u64;
                let errors = self.catalogue.errors(&arm.pair.version);
                for i in of {
                    let Some(agent) = self.agents.get_mut(&i.worker) else { continue };
                    if agent.alive && agent.processes.get(&i.id).is_some_and(|p| p.serves(self.real)) {
                        let totals = agent.counts.entry(laid.id.clone()).or_default();
                        let total = totals.entry(arm.pair.clone()).or_default();
                        total.0 += each;
                        total.1 += each * errors / 10_000;
                    }
                }
            }
        }
    }
}

fn last<T>(heard: Option<&Seen<T>>) -> Millis {
    match heard {
        Some(Seen::Known { at, .. }) => *at,
        Some(Seen::Silent { since }) => *since,
        Some(Seen::Unknown) | None => Millis(0),
    }
}

pub fn cut(text: &str) -> String {
    text.chars().take(400).collect()
}
