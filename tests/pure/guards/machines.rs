//! Stories of machines that leave for good or come back with a new disk.

use slipway::model::{Period, Portion};
use slipway::state::{
    Instance,
    command::{CountedOut, ViewsServed, WorkerRekeyed, WorkerRemoved},
};

use super::*;

fn w(n: u32) -> WorkerName {
    WorkerName::new(&format!("w{n}")).unwrap()
}

fn removed(n: u32, gone: bool) -> Command {
    WorkerRemoved { worker: w(n), gone }.into()
}

fn rekey(n: u32, within: Period) -> Command {
    WorkerRekeyed { worker: w(n), within }.into()
}

fn lost(t: &mut Story, n: u32) {
    t.ok(Command::WorkerLost(WorkerLost { worker: w(n), last_heard: t.s().now }));
}

fn pool(n: u32) -> Vec<String> {
    (1..=6).map(|a| format!("127.1.{n}.{a}")).collect()
}

/// The registration of a machine with the addresses of `of`.
fn registers(n: u32, key: u32, of: u32) -> Command {
    let pool = pool(of);
    worker(&format!("w{n}"), key, &pool.iter().map(String::as_str).collect::<Vec<_>>())
}

fn live_on(s: &State, n: u32) -> Vec<Instance> {
    s.instances.on(&w(n)).filter(|i| i.life.is_live()).cloned().collect()
}

#[test]
fn a_worker_is_removed_only_when_it_is_lost_and_nothing_on_it_counts() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    assert!(t.no(removed(9, false)).contains("worker w9 does not exist"));
    let said = t.no(removed(1, true));
    assert!(said.contains("w1 is heard of and cannot be removed: stop its agent first"), "{said}");
    lost(&mut t, 1);
    let said = t.no(removed(1, false));
    assert!(
        said.contains("2 instances on worker w1 still count (production/shop)") && said.contains("--gone"),
        "{said}"
    );
    t.pass(Period::minutes(11));
    t.ok(Command::CountedOut(CountedOut { deployment: shop(), worker: w(1) }));
    t.ok(removed(1, false));
    assert!(live_on(t.s(), 1).is_empty() && !t.s().workers.contains_key(&w(1)));
    assert!(t.s().assignments.of_worker(&w(1)).next().is_none());
    assert!(t.no(removed(1, false)).contains("does not exist"), "two people remove it");
    assert!(t.no(Command::WorkerReturned(WorkerReturned { worker: w(1) })).contains("does not exist"));
    t.until("three workers are enough", |s| s.deployments[&shop()].desired == 6);
    t.completes("2.0.0", StrategyName::ROLLING);
}

#[test]
fn a_word_that_the_machine_is_gone_is_enough_and_a_live_rollout_is_not_robbed() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::CANARY).unwrap();
    lost(&mut t, 1);
    // Nothing is compiled yet, so nothing counts on it: the one who removes comes first.
    let mut other = Story(t.0.clone());
    other.ok(removed(1, true));
    other.until("completion", |s| s.deployments[&shop()].live.is_none());
    // The one who starts comes first.
    t.ok(Command::WorkerReturned(WorkerReturned { worker: w(1) }));
    t.until("steps", |s| s.live_rollout(&shop()).is_some_and(|r| !r.order.is_empty()));
    lost(&mut t, 1);
    let said = t.no(removed(1, true));
    assert!(
        said.contains("of production/shop counts on worker w1: wait for its end, or `slipway rollout abort r-"),
        "{said}"
    );
}

#[test]
fn who_comes_under_a_removed_workers_name_or_with_its_addresses_begins_above_it() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.until("reports", |s| s.workers[&w(1)].report.0 > 0);
    let before = t.s().workers[&w(1)].clone();
    lost(&mut t, 1);
    t.ok(removed(1, true));
    let index = t.s().applied.index;
    assert!(t.no(registers(9, 9, 2)).contains("in the pool of worker w2"));
    t.ok(registers(1, 9, 1));
    let row = &t.s().workers[&w(1)];
    assert!(row.set_generation >= before.set_generation && row.report > (before.report.0, u64::MAX));
    // No server has served the removal: nobody gets an address that one of them may still name.
    assert!(row.pool.values().all(|slot| *slot == PoolSlot::Free { since: index, last: None }), "{:?}", row.pool);
    assert!(slipway::state::free_addresses(t.s(), row, &shop()).is_empty());
    t.ok(Command::ViewsServed(ViewsServed { served: (1..=3).map(|n| (n, index)).collect() }));
    assert_eq!(slipway::state::free_addresses(t.s(), &t.s().workers[&w(1)], &shop()).len(), 6);
    // The old machine's late word is below.
    let late = slipway::state::WorkerFacts {
        worker: w(1),
        epoch: before.report.0,
        seq: before.report.1 + 9,
        instances: Vec::new(),
        reached: Vec::new(),
        staged: Some(Vec::new()),
    };
    assert!(t.no(Command::FactsRecorded(FactsRecorded { workers: vec![late] })).contains("no report is newer"));
}

