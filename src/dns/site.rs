//! One deployment as DNS sees it: arms with weights and endpoints, names that exist, and what outlives a change of the view.
//!
//! A site is immutable but for what it hands on to its successor: deck, slots and tally (while the route's generation is the same; a new
//! generation is a new deck), the log of TTLs handed out and the clients seen. None of it counts when two sites are compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::tally::Clients;
use crate::{
    clock::Mono,
    model::{DeploymentId, DnsPolicy, InstanceId, Life, OnPanic, Period, Protocol, WhenEmpty},
    state::{Deployment, FencePoint, Instance, OnExpiry, RouteMode, State, TrackName, serving_among},
    traffic::{Deck, SlotTable, Slots},
};

/// The arms of every route, in this order.
pub(super) const ARMS: [TrackName; 3] = [TrackName::Stable, TrackName::Candidate, TrackName::Previous];

/// An address with its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub id: InstanceId,
    pub address: IpAddr,
    pub ports: Arc<BTreeMap<String, u16>>,
}

/// A track: its version, its share, and the endpoints that may be named now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Arm {
    pub version: Option<String>,
    pub bps: u32,
    pub endpoints: Vec<Endpoint>,
    /// Whether the deployment's policy is SERVFAIL for as few as pass now.
    pub fails: bool,
}

/// A route, without its weights, which stand with the arms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SiteRoute {
    pub generation: FencePoint,
    pub mode: RouteMode,
    /// Seconds.
    pub ttl: u32,
}

/// What an `i-` name answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// `None`: the instance exists and has nothing to connect to.
    pub endpoint: Option<Endpoint>,
    /// Whether it may be kept in caches: an instance on its way out is still there for who has its name, and not for longer.
    pub lasting: bool,
}

/// What a track may name, and whether it is a failure that it names nothing.
fn nameable(
    row: &Deployment,
    track: TrackName,
    rows: &[&Instance],
    eligible: &[&Instance],
    policy: DnsPolicy,
    before: Option<&Site>,
) -> (Vec<Endpoint>, bool) {
    let mine = |i: &&&Instance| track_of(row, i) == Some(track);
    let passing: Vec<Endpoint> = eligible.iter().filter(mine).filter_map(|i| endpoint(i)).collect();
    let running = rows.iter().filter(|i| i.life == Life::Running).filter(mine);
    let running: Vec<Endpoint> = running.filter_map(|i| endpoint(i)).collect();
    if !policy.is_panic(passing.len(), running.len()) {
        return (passing, false);
    }
    match policy.on_panic {
        OnPanic::Nodata => (passing, false),
        OnPanic::FailOpen => (running, false),
        OnPanic::Servfail => (Vec::new(), true),
        OnPanic::LastGood => {
            // What has stopped since must not be named: its address may be another's by now.
            let good: Option<Vec<Endpoint>> =
                before.map(|b| b.arm(track).endpoints.iter().filter(|e| running.contains(e)).cloned().collect());
            (good.filter(|g| !g.is_empty()).unwrap_or(passing), false)
        }
    }
}

/// What a `v-` name answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pinned {
    pub version: String,
    pub endpoints: Vec<Endpoint>,
}

/// The table of keyed answers, made when the first one is asked for: most services are never asked so, and a table takes 20 KiB.
#[derive(Debug, Clone, Default)]
pub(super) struct Table(Arc<OnceLock<Option<SlotTable>>>);

impl PartialEq for Table {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Something handed on from view to view; all of its values compare as equal.
#[derive(Debug, Default)]
pub(super) struct Shared<T>(Arc<Mutex<T>>);

impl<T> Shared<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    /// A panic while the lock was held leaves a deck or a log that is still usable, so poison is passed over.
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// TTLs handed out for one deployment's names, with when each was handed out last. Few different ones exist.
#[derive(Debug, Default)]
pub(super) struct TtlLog(Vec<(u32, Mono)>);

impl TtlLog {
    /// Notes that an answer with this TTL (seconds) left at `now`.
    pub(super) fn note(&mut self, ttl: u32, now: Mono) {
        match self.0.iter_mut().find(|(t, _)| *t == ttl) {
            Some((_, at)) => *at = (*at).max(now),
            None => self.0.push((ttl, now)),
        }
    }

