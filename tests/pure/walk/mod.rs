//! Random but plausible commands: most of them the planner's own or an operator's, some at random, some nonsense.

mod planner;
pub mod rounds;
mod verbs;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use slipway::engine;
use slipway::model::{
    BasisPoints, BuildInfo, ClusterId, DeploymentId, Digest, FailureAction, Health, InstanceId, Life, Millis,
    Overrides, Period, Portion, Principal, RequestId, RolloutId, RolloutParams, Samples, Spec, SpecFormat,
    StrategyName, Version, WorkerName, read_spec,
};
use slipway::state::{
    Budget, Command, DeliveryKey, Deployment, DigestReport, Evidence, Fence, Fit, InstanceFact, LeaseMode, LogId,
    NewNode, NodeRole, NodeSeen, Observations, OnExpiry, PairSeen, Presence, Reached, ReachedFact, Reason, Rejection,
    Role, Rollout, RolloutPhase, RolloutStatus, RouteForm, Secret, Seen, ServerEnd, Stamped, StartRollout, State,
    StepCounts, StepRef, SwitchAsk, SwitchEnd, SwitchTo, Unfenced, Verdict, WaitLevel, Weights, WorkerFacts, codec,
    command::{
        Abort, ArmAdjusted, ArmingConfirmed, BatchPassed, BatchStarted, BlobDropped, BlobHeld, ClusterInit, Collected,
        CookieAsked, CookieRotated, CountedOut, DeliverySettled, DigestProbe, DigestReported, DrainSettled, ExpirySet,
        FactsRecorded, LeaseSet, LeasesSettled, LevelRaised, NodeAdmitted, NodeAnnounced, NodeDrained, NodeHeard,
        NodeRoleSet, NodeSilent, OrderExtended, Pause, Promote, PromotionBegan, ReleaseRegistered, ReleaseRemoved,
        ReleaseRetired, Resume, Rollback, RollbackBegan, RolloutFinished, RolloutPaused, RouteSet, SpecApplied,
        StepEnded, StepStarted, StepsCompiled, StopPermitted, SwitchAsked, SwitchEnded, SwitchMoved, Switched, Tick,
        TrafficBackSettled, ViewsServed, WorkerLost, WorkerRegistered, WorkerReturned,
    },
};
use slipway::traffic::lease::Terms;

pub use words::heard;
use words::{evidence, report};

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
#[derive(Clone, Default)]
pub struct Walk {
    pub state: State,
    /// Where the log begins.
    pub base: State,
    pub log: Vec<(LogId, Stamped)>,
    pub seen: BTreeSet<String>,
    pub accepted: BTreeSet<&'static str>,
    /// Refusals, without their numbers.
    pub refused: BTreeSet<String>,
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

    pub fn note(&mut self, refusal: Option<&Rejection>, c: &Stamped) {
        match refusal {
            None => drop(self.accepted.insert(c.body.name())),
            Some(why) => {
                let words: String = why.to_string().chars().filter(|c| !c.is_ascii_digit()).collect();
                self.refused.insert(format!("{}: {words}", c.body.name()));
            }
        }
        let s = &self.state;
        self.seen.extend(s.rollouts.values().map(|r| r.status.to_string()));
        let active = |d| s.live_rollout(&d).is_some_and(|r| r.status == RolloutStatus::Active);
        if active(shop()) && active(cart()) {
            self.seen.insert("both roll".into());
        }
        let two = |x: &&slipway::state::Switch| x.targets.len() == 2;
        for x in s.fences.switches.values().filter(two) {
            self.seen.insert(if x.moved.is_some() { "two moved" } else { "two asked for" }.into());
        }
        if let (Some(why), Command::SwitchAsked(SwitchAsked { ask })) = (refusal, &c.body)
            && let [_, second] = ask.deployments.as_slice()
            && why.to_string().contains(&second.to_string())
        {
            self.seen.insert("a second target refused".into());
        }
    }
}

pub fn shop() -> DeploymentId {
    "production/shop".parse().unwrap()
}

/// On the same workers and pools.
pub fn cart() -> DeploymentId {
    "production/cart".parse().unwrap()
}

/// The deployment that a pick is about.
fn of(pick: u32) -> DeploymentId {
    if pick.is_multiple_of(2) { shop() } else { cart() }
}

/// With one instance on each worker beside two of `shop`: where both have a version beside their stable one, pools of
/// six are full.
fn spec_of(deployment: &DeploymentId, drain_ms: u64) -> Spec {
    let mut spec = spec(drain_ms);
    if *deployment != spec.deployment {
        spec.deployment = deployment.clone();
        spec.placement.per_worker = 1;
    }
    spec
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
        all.push(release(&shop(), n));
    }
    all
}

