//! The invariants bite: States that a broken law would make are found by `check` and `check_step`, by the number of
//! what they break.

use std::sync::Arc;

use slipway::state::{Role, RolloutPhase, Worker};

use super::*;

/// A canary with half of the traffic, and the State before.
fn canary() -> Story {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::CANARY).unwrap();
    t.until("half of it", |s| s.deployments[&shop()].arms.weight(Role::Candidate).0 >= 5000);
    t
}

fn finds(before: &State, after: &State, what: &str) {
    let found = invariants::check(after).and_then(|()| invariants::check_step(before, after));
    assert!(found.clone().is_err_and(|e| e.contains(what)), "{what}: {found:?}");
}

/// The live rollout as somebody broke it.
fn with(t: &Story, edit: impl FnOnce(&mut slipway::state::Rollout)) -> State {
    let mut s = t.s().clone();
    let mut r = t.live().clone();
    edit(&mut r);
    r.meta.revision += 1;
    s.rollouts.insert(r.id, r);
    s
}

#[test]
fn moves_that_no_table_lists_are_found() {
    let mut t = canary();
    let found = with(&t, |r| r.status = RolloutStatus::Pending);
    finds(t.s(), &found, "went from active to pending");
    let step = t.live().cursor as usize;
    let found = with(&t, |r| r.steps[step - 1].status = StepStatus::Skipped);
    finds(t.s(), &found, "went from Passed to Skipped");
    let found = with(&t, |r| r.phase = RolloutPhase::Undo);
    finds(t.s(), &found, "7: ");
    let mut found = t.s().clone();
    let mut node = found.nodes[&3].clone();
    node.role = NodeRole::Learner;
    found.nodes.insert(3, node);
    finds(t.s(), &found, "node 3 went from Voter to Learner");
    let lives = |life: Life| {
        let mut s = t.s().clone();
        let mut i = s.instances.values().find(|i| i.life == Life::Running).unwrap().clone();
        i.life = life;
        s.instances.insert(i.id, i);
        s
    };
    finds(&lives(Life::Stopping), t.s(), "left the table of lives");
    // A rollback neither pauses nor goes forward.
    let id = t.live().id;
    t.ok(Command::Rollback(Rollback { rollout: id }));
    let found = with(&t, |r| r.status = RolloutStatus::Paused);
    finds(t.s(), &found, "7: ");
    let paused = found;
    let mut active = paused.clone();
    let mut r = active.rollouts[&id].clone();
    (r.status, r.meta.revision) = (RolloutStatus::Active, r.meta.revision + 1);
    active.rollouts.insert(id, r);
    finds(&paused, &active, "7: ");
    let found = with(&t, |r| (r.status, r.phase) = (RolloutStatus::Paused, RolloutPhase::Forward));
    finds(t.s(), &found, "7: ");
}

/// What serves, as its worker would tell.
fn failing(s: &mut State, of: usize, pair: &slipway::model::Pair) {
    let ids: Vec<_> = s.instances.values().filter(|i| i.serves() && &i.pair == pair).map(|i| i.id).take(of).collect();
    for id in ids {
        let mut i = s.instances[&id].clone();
        i.health = Health::Failing;
        s.instances.insert(id, i);
    }
}

#[test]
fn a_weight_above_what_passing_instances_carry_is_found() {
    let t = canary();
    // Three quarters were allowed by the step, and only half of the instances are there.
    let mut after = t.s().clone();
    let mut d = after.deployments[&shop()].clone();
    for (role, weight) in [(Role::Stable, BasisPoints(2500)), (Role::Candidate, BasisPoints(7500))] {
        let arm = d.arms.get_mut(role).unwrap();
        (arm.weight, arm.cap) = (weight, None);
    }
    d.route.as_mut().unwrap().generation.n = after.applied.index + 1;
    d.meta.revision += 1;
    after.deployments.insert(shop(), d);
    // Slots of keys follow the weights, which is another check's.
    let found = invariants::check_step(t.s(), &after);
    assert!(found.clone().is_err_and(|e| e.contains("11: ")), "{found:?}");
    // What falls is not what rises.
    let mut before = t.s().clone();
    failing(&mut before, 4, &t.live().to);
    assert_eq!(invariants::check_step(&before, t.s()), Ok(()));
}

#[test]
fn too_few_that_serve_and_too_many_that_run_in_a_rolling_update_are_found() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::ROLLING).unwrap();
    t.until("a batch", |s| {
        s.live_rollout(&shop()).and_then(|r| r.running()).is_some_and(|(_, row)| row.batch.is_some())
    });
    let (from, to) = (t.live().from.clone().unwrap(), t.live().to.clone());
    let mut after = t.s().clone();
    let serving = after.instances.values().filter(|i| i.serves() && i.pair == from).map(|i| i.id);
    let take: Vec<_> = serving.take(1 + t.live().params.unavailable(t.live().desired) as usize).collect();
    for id in take {
        let mut i = after.instances[&id].clone();
        i.life = Life::Draining;
        after.instances.insert(id, i);
    }
    finds(t.s(), &after, "12: ");
    // More than surge allows.
    let mut after = t.s().clone();
    let new = after.instances.values().find(|i| i.pair == to && i.life.is_live()).unwrap().clone();
    for ordinal in 0..t.live().params.surge(t.live().desired) + 1 {
        let mut i = new.clone();
        i.id = slipway::model::InstanceId { index: after.applied.index + 1, ordinal };
        i.address = format!("127.9.9.{ordinal}");
        i.life = Life::Starting;
        after.instances.insert(i.id, i);
    }
    finds(t.s(), &after, "12: ");
}

#[test]
fn an_address_that_goes_to_another_deployment_while_a_server_may_name_who_had_it_is_found() {
    let mut t = Story::new();
    let mut cart = t.s().specs.values().next_back().unwrap().clone();
    cart.deployment = "production/cart".parse().unwrap();
    t.ok(Command::SpecApplied(SpecApplied { spec: cart, expected: None }));
    t.completes("1.0.0", StrategyName::DIRECT);
    t.completes("2.0.0", StrategyName::ROLLING);
    let mut before = t.s().clone();
    let worker: Worker = before.workers.values().next().unwrap().clone();
    let freed = worker.pool.iter().find_map(|(a, slot)| match slot {
        PoolSlot::Free { since, .. } if *since > 0 => Some((a.clone(), *since)),
        PoolSlot::Free { .. } | PoolSlot::Used(_) => None,
    });
    let (address, since) = freed.unwrap();
    let mut node = before.nodes[&3].clone();
    node.served = since - 1;
    before.nodes.insert(3, node);
    let taken = |of: &str| {
        let mut after = before.clone();
        let mut i = after.instances.values().find(|i| i.worker == worker.name && i.serves()).unwrap().clone();
        (i.id.ordinal, i.deployment, i.address) = (i.id.ordinal + 100, of.parse().unwrap(), address.clone());
        let mut row = worker.clone();
        Arc::make_mut(&mut row.pool).insert(address.clone(), PoolSlot::Used(i.id));
        after.workers.insert(row.name.clone(), row);
        after.instances.insert(i.id, i);
        after
    };
    finds(&before, &taken("production/cart"), "may still name it");
    assert_eq!(invariants::check_step(&before, &taken("production/shop")), Ok(()), "its own may have it at once");
}
