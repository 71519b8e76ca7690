//! Several deployments in one switch: they move in one entry or none of them does, whichever of them cannot, and
//! whenever that is found out; while it is under way nothing else moves the traffic of any of them.

use slipway::model::{DeploymentId, Health, InstanceId, Life, RolloutParams};
use slipway::state::{
    Deployment, Role, StartRollout, Weights,
    command::{Abort, ArmAdjusted, FactsRecorded},
};

use super::*;
use crate::sim_fleet::cart;

const SHAPE: fn() -> Shape = || Shape { workers: 2, per_worker: 1, pool: 8, ..Shape::default() };

/// `shop` and `cart` each at 2.0.0 with 1.0.0 beside it, on the same workers.
fn two() -> Fleet {
    let mut f = Fleet::with_stable(&SHAPE());
    f.add_cart(&Shape { metrics: false, ..SHAPE() });
    let id = f.start_of(cart(), "1.0.0", params(StrategyName::DIRECT));
    f.until_status(90, id, RolloutStatus::Completed);
    for d in [f.shop(), cart()] {
        let id = f.start_of(d, "2.0.0", params(StrategyName::BLUE_GREEN));
        f.until_status(90, id, RolloutStatus::Completed);
    }
    f.run(2);
    f.transcript.clear();
    f
}

fn both_of(f: &Fleet, wait: WaitLevel, unfenced: Unfenced) -> Command {
    let deployments = vec![f.shop(), cart()];
    let ask = SwitchAsk { deployments, to: SwitchTo::Previous, wait, unfenced, within: Period::seconds(4) };
    Command::SwitchAsked(SwitchAsked { ask })
}

/// What of a deployment a switch moves.
fn traffic(f: &Fleet, id: &DeploymentId) -> (String, Weights, u64) {
    let d = &f.state.deployments[id];
    let route = d.route.as_ref().unwrap();
    (d.arms.pair(Role::Stable).unwrap().version.to_string(), d.arms.weights(), route.generation.n)
}

fn traffics(f: &Fleet) -> [(String, Weights, u64); 2] {
    [traffic(f, &f.shop()), traffic(f, &cart())]
}

fn versions(f: &Fleet) -> [String; 2] {
    traffics(f).map(|(version, ..)| version)
}

/// Refused by name, and nothing of either deployment is another one.
fn nothing_moves(f: &mut Fleet, body: Command, says: &str) {
    let (before, switches) = (traffics(f), f.state.fences.clone());
    refused(f, body, says);
    assert_eq!(before, traffics(f), "{says}");
    assert_eq!(switches, f.state.fences, "{says}");
}

/// One instance of cart 1.0.0, to which the switch is to go.
fn one_of_carts_target(f: &Fleet) -> InstanceId {
    let is = |i: &&slipway::state::Instance| {
        i.deployment == cart() && i.pair.version == version("1.0.0") && i.life == Life::Running
    };
    f.state.instances.values().find(is).unwrap().id
}

/// Its worker says that it fails its checks; the planner has not looked yet.
fn unready(f: &mut Fleet, id: InstanceId) {
    let worker = f.state.instances[&id].worker.clone();
    let (epoch, seq) = f.state.workers[&worker].report;
    let fact = slipway::state::InstanceFact {
        id,
        life: Life::Running,
        health: Health::Failing,
        failures: 9,
        restarts: 0,
        exit: None,
    };
    let facts = slipway::state::WorkerFacts {
        worker,
        epoch,
        seq: seq + 1,
        instances: vec![fact],
        reached: Vec::new(),
        staged: None,
    };
    f.must(Command::FactsRecorded(FactsRecorded { workers: vec![facts] }));
}

/// Under way: n3 says nothing, so it waits.
fn under_way(f: &mut Fleet, unfenced: Unfenced) -> u64 {
    f.nodes.get_mut(&3).unwrap().alive = false;
    let body = both_of(f, WaitLevel::Fenced, unfenced);
    let id = f.commit(body).unwrap();
    assert_eq!(f.state.fences.armed.len(), 2);
    id
}