/// The same, and a second deployment.
pub fn prelude_of_two() -> Vec<Command> {
    let mut all = prelude();
    all.push(Command::SpecApplied(SpecApplied { spec: spec_of(&cart(), 1000), expected: None }));
    all.extend((1..=4).map(|n| release(&cart(), n)));
    all
}

fn release(of: &DeploymentId, n: u32) -> Command {
    Command::ReleaseRegistered(ReleaseRegistered {
        service: of.service.clone(),
        version: version(n),
        digest: package(n),
        build: BuildInfo::default(),
        labels: BTreeMap::new(),
    })
}

fn weights(a: u32) -> Weights {
    let candidate = BasisPoints(a % 5 * 2500);
    [(Role::Stable, BasisPoints(10_000 - candidate.0)), (Role::Candidate, candidate)].into_iter().collect()
}

/// Whether a pick asks the planner.
pub fn is_plan([kind, a, _, _]: [u32; 4]) -> bool {
    kind % 64 <= 24 && !a.is_multiple_of(3)
}

/// One pick's commands.
pub fn command(s: &State, [kind, a, b, _]: [u32; 4]) -> Vec<Command> {
    let d = of(kind / 64 / 32);
    match kind % 64 {
        0..=24 if a.is_multiple_of(3) && !s.outbox.is_empty() => vec![settle(s, b)],
        0..=24 => {
            let errors = if a.is_multiple_of(60) { 50 } else { 0 };
            engine::plan(s, &heard(s, errors, if b.is_multiple_of(4) { b } else { 0 }), s.now).commands
        }
        25..=40 => {
            let reports = (1..=4).filter_map(|n| report(s, &worker(n), a.wrapping_add(b.wrapping_mul(n))));
            let mut all = vec![Command::Tick(Tick {}), Command::Tick(Tick {})];
            if b.is_multiple_of(2) {
                all.push(Command::FactsRecorded(FactsRecorded { workers: reports.collect() }));
            } else {
                // As a leader makes of it what differs from State.
                let mut seen = heard(s, 0, 0);
                for value in reports {
                    seen.workers.insert(value.worker.clone(), Seen::Known { at: s.now, value });
                }
                all.extend(engine::facts(s, &seen, s.now));
            }
            all
        }
        41..=45 => vec![planner::switch_of_two(s, b).unwrap_or_else(|| Command::StartRollout(start(d, a, b)))],
        46..=47 => vec![Command::Tick(Tick {}); 4],
        48..=50 => vec![operator(s, d, a, b)],
        51..=53 => vec![fleet(s, &d, a, b)],
        54 => vec![members(s, &d, a, b)],
        55..=56 => vec![planner::fenced(s, a, b)],
        57 => turned_short(s, &d, a),
        58 | 59 => bent(s, a),
        63 if a.is_multiple_of(2) => verbs::at_random(s, &d, a / 2, b),
        _ => vec![planner::at_random(s, d, kind / 64, a, b)],
    }
}

/// The end of a step at its right time, with a record that says something else than its verdict.
fn bent(s: &State, a: u32) -> Vec<Command> {
    let ends = engine::plan(s, &heard(s, 1, 0), s.now).commands.into_iter().filter_map(|c| match c {
        Command::StepEnded(end) => Some(end),
        _ => None,
    });
    let bent = |end: StepEnded| {
        let r = s.rollouts.get(&end.at.rollout);
        let evidence =
            Evidence { checks: end.evidence.checks, ..evidence(s, r, end.evidence.verdict, 3 * (1 + a % 4)) };
        Command::StepEnded(StepEnded { evidence, ..end })
    };
    let all: Vec<Command> = ends.map(bent).collect();
    if all.is_empty() { vec![Command::Tick(Tick {})] } else { all }
}

/// A rollout is turned back while a worker is lost, and that one is back before the rollback has ended.
fn turned_short(s: &State, d: &DeploymentId, a: u32) -> Vec<Command> {
    let Some(r) = s.live_rollout(d) else { return vec![Command::Tick(Tick {})] };
    if !r.is_rollback() {
        let lost = WorkerLost { worker: worker(1 + a % 4), last_heard: s.now };
        return vec![Command::WorkerLost(lost), Command::Rollback(Rollback { rollout: r.id })];
    }
    let lost = s.workers.values().find(|w| w.presence == Presence::Lost && !r.order.contains(&w.name));
    let Some(lost) = lost.filter(|_| r.undo_compiled).map(|w| w.name.clone()) else {
        return vec![Command::Tick(Tick {})];
    };
    let workers = vec![lost.clone()];
    vec![
        Command::WorkerReturned(WorkerReturned { worker: lost }),
        Command::OrderExtended(OrderExtended { rollout: r.id, seen: r.meta.revision, workers }),
    ]
}

