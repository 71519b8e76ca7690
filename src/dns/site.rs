//! One deployment as DNS sees it: arms with weights and endpoints, names that exist, and what outlives a change of the
//! view.
//!
//! A site is immutable but for what it hands on to its successor: deck and slots (while the route's generation is the
//! same; a new generation is a new deck), what is noted of answers, and the clients seen. None of it counts when two
//! sites are compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    ops::Deref,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use super::{
    endpoints::{Endpoint, Endpoints},
    memo::Sibling,
    noted::Noted,
    tally::Clients,
};
use crate::{
    model::{DeploymentId, DnsPolicy, InstanceId, Life, OnPanic, Period, Protocol, WhenEmpty},
    state::{ByRole, Deployment, FencePoint, Instance, OnExpiry, Role, RouteMode, State, serving_among, slots_of},
    traffic::{Deck, SlotTable, Slots},
};

/// An arm: its version, its share, and the endpoints that may be named now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Arm {
    /// `None`: the deployment has no arm of the role.
    pub version: Option<String>,
    pub bps: u32,
    pub endpoints: Endpoints,
    /// Whether the deployment's policy is SERVFAIL for as few as pass now.
    pub fails: bool,
}

/// A route, without its weights, which stand with the arms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SiteRoute {
    pub generation: FencePoint,
    pub mode: RouteMode,
    pub ttl: u32,
}

/// What an `i-` name answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// `None`: the instance exists and has nothing to connect to.
    pub endpoint: Option<Endpoint>,
    /// Whether caches may keep it. A draining instance still answers to its own name, but no cache may keep that
    /// answer.
    pub lasting: bool,
}

/// What an arm may name, and whether it is a failure that it names nothing.
fn nameable(
    row: &Deployment,
    role: Role,
    rows: &[&Instance],
    eligible: &[&Instance],
    policy: DnsPolicy,
    before: Option<&Site>,
) -> (Endpoints, bool) {
    let mine = |i: &&&Instance| row.arms.of(&i.pair).is_some_and(|a| a.role == role);
    let passing: Endpoints = eligible.iter().filter(mine).filter_map(|i| endpoint(i)).collect();
    let running = rows.iter().filter(|i| i.life == Life::Running).filter(mine);
    let running: Endpoints = running.filter_map(|i| endpoint(i)).collect();
    if !policy.is_panic(passing.len(), running.len()) {
        return (passing, false);
    }
    match policy.on_panic {
        OnPanic::Nodata => (passing, false),
        OnPanic::FailOpen => (running, false),
        OnPanic::Servfail => (Endpoints::default(), true),
        OnPanic::LastGood => {
            // What has stopped since must not be named: its address may be another's by now.
            let good: Option<Endpoints> =
                before.map(|b| b.arm(role).endpoints.iter().filter(|e| running.contains(e)).cloned().collect());
            (good.filter(|g| !g.is_empty()).unwrap_or(passing), false)
        }
    }
}

/// What a `v-` name answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pinned {
    pub version: String,
    pub endpoints: Endpoints,
}

/// Something handed on from view to view; all of its values compare as equal.
#[derive(Debug, Default)]
pub(super) struct Kept<T>(Arc<T>);

/// The same, behind a lock.
pub(super) type Shared<T> = Kept<Mutex<T>>;

/// The table of keyed answers, made when the first one is asked for: most services are never asked so, and a table
/// takes 20 KiB.
type Table = Kept<OnceLock<Option<SlotTable>>>;

