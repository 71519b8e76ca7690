//! One of each command, every field filled: what a field holds does not matter, that it keeps its bytes does.

use std::collections::BTreeMap;

use slipway::model::{
    BasisPoints, BatchMode, BuildInfo, ClusterId, Health, Life, Name, OnNoData, Period, RolloutId, RolloutParams,
    Routing, Step, StepKind, StrategyName,
};
use slipway::state::command::*;
use slipway::state::{
    Budget, DeliveryKey, DigestReport, Fit, InstanceFact, LeaseMode, NewNode, NodeRole, OnExpiry, Reached, ReachedFact,
    Reason, Role, RolloutPhase, RolloutStatus, RouteForm, RouteMode, Secret, Settings, SettingsChange, StepRef,
    SwitchTo, Unfenced, WaitLevel, WorkerFacts,
};
use slipway::traffic::lease::Terms;

use super::*;

fn labels() -> BTreeMap<String, String> {
    [("team".to_string(), "web".to_string())].into()
}

fn node() -> NewNode {
    NewNode {
        name: "n4".into(),
        peer_addr: "127.0.0.4:1".into(),
        client_addr: "127.0.0.4:2".into(),
        dns_addr: "127.0.0.4:3".into(),
        level: 1,
    }
}

fn steps() -> Vec<Step> {
    let step = |group: &str, kind| Step { group: group.into(), kind };
    let install = StepKind::Install {
        share: BasisPoints(2500),
        mode: BatchMode::Replace,
        routing: Routing::ByCapacity,
        batch: 2,
        delay: Period::seconds(3),
        checks: vec![check()],
    };
    vec![
        step("stage", StepKind::Stage),
        step("25 %", install),
        step("25 %", StepKind::Route { weight: BasisPoints(2500) }),
        step("25 %", StepKind::Bake { hold: Period::seconds(9), checks: vec![check()] }),
        step("switch", StepKind::Smoke { path: "/smoke".into() }),
        step("switch", StepKind::Switch),
        step("end", StepKind::Promote),
        step("end", StepKind::Retire { delay: Period::minutes(1) }),
    ]
}

fn facts() -> WorkerFacts {
    WorkerFacts {
        worker: worker(1),
        epoch: 2,
        seq: 3,
        instances: vec![InstanceFact {
            id: instance(1),
            life: Life::Failed,
            health: Health::Failing,
            failures: 4,
            restarts: 5,
            exit: Some("exit status 1".into()),
        }],
        reached: vec![
            ReachedFact { deployment: shop(), generation: 6, reached: Reached::Active, fit: Some(Fit::Fits) },
            ReachedFact { deployment: shop(), generation: 7, reached: Reached::Failed("why".into()), fit: None },
            ReachedFact {
                deployment: shop(),
                generation: 8,
                reached: Reached::Refused { packages: vec![pair(1).digest], detail: "why".into() },
                fit: Some(Fit::Lacks("what".into())),
            },
        ],
        staged: Some(vec![pair(2).digest]),
    }
}

fn ask(to: SwitchTo, wait: WaitLevel, unfenced: Unfenced) -> SwitchAsked {
    let ask = SwitchAsk { deployments: vec![shop()], to, wait, unfenced, within: Period::seconds(4) };
    SwitchAsked { ask }
}

