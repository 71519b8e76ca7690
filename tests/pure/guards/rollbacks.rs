//! Stories of rollbacks: what is refused on them, what ends them, and who counts when workers are lost for good.

use slipway::engine::{facts, plan, ways_out};
use slipway::model::{Health, Life, Millis, Period, Principal, RolloutId, StrategyName, WorkerName};
use slipway::state::{
    Command, InstanceFact, NodeSeen, Observations, PoolSlot, Presence, ReleaseStatus, Role, RolloutStatus, Seen, State,
    WorkerFacts,
    command::{
        Abort, CountedOut, FactsRecorded, NodeSilent, Rollback, SpecApplied, ViewsServed, WorkerLost, WorkerReturned,
    },
    failed_in, free_addresses, passing, serving, wanted,
};

use super::{Story, shop, start};

fn w(n: u32) -> WorkerName {
    WorkerName::new(&format!("w{n}")).unwrap()
}

fn share(s: &State, role: Role) -> u32 {
    s.deployments[&shop()].arms.weight(role).0
}

fn status(s: &State, version: &str) -> ReleaseStatus {
    s.releases[&(shop().service, version.parse().unwrap())].status
}

/// The rollout by which a release is bad.
fn bad_by(s: &State, version: &str) -> Option<RolloutId> {
    failed_in(s, &s.releases[&(shop().service, version.parse().unwrap())]).map(|r| r.id)
}

impl Story {
    fn last(&self) -> RolloutId {
        self.s().deployments[&shop()].last.unwrap()
    }

    fn lose(&mut self, n: u32) {
        let last_heard = self.s().now;
        self.ok(Command::WorkerLost(WorkerLost { worker: w(n), last_heard }));
    }

    /// A rolling update that has replaced all but the last.
    fn past_half(&mut self) -> RolloutId {
        self.completes("1.0.0", StrategyName::DIRECT);
        self.start("2.0.0", StrategyName::ROLLING).unwrap();
        let id = self.live().id;
        self.until("all but one", |s| share(s, Role::Candidate) > 8000);
        id
    }

    /// 1.0.0 does not come up any more.
    fn broken_rollback(&mut self) -> RolloutId {
        let id = self.past_half();
        self.ok(Command::Rollback(Rollback { rollout: id }));
        id
    }
}

#[test]
fn a_rollback_asked_for_twice_does_not_go_forward_again() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.completes("2.0.0", StrategyName::DIRECT);
    let forward = t.last();
    t.ok(Command::Rollback(Rollback { rollout: forward }));
    let back = t.live().id;
    let e = t.no(Command::Rollback(Rollback { rollout: back }));
    assert!(e.contains("being rolled back to 1.0.0 already") && e.contains("--to 2.0.0` goes forward again"), "{e}");
    t.until("the return", |s| s.deployments[&shop()].live.is_none());
    let e = t.no(Command::Rollback(Rollback { rollout: back }));
    assert!(e.contains("is back on 1.0.0 already") && e.contains("--to 2.0.0` goes forward again"), "{e}");
    assert!(t.no(Command::Rollback(Rollback { rollout: forward })).contains("undone already"));
    assert_eq!((status(t.s(), "1.0.0"), status(t.s(), "2.0.0")), (ReleaseStatus::Active, ReleaseStatus::Deprecated));
    assert_eq!((bad_by(t.s(), "1.0.0"), bad_by(t.s(), "2.0.0")), (None, Some(back)), "it was gone back from");
}

#[test]
fn an_abort_never_moves_traffic_to_a_version_that_was_left() {
    let mut t = Story::new();
    let id = t.broken_rollback();
    let e = t.no(Command::Abort(Abort { rollout: id, as_is: false }));
    assert!(e.contains("--as-is` ends it where it stands") && e.contains("--replace"), "{e}");
    let before = share(t.s(), Role::Candidate);
    assert!(before > 0, "past half the traffic goes back by capacity");
    t.ok(Command::Abort(Abort { rollout: id, as_is: true }));
    assert_eq!(t.s().rollouts[&id].status, RolloutStatus::Aborted);
    // A return that has moved its traffic is the same.
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.completes("2.0.0", StrategyName::BLUE_GREEN);
    let forward = t.last();
    t.ok(Command::Rollback(Rollback { rollout: forward }));
    assert!(t.live().switched, "the old side runs: its traffic moved in this entry");
    let back = t.live().id;
    assert!(t.no(Command::Abort(Abort { rollout: back, as_is: false })).contains("--as-is"));
    t.ok(Command::Abort(Abort { rollout: back, as_is: true }));
    let stable = t.s().deployments[&shop()].arms.pair(Role::Stable).unwrap().clone();
    assert_eq!((stable.version.to_string(), share(t.s(), Role::Stable)), ("1.0.0".into(), 10_000));
}

