//! Stories of rollbacks that do not go smoothly.

use slipway::model::{Portion, RolloutParams, StrategyName};
use slipway::state::{
    Command, Role, RolloutStatus,
    command::{Abort, Rollback},
};

use super::{at_once, canary::stopping};
use crate::sim_fleet::{Behaviour, Fleet, Shape, params};

/// In place and three at a time: past half it goes back as it came, three at a time.
pub fn rolling_in_place_pool() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let p = RolloutParams {
        parallelism: Portion::count(3),
        max_surge: Portion::count(0),
        max_unavailable: Portion::count(3),
        ..params(StrategyName::ROLLING)
    };
    let id = f.start("2.0.0", p);
    let share = |f: &Fleet| f.state.deployments[&f.shop()].arms.weight(Role::Candidate).0;
    f.until(120, "six of eight are replaced", |f| share(f) >= 7500);
    f.operator(Command::Rollback(Rollback { rollout: id })).expect("rolled back");
    f.until_status(120, id, RolloutStatus::RolledBack);
    f
}

/// A rollback goes on trying by itself, the traffic following what passes; and a person may end it where it stands.
pub fn undo_fails() -> Fleet {
    let mut f = Fleet::with_stable(&Shape { workers: 2, ..Shape::default() });
    let id = f.start("2.0.0", at_once(StrategyName::DIRECT));
    f.until(90, "the old ones retire", |f| f.at(id, "retire", "retire"));
    f.until(20, "the old ones stop", stopping);
    f.note("1.0.0 does not start any more on w2");
    let broken = Behaviour { exits_after: Some(500), only_on: ["w2".into()].into(), ..Behaviour::default() };
    f.behaviour.insert("1.0.0".into(), broken.clone());
    f.operator(Command::Rollback(Rollback { rollout: id })).expect("rolled back");
    f.run(30);
    assert_eq!(f.status(id), RolloutStatus::RollingBack, "it neither pauses nor turns");
    let share = |f: &Fleet| f.state.deployments[&f.shop()].arms.weight(Role::Stable).0;
    assert_eq!(share(&f), 5000, "half of it passes and has half of the traffic");
    f.note("it does again");
    f.behaviour.remove("1.0.0");
    f.until_status(120, id, RolloutStatus::RolledBack);
    f.note("again, and this time a person ends it where it stands");
    let id = f.start("2.0.0", at_once(StrategyName::DIRECT));
    f.until(90, "the old ones retire", |f| f.at(id, "retire", "retire"));
    f.until(20, "the old ones stop", stopping);
    f.behaviour.insert("1.0.0".into(), broken);
    f.operator(Command::Rollback(Rollback { rollout: id })).expect("rolled back");
    f.run(30);
    assert!(
        f.operator(Command::Abort(Abort { rollout: id, as_is: false })).is_err(),
        "traffic never goes to what was left"
    );
    f.operator(Command::Abort(Abort { rollout: id, as_is: true })).expect("ended as it is");
    f.run(30);
    assert_eq!(f.status(id), RolloutStatus::Aborted);
    f.note("the next rollout replaces both");
    let id = f.start("3.0.0", params(StrategyName::ROLLING));
    f.until_status(300, id, RolloutStatus::Completed);
    f.run(20);
    let d = &f.state.deployments[&f.shop()];
    assert!(d.as_is.is_none() && d.arms.get(Role::Candidate).is_none() && d.arms.get(Role::Previous).is_none());
    assert!(
        f.state
            .instances
            .values()
            .all(|i| !i.life.is_live() || i.pair == d.arms.get(Role::Stable).expect("a stable arm").pair)
    );
    f
}
