//! Random but plausible commands: most of them the planner's own or an operator's, some at random, some nonsense.

mod planner;

use std::collections::{BTreeMap, BTreeSet};

use slipway::engine;
use slipway::model::{
    BasisPoints, BuildInfo, ClusterId, DeploymentId, Digest, FailureAction, Health, InstanceId, Life, Millis, Period,
    Principal, RequestId, RolloutId, RolloutParams, Spec, SpecFormat, Strategy, Version, WorkerName, read_spec,
};
use slipway::state::{
    Command, DeliveryKey, DigestReport, Evidence, Fence, Fit, InstanceFact, LeaseMode, LogId, NewNode, NodeRole,
    NodeSeen, Observations, OnExpiry, PairCounts, Presence, Reached, ReachedFact, Reason, RolloutPhase, RolloutStatus,
    RouteWeights, Secret, Seen, ServerEnd, Stamped, StartRollout, State, StepCounts, StepRef, SwitchAsk, SwitchEnd,
    SwitchTo, TrackName, Unfenced, Verdict, WaitLevel, WorkerFacts, codec,
    command::{
        Abort, ArmsConfirmed, BatchPassed, BatchStarted, BlobDropped, BlobHeld, ClusterInit, Collected, CookieAsked,
        CookieRotated, CountedOut, DeliverySettled, DigestProbe, DigestReported, DrainSettled, ExpirySet,
        FactsRecorded, LeaseSet, LeasesSettled, LevelRaised, NodeAdmitted, NodeAnnounced, NodeDrained, NodeHeard,
        NodeRoleSet, NodeSilent, OrderExtended, Pause, Promote, PromotionBegan, ReleaseRegistered, Resume, Rollback,
        RollbackBegan, RolloutFinished, RolloutPaused, RouteSet, SpecApplied, StepEnded, StepStarted, StepsCompiled,
        StopPermitted, SwitchAsked, SwitchEnded, SwitchMoved, Switched, Tick, TrackAdjusted, TrafficBackSettled,
        ViewsServed, WorkerLost, WorkerRegistered, WorkerReturned,
    },
};
use slipway::traffic::lease::Terms;

const SPEC: &str = r#"
service: shop
environment: production
run: {command: ["bin/shop"]}
ports: {http: 8080}
placement: {per_worker: 2}
health: {http: /healthz}
metrics: {requests: requests_total, errors: errors_total}
drain: 1s
rollout: {steps: [25, 50, 100], bake: 2s, min_requests: 10, warm_up: 1s, smoke: /smoke, monitor: 1s, grace: 5s}
"#;

/// A State that grows by commands, with what happened.
#[derive(Default)]
pub struct Walk {
    pub state: State,
    pub log: Vec<(LogId, Stamped)>,
    pub seen: BTreeSet<String>,
    pub accepted: BTreeSet<&'static str>,
    requests: u32,
}

impl Walk {
    /// The next entry, stamped; operators' commands carry a request id.
    pub fn stamp(&mut self, body: Command, skew: u32) -> (LogId, Stamped) {
        let index = self.state.applied.index + 1;
        let now = self.state.now;
        let at = Millis((now.0 + u64::from(skew % 400)).saturating_sub(u64::from(skew % 7) * 20));
        let operator = matches!(
            body,
            Command::StartRollout(_)
                | Command::Pause(_)
                | Command::Resume(_)
                | Command::Abort(_)
                | Command::Promote(_)
                | Command::Rollback(_)
                | Command::SpecApplied(_)
        );
        self.requests += 1;
        let request = operator.then(|| Fence {
            id: RequestId::new(&format!("q{}", self.requests)).unwrap(),
            not_after: Millis(now.0.max(at.0) + 60_000),
        });
        let principal = if operator { Principal::local_operator() } else { Principal::leader() };
        (LogId { term: 3, index }, Stamped { at, wall: 1_000_000 + at.0, term: 3, principal, request, body })
    }

    pub fn note(&mut self, ok: bool, c: &Stamped) {
        if ok {
            self.accepted.insert(c.body.name());
        }
        self.seen.extend(self.state.rollouts.values().map(|r| r.status.to_string()));
    }
}

pub fn shop() -> DeploymentId {
    "production/shop".parse().unwrap()
}