impl<T> Shared<T> {
    fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for Kept<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What follows from the arms for every draw of the policy: worked out once, and not for each answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Odds {
    /// Whether an arm may be drawn: it has something to name, or it is to fail rather than give its share away.
    servable: ByRole<bool>,
    /// Whether arms with a weight have something to say about A, AAAA and SRV: a family that no version has must not
    /// take cards from those that carry traffic.
    useful: [bool; 3],
    /// The arm with all of the weight.
    pub only: Option<usize>,
    /// Whether an arm with a weight has nothing to name, so that others get its share.
    pub lacking: bool,
    /// Whether an answer may turn out to be a failure, once an arm is drawn or named.
    pub may_fail: bool,
}

impl Odds {
    fn of(arms: &ByRole<Arm>, strict: bool) -> Self {
        let servable = arms.each_ref().map(|a| !a.endpoints.is_empty() || a.fails || strict);
        let weighted: Vec<usize> = (0..arms.len()).filter(|n| arms[*n].bps > 0).collect();
        let useful = |has: fn(&Endpoints) -> bool| {
            weighted.iter().any(|n| has(&arms[*n].endpoints) || arms[*n].endpoints.is_empty() && servable[*n])
        };
        Self {
            servable,
            useful: [useful(|e| !e.v4().is_empty()), useful(|e| !e.v6().is_empty()), useful(|e| !e.is_empty())],
            only: weighted.first().copied().filter(|_| weighted.len() == 1),
            lacking: weighted.iter().any(|n| !servable[*n]),
            may_fail: arms.iter().any(|a| a.fails || strict && a.bps > 0 && a.endpoints.is_empty()),
        }
    }

    /// Whether an arm may be drawn.
    pub(super) fn may_be_chosen(&self, arm: usize) -> bool {
        self.servable.get(arm).is_some_and(|s| *s)
    }

    /// Whether there is something to draw for a question of this kind.
    pub(super) fn any(&self, kind: Sibling) -> bool {
        match kind {
            Sibling::A => self.useful[0],
            Sibling::Aaaa => self.useful[1],
            Sibling::Srv => self.useful[2],
        }
    }
}

/// A deployment as DNS sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Site {
    pub id: DeploymentId,
    /// The id as a number: the same for all sites of a deployment.
    pub number: u64,
    pub route: Option<SiteRoute>,
    /// By the places of their roles, which are the arms of deck, slots and memo: an arm that comes or goes leaves the
    /// others theirs.
    pub arms: ByRole<Arm>,
    pub odds: Odds,
    /// Versions by slug; those without endpoints are there too, while an arm or an instance has them.
    pub versions: BTreeMap<String, Pinned>,
    pub instances: BTreeMap<InstanceId, Named>,
    /// Ports that have names, with their transport.
    pub ports: BTreeSet<(String, &'static str)>,
    /// The port of SRV answers without a port name.
    pub default_port: Option<String>,
    /// What is answered without a lease, when a lease binds this service.
    pub bound: Option<OnExpiry>,
    pub pin_ttl: u32,
    /// Status of the live rollout, or `idle`.
    pub phase: String,
    pub deck: Shared<Deck>,
    /// Whether a version that was drawn and has nothing to name is a failure, and not drawn anew.
    pub strict: bool,
    /// Salt of keyed answers.
    pub salt: u64,
    /// Slots by role; `None` without a route.
    pub kept: Option<Slots>,
    pub slots: Table,
    pub noted: Kept<Noted>,
    /// Answers by arm before the route last changed.
    pub answered_before: ByRole<u64>,
    pub clients: Shared<Clients>,
}

impl Site {
    /// Builds a site from a deployment's rows; `before` hands on its deck and its log.
    pub(super) fn build(state: &State, row: &Deployment, rows: &[&Instance], before: Option<&Self>) -> Self {
        // From the arm on nothing is handed out that a cache may keep.
        let ttl = |ttl| if state.fences.armed.contains_key(&row.id) { 0 } else { seconds(ttl) };
        let route = row.route.as_ref().map(|r| SiteRoute { generation: r.generation, mode: r.mode, ttl: ttl(r.ttl) });
        let spec = state.spec(&row.id, row.spec);
        let policy = spec.map(|s| s.dns).unwrap_or_default();
        let eligible = serving_among(state, rows.iter().copied(), state.now);
        let arms = Role::each(|role| {
            let Some(arm) = row.arms.get(role) else { return Arm::default() };
            let (endpoints, fails) = nameable(row, role, rows, &eligible, policy, before);
            Arm { version: Some(arm.pair.version.to_string()), bps: arm.weight.0, endpoints, fails }
        });
        let versions = pins(row, rows, &eligible);
        let specs = row.arms.iter().filter_map(|a| state.spec(&row.id, a.pair.spec)).chain(spec);
        let ports = specs.flat_map(|s| s.ports.iter().map(|(n, (_, p))| (n.clone(), transport(*p)))).collect();
        let kept = slots_of(state, row);
        let keep = before.filter(|b| {
            b.route == route && b.kept == kept && b.arms.iter().zip(&arms).all(|(old, new)| old.bps == new.bps)
        });
        let noted = before.map_or_else(Kept::default, |b| b.noted.clone());
        let (deck, slots, answered_before) = match keep {
            Some(b) => (b.deck.clone(), b.slots.clone(), b.answered_before),
            None => {
                let deck = Deck::new(&arms.each_ref().map(|a| a.bps));
                (Shared::new(deck), Table::default(), noted.answers())
            }
        };
        let strict = policy.when_empty == WhenEmpty::Strict;
        Self {
            id: row.id.clone(),
            number: BuildHasherDefault::<DefaultHasher>::default().hash_one(&row.id),
            versions,
            instances: rows.iter().map(|i| (i.id, named(i, &eligible))).collect(),
            ports,
            default_port: spec.and_then(|s| s.health.port.clone().or_else(|| s.ports.keys().next().cloned())),
            bound: row.route.as_ref().and_then(|r| state.fences.binds(&row.id, r.mode)),
            pin_ttl: spec.map_or(0, |s| seconds(s.pin_ttl)),
            phase: state.live_rollout(&row.id).map_or_else(|| "idle".into(), |r| r.status.to_string()),
            route,
            odds: Odds::of(&arms, strict),
            arms,
            deck,
            strict,
            salt: row.route.as_ref().map_or(0, |r| r.salt),
            kept,
            slots,
            noted,
            answered_before,
            clients: before.map_or_else(Shared::default, |b| b.clients.clone()),
        }
    }

