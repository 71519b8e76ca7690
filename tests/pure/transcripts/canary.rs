//! Stories of canaries.

use slipway::model::{BasisPoints, RolloutParams};
use slipway::state::Role;

use super::*;

pub fn canary_happy() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    f.until_status(300, id, RolloutStatus::Completed);
    f.run(3);
    f
}

pub fn canary_errors() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    f.behaviour.insert("2.0.0".into(), Behaviour { errors: 1000, ..Behaviour::default() });
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    f.until_status(300, id, RolloutStatus::RolledBack);
    f
}

pub fn canary_health() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    f.behaviour.insert("2.0.0".into(), Behaviour { fails_after: Some(6000), ..Behaviour::default() });
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    f.until_status(300, id, RolloutStatus::RolledBack);
    f
}

pub fn canary_verbs() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    f.until(60, "bake 10 %", |f| f.at(id, "bake", "10 %"));
    f.run(4);
    f.operator(Command::Pause(Pause { rollout: id })).expect("paused");
    f.run(30);
    assert_eq!(f.status(id), RolloutStatus::Paused);
    f.operator(Command::Resume(Resume { rollout: id })).expect("resumed");
    f.until(60, "bake 25 %", |f| f.at(id, "bake", "25 %"));
    f.operator(Command::Promote(Promote { rollout: id, full: false })).expect("the bake is skipped");
    f.until(60, "bake 50 %", |f| f.at(id, "bake", "50 %"));
    f.operator(Command::Promote(Promote { rollout: id, full: true })).expect("promoted");
    f.until_status(120, id, RolloutStatus::Completed);
    f
}

/// It stays at half of the traffic for an hour, over a failover, until somebody promotes it.
pub fn canary_held() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", held());
    f.until(90, "the pause", |f| f.at(id, "pause", "100 %"));
    f.change_leader(1500, 0);
    f.run(3600);
    assert!(f.at(id, "pause", "100 %") && f.status(id) == RolloutStatus::Active);
    assert_eq!(f.state.deployments[&f.shop()].arms.weight(Role::Candidate), BasisPoints::percent(50));
    f.operator(Command::Promote(Promote { rollout: id, full: false })).expect("promoted");
    f.until_status(120, id, RolloutStatus::Completed);
    f
}

/// What is held is judged, by all that came since: when it starts to fail an hour later it goes back.
pub fn canary_held_errors() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", held());
    f.until(90, "the pause", |f| f.at(id, "pause", "100 %"));
    f.run(3600);
    f.note("every request fails");
    f.behaviour.insert("2.0.0".into(), Behaviour { errors: 10_000, ..Behaviour::default() });
    f.until_status(300, id, RolloutStatus::RolledBack);
    let reason = f.state.rollouts[&id].reason.as_ref().map(|r| r.label());
    assert_eq!(reason, Some("error_rate"));
    f
}

fn held() -> RolloutParams {
    RolloutParams { steps: vec![BasisPoints::percent(50)], auto_promote: false, ..params(StrategyName::CANARY) }
}

pub fn canary_abort() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    f.until(60, "bake 25 %", |f| f.at(id, "bake", "25 %"));
    f.operator(Command::Abort(Abort { rollout: id, as_is: false })).expect("aborted");
    f.run(20);
    f.note("an hour later the keeper retires what was kept");
    f.run(3600);
    f
}

pub fn stopping(f: &Fleet) -> bool {
    f.state.instances.values().any(|i| i.life == slipway::model::Life::Stopping)
}

pub fn canary_rollback() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    f.until(90, "bake 50 %", |f| f.at(id, "bake", "50 %"));
    f.operator(Command::Rollback(Rollback { rollout: id })).expect("rolled back");
    f.until_status(60, id, RolloutStatus::RolledBack);
    f.note("again, without a grace; this time it is turned back while the old ones retire");
    let id = f.start("2.0.0", at_once(StrategyName::CANARY));
    f.until(200, "promoting", |f| f.status(id) == RolloutStatus::Promoting && f.at(id, "retire", "retire"));
    f.until(20, "the old ones stop", stopping);
    f.operator(Command::Rollback(Rollback { rollout: id })).expect("rolled back");
    f.until_status(90, id, RolloutStatus::RolledBack);
    f
}

pub fn canary_host() -> Fleet {
    let mut f = Fleet::with_stable(&Shape { host: true, ..Shape::default() });
    let p = RolloutParams { max_unavailable: slipway::model::Portion::count(1), ..params(StrategyName::CANARY) };
    let id = f.start("2.0.0", p.clone());
    f.until(90, "bake 50 %", |f| f.at(id, "bake", "50 %"));
    f.operator(Command::Rollback(Rollback { rollout: id })).expect("rolled back");
    f.until_status(90, id, RolloutStatus::RolledBack);
    f.note("again, to the end");
    let id = f.start("2.0.0", p);
    f.until_status(300, id, RolloutStatus::Completed);
    f
}

/// Length of a bake's present run so far, in cluster time, from its start to its end.
pub fn bakes(f: &Fleet, id: RolloutId) -> Vec<(String, Period)> {
    let rows = f.state.rollouts[&id].steps.iter().filter(|s| s.step.kind.name() == "bake");
    rows.map(|s| (s.step.group.clone(), s.ended_at.unwrap_or_default().since(s.started_at.unwrap_or_default())))
        .collect()
}

pub fn canary_leader_changes() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    for (n, group) in ["10 %", "25 %", "50 %", "100 %"].into_iter().enumerate() {
        f.until(90, group, |f| f.at(id, "bake", group));
        f.run(4);
        let until = f.state.rollouts[&id].running().expect("a bake").1.until;
        // Each new leader's wall clock is an hour further off; half of them run ahead.
        let skew = if n % 2 == 0 { 3_600_000 * (n as u64 + 1) } else { 0 };
        f.change_leader(900, skew);
        let now = f.state.rollouts[&id].running().expect("the same bake").1.until;
        assert_eq!(until, now, "{group}: the bake neither starts again nor is cut");
    }
    f.until_status(120, id, RolloutStatus::Completed);
    for (group, held) in bakes(&f, id) {
        assert!(held >= Period::seconds(10), "{group} was cut to {held}");
        assert!(held <= Period(10_000 + 2000 + 500), "{group} took {held}");
    }
    let attempts: Vec<u32> = f.state.rollouts[&id].steps.iter().map(|s| s.attempt).collect();
    assert!(attempts.iter().all(|a| *a <= 1), "no step is repeated: {attempts:?}");
    f
}

pub fn canary_no_data() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    f.rate = 0;
    let p = RolloutParams { steps: vec![BasisPoints::percent(50)], ..params(StrategyName::CANARY) };
    let id = f.start("2.0.0", p.clone());
    f.run(60);
    assert!(f.at(id, "bake", "50 %"), "silence is never health: it holds");
    f.note("traffic comes");
    f.rate = 200;
    f.until(30, "bake 100 %", |f| f.at(id, "bake", "100 %"));
    f.operator(Command::Rollback(Rollback { rollout: id })).expect("rolled back");
    f.until_status(60, id, RolloutStatus::RolledBack);
    f.note("on_no_data: fail");
    f.rate = 0;
    let id = f.start("2.0.0", RolloutParams { on_no_data: Some(OnNoData::Fail), ..p.clone() });
    f.until_status(90, id, RolloutStatus::RolledBack);
    f.note("on_no_data: pass");
    let id = f.start("2.0.0", RolloutParams { on_no_data: Some(OnNoData::Pass), ..p });
    f.until_status(120, id, RolloutStatus::Completed);
    f
}