fn spec(drain_ms: u64) -> Spec {
    let mut spec = read_spec(SPEC, SpecFormat::Yaml).unwrap();
    spec.drain.0 = Period(drain_ms);
    spec
}

fn worker(n: u32) -> WorkerName {
    WorkerName::new(&format!("w{n}")).unwrap()
}

pub fn package(n: u32) -> Digest {
    Digest::new(&format!("{n:064x}")).unwrap()
}

fn version(n: u32) -> Version {
    format!("{}.0.0", n).parse().unwrap()
}

fn node_named(n: u32) -> NewNode {
    NewNode {
        name: format!("n{n}"),
        peer_addr: format!("127.0.0.{n}:7001"),
        client_addr: format!("127.0.0.{n}:7002"),
        dns_addr: format!("127.0.0.{n}:53"),
        level: codec::LEVEL.into(),
    }
}

/// A worker with so many addresses.
fn registered(n: u32, addresses: u32) -> Command {
    Command::WorkerRegistered(WorkerRegistered {
        name: worker(n),
        key: format!("{n:064x}"),
        labels: BTreeMap::new(),
        capacity: 20,
        build: "1".into(),
        host: format!("10.0.0.{n}"),
        pool: (1..=addresses).map(|a| format!("127.1.{n}.{a}")).collect(),
        absent: Vec::new(),
        keeping: String::new(),
    })
}

/// Three nodes, four workers, one deployment, four releases.
pub fn prelude() -> Vec<Command> {
    let mut all = vec![Command::ClusterInit(ClusterInit {
        id: ClusterId::new("c1").unwrap(),
        name: "demo".into(),
        zone: "slipway.internal".into(),
        node: node_named(1),
    })];
    for n in 2..=3u64 {
        all.push(Command::NodeAdmitted(NodeAdmitted { node: node_named(n as u32) }));
        all.push(Command::NodeRoleSet(NodeRoleSet {
            node: n,
            role: NodeRole::Learner,
            seen: NodeRole::Joining,
            lose_packages: false,
        }));
        all.push(Command::NodeRoleSet(NodeRoleSet {
            node: n,
            role: NodeRole::Voter,
            seen: NodeRole::Learner,
            lose_packages: false,
        }));
    }
    all.extend((1..=4).map(|n| registered(n, 6)));
    all.push(Command::SpecApplied(SpecApplied { spec: spec(1000), expected: None }));
    for n in 1..=4 {
        for node in 1..=2 {
            all.push(Command::BlobHeld(BlobHeld { digest: package(n), size: 100, node }));
        }
        all.push(release(n));
    }
    all
}

fn release(n: u32) -> Command {
    Command::ReleaseRegistered(ReleaseRegistered {
        service: shop().service,
        version: version(n),
        digest: package(n),
        build: BuildInfo::default(),
        labels: BTreeMap::new(),
    })
}

/// What a leader would have heard by now.
fn heard(s: &State, errors: u64) -> Observations {
    let mut seen = Observations { leader_since: Millis(0), ..Observations::default() };
    let at = s.now;
    for n in s.nodes.values() {
        let value = NodeSeen { applied: s.applied.index, served_index: s.applied.index, ..NodeSeen::default() };
        seen.nodes.insert(n.id, Seen::Known { at, value });
    }
    for w in s.workers.values() {
        let value = WorkerFacts {
            worker: w.name.clone(),
            epoch: w.report.0,
            seq: w.report.1,
            instances: Vec::new(),
            reached: Vec::new(),
            staged: None,
        };
        seen.workers.insert(w.name.clone(), Seen::Known { at, value });
    }
    if let Some(r) = s.live_rollout(&shop())
        && let Some(id) = r.running().and_then(|(_, row)| row.step_id)
    {
        let pairs = vec![PairCounts { pair: r.to.clone(), requests: 100, errors }];
        let counts = s
            .workers
            .keys()
            .map(|w| (w.clone(), StepCounts { pairs: pairs.clone(), ..StepCounts::default() }))
            .collect();
        seen.counts.insert((shop(), id), counts);
    }
    seen
}

