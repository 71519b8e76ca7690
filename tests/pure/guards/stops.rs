//! Stories of deployments that are stopped and started.

use std::collections::BTreeSet;

use slipway::model::Period;
use slipway::state::{
    Presence, SwitchAsk, SwitchTo, Unfenced, WaitLevel,
    command::{
        ArmAdjusted, DeploymentRemoved, DeploymentStarted, DeploymentStopped, ReleaseRemoved, SwitchAsked,
        WorkerRemoved,
    },
    free_addresses, port_user,
};

use super::*;

fn stop() -> Command {
    DeploymentStopped { deployment: shop() }.into()
}

fn go() -> Command {
    DeploymentStarted { deployment: shop() }.into()
}

fn live(s: &State) -> usize {
    s.instances_of(&shop()).filter(|i| i.life.is_live()).count()
}

fn serving_now(s: &State) -> usize {
    s.instances_of(&shop()).filter(|i| i.serves()).count()
}

/// Where what lives has its addresses.
fn addresses(s: &State) -> BTreeSet<(WorkerName, String)> {
    s.instances_of(&shop()).filter(|i| i.life.is_live()).map(|i| (i.worker.clone(), i.address.clone())).collect()
}

fn switch_to(to: SwitchTo) -> Command {
    let (deployments, within) = (vec![shop()], Period::seconds(5));
    let ask = SwitchAsk { deployments, to, wait: WaitLevel::Fenced, unfenced: Unfenced::TakeBack, within };
    SwitchAsked { ask }.into()
}

/// A rollout that keeps what it replaces for half an hour.
fn keeping(s: &State) -> Command {
    let mut command = start(s, "2.0.0", StrategyName::BLUE_GREEN);
    command.overrides.grace = Some(Period::minutes(30));
    Command::StartRollout(command)
}

/// 2.0.0 runs, 1.0.0 is kept beside it, and all of it was stopped; with the addresses that it had.
fn stopped() -> (Story, BTreeSet<(WorkerName, String)>) {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let command = keeping(t.s());
    t.ok(command);
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
    let had = addresses(t.s());
    assert_eq!(had.len(), 16);
    t.ok(stop());
    (t, had)
}

#[test]
fn all_of_a_stopped_deployment_drains_and_stays_stopped_and_comes_back_as_it_was() {
    let (mut t, had) = stopped();
    let before = t.s().deployments[&shop()].clone();
    assert!(t.s().instances_of(&shop()).all(|i| !i.life.is_wanted()), "out of DNS in this entry");
    assert!(t.s().instances_of(&shop()).any(|i| i.life == Life::Draining), "nothing stops before caches let go of it");
    t.ok(stop());
    assert_eq!(t.s().deployments[&shop()], before, "asked twice, done once");
    t.until("nothing lives", |s| live(s) == 0);
    for _ in 0..50 {
        for body in good_round(t.s()).0 {
            let _ = t.try_(body);
        }
    }
    let d = &t.s().deployments[&shop()];
    assert_eq!((live(t.s()), &d.arms, &d.route, d.desired), (0, &before.arms, &before.route, before.desired));
    assert!(serving(t.s(), &shop(), t.s().now).is_empty());
    t.ok(go());
    assert!(t.s().deployments[&shop()].is_starting());
    t.until("all of it serves", |s| serving_now(s) == 16 && s.deployments[&shop()].stop.is_none());
    let d = &t.s().deployments[&shop()];
    assert_eq!((addresses(t.s()), d.arms.weights(), &d.route), (had, before.arms.weights(), &before.route));
    let again = t.s().deployments.clone();
    t.ok(go());
    assert_eq!(t.s().deployments, again, "it is started already");
}

#[test]
fn what_would_move_a_stopped_deployment_is_refused_by_name_and_with_what_to_do() {
    let (mut t, _) = stopped();
    let first = "production/shop is stopped: `slipway service start production/shop` first";
    let rollout = t.s().deployments[&shop()].last.unwrap();
    let mut again = start(t.s(), "2.0.0", StrategyName::ROLLING);
    again.restart = true;
    for body in [
        Command::StartRollout(start(t.s(), "3.0.0", StrategyName::ROLLING)),
        Command::StartRollout(again),
        Command::Rollback(Rollback { rollout }),
        switch_to(SwitchTo::Previous),
    ] {
        t.refuses(body, first);
    }
    let by = Principal::local_operator();
    assert_eq!(slipway::engine::ways_out(t.s(), &by, &shop()), ["slipway service start production/shop"]);
    let add = vec![(Role::Stable, WorkerName::new("w1").unwrap(), 1)];
    let d = &t.s().deployments[&shop()];
    let (seen, desired) = (d.meta.revision, d.desired);
    let more = ArmAdjusted { deployment: shop(), seen, add, drain: Vec::new(), desired, drop: Vec::new() };
    t.refuses(more.into(), "is stopped: nothing of it is added");
    // What it comes back with stays, and so do its addresses.
    for (version, why) in
        [("1.0.0", "kept for a start of production/shop"), ("2.0.0", "is stopped and comes back with it")]
    {
        let remove = ReleaseRemoved { service: shop().service, version: version.parse().unwrap() };
        t.refuses(remove.into(), why);
    }
    t.until("nothing lives", |s| live(s) == 0);
    let w1 = WorkerName::new("w1").unwrap();
    t.ok(Command::WorkerLost(WorkerLost { worker: w1.clone(), last_heard: t.s().now }));
    let kept =
        "addresses of worker w1 are kept for what is stopped (production/shop): start it, or give the addresses up";
    t.refuses(WorkerRemoved { worker: w1.clone(), gone: false }.into(), kept);
    t.ok(WorkerRemoved { worker: w1, gone: true }.into());
    // A start is no rollout's end, and a removal is one of the stop.
    let mut other = Story(t.0.clone());
    other.ok(go());
    other.until("the three others serve", |s| serving_now(s) == 12 && s.deployments[&shop()].stop.is_none());
    t.ok(DeploymentRemoved { deployment: shop(), stop: false }.into());
    assert!(t.s().deployments.is_empty());
}