#[test]
fn as_it_is_both_versions_stay_and_the_next_rollout_replaces_both() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::CANARY).unwrap();
    let forward = t.live().id;
    assert!(t.no(Command::Abort(Abort { rollout: forward, as_is: true })).contains("goes forward"));
    t.ok(Command::Abort(Abort { rollout: forward, as_is: false }));

    let mut t = Story::new();
    let id = t.broken_rollback();
    t.ok(Command::Abort(Abort { rollout: id, as_is: true }));
    let d = t.s().deployments[&shop()].clone();
    let (stable, previous) = (d.arms.pair(Role::Stable).unwrap().clone(), d.arms.pair(Role::Previous).unwrap().clone());
    assert_eq!((stable.version.to_string(), previous.version.to_string()), ("2.0.0".into(), "1.0.0".into()));
    assert_eq!(d.as_is.as_ref().map(|a| a.given_up.clone()), Some(previous.clone()));
    let weights = t.weights();
    let counts = |s: &State| (wanted(s, &shop(), &stable), wanted(s, &shop(), &previous));
    let had = counts(t.s());
    for _ in 0..30 {
        for body in super::good_round(t.s()).0 {
            t.ok(body);
        }
    }
    assert_eq!((t.weights(), counts(t.s())), (weights, had), "nothing moves by itself");
    t.completes("3.0.0", StrategyName::ROLLING);
    let d = &t.s().deployments[&shop()];
    assert!(d.as_is.is_none());
    t.until("both are gone", |s| {
        let d = &s.deployments[&shop()];
        let only = s.instances.values().all(|i| !i.life.is_live() || i.pair.version.to_string() == "3.0.0");
        only && d.arms.get(Role::Previous).is_none() && d.arms.get(Role::Candidate).is_none()
    });
}

#[test]
fn replace_ends_what_is_live_and_starts_the_fix_in_one_entry() {
    let mut t = Story::new();
    let id = t.broken_rollback();
    let busy = t.start("3.0.0", StrategyName::ROLLING).unwrap_err().to_string();
    assert!(busy.contains("explain"), "{busy}");
    let mut fix = start(t.s(), "3.0.0", StrategyName::ROLLING);
    fix.replace = true;
    t.ok(Command::StartRollout(fix));
    assert_eq!(t.s().rollouts[&id].status, RolloutStatus::Aborted);
    assert_eq!(t.live().to.version.to_string(), "3.0.0");
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
    assert_eq!(t.s().rollouts[&t.last()].status, RolloutStatus::Completed);
    // One that goes forward is aborted: its traffic is on stable first.
    t.start("4.0.0", StrategyName::CANARY).unwrap();
    t.until("a weight", |s| share(s, Role::Candidate) > 0);
    let mut other = start(t.s(), "2.0.0", StrategyName::ROLLING);
    other.replace = true;
    t.ok(Command::StartRollout(other));
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
    assert_eq!(status(t.s(), "4.0.0"), ReleaseStatus::Loading, "aborted, and gone by now");
}

#[test]
fn what_is_offered_is_what_the_law_takes() {
    let mut t = Story::new();
    let id = t.broken_rollback();
    let offered = ways_out(t.s(), &Principal::local_operator(), &shop());
    let start = format!("slipway rollout start {} --to VERSION --replace", shop());
    assert_eq!(offered, [format!("slipway rollout abort {id} --as-is"), start]);
    t.until("rolled back", |s| s.deployments[&shop()].live.is_none());
    assert_eq!(
        ways_out(t.s(), &Principal::local_operator(), &shop()),
        [format!("slipway rollout start {} --to VERSION", shop())]
    );
    assert_eq!(status(t.s(), "2.0.0"), ReleaseStatus::Failed);
    assert_eq!(bad_by(t.s(), "2.0.0"), Some(id));
    assert_eq!(status(t.s(), "1.0.0"), ReleaseStatus::Active);
}