#[test]
fn two_deployments_move_in_one_entry_and_back_in_one_entry() {
    let mut f = two();
    let body = both_of(&f, WaitLevel::Fenced, Unfenced::TakeBack);
    let id = f.operator(body).unwrap();
    assert!(ends(&mut f, id).fenced_at.is_some());
    let (moved, _) = row(&f, id).moved.unwrap();
    assert_eq!(versions(&f), ["1.0.0", "1.0.0"]);
    assert!(traffics(&f).iter().all(|(_, _, generation)| *generation == moved), "{:?}", traffics(&f));
    f.run(3);
    let body = ask(&f, SwitchTo::Back(id), WaitLevel::Fenced, Unfenced::TakeBack);
    let back = f.operator(body).unwrap();
    ends(&mut f, back);
    let (moved, _) = row(&f, back).moved.unwrap();
    assert_eq!(versions(&f), ["2.0.0", "2.0.0"]);
    assert!(traffics(&f).iter().all(|(_, _, generation)| *generation == moved), "{:?}", traffics(&f));
}

#[test]
fn a_second_target_that_cannot_be_switched_is_named_and_nothing_is_asked_of_the_first() {
    for wait in [WaitLevel::Quorum, WaitLevel::Fenced, WaitLevel::Caches] {
        // Unready.
        let mut f = two();
        let one = one_of_carts_target(&f);
        unready(&mut f, one);
        let body = both_of(&f, wait, Unfenced::Proceed);
        nothing_moves(&mut f, body, "1 of 2 instances of production/cart 1.0.0 pass");
        // Busy with a rollout.
        let mut f = two();
        let id = f.start_of(cart(), "3.0.0", params(StrategyName::ROLLING));
        let body = both_of(&f, wait, Unfenced::Proceed);
        nothing_moves(&mut f, body, &format!("{id} is still running on it"));
        // Busy with a switch of its own.
        let mut f = two();
        f.nodes.get_mut(&3).unwrap().alive = false;
        let (to, within) = (SwitchTo::Previous, Period::seconds(4));
        let own =
            SwitchAsk { deployments: vec![cart()], to, wait: WaitLevel::Fenced, unfenced: Unfenced::Proceed, within };
        let id = f.commit(Command::SwitchAsked(SwitchAsked { ask: own })).unwrap();
        let body = both_of(&f, wait, Unfenced::Proceed);
        nothing_moves(&mut f, body, &format!("production/cart is being switched (s-{id})"));
        // Nothing beside its stable version any more.
        let mut f = two();
        let ask = SwitchAsk {
            deployments: vec![f.shop(), cart()],
            to: SwitchTo::Version(version("4.0.0")),
            wait,
            unfenced: Unfenced::Proceed,
            within: Period::seconds(4),
        };
        nothing_moves(&mut f, Command::SwitchAsked(SwitchAsked { ask: ask.clone() }), "production/shop has no 4.0.0");
        let nobody = SwitchAsk { deployments: vec![f.shop(), "production/till".parse().unwrap()], ..ask.clone() };
        nothing_moves(
            &mut f,
            Command::SwitchAsked(SwitchAsked { ask: SwitchAsk { to: SwitchTo::Previous, ..nobody } }),
            "production/till does not exist",
        );
        let twice = SwitchAsk { deployments: vec![f.shop(), f.shop()], to: SwitchTo::Previous, ..ask.clone() };
        nothing_moves(&mut f, Command::SwitchAsked(SwitchAsked { ask: twice }), "name 1 to 64 deployments, each once");
        let none = SwitchAsk { deployments: Vec::new(), to: SwitchTo::Previous, ..ask };
        nothing_moves(&mut f, Command::SwitchAsked(SwitchAsked { ask: none }), "name 1 to 64 deployments, each once");
    }
}

#[test]
fn a_second_target_that_becomes_unready_between_asking_and_moving_takes_the_whole_switch_back() {
    for unfenced in [Unfenced::Proceed, Unfenced::TakeBack] {
        let mut f = two();
        let id = under_way(&mut f, unfenced);
        let before = traffics(&f);
        let one = one_of_carts_target(&f);
        unready(&mut f, one);
        // A move that another leader had planned before comes now: the law looks at the second target too.
        f.nodes.get_mut(&3).unwrap().alive = true;
        let served = [1, 2, 3].map(|n| (n, id)).to_vec();
        let seen = row(&f, id).revision;
        let moves = Command::SwitchMoved(SwitchMoved { switch: id, seen, served });
        nothing_moves(&mut f, moves, "1 of 2 instances of production/cart 1.0.0 pass");
        // And the planner gives it up as a whole, whatever was asked for about servers.
        f.kill(one);
        f.step();
        let end = row(&f, id).end.unwrap();
        assert!(!end.switched && end.note.contains("1 of 2 instances of production/cart 1.0.0"), "{end:?}");
        assert_eq!((before, f.state.fences.armed.len()), (traffics(&f), 0));
    }
}