#[test]
fn a_stop_is_refused_while_something_moves_and_where_there_is_nothing_to_stop() {
    let mut t = Story::new();
    t.refuses(stop(), "no version of production/shop serves, so there is nothing to stop");
    t.refuses(go(), "no version of production/shop was rolled out: `slipway rollout start production/shop");
    t.completes("1.0.0", StrategyName::DIRECT);
    t.ok(go());
    let command = keeping(t.s());
    t.ok(command);
    let rollout = t.live().id;
    assert_eq!(t.try_(stop()), Err(Rejection::Busy { rollout }));
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
    t.ok(switch_to(SwitchTo::Previous));
    t.refuses(stop(), "production/shop is being switched");
    t.until("the switch is over", |s| s.fences.open().next().is_none());
    t.ok(stop());
    t.ok(DeploymentRemoved { deployment: shop(), stop: true }.into());
    assert!(t.s().deployments[&shop()].stop.is_none());
    for body in [stop(), go()] {
        t.refuses(body, "production/shop is being removed");
    }
}

#[test]
fn addresses_of_what_is_stopped_go_to_nobody_else_until_its_start_is_over() {
    let (mut t, had) = stopped();
    t.until("nothing lives", |s| live(s) == 0);
    let served = (1..=3).map(|n| (n, t.s().applied.index)).collect();
    let _ = t.try_(slipway::state::command::ViewsServed { served }.into());
    let other = "production/cart".parse().unwrap();
    for w in t.s().workers.values() {
        let kept: BTreeSet<String> = had.iter().filter(|(on, _)| *on == w.name).map(|(_, a)| a.clone()).collect();
        let (mine, others) = (free_addresses(t.s(), w, &shop()), free_addresses(t.s(), w, &other));
        assert_eq!(mine[..kept.len()].iter().cloned().collect::<BTreeSet<_>>(), kept, "its own come first");
        assert!(others.len() + kept.len() == w.pool.len() && others.iter().all(|a| !kept.contains(a)), "{others:?}");
    }
    t.ok(go());
    t.until("the start is over", |s| s.deployments[&shop()].stop.is_none());
    assert_eq!(addresses(t.s()), had);
}

#[test]
fn a_start_takes_back_what_still_drains_and_waits_for_what_stops() {
    let (mut t, had) = stopped();
    let ids: Vec<_> = t.s().instances_of(&shop()).map(|i| i.id).collect();
    let mut other = Story(t.0.clone());
    t.ok(go());
    assert_eq!(serving_now(t.s()), 16, "they never stopped serving");
    t.until("the start is over", |s| s.deployments[&shop()].stop.is_none());
    assert_eq!(t.s().instances_of(&shop()).filter(|i| i.life.is_live()).map(|i| i.id).collect::<Vec<_>>(), ids);
    let stops = |s: &State| s.instances_of(&shop()).any(|i| i.life == Life::Stopping);
    other.until("some stop", stops);
    other.ok(go());
    let adds = |c: &Command| matches!(c, Command::ArmAdjusted(a) if !a.add.is_empty());
    other.asked("the keeper's", |c| adds(c).then_some(()));
    assert!(!stops(other.s()), "what stops has its addresses");
    other.until("all of it serves", |s| serving_now(s) == 16);
    assert_eq!(addresses(other.s()), had);
}

#[test]
fn a_stop_during_a_start_keeps_what_was_not_taken_up_yet() {
    let (mut t, had) = stopped();
    t.until("nothing lives", |s| live(s) == 0);
    let w1 = WorkerName::new("w1").unwrap();
    t.ok(Command::WorkerLost(WorkerLost { worker: w1.clone(), last_heard: t.s().now }));
    t.ok(go());
    t.ok(stop());
    t.until("nothing lives", |s| live(s) == 0);
    t.ok(Command::WorkerReturned(WorkerReturned { worker: w1 }));
    t.ok(go());
    t.until("all of it serves", |s| serving_now(s) == 16);
    assert_eq!(addresses(t.s()), had);
}