fn start(deployment: DeploymentId, a: u32, b: u32) -> StartRollout {
    let base = spec(1000).rollout;
    let params = RolloutParams {
        strategy: [
            None,
            Some(StrategyName::DIRECT),
            Some(StrategyName::ROLLING),
            Some(StrategyName::CANARY),
            Some(StrategyName::BLUE_GREEN),
        ][a as usize % 5]
            .clone(),
        parallelism: Portion::count(1 + b % 3),
        max_surge: Portion::count(b / 3 % 3),
        max_unavailable: Portion::count(1 + b / 9 % 2),
        failure_action: [FailureAction::Rollback, FailureAction::Pause, FailureAction::Continue][b as usize / 18 % 3],
        grace: if b.is_multiple_of(4) { base.grace } else { Period::minutes(5) },
        ..base
    };
    StartRollout {
        deployment,
        version: version(1 + a / 5 % 5),
        overrides: params.into(),
        restart: b.is_multiple_of(11),
        replace: b.is_multiple_of(13),
        expected: None,
    }
}

/// One by name, which leaves what was stable beside it for long.
pub fn start_as(deployment: DeploymentId, n: u32, strategy: StrategyName) -> StartRollout {
    let start = start(deployment, 0, 1);
    let overrides = Overrides { strategy: Some(Some(strategy)), ..start.overrides };
    StartRollout { version: version(n), overrides, restart: false, replace: false, ..start }
}

fn some_rollout(s: &State, d: &DeploymentId, a: u32) -> RolloutId {
    let live = s.deployments.get(d).and_then(|d| if a.is_multiple_of(4) { d.last } else { d.live.or(d.last) });
    live.unwrap_or(RolloutId(u64::from(a % 50)))
}

fn operator(s: &State, d: DeploymentId, a: u32, b: u32) -> Command {
    let rollout = some_rollout(s, &d, a);
    match b % 14 {
        0 | 1 => Command::Pause(Pause { rollout }),
        2..=5 => Command::Resume(Resume { rollout }),
        6 => Command::Abort(Abort { rollout, as_is: a.is_multiple_of(3) }),
        7 | 8 => Command::Promote(Promote { rollout, full: a.is_multiple_of(2) }),
        9 | 10 => Command::Rollback(Rollback { rollout }),
        _ => {
            let mut spec = spec_of(&d, 1000 + u64::from(a % 3) * 100);
            // In the time of a walk machines are lost for good.
            spec.lost_for_good = Period::seconds(3);
            Command::SpecApplied(SpecApplied { spec, expected: None })
        }
    }
}

fn fleet(s: &State, d: &DeploymentId, a: u32, b: u32) -> Command {
    let w = worker(1 + a % 5);
    let node = u64::from(1 + a % 4);
    match b % 16 {
        // Mostly while a rollout turns back: what lacks workers then is rare otherwise.
        6 if s.live_rollout(d).is_some_and(|r| !r.is_rollback()) => {
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
        10 if a.is_multiple_of(3) => {
            // The newest that nothing runs, as most are needed.
            let runs = |v: &Version| s.instances.values().any(|i| &i.pair.version == v && i.life.is_live());
            let mut mine = s.releases.keys().filter(|(of, v)| of == &d.service && !runs(v)).map(|(_, v)| v.clone());
            let (service, version) = (d.service.clone(), mine.next_back().unwrap_or(version(5)));
            match a.is_multiple_of(2) {
                true => Command::ReleaseRetired(ReleaseRetired { service, version }),
                false => Command::ReleaseRemoved(ReleaseRemoved { service, version }),
            }
        }
        10 => release(d, 1 + a % 5),
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
        15 if b.is_multiple_of(4) => Command::CountedOut(CountedOut { deployment: d.clone(), worker: w }),
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
fn members(s: &State, d: &DeploymentId, a: u32, b: u32) -> Command {
    let node = s.nodes.values().nth(a as usize % s.nodes.len().max(1));
    match b % 8 {
        0 => Command::NodeAdmitted(NodeAdmitted { node: node_named(4 + a % 3) }),
        6 | 7 if s.live_rollout(d).is_some_and(|r| r.is_rollback() && r.order.len() < 4) => {
            planner::at_random(s, d.clone(), 18, a, b)
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