#[test]
fn nobody_is_counted_out_before_its_time_and_a_singleton_never() {
    let mut t = Story::new();
    let id = t.broken_rollback();
    t.until("its rollback is compiled", |s| s.rollouts[&id].undo_compiled);
    let out = |t: &mut Story| t.try_(Command::CountedOut(CountedOut { deployment: shop(), worker: w(4) }));
    assert!(out(&mut t).is_err(), "it is heard of");
    t.lose(4);
    assert!(out(&mut t).is_err(), "it may come back");
    let desired = t.s().rollouts[&id].desired;
    t.pass(Period::minutes(10));
    out(&mut t).unwrap();
    let r = &t.s().rollouts[&id];
    assert_eq!((r.desired, r.without.clone()), (desired - 2, vec![w(4)]));
    assert!(!r.order.contains(&w(4)));
    assert!(t.s().instances.values().filter(|i| i.worker == w(4) && i.life.is_live()).all(|i| i.counted_out.is_some()));
    t.until("rolled back without it", |s| s.deployments[&shop()].live.is_none());
    assert_eq!(t.s().rollouts[&id].status, RolloutStatus::RolledBack);
    t.ok(Command::WorkerReturned(WorkerReturned { worker: w(4) }));
    assert!(t.s().instances.values().all(|i| i.counted_out.is_none()), "who returns counts again");

    let mut t = Story::new();
    let mut spec = t.s().specs.values().next_back().unwrap().clone();
    spec.singleton = true;
    t.ok(Command::SpecApplied(SpecApplied { spec, expected: None }));
    t.completes("1.0.0", StrategyName::DIRECT);
    t.lose(4);
    t.pass(Period::minutes(60));
    assert!(out(&mut t).is_err(), "a copy may still run behind a cut");
}

#[test]
fn the_dead_are_not_named_once_they_are_lost_for_good_unless_nobody_else_is() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let named = |t: &Story| serving(t.s(), &shop(), t.s().now).len();
    for n in 2..=4 {
        t.lose(n);
    }
    t.pass(Period::minutes(5));
    assert_eq!(named(&t), 8, "fewer than half would remain: our own view may be the fault");
    t.pass(Period::minutes(6));
    for n in 2..=4 {
        t.ok(Command::CountedOut(CountedOut { deployment: shop(), worker: w(n) }));
    }
    assert_eq!(named(&t), 2, "the living alone");
    t.lose(1);
    t.pass(Period::minutes(11));
    t.ok(Command::CountedOut(CountedOut { deployment: shop(), worker: w(1) }));
    assert_eq!(named(&t), 8, "with nobody left the last ones go on being named");
    let stable = t.s().deployments[&shop()].arms.pair(Role::Stable).unwrap().clone();
    assert_eq!((passing(t.s(), &shop(), &stable), wanted(t.s(), &shop(), &stable)), (0, 0));
}

#[test]
fn addresses_of_what_never_passed_go_to_others_once_the_servers_words_are_committed() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let other = "production/cart".parse().unwrap();
    // Two instances end without a drain.
    let on: Vec<_> = t.s().instances.values().filter(|i| i.worker == w(1)).cloned().collect();
    let fact = |i: &slipway::state::Instance| InstanceFact {
        id: i.id,
        life: Life::Failed,
        health: Health::Unknown,
        failures: 0,
        restarts: 0,
        exit: Some("exit status 1".into()),
    };
    let (_, seq) = t.s().workers[&on[0].worker].report;
    let report = WorkerFacts {
        worker: on[0].worker.clone(),
        epoch: 1,
        seq: seq + 1,
        instances: on.iter().map(fact).collect(),
        reached: Vec::new(),
        staged: None,
    };
    t.ok(Command::FactsRecorded(FactsRecorded { workers: vec![report] }));
    let row = t.s().workers[&on[0].worker].clone();
    let freed = row.pool.values().filter(|slot| matches!(slot, PoolSlot::Free { since, .. } if *since > 0));
    assert_eq!(freed.count(), 2);
    assert_eq!(free_addresses(t.s(), &row, &other).len(), 4, "a server may still name the two");
    let served = t.s().nodes.keys().map(|n| (*n, t.s().applied.index)).collect();
    t.ok(Command::ViewsServed(ViewsServed { served }));
    assert_eq!(free_addresses(t.s(), &row, &other).len(), 6);
    assert!(t.no(Command::ViewsServed(ViewsServed { served: vec![(1, 1)] })).contains("no server has served more"));
}

#[test]
fn a_server_that_is_down_holds_freed_addresses_back_for_a_while_and_not_for_ever() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.ok(Command::NodeSilent(NodeSilent { node: 3 }));
    t.completes("2.0.0", StrategyName::ROLLING);
    let other = "production/cart".parse().unwrap();
    let row = t.s().workers[&w(1)].clone();
    let mut late = t.s().clone();
    let mut node = late.nodes[&3].clone();
    node.served = 1;
    late.nodes.insert(3, node);
    assert_eq!(free_addresses(&late, &row, &other).len(), 2, "those that were never used");
    late.now = late.nodes[&3].silent_since.unwrap().plus(Period::minutes(10));
    assert_eq!(free_addresses(&late, &row, &other).len(), 4);
}