    /// The largest TTL that a cache may still hold at `now`, in milliseconds.
    pub(super) fn largest(&mut self, now: Mono) -> Option<u64> {
        self.0.retain(|(ttl, at)| now.since(*at) <= u64::from(*ttl) * 1000);
        self.0.iter().map(|(ttl, _)| u64::from(*ttl) * 1000).max()
    }
}

/// A deployment as DNS sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Site {
    pub id: DeploymentId,
    pub route: Option<SiteRoute>,
    /// By track, in the order of [`ARMS`].
    pub arms: [Arm; 3],
    /// Versions by slug; those without endpoints are there too, while a track or an instance has them.
    pub versions: BTreeMap<String, Pinned>,
    pub instances: BTreeMap<InstanceId, Named>,
    /// Ports that have names, with their transport.
    pub ports: BTreeSet<(String, &'static str)>,
    /// The port of SRV answers without a port name.
    pub default_port: Option<String>,
    /// What is answered without a lease, when a lease binds this service.
    pub bound: Option<OnExpiry>,
    /// Seconds.
    pub pin_ttl: u32,
    /// Status of the live rollout, or `idle`.
    pub phase: String,
    pub deck: Shared<Deck>,
    /// Whether a version that was drawn and has nothing to name is a failure, and not drawn anew.
    pub strict: bool,
    /// Salt of keyed answers.
    pub salt: u64,
    pub slots: Table,
    /// Answers by arm, since the route last changed.
    pub tally: Shared<[u64; 3]>,
    pub clients: Shared<Clients>,
    pub ttls: Shared<TtlLog>,
}

impl Site {
    /// Builds a site from a deployment's rows; `before` hands on its deck and its log.
    pub(super) fn build(state: &State, row: &Deployment, rows: &[&Instance], before: Option<&Self>) -> Self {
        // From the arm on nothing is handed out that a cache may keep.
        let ttl = |ttl| if state.fences.arms.contains_key(&row.id) { 0 } else { seconds(ttl) };
        let route = row.route.as_ref().map(|r| SiteRoute { generation: r.generation, mode: r.mode, ttl: ttl(r.ttl) });
        let spec = state.spec(&row.id, row.spec);
        let policy = spec.map(|s| s.dns_policy()).unwrap_or_default();
        let eligible = serving_among(state, rows.iter().copied(), state.now);
        let arms = ARMS.map(|name| {
            let Some(track) = row.tracks.get(name) else { return Arm::default() };
            let (endpoints, fails) = nameable(row, name, rows, &eligible, policy, before);
            Arm {
                version: Some(track.pair.version.to_string()),
                bps: row.route.as_ref().map_or(0, |r| r.weights.get(name).0),
                endpoints,
                fails,
            }
        });
        let versions = pins(row, rows, &eligible);
        let specs = row.tracks.iter().filter_map(|(_, t)| state.spec(&row.id, t.pair.spec)).chain(spec);
        let ports = specs.flat_map(|s| s.ports.iter().map(|(n, (_, p))| (n.clone(), transport(*p)))).collect();
        let keep = before.filter(|b| b.route == route && b.arms.iter().zip(&arms).all(|(old, new)| old.bps == new.bps));
        let (deck, slots, tally) = match keep {
            Some(b) => (b.deck.clone(), b.slots.clone(), b.tally.clone()),
            None => {
                (Shared::new(Deck::new(&[arms[0].bps, arms[1].bps, arms[2].bps])), Table::default(), Shared::default())
            }
        };
        Self {
            id: row.id.clone(),
            versions,
            instances: rows.iter().map(|i| (i.id, named(i, &eligible))).collect(),
            ports,
            default_port: spec.and_then(|s| s.health.port.clone().or_else(|| s.ports.keys().next().cloned())),
            bound: row.route.as_ref().and_then(|r| state.fences.binds(&row.id, r.mode)),
            pin_ttl: spec.map_or(0, |s| seconds(s.pin_ttl)),
            phase: state.live_rollout(&row.id).map_or_else(|| "idle".into(), |r| r.status.to_string()),
            route,
            arms,
            deck,
            strict: policy.when_empty == WhenEmpty::Strict,
            salt: row.route.as_ref().map_or(0, |r| r.salt),
            slots,
            tally,
            clients: before.map_or_else(Shared::default, |b| b.clients.clone()),
            ttls: before.map_or_else(Shared::default, |b| b.ttls.clone()),
        }
    }

    /// An arm by track.
    pub(super) fn arm(&self, name: TrackName) -> &Arm {
        match name {
            TrackName::Stable => &self.arms[0],
            TrackName::Candidate => &self.arms[1],
            TrackName::Previous => &self.arms[2],
        }
    }

    /// Whether an answer may be drawn for an arm: it has something to name, or it is to fail rather than give its share away.
    pub(super) fn may_be_chosen(&self, arm: usize) -> bool {
        self.arms.get(arm).is_some_and(|a| !a.endpoints.is_empty() || a.fails || self.strict)
    }

