//! Stories of weights, and of who is named.

use super::*;
use slipway::state::Role;

#[test]
fn weights_never_rise_above_capacity_or_the_step() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::CANARY).unwrap();
    let routing = |s: &State| {
        let running = s.live_rollout(&shop()).and_then(|r| r.running());
        running.is_some_and(|(_, row)| matches!(row.step.kind, StepKind::Route { .. }))
    };
    t.until("a route step", routing);
    let (rollout, seen, step) = (t.live().id, t.live().meta.revision, t.live().cursor);
    let set = |candidate: u32, stable: u32| {
        Command::RouteSet(RouteSet {
            at: StepRef { rollout, seen, step },
            weights: Weights::default()
                .with(Role::Stable, BasisPoints(stable))
                .with(Role::Candidate, BasisPoints(candidate)),
        })
    };
    assert!(t.no(set(2501, 7499)).contains("above the step's 25 %"));
    assert!(t.no(set(2500, 7000)).contains("sum to 9500"));
    // One of the two candidates fails: a quarter is more than one of eight carries.
    let candidate = t.s().instances.values().find(|i| i.pair == t.live().to && i.life.is_live()).unwrap().clone();
    let fact = slipway::state::InstanceFact {
        id: candidate.id,
        life: Life::Running,
        health: Health::Failing,
        failures: 3,
        restarts: 0,
        exit: None,
    };
    let facts = |seq| slipway::state::WorkerFacts {
        worker: candidate.worker.clone(),
        epoch: 1,
        seq,
        instances: vec![fact.clone()],
        reached: Vec::new(),
        staged: None,
    };
    let (_, seq) = t.s().workers[&candidate.worker].report;
    t.ok(Command::FactsRecorded(FactsRecorded { workers: vec![facts(seq + 1)] }));
    assert!(
        t.no(Command::FactsRecorded(FactsRecorded { workers: vec![facts(seq + 1)] })).contains("newer"),
        "an old report counted"
    );
    assert!(t.no(set(2500, 7500)).contains("more than they carry"));
    t.ok(set(1250, 8750));
    let stale = set(1000, 9000);
    assert!(matches!(t.try_(stale), Err(Rejection::Stale { .. })), "a second command saw the same revision");
}

#[test]
fn an_abort_keeps_candidates_and_gives_stable_everything() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::CANARY).unwrap();
    t.until("a weight", |s| s.deployments[&shop()].arms.weight(Role::Candidate).0 > 0);
    let id = t.live().id;
    let before = t.s().instances.values().filter(|i| i.pair == t.live().to && i.life.is_wanted()).count();
    t.ok(Command::Abort(Abort { rollout: id, as_is: false }));
    assert_eq!(t.weights().get(Role::Stable).0, 10_000);
    let d = &t.s().deployments[&shop()];
    let candidate = d.arms.get(Role::Candidate).unwrap().clone();
    assert_eq!(candidate.retire_at, Some(t.s().now.plus(slipway::model::Period::minutes(60))));
    let kept = t.s().instances.values().filter(|i| i.pair == candidate.pair && i.life.is_wanted()).count();
    assert_eq!(kept, before);
    let e = t.no(Command::Abort(Abort { rollout: id, as_is: false }));
    assert!(e.contains("aborted: it cannot be aborted"), "{e}");
}

#[test]
fn a_rollback_moves_the_traffic_in_its_own_entry_and_is_not_taken_back() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::BLUE_GREEN).unwrap();
    let id = t.live().id;
    t.until("the switch", |s| s.rollouts[&id].switched);
    let d = &t.s().deployments[&shop()];
    assert_eq!(d.arms.pair(Role::Stable).unwrap().version.to_string(), "2.0.0");
    t.ok(Command::Rollback(Rollback { rollout: id }));
    let d = &t.s().deployments[&shop()];
    assert_eq!(d.arms.pair(Role::Stable).unwrap().version.to_string(), "1.0.0");
    assert_eq!(t.weights().get(Role::Stable).0, 10_000);
    assert_eq!(t.live().traffic_back_at, Some(t.s().now));
    for verb in [Command::Resume(Resume { rollout: id }), Command::Promote(Promote { rollout: id, full: true })] {
        assert!(matches!(t.try_(verb), Err(Rejection::Lifecycle { .. })));
    }
    t.until("the end", |s| s.deployments[&shop()].live.is_none());
    let r = &t.s().rollouts[&id];
    assert_eq!(r.status, RolloutStatus::RolledBack);
    assert!(r.forward_steps.iter().any(|row| row.status == StepStatus::Undone));
    let old = r.from.clone().unwrap();
    assert_eq!(passing(t.s(), &shop(), &old), 8);
    assert!(t.s().instances.values().all(|i| i.pair == old || !i.life.is_live()));
}

#[test]
fn a_lost_workers_instances_leave_dns_unless_most_are_lost() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let lose = |t: &mut Story, n: u32| {
        let last_heard = t.s().now;
        t.ok(Command::WorkerLost(WorkerLost { worker: WorkerName::new(&format!("w{n}")).unwrap(), last_heard }));
    };
    let named = |t: &Story, later: u64| serving(t.s(), &shop(), Millis(t.s().now.0 + later)).len();
    assert_eq!(named(&t, 0), 8);
    lose(&mut t, 1);
    assert_eq!((named(&t, 14_000), named(&t, 15_000)), (8, 6));
    let stable = t.s().deployments[&shop()].arms.pair(Role::Stable).unwrap().clone();
    assert_eq!(passing(t.s(), &shop(), &stable), 6, "capacity does not wait");
    lose(&mut t, 2);
    assert_eq!(named(&t, 20_000), 4);
    lose(&mut t, 3);
    assert_eq!(named(&t, 20_000), 8, "fewer than half would remain: all stay");
    t.ok(Command::WorkerReturned(WorkerReturned { worker: WorkerName::new("w1").unwrap() }));
    assert_eq!(named(&t, 20_000), 4);
}