/// A report of two hundred workers whose instances all failed with long words, and one with more than a command takes.
#[test]
fn what_was_heard_comes_in_commands_that_the_log_takes() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let mut seen = Observations { leader_since: Millis(0), ..Observations::default() };
    let staged: Vec<_> = (0..10_000).map(|n| slipway::model::Digest::new(&format!("{n:064x}")).unwrap()).collect();
    let now = t.s().now;
    for n in t.s().nodes.values() {
        let value = NodeSeen { served_index: 1, ..NodeSeen::default() };
        seen.nodes.insert(n.id, Seen::Known { at: now, value });
    }
    for row in t.s().workers.values() {
        let fact = |i: &slipway::state::Instance| InstanceFact {
            id: i.id,
            life: Life::Failed,
            health: Health::Unknown,
            failures: 0,
            restarts: 0,
            exit: Some("\u{1f600}".repeat(100_000)),
        };
        let value = WorkerFacts {
            worker: row.name.clone(),
            epoch: 1,
            seq: row.report.1 + 1,
            instances: t.s().instances.on(&row.name).map(fact).collect(),
            reached: Vec::new(),
            staged: Some(staged.clone()),
        };
        seen.workers.insert(row.name.clone(), Seen::Known { at: now, value });
    }
    let all = facts(t.s(), &seen, now);
    assert!(all.iter().any(|c| matches!(c, Command::FactsRecorded(_))));
    for command in all {
        let (_, stamped) = t.0.stamp(command, 0);
        let bytes = slipway::state::codec::encode_command(&stamped).unwrap().len();
        assert!(bytes <= 512 * 1024, "{bytes} bytes");
        t.ok(stamped.body);
    }
    assert!(t.s().instances.values().all(|i| i.life == Life::Failed));
    let again = facts(t.s(), &seen, now);
    assert!(again.iter().all(|c| !matches!(c, Command::FactsRecorded(_))), "the same differences come again");
    assert!(t.s().workers.values().all(|w| w.presence == Presence::Ready));
    let _ = plan(t.s(), &seen, now);
}

#[test]
fn what_made_the_stable_version_is_gone_back_from_whatever_failed_since() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.completes("2.0.0", StrategyName::ROLLING);
    let made = t.s().deployments[&shop()].last.unwrap();
    t.start("3.0.0", StrategyName::ROLLING).unwrap();
    let tried = t.live().id;
    t.until("it runs", |s| s.rollouts[&tried].status == RolloutStatus::Active);
    t.ok(Command::Rollback(Rollback { rollout: tried }));
    t.until("rolled back", |s| s.deployments[&shop()].live.is_none());
    // Asked for again it does not go further by itself, and says what would.
    let said = t.no(Command::Rollback(Rollback { rollout: tried }));
    assert!(said.contains(&format!("{tried} is rolled back already, and production/shop runs 2.0.0")), "{said}");
    assert!(said.contains(&format!("`slipway rollout rollback {made}` goes back further, to 1.0.0")), "{said}");
    t.ok(Command::Rollback(Rollback { rollout: made }));
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
    let stable = t.s().deployments[&shop()].arms.get(Role::Stable).unwrap().clone();
    assert_eq!(stable.pair.version.to_string(), "1.0.0");
}

#[test]
fn a_completed_rollout_is_returned_from_once() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::BLUE_GREEN).unwrap();
    let id = t.live().id;
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
    t.ok(Command::Rollback(Rollback { rollout: id }));
    // Everything still runs, so the command's own entry moved the traffic.
    let stable = t.s().deployments[&shop()].arms.get(Role::Stable).unwrap().clone();
    assert_eq!((stable.pair.version.to_string().as_str(), t.weights().get(Role::Stable).0), ("1.0.0", 10_000));
    let back = t.live().id;
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
    assert_eq!(t.s().rollouts[&back].status, RolloutStatus::Completed);
    assert!(t.no(Command::Rollback(Rollback { rollout: id })).contains(&format!("undone already, by {back}")));
    let first = t.s().rollouts.values().next().unwrap().id;
    assert!(t.no(Command::Rollback(Rollback { rollout: first })).contains("did not make what"));
}
