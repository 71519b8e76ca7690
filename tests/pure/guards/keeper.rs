//! What the keeper asks for between rollouts, bent in one thing: it is refused with its reason and changes nothing
//! (`Story::try_`). As it was asked for it is taken.

use slipway::model::InstanceId;
use slipway::state::{InstanceFact, WorkerFacts, command::ArmAdjusted};

use super::*;

fn keeps(c: &Command) -> Option<ArmAdjusted> {
    if let Command::ArmAdjusted(a) = c { Some(a.clone()) } else { None }
}

fn lose(t: &mut Story, n: u32) {
    let (worker, last_heard) = (WorkerName::new(&format!("w{n}")).unwrap(), t.s().now);
    t.ok(Command::WorkerLost(WorkerLost { worker, last_heard }));
}

fn seen(t: &Story) -> u64 {
    t.s().deployments[&shop()].meta.revision
}

/// Eight of 1.0.0 run, and one has failed.
fn short_of_one() -> Story {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let i = t.s().instances.values().find(|i| i.life == Life::Running).unwrap().clone();
    let (epoch, seq) = t.s().workers[&i.worker].report;
    let failed =
        InstanceFact { id: i.id, life: Life::Failed, health: Health::Unknown, failures: 0, restarts: 0, exit: None };
    t.ok(Command::FactsRecorded(FactsRecorded {
        workers: vec![WorkerFacts {
            worker: i.worker,
            epoch,
            seq: seq + 1,
            instances: vec![failed],
            reached: Vec::new(),
            staged: None,
        }],
    }));
    t
}

#[test]
fn an_adjustment_with_one_thing_wrong_is_refused_by_what_is_wrong() {
    let mut t = short_of_one();
    let good = t.asked("the missing one", keeps);
    let (what, worker, _) = good.add[0].clone();
    let limit = t.s().cluster.as_ref().unwrap().settings.limits.instances_per_deployment;
    let one = t.s().instances.values().find(|i| i.life == Life::Running).unwrap().id;
    let nobody = InstanceId { index: 9999, ordinal: 0 };
    let with = |edit: &dyn Fn(&mut ArmAdjusted)| {
        let mut bent = good.clone();
        edit(&mut bent);
        Command::ArmAdjusted(bent)
    };
    for (bent, says) in [
        (with(&|a| a.seen -= 1), "stale: it saw revision"),
        (with(&|a| a.deployment = "production/till".parse().unwrap()), "till does not exist"),
        (with(&|a| a.add[0].2 = 1001), "1001 new instances and 8 desired are over 1000"),
        (
            with(&|a| a.add = vec![(what, worker.clone(), u32::MAX), (what, worker.clone(), 1)]),
            "4294967295 new instances",
        ),
        (with(&|a| a.desired = limit + 1), "desired are over 1000"),
        (with(&|a| a.add[0].1 = WorkerName::new("w9").unwrap()), "worker w9 is unknown or lost"),
        (with(&|a| a.drain = vec![nobody]), "is no instance of production/shop"),
        // One comes and one goes: then there are as few as before.
        (with(&|a| a.drain = vec![one]), "7 of 8 stable instances would be left"),
        (with(&|a| a.drop = vec![what]), "is never dropped"),
        (with(&|a| a.drop = vec![Role::Previous]), "there is no"),
    ] {
        t.refuses(bent, says);
    }
    let mut other = Story(t.0.clone());
    lose(&mut other, worker.as_str()[1..].parse().unwrap());
    let on_lost = ArmAdjusted { seen: seen(&other), ..good.clone() };
    other.refuses(Command::ArmAdjusted(on_lost), &format!("worker {worker} is unknown or lost"));
    let mut other = Story(t.0.clone());
    other.start("2.0.0", StrategyName::CANARY).unwrap();
    let owned = ArmAdjusted { seen: seen(&other), ..good.clone() };
    other.refuses(Command::ArmAdjusted(owned), "owns production/shop");
    t.ok(Command::ArmAdjusted(good));
}

#[test]
fn what_still_runs_or_has_traffic_is_not_forgotten() {
    let nothing = |t: &Story| ArmAdjusted {
        deployment: shop(),
        seen: seen(t),
        add: Vec::new(),
        drain: Vec::new(),
        desired: t.s().deployments[&shop()].desired,
        drop: Vec::new(),
    };
    let mut t = short_of_one();
    t.completes("2.0.0", StrategyName::BLUE_GREEN);
    let early = ArmAdjusted { drop: vec![Role::Previous], ..nothing(&t) };
    t.refuses(Command::ArmAdjusted(early), "are still there");
    let over = t.asked("the old version's end", |c| keeps(c).filter(|a| !a.drop.is_empty()));
    t.ok(Command::ArmAdjusted(over));

    // A rollback that was ended where it stood: two versions share the traffic, although nobody hears of them any more.
    t.start("3.0.0", StrategyName::ROLLING).unwrap();
    t.until("past half", |s| s.deployments[&shop()].arms.weight(Role::Candidate).0 > 8000);
    let rollout = t.live().id;
    t.ok(Command::Rollback(Rollback { rollout }));
    t.ok(Command::Abort(Abort { rollout, as_is: true }));
    let w1 = WorkerName::new("w1").unwrap();
    let more = ArmAdjusted { add: vec![(Role::Previous, w1, 1)], ..nothing(&t) };
    t.refuses(Command::ArmAdjusted(more), "was given up by");
    (1..=4).for_each(|n| lose(&mut t, n));
    let gone = ArmAdjusted { drop: vec![Role::Previous], ..nothing(&t) };
    t.refuses(Command::ArmAdjusted(gone), "still has traffic");
}