/// A worker's report: mostly all is well, sometimes something broke.
fn report(s: &State, name: &WorkerName, luck: u32) -> Option<WorkerFacts> {
    let w = s.workers.get(name)?;
    let entries: BTreeSet<InstanceId> = s
        .assignments
        .get(&(name.clone(), shop()))
        .map(|a| a.content.instances.iter().map(|e| e.id).collect())
        .unwrap_or_default();
    let fact = |(n, i): (usize, &slipway::state::Instance)| {
        let bad = luck.is_multiple_of(97) && n == (luck / 97) as usize % 4;
        let (life, health) = match (entries.contains(&i.id), bad) {
            (false, _) => (Life::Gone, Health::Unknown),
            (true, true) if luck.is_multiple_of(2) => (Life::Failed, Health::Unknown),
            (true, true) => (Life::Running, Health::Failing),
            (true, false) => (Life::Running, Health::Passing),
        };
        InstanceFact { id: i.id, life, health, failures: u32::from(bad) * 3, restarts: 0, exit: None }
    };
    let instances =
        s.instances.values().filter(|i| &i.worker == name && i.life.is_live()).enumerate().map(fact).collect();
    let reached = s.assignments.get(&(name.clone(), shop())).map(|a| ReachedFact {
        deployment: shop(),
        generation: a.generation,
        reached: Reached::Committed,
        // Whoever lacks something has it with a later report.
        fit: a
            .content
            .next
            .as_ref()
            .map(|_| if luck.is_multiple_of(5) { Fit::Lacks("no user".into()) } else { Fit::Fits }),
    });
    Some(WorkerFacts {
        worker: name.clone(),
        epoch: 1,
        seq: w.report.1 + 1,
        instances,
        reached: reached.into_iter().collect(),
        staged: Some((1..=4).map(package).collect()),
    })
}

fn evidence(s: &State, verdict: Verdict) -> Evidence {
    Evidence { from: Millis(0), to: s.now, counts: BTreeMap::new(), limit: None, verdict, note: String::new() }
}

fn weights(a: u32) -> RouteWeights {
    let candidate = BasisPoints(a % 5 * 2500);
    RouteWeights { stable: BasisPoints(10_000 - candidate.0), candidate, previous: BasisPoints(0) }
}

/// Whether a pick asks the planner.
pub fn is_plan([kind, a, _, _]: [u32; 4]) -> bool {
    kind % 64 <= 24 && !a.is_multiple_of(3)
}

/// One pick's commands.
pub fn command(s: &State, [kind, a, b, _]: [u32; 4]) -> Vec<Command> {
    match kind % 64 {
        0..=24 if a.is_multiple_of(3) && !s.outbox.is_empty() => vec![settle(s, b)],
        0..=24 => {
            let errors = if a.is_multiple_of(60) { 50 } else { 0 };
            engine::plan(s, &heard(s, errors), s.now).commands
        }
        25..=40 => {
            let workers = (1..=4).filter_map(|n| report(s, &worker(n), a.wrapping_add(b.wrapping_mul(n)))).collect();
            vec![Command::FactsRecorded(FactsRecorded { workers }), Command::Tick(Tick {}), Command::Tick(Tick {})]
        }
        41..=45 => vec![Command::StartRollout(start(a, b))],
        46..=47 => vec![Command::Tick(Tick {}); 4],
        48..=50 => vec![operator(s, a, b)],
        51..=53 => vec![fleet(s, a, b)],
        54 => vec![members(s, a, b)],
        55..=56 => vec![planner::fenced(s, a, b)],
        _ => vec![planner::at_random(s, kind / 64, a, b)],
    }
}

fn start(a: u32, b: u32) -> StartRollout {
    let base = spec(1000).rollout;
    let params = RolloutParams {
        strategy: [
            None,
            Some(Strategy::Direct),
            Some(Strategy::Rolling),
            Some(Strategy::Canary),
            Some(Strategy::BlueGreen),
        ][a as usize % 5],
        parallelism: 1 + b % 3,
        max_surge: b / 3 % 3,
        max_unavailable: 1 + b / 9 % 2,
        failure_action: [FailureAction::Rollback, FailureAction::Pause, FailureAction::Continue][b as usize / 18 % 3],
        ..base
    };
    StartRollout {
        deployment: shop(),
        version: version(1 + a / 5 % 5),
        params,
        restart: b.is_multiple_of(11),
        replace: b.is_multiple_of(13),
        expected: None,
    }
}

fn some_rollout(s: &State, a: u32) -> RolloutId {
    let live = s.deployments.get(&shop()).and_then(|d| if a.is_multiple_of(4) { d.last } else { d.live.or(d.last) });
    live.unwrap_or(RolloutId(u64::from(a % 50)))
}

