//! One row of each table, every field filled: what a field holds does not matter, that it keeps its bytes does.

use std::collections::BTreeMap;

use slipway::model::{
    BasisPoints, Check, Health, Histogram, InstanceId, Life, MetricName, Permit, Portion, Sample, Spec, SpecFormat,
    Step, StepId, StepKind, StrategyName, Test, WorkerName, read_spec,
};
use slipway::state::{
    Arm, AsIs, Assignment, AssignmentContent, Batch, Budget, Delivery, DeliveryKey, DigestReport, Divergence,
    DrainState, Entry, Evidence, FencePoint, Fit, Instance, Look, Meta, PairSeen, Parted, PoolSlot, Presence, Reached,
    Reason, Replicas, Request, Role, Rollout, RolloutKind, RolloutPhase, RolloutStatus, Route, RouteForm, RouteMode,
    StepRow, StepStatus, Stop, Verdict, Worker,
};

use super::*;
pub fn worker(n: u32) -> WorkerName {
    WorkerName::new(&format!("w{n}")).unwrap()
}

pub fn instance(n: u32) -> InstanceId {
    InstanceId { index: 60, ordinal: n }
}

/// A spec with every key.
pub fn spec() -> Spec {
    let text = "
service: shop
environment: production
run:
  command: [bin/shop, --port, '8080']
  env: {A: b}
  env_file: /etc/shop.env
  user: shop
  stop: {signal: INT, to: main, grace: 9s}
address: pool
ports: {http: 8080, dns: {port: 53, protocol: udp}}
placement: {workers: zone=a, per_worker: 2}
health:
  http: /healthz
  scheme: https
  port: http
  host: shop.example
  tls: {ca_file: /etc/ca.pem, server_name: shop.example}
  status: 200-299
  interval: 2s
  timeout: 1s
  healthy_after: 3
  unhealthy_after: 4
  start_within: 20s
metrics: {path: /metrics, requests: r, errors: e, series: {latency: t}}
drain: 7s
lost_for_good: 5m
singleton: true
dns: {ttl: 2s, pin_ttl: 9s, when_empty: strict, on_panic: last_good, panic_below: 20%}
rollout: {strategy: canary, steps: [10, 100], bake: 9s, max_error_rate: 1%, min_requests: 5, on_no_data: hold, smoke: /smoke}
labels: {team: web}
";
    read_spec(text, SpecFormat::Yaml).unwrap()
}

pub fn check() -> Check {
    let (metric, over) = (MetricName::ERRORS, Some(MetricName::REQUESTS));
    Check { test: Test::Ceiling, metric, over, limit: 500, min: 100 }
}

pub fn evidence() -> Evidence {
    let histogram = Histogram::new(vec![(5_000, 900), (10_000, 990)], 4_200_000, 1000).unwrap();
    let mut seen = crate::counted(1000, 3);
    seen.0.insert("latency".parse().unwrap(), Sample::Histogram(histogram));
    Evidence {
        from: Millis(10),
        to: Millis(20),
        checks: crate::records(&[check()], Verdict::NotWorse),
        seen: vec![PairSeen { pair: pair(2), workers: [(worker(1), seen.clone())].into(), rest: seen }],
        verdict: Verdict::NotWorse,
        note: "a note".into(),
    }
}

fn meta() -> Meta {
    Meta {
        revision: 3,
        created_index: 60,
        updated_index: 61,
        labels: [("team".to_string(), "web".to_string())].into(),
        ..Meta::default()
    }
}

fn ports() -> Arc<BTreeMap<String, u16>> {
    Arc::new([("http".to_string(), 8080)].into())
}

fn step_row() -> StepRow {
    StepRow {
        step: Step { group: "25 %".into(), kind: StepKind::Route { weight: BasisPoints(2500) } },
        status: StepStatus::Running,
        attempt: 2,
        step_id: Some(StepId(62)),
        started_at: Some(Millis(620)),
        until: Some(Millis(630)),
        deadline: Some(Millis(640)),
        batch: Some(Batch {
            n: 1,
            added: vec![instance(1)],
            replaced: vec![instance(2)],
            started_at: Millis(621),
            deadline: Millis(622),
            passed: true,
            next_at: Millis(623),
            in_place: true,
        }),
        hook: Some((true, "200".into())),
        routed: Some((63, Millis(630))),
        evidence: Some(evidence()),
        ended_at: Some(Millis(650)),
    }
}

