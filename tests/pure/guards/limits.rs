//! Numbers past their bounds: what is refused once a limit is reached, in words that name it, and what is forgotten in
//! its time.

use std::sync::Arc;

use slipway::engine;
use slipway::model::{InstanceId, Name};
use slipway::state::{
    Limits, Observations,
    command::{Collected, NodeAdmitted, StepStarted},
};

use super::*;

/// A State whose limits are lower from here on.
fn limited(mut t: Story, with: impl FnOnce(&mut Limits)) -> Story {
    let cluster = Arc::make_mut(t.0.state.cluster.as_mut().unwrap());
    with(&mut cluster.settings.limits);
    t
}

fn exhausted(t: &mut Story, body: Command, what: &str, limit: u64) {
    match t.try_(body) {
        Err(Rejection::Exhausted { what: said, limit: most, .. }) => assert_eq!((said.as_str(), most), (what, limit)),
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn one_more_than_a_limit_allows_is_refused_by_what_it_is() {
    let mut t = limited(Story::new(), |l| (l.workers, l.services, l.releases_per_service) = (4, 1, 4));
    exhausted(&mut t, worker("w5", 5, &[]), "workers", 4);
    t.ok(worker("w4", 4, &[]));
    let mut spec = t.s().specs.values().next_back().unwrap().clone();
    spec.deployment.service = Name::service("till").unwrap();
    exhausted(&mut t, Command::SpecApplied(SpecApplied { spec: spec.clone(), expected: None }), "services", 1);
    let digest = Digest::new(&format!("{:064x}", 1)).unwrap();
    let release = Command::ReleaseRegistered(ReleaseRegistered {
        service: shop().service,
        version: "9.0.0".parse().unwrap(),
        digest,
        build: BuildInfo::default(),
        labels: BTreeMap::new(),
    });
    exhausted(&mut t, release, "releases of a service", 4);
    let mut t = limited(t, |l| (l.services, l.deployments) = (9, 1));
    exhausted(&mut t, Command::SpecApplied(SpecApplied { spec, expected: None }), "deployments", 1);
    let node = |n: u32| {
        let name = format!("n{n}");
        let (peer_addr, client_addr) = (format!("127.0.1.{n}:7001"), format!("127.0.1.{n}:7002"));
        let dns_addr = format!("127.0.1.{n}:53");
        Command::NodeAdmitted(NodeAdmitted {
            node: NewNode { name, peer_addr, client_addr, dns_addr, level: slipway::state::codec::LEVEL.into() },
        })
    };
    for n in 4..=31 {
        t.ok(node(n));
    }
    exhausted(&mut t, node(32), "nodes", 31);
}

#[test]
fn a_smoke_test_more_than_the_outbox_takes_is_refused_and_its_step_is_not_begun() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::BLUE_GREEN).unwrap();
    t.until("a smoke test is next", |s| {
        let r = s.live_rollout(&shop()).unwrap();
        r.steps.get(r.cursor as usize).is_some_and(|row| row.step.kind.name() == "smoke")
    });
    let mut t = limited(t, |l| l.outbox = 0);
    let at = StepRef { rollout: t.live().id, seen: t.live().meta.revision, step: t.live().cursor };
    let begin = Command::StepStarted(StepStarted { at, attempt: 1 });
    exhausted(&mut t, begin.clone(), "undelivered hooks", 0);
    assert!(t.live().running().is_none());
    limited(t, |l| l.outbox = 1).ok(begin);
}

#[test]
fn ended_rollouts_beyond_the_kept_history_go_with_their_specs_but_never_what_can_be_undone() {
    let mut t = limited(Story::new(), |l| l.history_per_deployment = 2);
    t.completes("1.0.0", StrategyName::DIRECT);
    for n in 2..=4 {
        t.completes(&format!("{n}.0.0"), StrategyName::DIRECT);
    }
    t.ok(Command::Collected(Collected { incarnation: t.s().incarnation }));
    let kept: Vec<String> = t.s().rollouts.values().map(|r| r.to.version.to_string()).collect();
    assert_eq!(kept, ["3.0.0", "4.0.0"]);
    assert!(t.s().undoable(&t.s().deployments[&shop()]).is_some(), "the last one can be undone");
    // Of a history of none the newest, which can be undone, is left.
    let mut t = limited(t, |l| l.history_per_deployment = 0);
    t.ok(Command::Collected(Collected { incarnation: t.s().incarnation }));
    let kept: Vec<String> = t.s().rollouts.values().map(|r| r.to.version.to_string()).collect();
    assert_eq!(kept, ["4.0.0"]);
    let e = t.no(Command::Collected(Collected { incarnation: t.s().incarnation + 1 }));
    assert!(e.contains("is over"), "{e}");
}

#[test]
fn the_planner_has_ended_instances_forgotten_once_there_are_many() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let ended = t.s().instances.values().next().unwrap().clone();
    let add = |t: &mut Story, n: u32| {
        let mut i = ended.clone();
        (i.id, i.life, i.made_by) = (InstanceId { index: 1, ordinal: n }, Life::Gone, None);
        (i.address, i.health) = (String::new(), Health::Unknown);
        t.0.state.instances.insert(i.id, i);
    };
    let wants = |t: &Story| {
        let seen = Observations { leader_since: t.s().now, ..Observations::default() };
        engine::plan(t.s(), &seen, t.s().now)
            .commands
            .contains(&Command::Collected(Collected { incarnation: t.s().incarnation }))
    };
    (0..64).for_each(|n| add(&mut t, n));
    assert!(!wants(&t), "64 are not many");
    add(&mut t, 64);
    assert!(wants(&t));
    t.ok(Command::Collected(Collected { incarnation: t.s().incarnation }));
    assert!(t.s().instances.values().all(|i| i.life.is_live()));
    assert!(!wants(&t), "and not again");
}

#[test]
fn the_ring_of_events_keeps_the_newest() {
    let mut t = limited(Story::new(), |l| l.events = 200);
    let w = WorkerName::new("w1").unwrap();
    let first = *t.s().events.keys().next().unwrap();
    assert_eq!(t.s().forgotten(first), None, "it begins with the cluster");
    while t.s().events.len() < 200 || t.s().events.contains_key(&first) {
        t.ok(Command::WorkerLost(WorkerLost { worker: w.clone(), last_heard: t.s().now }));
        t.ok(Command::WorkerReturned(WorkerReturned { worker: w.clone() }));
        assert!(t.s().events.len() <= 200);
    }
    assert_eq!(t.s().events.len(), 200);
    assert_eq!(t.s().events.get_max().unwrap().0.index, t.s().applied.index);
    let oldest = *t.s().events.keys().next().unwrap();
    assert_eq!((t.s().forgotten(first), t.s().forgotten(oldest)), (Some(oldest), None));
    // With room for more nothing that was forgotten is back, and a watcher is told so.
    let mut t = limited(t, |l| l.events = 300);
    t.ok(Command::WorkerLost(WorkerLost { worker: w, last_heard: t.s().now }));
    assert_eq!(t.s().forgotten(first), Some(oldest));
}