#[test]
fn an_address_that_was_given_up_comes_back_only_when_no_server_names_who_had_it() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.completes("2.0.0", StrategyName::ROLLING);
    let of = |t: &Story| t.s().workers[&w(1)].pool.clone();
    let freed = |slot: &PoolSlot| matches!(slot, PoolSlot::Free { since, .. } if *since > 0);
    t.until("an address is freed", |s| s.workers[&w(1)].pool.values().any(freed));
    let (address, PoolSlot::Free { since, .. }) =
        of(&t).as_ref().clone().into_iter().find(|(_, slot)| freed(slot)).unwrap()
    else {
        panic!("it is free")
    };
    for n in 1..=3 {
        let mut node = t.s().nodes[&n].clone();
        node.served = since - 1;
        t.0.state.nodes.insert(n, node);
    }
    let without: Vec<String> = pool(1).into_iter().filter(|a| a != &address).collect();
    t.ok(worker("w1", 1, &without.iter().map(String::as_str).collect::<Vec<_>>()));
    t.ok(registers(1, 1, 1));
    assert_eq!(of(&t)[&address], PoolSlot::Free { since, last: None });
}

#[test]
fn a_machine_with_a_new_disk_takes_its_name_over_within_the_time_and_the_old_one_is_refused() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.until("reports", |s| s.workers[&w(1)].report.0 > 0);
    let hour = Period::minutes(60);
    assert!(t.no(rekey(1, hour)).contains("is heard of and cannot be given another key"));
    assert!(t.no(rekey(9, hour)).contains("does not exist"));
    lost(&mut t, 1);
    for within in [Period(0), Period::seconds(59), Period::minutes(60 * 24 * 8)] {
        assert!(t.no(rekey(1, within)).contains("is not from 1m to 168h"));
    }
    assert!(t.no(registers(1, 9, 1)).contains("slipway worker rekey w1"));
    t.ok(rekey(1, Period::minutes(1)));
    t.pass(Period::seconds(61));
    assert!(t.no(registers(1, 9, 1)).contains("taken by another machine"), "its time is over");
    t.ok(rekey(1, hour));
    t.ok(Command::WorkerReturned(WorkerReturned { worker: w(1) }));
    lost(&mut t, 1);
    assert!(t.no(registers(1, 9, 1)).contains("taken by another machine"), "the old machine was here meanwhile");

    let (before, had) = (t.s().workers[&w(1)].clone(), live_on(t.s(), 1));
    t.ok(rekey(1, hour));
    t.ok(registers(1, 9, 1));
    let row = t.s().workers[&w(1)].clone();
    assert_eq!(row.key, format!("{:064x}", 9));
    assert_eq!((&row.pool, row.rekey_until, row.staged.len()), (&before.pool, None, 0));
    assert!(row.report > (before.report.0, u64::MAX) && row.set_generation >= before.set_generation);
    let now = live_on(t.s(), 1);
    assert_eq!(now.iter().map(|i| i.id).collect::<Vec<_>>(), had.iter().map(|i| i.id).collect::<Vec<_>>());
    assert!(now.iter().all(|i| i.health == Health::Unknown), "nobody has seen them pass on this machine");
    assert!(t.no(registers(1, 1, 1)).contains("taken by another machine"), "the old key is refused");
    t.ok(Command::WorkerReturned(WorkerReturned { worker: w(1) }));
    t.until("it serves again", |s| slipway::state::passing(s, &shop(), &had[0].pair) == 8);
    t.completes("2.0.0", StrategyName::ROLLING);
}

#[test]
fn what_made_room_on_the_old_machine_has_ended_and_who_waited_for_its_place_begins() {
    let mut t = Story::new();
    let mut spec = t.s().specs.values().next_back().unwrap().clone();
    (spec.address, spec.placement.per_worker) = (AddressMode::Host, 1);
    t.ok(Command::SpecApplied(SpecApplied { spec, expected: Some(1) }));
    t.completes("1.0.0", StrategyName::DIRECT);
    let mut s = start(t.s(), "2.0.0", StrategyName::ROLLING);
    s.overrides.max_unavailable = Some(Portion::count(1));
    t.ok(Command::StartRollout(s));
    t.until("one stops", |s| s.instances.values().any(|i| i.life == Life::Draining));
    let old = t.s().instances.values().find(|i| i.life == Life::Draining).unwrap().clone();
    let n = (1..=4).find(|n| w(*n) == old.worker).unwrap();
    let next = t.s().instances.values().find(|i| i.replaces == Some(old.id)).unwrap().id;
    lost(&mut t, n);
    t.ok(rekey(n, Period::minutes(5)));
    t.ok(registers(n, 9, 9));
    assert_eq!(t.s().instances[&old.id].life, Life::Gone);
    let told = |id| t.s().assignments[&(w(n), shop())].content.instances.iter().any(|e| e.id == id);
    assert!(told(next) && !told(old.id));
}