#[test]
fn a_switch_back_whose_second_target_is_unready_moves_nothing() {
    let mut f = two();
    let body = both_of(&f, WaitLevel::Fenced, Unfenced::Proceed);
    let id = f.operator(body).unwrap();
    ends(&mut f, id);
    let old = f.state.instances.values().find(|i| i.deployment == cart() && i.pair.version == version("2.0.0"));
    let old = old.filter(|i| i.life == Life::Running).unwrap().id;
    unready(&mut f, old);
    let back = ask(&f, SwitchTo::Back(id), WaitLevel::Fenced, Unfenced::Proceed);
    nothing_moves(&mut f, back, "1 of 2 instances of production/cart 2.0.0 pass");
    // Once it passes again both go back.
    f.run(3);
    let back = ask(&f, SwitchTo::Back(id), WaitLevel::Fenced, Unfenced::Proceed);
    let back = f.operator(back).unwrap();
    ends(&mut f, back);
    assert_eq!(versions(&f), ["2.0.0", "2.0.0"]);
}

#[test]
fn nothing_else_moves_the_second_deployments_traffic_while_a_switch_is_under_way() {
    let mut f = two();
    let id = under_way(&mut f, Unfenced::Proceed);
    for of in [f.shop(), cart()] {
        let says = format!("{of} is being switched (s-{id})");
        let d: Deployment = f.state.deployments[&of].clone();
        let start = |params: RolloutParams, version_to: &str, replace| {
            StartRollout { replace, ..starting(of.clone(), version_to, params) }.into()
        };
        nothing_moves(&mut f, start(params(StrategyName::ROLLING), "3.0.0", false), &says);
        nothing_moves(&mut f, start(params(StrategyName::DIRECT), "3.0.0", true), &says);
        let last = d.last.unwrap();
        nothing_moves(&mut f, Command::Rollback(Rollback { rollout: last }), &says);
        let adjust = |add, drain, drop| {
            let (deployment, seen, desired) = (of.clone(), d.meta.revision, d.desired);
            Command::ArmAdjusted(ArmAdjusted { deployment, seen, add, drain, desired, drop })
        };
        nothing_moves(&mut f, adjust(Vec::new(), Vec::new(), vec![Role::Previous]), &says);
        let previous = d.arms.pair(Role::Previous).unwrap().clone();
        let target = f.state.instances_of(&of).find(|i| i.pair == previous && i.life == Life::Running).unwrap().id;
        nothing_moves(&mut f, adjust(Vec::new(), vec![target], Vec::new()), &says);
        nothing_moves(
            &mut f,
            Command::ExpirySet(ExpirySet { deployment: of.clone(), on_expiry: Some(OnExpiry::Fail) }),
            &says,
        );
        let (to, within) = (SwitchTo::Previous, Period::seconds(1));
        let own = SwitchAsk {
            deployments: vec![of.clone()],
            to,
            wait: WaitLevel::Quorum,
            unfenced: Unfenced::Proceed,
            within,
        };
        nothing_moves(&mut f, Command::SwitchAsked(SwitchAsked { ask: own }), &says);
        nothing_moves(&mut f, Command::Abort(Abort { rollout: last, as_is: true }), "it cannot be ended as it is");
    }
    // The keeper leaves both alone: what a new worker lacks is added when the switch is over.
    f.add_worker(3);
    f.step();
    assert!(row(&f, id).end.is_none() && f.state.assignments.iter().all(|((w, _), _)| w.as_str() != "w3"));
    let end = ends(&mut f, id);
    assert!(end.switched, "{end:?}");
    assert_eq!(versions(&f), ["1.0.0", "1.0.0"]);
    f.until(30, "w3 has its own", |f| f.state.assignments.iter().any(|((w, _), _)| w.as_str() == "w3"));
}