/// One of each, and of those with an enum one of each of its variants.
#[rustfmt::skip]
pub fn one_of_each() -> Vec<Command> {
    let (rollout, seen, step) = (RolloutId(52), 7, 3);
    let (deployment, reason) = (shop(), Reason::HealthCheck { instance: instance(1), detail: "why".into() });
    let weights = [(Role::Stable, 7000), (Role::Candidate, 2000), (Role::Previous, 1000)].map(|(r, w)| (r, BasisPoints(w)));
    let service = Name::service("shop").unwrap();
    let params = RolloutParams { strategy: Some(StrategyName::ROLLING), smoke: Some("/smoke".into()), ..RolloutParams::default() };
    vec![
        ClusterInit { id: ClusterId::new("c1").unwrap(), name: "demo".into(), zone: "slipway.internal".into(), node: node() }.into(),
        NodeAdmitted { node: node() }.into(),
        NodeRoleSet { node: 4, role: NodeRole::Leaving, seen: NodeRole::Voter, lose_packages: true }.into(),
        SpecApplied { spec: spec(), expected: Some(2) }.into(),
        BlobHeld { digest: pair(1).digest, size: 10, node: 2 }.into(),
        BlobDropped { digest: pair(1).digest, node: 2 }.into(),
        ReleaseRetired { service: service.clone(), version: pair(1).version }.into(),
        ReleaseRemoved { service: service.clone(), version: pair(1).version }.into(),
        ReleaseRegistered { service, version: pair(1).version, digest: pair(1).digest, build: build(), labels: labels() }.into(),
        WorkerRegistered {
            name: worker(1), key: "k".into(), labels: labels(), capacity: 3, build: "1".into(), host: "10.0.0.1".into(),
            pool: vec!["127.1.1.1".into()], absent: vec!["127.1.1.2".into()], keeping: "cgroup".into(),
        }.into(),
        StartRollout { deployment: shop(), version: pair(2).version, overrides: params.into(), restart: true, replace: true, expected: Some(4) }.into(),
        Pause { rollout }.into(),
        Resume { rollout }.into(),
        Abort { rollout, as_is: true }.into(),
        Promote { rollout, full: true }.into(),
        Rollback { rollout }.into(),
        Tick {}.into(),
        FactsRecorded { workers: vec![facts()] }.into(),
        WorkerLost { worker: worker(1), last_heard: Millis(9) }.into(),
        WorkerReturned { worker: worker(1) }.into(),
        NodeSilent { node: 2 }.into(),
        NodeHeard { node: 2 }.into(),
        StepsCompiled { rollout, seen, phase: RolloutPhase::Undo, desired: 4, order: vec![worker(1)], steps: steps(), form: RouteForm { mode: RouteMode::Switch, ttl: Period(7) }, budget: Some(Budget { surge: 1, unavailable: 2 }) }.into(),
        StepStarted { at: StepRef { rollout, seen, step }, attempt: 2 }.into(),
        BatchStarted { at: StepRef { rollout, seen, step }, batch: 1, add: vec![(worker(1), 2)], replace: vec![instance(1)], in_place: true }.into(),
        BatchPassed { at: StepRef { rollout, seen, step }, batch: 1, drain: vec![instance(1)], weights: Some(weights.into_iter().collect()) }.into(),
        RouteSet { at: StepRef { rollout, seen, step }, weights: weights.into_iter().collect() }.into(),
        Switched { at: StepRef { rollout, seen, step } }.into(),
        DrainSettled { deployment: shop(), index: 8, confirmed: vec![(1, 9)], silent: vec![2], unready: vec![3], ttl_ms: 5000 }.into(),
        ViewsServed { served: vec![(1, 9)] }.into(),
        CountedOut { deployment: shop(), worker: worker(1) }.into(),
        OrderExtended { rollout, seen, workers: vec![worker(2)] }.into(),
        StopPermitted { deployment, instances: vec![instance(1)] }.into(),
        StepEnded { at: StepRef { rollout, seen, step }, evidence: evidence() }.into(),
        RollbackBegan { rollout, seen, reason: reason.clone(), evidence: Some(evidence()) }.into(),
        RolloutPaused { rollout, seen, reason: reason.clone(), evidence: Some(evidence()) }.into(),
        PromotionBegan { rollout, seen }.into(),
        RolloutFinished { rollout, seen, status: RolloutStatus::Failed, reason: Some(reason) }.into(),
        ArmAdjusted {
            deployment: shop(), seen, add: vec![(Role::Previous, worker(1), 1)], drain: vec![instance(1)], desired: 4,
            drop: vec![Role::Candidate],
        }.into(),
        DeliverySettled { key: DeliveryKey { index: 8, ordinal: 1 }, attempt: 2, ok: true, detail: "200".into() }.into(),
        Collected { incarnation: 1 }.into(),
        DigestProbe {}.into(),
        DigestReported { node: 2, index: 8, report: DigestReport { all: 1, tables: vec![("nodes".into(), 2)] } }.into(),
        announced(2),
        NodeDrained { node: 2, on: true }.into(),
        LevelRaised { to: 2, seen: 1 }.into(),
        LeaseSet { mode: Some(LeaseMode::Always), terms: Some(Terms::default()) }.into(),
        LeaseSet { mode: Some(LeaseMode::Armed), terms: None }.into(),
        ExpirySet { deployment: shop(), on_expiry: Some(OnExpiry::Stale { max: Period::seconds(9) }) }.into(),
        ExpirySet { deployment: shop(), on_expiry: Some(OnExpiry::Fail) }.into(),
        ask(SwitchTo::Version(pair(2).version), WaitLevel::Quorum, Unfenced::Proceed).into(),
        ask(SwitchTo::Previous, WaitLevel::Fenced, Unfenced::TakeBack).into(),
        ask(SwitchTo::Back(71), WaitLevel::Caches, Unfenced::Proceed).into(),
        ArmingConfirmed { served: vec![(1, 70), (2, 71)] }.into(),
        SwitchMoved { switch: 71, seen: 2, served: vec![(3, 72)] }.into(),
        SwitchEnded { switch: 71, seen: 3, end: end() }.into(),
        LeasesSettled { seen: 4 }.into(),
        TrafficBackSettled { rollout: RolloutId(5), index: 80, end: end() }.into(),
        ReleasesPruned { service: name("shop"), keep: Some(3), older_than: Some(Period::minutes(4)) }.into(),
        ServiceRemoved { service: name("shop") }.into(),
        EnvironmentCreated { name: name("beta"), order: Some(3), default_strategy: Some(StrategyName::ROLLING), on_no_data: Some(OnNoData::Fail) }.into(),
        EnvironmentSet { name: name("beta"), order: Some(3), default_strategy: Some(StrategyName::ROLLING), on_no_data: Some(OnNoData::Pass) }.into(),
        EnvironmentRemoved { name: name("beta") }.into(),
        BlobDoomed { digest: pair(1).digest, node: 2 }.into(),
        WorkerRemoved { worker: worker(1), gone: true }.into(),
        WorkerRekeyed { worker: worker(1), within: Period::minutes(9) }.into(),
        DeploymentRemoved { deployment: shop(), stop: true }.into(),
        DeploymentStopped { deployment: shop() }.into(),
        DeploymentStarted { deployment: shop() }.into(),
        SettingsSet { service: Some(name("shop")), change: settings(), unset: vec!["rollout.bake".into()] }.into(),
        CookieAsked {}.into(),
        CookieRotated { secret: Secret::new([7; 16]), seen: 81 }.into(),
    ]
}