    /// Whether an answer may turn out to be a failure, once an arm is drawn or named.
    pub(super) fn may_fail(&self) -> bool {
        self.arms.iter().any(|a| a.fails || self.strict && a.bps > 0 && a.endpoints.is_empty())
    }

    /// The track that `active.` names: in a switched deployment the one that has the traffic, which after a way back by capacity may
    /// be the candidate.
    pub(super) fn active(&self) -> TrackName {
        let switched = self.route.as_ref().is_some_and(|r| r.mode == RouteMode::Switch);
        let (stable, candidate) = (&self.arms[0], &self.arms[1]);
        if switched && candidate.bps > stable.bps { TrackName::Candidate } else { TrackName::Stable }
    }

    /// The track that `preview.` names: the candidate, unless it is active already.
    pub(super) fn preview(&self) -> Option<TrackName> {
        (self.active() == TrackName::Stable).then_some(TrackName::Candidate)
    }

    /// The table of keyed answers; none while the weights do not add up, as without a route. The same on every node: it follows from
    /// the salt and the weights.
    pub(super) fn table(&self) -> Option<&SlotTable> {
        let make = || {
            let [stable, candidate, previous] = [0, 1, 2].map(|arm: usize| self.arms[arm].bps);
            Some(SlotTable::new(self.salt, &Slots::from_both_ends(stable, candidate, previous).ok()?))
        };
        self.slots.0.get_or_init(make).as_ref()
    }

    /// TTL of answers that follow the route; 0 while there is none.
    pub(super) fn route_ttl(&self) -> u32 {
        self.route.as_ref().map_or(0, |r| r.ttl)
    }
}

/// The track an instance belongs to. Two tracks hold the same pair only while a rollout runs it again (`rollout restart`): then
/// what that rollout made is the candidate's.
fn track_of(row: &Deployment, instance: &Instance) -> Option<TrackName> {
    let mut holding = ARMS.into_iter().filter(|n| row.tracks.get(*n).is_some_and(|t| t.pair == instance.pair));
    let first = holding.next()?;
    match (first, holding.next()) {
        (TrackName::Stable, Some(TrackName::Candidate))
            if instance.made_by.is_some() && instance.made_by == row.live =>
        {
            Some(TrackName::Candidate)
        }
        (first, Some(_) | None) => Some(first),
    }
}

/// Versions by slug. Slugs of different versions are different but for an accident of 24 bits; then the name is that of the first in the
/// order of tracks, then of versions, so that no answer mixes two.
fn pins(row: &Deployment, rows: &[&Instance], eligible: &[&Instance]) -> BTreeMap<String, Pinned> {
    let tracks = ARMS.into_iter().filter_map(|n| row.tracks.get(n)).map(|t| t.pair.version.clone());
    let mut living: Vec<_> = rows.iter().filter(|i| i.life.is_live()).map(|i| i.pair.version.clone()).collect();
    living.sort();
    living.dedup();
    let mut out = BTreeMap::new();
    for version in tracks.chain(living) {
        let pinned = Pinned { version: version.to_string(), endpoints: Vec::new() };
        out.entry(version.slug()).or_insert(pinned);
    }
    for i in eligible {
        if let Some(p) = out.get_mut(&i.pair.version.slug()).filter(|p| p.version == i.pair.version.to_string()) {
            p.endpoints.extend(endpoint(i));
        }
    }
    out
}

fn named(instance: &Instance, eligible: &[&Instance]) -> Named {
    let reachable = match instance.life {
        Life::Running | Life::Draining => true,
        Life::Starting | Life::Stopping | Life::Gone | Life::Failed => false,
    };
    Named {
        endpoint: if reachable { endpoint(instance) } else { None },
        lasting: eligible.iter().any(|e| e.id == instance.id),
    }
}

fn endpoint(i: &Instance) -> Option<Endpoint> {
    Some(Endpoint { id: i.id, address: i.address.parse().ok()?, ports: i.ports.clone() })
}

fn transport(p: Protocol) -> &'static str {
    match p {
        Protocol::Tcp => "_tcp",
        Protocol::Udp => "_udp",
    }
}

fn seconds(p: Period) -> u32 {
    u32::try_from(p.0 / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_ttl_is_forgotten_when_no_cache_can_hold_it() {
        let mut log = TtlLog::default();
        log.note(30, Mono(0));
        log.note(5, Mono(20_000));
        log.note(1, Mono(29_500));
        assert_eq!(log.largest(Mono(30_000)), Some(30_000));
        assert_eq!(log.largest(Mono(30_001)), Some(1000));
        assert_eq!(log.largest(Mono(40_000)), None);
    }
}
