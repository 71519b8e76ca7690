//! A service that is stopped and started: its servers lag, its leader dies, and what it had comes back.

use std::collections::BTreeSet;

use slipway::model::{RolloutParams, StrategyName};
use slipway::state::{
    Role, RolloutStatus,
    command::{DeploymentStarted, DeploymentStopped},
};

use crate::sim_fleet::{Fleet, Shape, params};

/// Addresses of what lives.
fn addresses(f: &Fleet) -> BTreeSet<(String, String)> {
    let live = f.state.instances_of(&f.shop()).filter(|i| i.life.is_live());
    live.map(|i| (i.worker.to_string(), i.address.clone())).collect()
}

/// Two versions beside each other; n2 lags by seconds, the leader dies while they stop and while nothing runs.
pub fn stopped_and_started() -> Fleet {
    let mut f = Fleet::with_stable(&Shape { workers: 2, ttl: 1, ..Shape::default() });
    f.truth.on = true;
    let id = f.start("2.0.0", RolloutParams { smoke: None, ..params(StrategyName::BLUE_GREEN) });
    f.until_status(90, id, RolloutStatus::Completed);
    f.run(2);
    let (had, weights) = (addresses(&f), f.state.deployments[&f.shop()].arms.weights());
    assert_eq!(had.len(), 8, "2.0.0, and 1.0.0 kept beside it");
    f.note("n2 lags by 3 s");
    f.nodes.get_mut(&2).expect("n2").lag = (400, 3000);
    f.operator(DeploymentStopped { deployment: f.shop() }.into()).expect("stopped");
    f.run(1);
    f.change_leader(1000, 0);
    let live = |f: &Fleet| f.state.instances_of(&f.shop()).any(|i| i.life.is_live());
    f.until(60, "nothing of it lives", |f| !live(f));
    f.nodes.get_mut(&2).expect("n2").lag = (0, 0);
    let w1 = f.agents.keys().next().expect("w1").clone();
    f.restart_agent(&w1, 1000, false);
    f.change_leader(1000, 0);
    f.run(30);
    assert!(!live(&f), "what is stopped stays stopped");
    f.operator(DeploymentStarted { deployment: f.shop() }.into()).expect("started");
    f.until(60, "all of it serves", |f| {
        let serves = f.state.instances_of(&f.shop()).filter(|i| i.serves()).count();
        serves == 8 && f.state.deployments[&f.shop()].stop.is_none()
    });
    assert_eq!((addresses(&f), f.state.deployments[&f.shop()].arms.weights()), (had, weights));
    assert!(f.state.deployments[&f.shop()].arms.get(Role::Previous).is_some());
    f.run(2);
    f
}