fn operator(s: &State, a: u32, b: u32) -> Command {
    let rollout = some_rollout(s, a);
    match b % 14 {
        0 | 1 => Command::Pause(Pause { rollout }),
        2..=5 => Command::Resume(Resume { rollout }),
        6 => Command::Abort(Abort { rollout, as_is: a.is_multiple_of(3) }),
        7 | 8 => Command::Promote(Promote { rollout, full: a.is_multiple_of(2) }),
        9 | 10 => Command::Rollback(Rollback { rollout }),
        _ => {
            let mut spec = spec(1000 + u64::from(a % 3) * 100);
            // In the time of a walk machines are lost for good.
            spec.lost_for_good = Period::seconds(3);
            Command::SpecApplied(SpecApplied { spec, expected: None })
        }
    }
}

fn fleet(s: &State, a: u32, b: u32) -> Command {
    let w = worker(1 + a % 5);
    let node = u64::from(1 + a % 4);
    match b % 16 {
        // Mostly while a rollout turns back: what lacks workers then is rare otherwise.
        6 if s.live_rollout(&shop()).is_some_and(|r| !r.is_way_back()) => {
            Command::WorkerLost(WorkerLost { worker: w, last_heard: s.now })
        }
        0 => Command::WorkerLost(WorkerLost { worker: w, last_heard: s.now }),
        1..=5 => {
            let lost = s.workers.values().find(|w| w.presence == Presence::Lost).map(|w| w.name.clone());
            Command::WorkerReturned(WorkerReturned { worker: lost.unwrap_or(w) })
        }
        6 => Command::NodeSilent(NodeSilent { node }),
        7 | 8 => {
            let silent = s.nodes.values().find(|n| n.silent_since.is_some()).map(|n| n.id);
            Command::NodeHeard(NodeHeard { node: silent.unwrap_or(node) })
        }
        9 => Command::Collected(Collected { incarnation: s.incarnation }),
        10 => release(1 + a % 5),
        11 => Command::DigestProbe(DigestProbe {}),
        12 => {
            let tables = vec![("services".to_string(), u64::from(b % 3))];
            let report = DigestReport { all: u64::from(b % 3), tables };
            Command::DigestReported(DigestReported { node, index: s.replicas.probe, report })
        }
        13 => Command::NodeAnnounced(NodeAnnounced {
            node,
            version: "0.2.0".into(),
            min: 1,
            max: codec::LEVEL.into(),
            client_addr: "127.0.0.9:2".into(),
            dns_addr: "127.0.0.9:3".into(),
        }),
        15 if b.is_multiple_of(4) => Command::CountedOut(CountedOut { deployment: shop(), worker: w }),
        15 if b.is_multiple_of(5) => Command::ViewsServed(ViewsServed { served: vec![(node, s.applied.index)] }),
        14 if a.is_multiple_of(2) => Command::LevelRaised(LevelRaised { to: s.level + 1, seen: s.level }),
        14 => Command::NodeDrained(NodeDrained { node, on: (b / 16).is_multiple_of(2) }),
        _ => Command::FactsRecorded(FactsRecorded {
            workers: report(s, &w, a)
                .map(|mut f| {
                    f.seq = u64::from(b % 40);
                    f
                })
                .into_iter()
                .collect(),
        }),
    }
}

/// Nodes that join and leave, packages that come and go, workers whose registration changes.
fn members(s: &State, a: u32, b: u32) -> Command {
    let node = s.nodes.values().nth(a as usize % s.nodes.len().max(1));
    match b % 8 {
        0 => Command::NodeAdmitted(NodeAdmitted { node: node_named(4 + a % 3) }),
        6 | 7 if s.live_rollout(&shop()).is_some_and(|r| r.is_way_back() && r.order.len() < 4) => {
            planner::at_random(s, 18, a, b)
        }
        1..=3 => {
            let (node, seen) = node.map_or((9, NodeRole::Voter), |n| (n.id, n.role));
            let role = match seen {
                NodeRole::Joining => NodeRole::Learner,
                NodeRole::Learner => NodeRole::Voter,
                // Node 1 stays.
                NodeRole::Voter if node > 1 => NodeRole::Leaving,
                NodeRole::Voter | NodeRole::Leaving | NodeRole::Removed => NodeRole::Removed,
            };
            Command::NodeRoleSet(NodeRoleSet { node, role, seen, lose_packages: a.is_multiple_of(2) })
        }
        4 => Command::BlobHeld(BlobHeld { digest: package(1 + a % 5), size: 10, node: 1 + u64::from(b / 8 % 3) }),
        5 => Command::BlobDropped(BlobDropped { digest: package(1 + a % 5), node: 1 + u64::from(b / 8 % 3) }),
        _ => registered(1 + a % 4, 6 - b / 8 % 3),
    }
}