fn name(text: &str) -> Name {
    Name::service(text).unwrap()
}

/// A change of every setting.
fn settings() -> SettingsChange {
    let mut change = SettingsChange::default();
    for (setting, [value, ..]) in Settings::default().shown() {
        change.set(setting.name, &value).unwrap();
    }
    change.rollout = RolloutParams::default().into();
    change
}

/// What a builder said.
pub fn build() -> BuildInfo {
    BuildInfo {
        commit: "abc".into(),
        built_at: "2026-01-01T00:00:00Z".into(),
        toolchain: "rustc".into(),
        components: labels(),
    }
}

/// One that forgets to say so would rest with all others.
#[test]
fn a_command_says_which_deployment_it_is_about() {
    let mut s = state();
    s.rollouts.insert(RolloutId(52), rows::rollout());
    s.rollouts.insert(RolloutId(5), rows::rollout());
    // Of several, or of what is not a deployment's.
    let of_many = ["FactsRecorded", "SettingsSet", "SwitchAsked"];
    for c in one_of_each() {
        let text = format!("{c:?}");
        let names = text.contains("deployment: ") || text.contains("rollout: RolloutId");
        let about = c.about(&s);
        assert_eq!(about.is_some(), names && !of_many.contains(&c.name()), "{}: {about:?}", c.name());
    }
}

#[test]
fn every_command_keeps_its_bytes() {
    let all: Vec<Stamped> = one_of_each().into_iter().map(|body| Stamped { body, ..abort() }).collect();
    let named: BTreeSet<&str> = all.iter().map(|c| c.body.name()).chain(["LevelProbe"]).collect();
    assert_eq!(named, Command::NAMES.iter().copied().collect(), "a command without golden bytes");
    let bytes: Vec<u8> = all.iter().flat_map(|c| codec::encode_command(c).unwrap()).collect();
    let kept = golden("commands.bin", &bytes);
    let mut rest = kept.as_slice();
    for c in &all {
        let length = codec::HEADER + u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        assert_eq!(&codec::decode_command(&rest[..length]).unwrap(), c);
        rest = &rest[length..];
    }
    assert!(rest.is_empty());
    assert!(!format!("{all:?}").contains("7, 7"), "no secret is shown");
}