#[test]
fn a_kept_version_whose_time_is_over_is_forgotten_while_all_is_stopped() {
    let (mut t, _) = stopped();
    t.until("nothing lives", |s| live(s) == 0);
    t.pass(Period::minutes(31));
    t.until("1.0.0 is forgotten", |s| s.deployments[&shop()].arms.get(Role::Previous).is_none());
    assert!(t.s().deployments[&shop()].is_stopped());
    let first = ReleaseRemoved { service: shop().service, version: "1.0.0".parse().unwrap() };
    t.refuses(first.into(), "a rollback of");
    t.ok(go());
    t.until("2.0.0 serves", |s| serving_now(s) == 8);
}

#[test]
fn what_an_ended_rollback_left_comes_back_with_both_versions_and_their_shares() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::ROLLING).unwrap();
    t.until("past half", |s| s.deployments[&shop()].arms.weight(Role::Candidate).0 > 8000);
    let rollout = t.live().id;
    t.ok(Command::Rollback(Rollback { rollout }));
    t.ok(Command::Abort(Abort { rollout, as_is: true }));
    t.until("it is as it is", |s| s.instances_of(&shop()).all(|i| !i.life.is_live() || i.serves()));
    let count = |s: &State| {
        let d = &s.deployments[&shop()];
        d.arms.iter().map(|a| (a.pair.version.clone(), passing(s, &d.id, &a.pair), a.weight)).collect::<Vec<_>>()
    };
    let had = count(t.s());
    assert!(had.len() == 2 && had.iter().all(|(_, n, _)| *n > 0), "{had:?}");
    t.ok(stop());
    t.until("nothing lives", |s| live(s) == 0);
    t.ok(go());
    t.until("both are back", |s| count(s) == had && s.deployments[&shop()].stop.is_none());
}

#[test]
fn a_rollout_takes_a_start_over() {
    let (mut t, _) = stopped();
    t.until("nothing lives", |s| live(s) == 0);
    t.ok(go());
    t.start("3.0.0", StrategyName::ROLLING).unwrap();
    assert!(t.s().deployments[&shop()].stop.is_none());
}

#[test]
fn a_port_of_a_machine_is_kept_for_what_is_stopped_there() {
    let mut t = Story::new();
    let mut spec = t.s().specs.values().next_back().unwrap().clone();
    (spec.address, spec.placement.per_worker) = (AddressMode::Host, 1);
    t.ok(Command::SpecApplied(SpecApplied { spec: spec.clone(), expected: Some(1) }));
    t.completes("1.0.0", StrategyName::DIRECT);
    t.ok(stop());
    t.until("nothing lives", |s| live(s) == 0);
    let other = "production/cart".parse().unwrap();
    for w in t.s().workers.values().filter(|w| w.presence == Presence::Ready) {
        let has = port_user(t.s(), w, &other, &spec);
        assert_eq!(has.as_deref(), Some("production/shop, which is stopped,"));
        assert_eq!(port_user(t.s(), w, &shop(), &spec), None);
    }
    t.ok(go());
    t.until("it serves", |s| serving_now(s) == 4);
}

#[test]
fn a_switch_to_a_version_that_is_not_kept_names_what_brings_one_there() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let first = "has no previous version beside 1.0.0 (it has nothing): `slipway rollout start production/shop --to VERSION` \
                 brings another version";
    t.refuses(switch_to(SwitchTo::Previous), first);
    t.completes("2.0.0", StrategyName::ROLLING);
    t.until("1.0.0 is gone", |s| s.deployments[&shop()].arms.get(Role::Previous).is_none());
    t.refuses(
        switch_to(SwitchTo::Previous),
        "(it has nothing): `slipway rollout rollback production/shop` goes back to 1.0.0",
    );
    t.refuses(
        switch_to(SwitchTo::Version("3.0.0".parse().unwrap())),
        "has no 3.0.0 beside 2.0.0 (it has nothing): `slipway rollout start production/shop --to 3.0.0` brings it there",
    );
}

#[test]
fn a_stopped_deployment_of_which_something_is_wanted_or_moved_is_found() {
    let (t, _) = stopped();
    let finds = |after: State, what: &str| {
        let found = invariants::check(&after).and_then(|()| invariants::check_step(t.s(), &after));
        assert!(found.clone().is_err_and(|e| e.contains(what)), "{what}: {found:?}");
    };
    let mut after = t.s().clone();
    let mut i = after.instances_of(&shop()).next().unwrap().clone();
    i.life = Life::Running;
    after.instances.insert(i.id, i);
    finds(after, "is stopped, and Some(");
    let mut after = t.s().clone();
    let mut d = after.deployments[&shop()].clone();
    d.meta.revision += 1;
    let route = d.route.as_mut().unwrap();
    (route.generation.n, route.ttl) = (route.generation.n + 1, Period::seconds(9));
    after.deployments.insert(shop(), d);
    finds(after, "is stopped, and its traffic was moved");
}
