//! Stories of DNS servers: switches with leases, rollbacks that are watched, slots of keys.

use slipway::state::Role;
use slipway::{
    model::{Period, StrategyName},
    state::{
        Command, RolloutStatus, SwitchAsk, SwitchTo, Unfenced, WaitLevel,
        command::{Rollback, SwitchAsked},
    },
};

use crate::sim_fleet::{Fleet, Shape, params};

/// A fenced switch in a rollout, a rollback that a silent server does not hold up, and a switch by hand.
pub fn fenced_switches() -> Fleet {
    let mut f = Fleet::with_stable(&Shape { workers: 2, ..Shape::default() });
    let id = f.start("2.0.0", params(StrategyName::BLUE_GREEN));
    f.until(90, "it monitors", |f| f.at(id, "bake", "monitor"));
    f.note("n3 falls silent");
    f.nodes.get_mut(&3).expect("n3").alive = false;
    f.operator(Command::Rollback(Rollback { rollout: id })).expect("rolled back");
    f.run(70);
    f.note("n3 is heard again");
    f.nodes.get_mut(&3).expect("n3").alive = true;
    let id = f.start("3.0.0", params(StrategyName::BLUE_GREEN));
    f.until_status(90, id, RolloutStatus::Completed);
    f.run(2);
    let ask = SwitchAsk {
        deployments: vec![f.shop()],
        to: SwitchTo::Previous,
        wait: WaitLevel::Caches,
        unfenced: Unfenced::TakeBack,
        within: Period::seconds(4),
    };
    f.operator(Command::SwitchAsked(SwitchAsked { ask })).expect("asked");
    f.run(5);
    f
}

/// A canary that is rolled back in its second step, by the servers' words.
pub fn canary_slots() -> Fleet {
    let mut f = Fleet::with_stable(&Shape { workers: 2, ..Shape::default() });
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    let share = |f: &Fleet| f.state.deployments[&f.shop()].arms.weight(Role::Candidate).0;
    f.until(90, "half of it is out", |f| share(f) >= 2500);
    assert!(!f.state.slots.is_empty());
    f.operator(Command::Rollback(Rollback { rollout: id })).expect("rolled back");
    f.until_status(60, id, RolloutStatus::RolledBack);
    assert!(f.state.slots.is_empty());
    f
}