/// Settles the oldest delivery, or one that does not exist.
fn settle(s: &State, b: u32) -> Command {
    let none = (DeliveryKey { index: 1, ordinal: 0 }, 1);
    let (key, attempt) = s.outbox.iter().next().map_or(none, |(k, d)| (*k, d.attempt));
    Command::DeliverySettled(DeliverySettled { key, attempt, ok: !b.is_multiple_of(4), detail: "200".into() })
}

/// Everyone is back, and a rollout that waits for an operator is resumed once.
pub fn healing(s: &State) -> Vec<Command> {
    let back = s.workers.values().filter(|w| w.presence == Presence::Lost);
    let mut all: Vec<Command> =
        back.map(|w| Command::WorkerReturned(WorkerReturned { worker: w.name.clone() })).collect();
    let heard = s.nodes.values().filter(|n| n.silent_since.is_some());
    all.extend(heard.map(|n| Command::NodeHeard(NodeHeard { node: n.id })));
    all
}

/// One round in which nothing fails: reports, settled deliveries, the planner.
pub fn good_round(s: &State) -> (Vec<Command>, String) {
    // Reports and a tick are always there: with nothing else, only time can change something.
    let mut all = Vec::new();
    let workers: Vec<WorkerFacts> = (1..=4).filter_map(|n| report(s, &worker(n), 1)).collect();
    all.push(Command::FactsRecorded(FactsRecorded { workers }));
    all.extend(s.outbox.iter().map(|(key, d)| {
        Command::DeliverySettled(DeliverySettled { key: *key, attempt: d.attempt, ok: true, detail: "200".into() })
    }));
    let plan = engine::plan(s, &heard(s, 0), s.now);
    let waits = format!("{:?}; proposes {:?}", plan.waits, plan.commands.iter().map(Command::name).collect::<Vec<_>>());
    all.extend(plan.commands);
    all.push(Command::Tick(Tick {}));
    if let Some(rollout) = held(s) {
        all.push(Command::Resume(Resume { rollout }));
    }
    (all, waits)
}

/// Held by its policy for an operator, who has resumed it in vain: what is left is `rollback` or `abort`.
pub fn held(s: &State) -> Option<RolloutId> {
    s.live_rollout(&shop()).filter(|r| r.status == RolloutStatus::Paused).map(|r| r.id)
}

/// No live rollout, as many healthy stable instances as desired, nothing on its way.
pub fn at_rest(s: &State) -> bool {
    let Some(d) = s.deployments.get(&shop()) else { return true };
    let settled = s.instances.values().all(|i| !matches!(i.life, Life::Starting | Life::Draining | Life::Stopping));
    let whole = d.tracks.stable.as_ref().is_none_or(|t| slipway::state::passing(s, &d.id, &t.pair) >= d.desired);
    let one = d.tracks.stable.is_none() || d.tracks.previous.is_none() && d.tracks.candidate.is_none();
    d.live.is_none() && settled && whole && one
}

/// What stands in the way of rest.
pub fn summary(s: &State) -> String {
    let Some(d) = s.deployments.get(&shop()) else { return String::new() };
    let lives: Vec<String> =
        s.instances.values().map(|i| format!("{} {} {} {} {}", i.id, i.pair, i.worker, i.life, i.health)).collect();
    let live = d.live.and_then(|id| s.rollouts.get(&id));
    let rollout = live.map(|r| {
        let row = r.steps.get(r.cursor as usize).map(|row| (row.step.kind.to_string(), row.status, row.batch.clone()));
        (r.id, r.status, r.strategy, r.phase, row, r.reason.clone())
    });
    format!("{:?} desired {} {:?} {:?} {rollout:?} {lives:#?}", d.tracks, d.desired, d.route, d.live)
}
