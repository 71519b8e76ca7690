//! Simulated DNS servers: each serves what is applied after a lag of its own, falls silent, is started anew; and what
//! clients may still have from them, which is the truth that a drain is judged by.
//!
//! Invariant: what a server says is never more than what it serves. Where no truth is asked for, leases are what a test
//! sets by hand.

use std::collections::{BTreeMap, VecDeque};

use slipway::model::{InstanceId, Millis, NodeId, Period};
use slipway::state::{NodeSeen, Seen, State, serving};
use slipway::traffic::lease::Left;

use super::Fleet;

/// Entries that are remembered for servers that lag.
const KEPT: usize = 400;
/// After which a server that says nothing is silent to the leader.
const SILENT: u64 = 10_000;

/// A DNS node.
#[derive(Clone)]
pub struct Node {
    pub alive: bool,
    /// Cluster time since when it serves without a break.
    pub serving_since: u64,
    /// Entries that it is behind by, and milliseconds after which it has an entry all the same.
    pub lag: (u64, u64),
    /// True time until which it is being started anew: nothing is heard of it. It answers nobody until it has caught
    /// up.
    pub down_until: u64,
    /// Since when, in cluster time, it answers nobody though it is heard.
    unready: Option<u64>,
    served: u64,
    /// True time at which its last lease is over.
    lease: u64,
}

impl Node {
    pub fn new() -> Self {
        Self { alive: true, serving_since: 0, lag: (0, 0), down_until: 0, unready: None, served: 0, lease: 0 }
    }

    fn up(&self, real: u64) -> bool {
        self.alive && real >= self.down_until
    }
}

/// States that servers that lag may still serve, and who named whom last. Kept only where a test asks for it.
#[derive(Clone, Default)]
pub struct Truth {
    pub on: bool,
    views: VecDeque<(u64, u64, Option<State>)>,
    /// True time at which a server that lives named an instance last, and the TTL it did so with.
    named: BTreeMap<InstanceId, (u64, u64)>,
}

impl Truth {
    pub(super) fn note(&mut self, index: u64, real: u64, state: &State) {
        self.views.push_back((index, real, self.on.then(|| state.clone())));
        if self.views.len() > KEPT {
            self.views.pop_front();
        }
    }
}

impl Fleet {
    /// What servers say reaches the leader, of its present State.
    pub(super) fn hear(&mut self) {
        let (now, real, index) = (self.now(), self.real, self.index);
        let ttls = self.state.deployments.values();
        let ttls: BTreeMap<_, _> = ttls.filter_map(|d| Some((d.id.clone(), d.route.as_ref()?.ttl.0))).collect();
        for (id, node) in &mut self.nodes {
            if !node.up(real) {
                if let Some(Seen::Known { at, .. }) = self.seen.nodes.get(id).filter(|_| self.truth.on)
                    && now.since(*at).0 >= SILENT
                {
                    let since = *at;
                    self.seen.nodes.insert(*id, Seen::Silent { since });
                }
                continue;
            }
            let old = self.truth.views.iter().rev().find(|(_, at, _)| at + node.lag.1 <= real).map_or(0, |v| v.0);
            node.served = node.served.max(old).max(index.saturating_sub(node.lag.0));
            if node.down_until > 0 && node.served + node.lag.0.max(1) >= index {
                (node.down_until, node.unready, node.serving_since) = (0, None, now.0);
            } else if node.down_until > 0 {
                node.unready.get_or_insert(now.0);
            }
            let value = NodeSeen {
                served_index: node.served,
                ttls: ttls.clone(),
                serving_since: Millis(node.serving_since),
                unready_since: node.unready.map(Millis),
            };
            self.seen.nodes.insert(*id, Seen::Known { at: now, value });
            node.lease = real + self.state.fences.waited().bound().0;
        }
        if self.truth.on {
            let held = self.nodes.iter().map(|(id, n)| (*id, Period(n.lease.saturating_sub(real)))).collect();
            let presumed = (self.anchor.1 + self.state.fences.waited().bound().0).saturating_sub(real);
            self.seen.leases = Some(Left { presumed: Period(if self.term > 1 { presumed } else { 0 }), held });
        }
    }

    /// A server's process is started anew and is back after so long.
    pub fn restart_server(&mut self, id: NodeId, ms: u64) {
        self.note(&format!("n{id} is started anew"));
        let until = self.real + ms;
        let node = self.nodes.get_mut(&id).expect("a known node");
        (node.down_until, node.served) = (until, 0);
    }

    /// Who is named now: caches may have it for a TTL from here.
    pub(super) fn look(&mut self) {
        if !self.truth.on {
            return;
        }
        let (real, shop) = (self.real, self.shop());
        for node in self.nodes.values().filter(|n| n.up(real) && n.down_until == 0) {
            let view = self.truth.views.iter().rev().find(|(at, ..)| *at <= node.served);
            let Some((_, _, Some(state))) = view else { continue };
            let route = state.deployments.get(&shop).and_then(|d| d.route.as_ref());
            let Some(ttl) = route.map(|r| r.ttl.0) else { continue };
            for i in serving(state, &shop, state.now) {
                self.truth.named.insert(i.id, (real, ttl));
            }
        }
    }

    /// An agent stops a process on purpose: nobody may have its address from a server any more.
    pub(super) fn stops(&self, id: InstanceId) {
        let Some((at, ttl)) = self.truth.named.get(&id).filter(|_| self.truth.on) else { return };
        assert!(
            self.real >= at + ttl,
            "{id} stops at {}, was named at {at} for {ttl} ms\n{}",
            self.real,
            self.transcript.join("\n")
        );
    }

    /// What is called fenced is: no server that lives serves anything older than the move.
    pub(super) fn fenced(&self, moved: u64) {
        for (id, node) in self.nodes.iter().filter(|(_, n)| self.truth.on && n.up(self.real) && n.down_until == 0) {
            assert!(
                node.served >= moved,
                "n{id} serves {}, the traffic moved at {moved}\n{}",
                node.served,
                self.transcript.join("\n")
            );
        }
    }
}