    /// The arm of a role.
    pub(super) fn arm(&self, role: Role) -> &Arm {
        &self.arms[role.place()]
    }

    /// What `active.` names: stable, or in a switched deployment what is on trial and has more traffic, as it may after
    /// a rollback by capacity.
    pub(super) fn active(&self) -> Role {
        let switched = self.route.as_ref().is_some_and(|r| r.mode == RouteMode::Switch);
        let more = |role: &&Role| role.on_trial() && self.arm(**role).bps > self.arm(Role::Stable).bps;
        Role::ALL.iter().find(|role| switched && more(role)).copied().unwrap_or(Role::Stable)
    }

    /// What `preview.` names: the candidate, unless something on trial is active already.
    pub(super) fn preview(&self) -> Option<Role> {
        (self.active() == Role::Stable).then_some(Role::Candidate)
    }

    /// The table of keyed answers; none without a route. The same on every node: it follows from the salt and the
    /// slots.
    pub(super) fn table(&self) -> Option<&SlotTable> {
        self.slots.get_or_init(|| Some(SlotTable::new(self.salt, self.kept.as_ref()?))).as_ref()
    }

    /// TTL of answers that follow the route; 0 while there is none.
    pub(super) fn route_ttl(&self) -> u32 {
        self.route.as_ref().map_or(0, |r| r.ttl)
    }
}

/// Versions by slug. Slugs of different versions are different but for an accident of 24 bits; then the name is that of
/// the first in the order of roles, then of versions, so that no answer mixes two.
fn pins(row: &Deployment, rows: &[&Instance], eligible: &[&Instance]) -> BTreeMap<String, Pinned> {
    let arms = row.arms.iter().map(|a| a.pair.version.clone());
    let mut living: Vec<_> = rows.iter().filter(|i| i.life.is_live()).map(|i| i.pair.version.clone()).collect();
    living.sort();
    living.dedup();
    let mut out = BTreeMap::new();
    for version in arms.chain(living) {
        out.entry(version.slug()).or_insert_with(|| {
            let mine = eligible.iter().filter(|i| i.pair.version == version);
            Pinned { version: version.to_string(), endpoints: mine.filter_map(|i| endpoint(i)).collect() }
        });
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