pub fn rollout() -> Rollout {
    Rollout {
        meta: meta(),
        id: RolloutId(60),
        deployment: shop(),
        kind: RolloutKind::Return { undoes: RolloutId(5) },
        from: Some(pair(1)),
        to: pair(2),
        strategy: StrategyName::CANARY,
        params: spec().rollout,
        desired: 4,
        order: vec![worker(1)],
        without: vec![worker(2)],
        steps: vec![step_row()],
        forward_steps: vec![step_row()],
        cursor: 1,
        phase: RolloutPhase::Undo,
        undo_compiled: true,
        status: RolloutStatus::RollingBack,
        paused_at: Some(Millis(660)),
        switched: true,
        reason: Some(Reason::ErrorRate { errors: 3, requests: 10, limit: 500 }),
        started_at: Millis(600),
        traffic_back_at: Some(Millis(670)),
        ended_at: Some(Millis(680)),
        undone_by: Some(RolloutId(70)),
        principal: "operator:local".into(),
        started_wall: 1,
        ended_wall: 2,
        form: RouteForm { mode: RouteMode::Switch, ttl: Period(7) },
        budget: Some(Budget { surge: 1, unavailable: 2 }),
    }
}

/// A row in each table, with something in each field.
pub fn full() -> State {
    let mut s = traffic();
    s.incarnation = 2;
    s.rollouts.insert(RolloutId(60), rollout());
    let one = Instance {
        meta: meta(),
        id: instance(1),
        deployment: shop(),
        pair: pair(2),
        worker: worker(1),
        address: "127.1.1.1".into(),
        ports: ports(),
        made_by: Some(RolloutId(60)),
        replaces: Some(instance(2)),
        drain: Some(DrainState { index: 64, since: Millis(640), clear_at: Some(Millis(700)) }),
        failed_at: Some(Millis(690)),
        restarts: 2,
        exit: Some("exit status 1".into()),
        life: Life::Draining,
        health: Health::Failing,
        failures: 3,
        passed_once: true,
        counted_out: Some(Millis(695)),
    };
    s.instances.insert(instance(1), one);
    let pool = [
        ("127.1.1.1".to_string(), PoolSlot::Used(instance(1))),
        ("127.1.1.2".to_string(), PoolSlot::Free { since: 9, last: Some(shop()) }),
    ];
    let machine = Worker {
        meta: meta(),
        name: worker(1),
        key: "k".into(),
        capacity: 3,
        build: "1".into(),
        host: "10.0.0.1".into(),
        pool: Arc::new(pool.into()),
        absent: vec!["127.1.1.3".into()],
        withdrawn: ["127.1.1.2".to_string()].into(),
        keeping: "cgroup".into(),
        presence: Presence::Lost,
        registered_at: Millis(5),
        lost_at: Some(Millis(6)),
        set_generation: 7,
        staged: vec![pair(2).digest],
        report: (8, 9),
        rekey_until: Some(Millis(7)),
    };
    s.workers.insert(worker(1), machine);
    let entry = Entry {
        id: instance(1),
        pair: pair(2),
        address: "127.1.1.1".into(),
        ports: ports(),
        replaces: Some(instance(2)),
    };
    let content = AssignmentContent {
        hold: vec![pair(2).digest],
        instances: vec![entry],
        current: Some(pair(1)),
        previous: Some(pair(2)),
        next: Some(pair(3)),
    };
    let assignment = Assignment {
        meta: meta(),
        generation: 4,
        content_digest: 5,
        permit: Permit::Commit,
        reached: Some((4, Reached::Failed("why".into()))),
        content,
        mark: Some(StepId(62)),
        look: Some(Look { generation: 4, fit: Fit::Lacks("what".into()), since: Millis(700) }),
    };
    s.assignments.insert((worker(1), shop()), assignment);
    let delivery = Delivery {
        meta: meta(),
        path: "/smoke".into(),
        targets: vec!["127.1.1.1:8080".into()],
        rollout: RolloutId(60),
        step: 1,
        attempt: 2,
        expires: Millis(900),
    };
    s.outbox.insert(DeliveryKey { index: 64, ordinal: 1 }, delivery);
    let arm = |role, n, weight, cap: Option<u32>| Arm {
        role,
        pair: pair(n),
        want: 2,
        weight: BasisPoints(weight),
        cap: cap.map(BasisPoints),
        retire_at: Some(Millis(800)),
    };
    let mut d = s.deployments[&shop()].clone();
    let all = [
        arm(Role::Stable, 1, 7000, None),
        arm(Role::Candidate, 2, 2000, Some(2500)),
        arm(Role::Previous, 3, 1000, None),
    ];
    d.arms = all.into_iter().collect();
    d.route = Some(Route {
        generation: FencePoint { incarnation: 2, n: 65 },
        mode: RouteMode::Switch,
        ttl: Period::seconds(1),
        salt: 66,
    });
    (d.desired, d.live, d.last) = (4, Some(RolloutId(60)), Some(RolloutId(5)));
    d.removing = Some(Millis(850));
    d.stop = Some(Stop { index: 66, since: Millis(840), wall: 1_700_000_000_900, by: "who".into(), starting: true });
    d.as_is = Some(AsIs { rollout: RolloutId(5), given_up: pair(3) });
    s.deployments.insert(shop(), d);
    s.specs.insert((shop(), 2), Arc::new(spec()));
    let (_, release) = s.releases.iter().next().map(|(k, r)| (k.clone(), r.clone())).unwrap();
    let mut service = s.services.values().next().unwrap().clone();
    service.defaults.parallelism = Some(Portion::count(3));
    s.tombstones.insert((service.name.clone(), pair(2).version), pair(2).digest);
    let mut cluster = s.cluster.as_deref().unwrap().clone();
    cluster.parted = Parted { vacated: 9, generation: 8, epoch: 7 };
    cluster.settings.rollout.parallelism = Some(Portion::count(2));
    s.cluster = Some(Arc::new(cluster));
    s.services.insert(service.name.clone(), service);
    let release = slipway::state::Release { build: commands::build(), ran: true, ..release };
    s.releases.insert((release.service.clone(), release.version.clone()), release);
    let split = Divergence { index: 8, tables: vec!["nodes".into()] };
    let report = DigestReport { all: 1, tables: vec![("nodes".into(), 2)] };
    s.replicas = Arc::new(Replicas {
        probe: 8,
        reports: [(1, report)].into(),
        agreed: 7,
        diverged: [(3, split.clone())].into(),
        split: Some(split),
    });
    let (asked, id) = (Principal::local_operator(), RequestId::new("q-9").unwrap());
    let refused = slipway::state::Rejection::Guard("why".into());
    let request = Request { body_digest: 1, index: 67, rejection: Some(refused), not_after: Millis(60_000) };
    s.requests_by_expiry.insert((request.not_after, asked.clone(), id.clone()), ());
    s.requests.insert((asked, id), request);
    s.lineage = vec![ClusterId::new("c-0").unwrap()];
    let mut node = s.nodes[&3].clone();
    node.silent_since = Some(Millis(9));
    s.nodes.insert(3, node);
    s
}

#[test]
fn every_row_keeps_its_bytes() {
    let state = full();
    let sizes = [
        state.nodes.len(),
        state.environments.len(),
        state.services.len(),
        state.specs.len(),
        state.blobs.len(),
        state.releases.len(),
        state.deployments.len(),
        state.rollouts.len(),
        state.instances.len(),
        state.workers.len(),
        state.assignments.len(),
        state.outbox.len(),
        state.requests.len(),
        state.events.len(),
        state.slots.len(),
        state.backs.len(),
        state.tombstones.len(),
    ];
    assert!(sizes.iter().all(|n| *n > 0), "a table without a row: {sizes:?}");
    assert_eq!(
        digest(&state).tables.len(),
        sizes.len() + 5,
        "head, replicas, lineage, fences and cookies are one row each"
    );
    let kept = golden("snapshot-full.bin", &codec::encode_snapshot(&state).unwrap());
    let back = codec::decode_snapshot(&kept).unwrap();
    assert_eq!(back, state);
    assert_eq!(digest(&back), digest(&state));
}
