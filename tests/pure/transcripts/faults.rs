//! Stories under faults that a perfect fleet does not have: DNS servers that lag, restart or are silent, agents and
//! machines that start anew, words that are late, partial and out of order, proposals that get lost, are done twice or
//! come late, workers that are not like each other. Once nothing more goes wrong the end is the one without faults;
//! meanwhile nobody is stopped whom a client may still have from a server that lives, and nothing is called fenced
//! while such a server serves what was left.
//!
//! Not here: a leader that dies at each command (`deaths`), faults at random (`rest`).

use std::collections::{BTreeMap, BTreeSet};

use slipway::model::{InstanceId, Life, Millis, Portion, RolloutParams, StrategyName, WorkerName};
use slipway::state::{Command, Role, RolloutStatus};

use super::deaths::{Act, BACK, CANARY, Place, SWITCH, agree, both, end, last, now, once, quick, small, start};
use crate::sim_fleet::{Dice, Fleet, Shape, cart, version};

const SEEDS: u64 = 3;

/// A name, what was before, and what persons do.
type Told = (&'static str, fn() -> Fleet, &'static [Act]);

const STORIES: &[Told] = &[
    ("canary", small, &[CANARY]),
    ("rolling", small, &[(now, |_| start(StrategyName::ROLLING))]),
    ("blue-green", small, &[(now, |_| start(StrategyName::BLUE_GREEN))]),
    ("direct", small, &[(now, |_| start(StrategyName::DIRECT))]),
    ("rollback", small, &[CANARY, BACK]),
    ("switch", both, &[SWITCH]),
];

fn place(before: fn() -> Fleet) -> Place {
    // As long as the longest word is under way.
    Place { fleet: before(), done: 0, rested: 0, rest: 18 }
}

/// Plays every story as it is and under faults; `each` is asked before every step.
fn under(with: impl Fn(&mut Fleet, u64), mut each: impl FnMut(&mut Fleet, &mut Dice)) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for (n, (name, before, acts)) in STORIES.iter().enumerate() {
        let mut whole = place(*before);
        while whole.on(acts) {}
        let want = end(&whole.fleet);
        for seed in 0..SEEDS {
            let mut dice = Dice::new(seed * 100 + n as u64 + 1);
            let mut p = place(*before);
            with(&mut p.fleet, seed * 100 + n as u64 + 1);
            while p.on(acts) {
                each(&mut p.fleet, &mut dice);
            }
            let what = format!("{name}, seed {seed}");
            agree(&want, &p.fleet, &what);
            once(&p.fleet, &what);
            for (what, n) in p.fleet.faults.counts {
                *counts.entry(what).or_default() += n;
            }
        }
    }
    counts
}

fn reached(counts: &BTreeMap<&'static str, usize>, all: &[&str]) {
    let never: Vec<_> = all.iter().filter(|what| !counts.contains_key(**what)).collect();
    assert!(never.is_empty(), "never: {never:?} of {counts:?}");
}

#[test]
fn proposals_that_are_lost_done_twice_or_late_change_no_end() {
    let counts = under(|f, seed| f.faults.proposals = Some(Dice::new(seed)), |_, _| ());
    reached(&counts, &["lost", "twice", "late", "late and stale", "late and refused"]);
}

#[test]
fn words_that_are_late_partial_and_out_of_order_change_no_end() {
    let counts = under(
        |f, seed| f.faults.words = Some(Dice::new(seed)),
        |f, dice| {
            // A leader that does not know what the one before had heard.
            if dice.below(25) == 0 {
                f.change_leader(700, 0);
            }
        },
    );
    reached(&counts, &["partial words", "words out of order", "words older than the committed ones"]);
}

/// Each node its own lag of up to 50 entries and four seconds.
fn lags(f: &mut Fleet, seed: u64) {
    let mut dice = Dice::new(seed);
    f.truth.on = true;
    for node in f.nodes.values_mut() {
        node.lag = (dice.below(51), 250 + dice.below(3750));
    }
}

#[test]
fn servers_that_lag_and_restart_are_waited_for_and_nobody_is_stopped_too_early() {
    let mut restarts = 0;
    under(lags, |f, dice| {
        if dice.below(40) == 0 {
            restarts += 1;
            f.restart_server(1 + dice.below(3), 250 * dice.below(8));
        }
    });
    assert!(restarts > 20, "{restarts} servers were started anew");
}

#[test]
fn a_server_that_is_silent_or_unknown_holds_up_no_rollout_for_long() {
    let (mut silent, mut unknown) = (0, 0);
    for strategy in [StrategyName::CANARY, StrategyName::ROLLING, StrategyName::BLUE_GREEN] {
        let mut f = small();
        lags(&mut f, 7);
        f.nodes.get_mut(&3).expect("n3").alive = false;
        let id = f.start("2.0.0", quick(strategy));
        f.until(60, "it moves", |f| {
            f.state.deployments[&f.shop()].arms.weight(Role::Candidate).0 > 0 || f.state.rollouts[&id].switched
        });
        f.change_leader(700, 0);
        unknown += usize::from(!f.seen.nodes.contains_key(&3));
        f.until_status(120, id, RolloutStatus::Completed);
        silent += usize::from(f.state.nodes[&3].silent_since.is_some());
    }
    assert_eq!((silent, unknown), (3, 3));
}

#[test]
fn an_agent_that_restarts_changes_no_end() {
    let mut restarts = 0;
    under(
        |_, _| (),
        |f, dice| {
            if dice.below(12) == 0 {
                let names: Vec<WorkerName> = f.agents.keys().cloned().collect();
                let name = &names[dice.below(names.len() as u64) as usize];
                restarts += 1;
                f.restart_agent(name, 250 * dice.below(12), false);
            }
        },
    );
    assert!(restarts > 50, "{restarts} restarts");
}

fn live(f: &Fleet) -> Vec<(InstanceId, String)> {
    let live = f.state.instances.values().filter(|i| i.life.is_live());
    live.map(|i| (i.id, i.pair.version.to_string())).collect()
}

/// What has passed once is started again where it was and turns nothing, of either version; what has not is a failure.
#[test]
fn a_crash_turns_a_rollout_only_where_the_candidate_had_never_passed() {
    for (kind, crashes, ends) in [
        ("bake", "1.0.0", RolloutStatus::Completed),
        ("bake", "2.0.0", RolloutStatus::Completed),
        ("install", "2.0.0", RolloutStatus::RolledBack),
    ] {
        let mut f = small();
        let id = f.start("2.0.0", quick(StrategyName::CANARY));
        f.until(60, kind, |f| f.at(id, kind, "50 %"));
        let (one, _) = live(&f).into_iter().find(|(_, v)| v == crashes).expect("an instance of it");
        f.run(1);
        f.crash(one);
        f.until(10, "it was seen", |f| {
            let i = &f.state.instances[&one];
            if kind == "bake" { i.restarts == 1 } else { i.life == Life::Failed }
        });
        f.until_status(120, id, ends);
        assert_eq!(
            f.transcript.iter().any(|l| l.contains("1 of 2 instances pass")),
            kind == "bake" && crashes == "2.0.0"
        );
        once(&f, crashes);
    }
}

/// A machine that starts anew brings up what it is told, each once; the deployment is whole again by itself.
#[test]
fn a_machine_that_starts_anew_in_any_step_leaves_no_rollout_stuck() {
    let mut ends = BTreeSet::new();
    for after in 1..=14 {
        let mut f = small();
        let id = f.start("2.0.0", quick(StrategyName::CANARY));
        for _ in 0..after * 2 {
            f.step();
        }
        f.restart_agent(&WorkerName::new("w1").expect("a name"), 3000, true);
        f.until(200, "it ends", |f| f.status(id).is_terminal());
        f.until(60, "all of stable passes", |f| {
            let d = &f.state.deployments[&f.shop()];
            let stable = d.arms.pair(Role::Stable).expect("a stable arm");
            slipway::state::passing(&f.state, &f.shop(), stable) == 4
        });
        once(&f, "a machine");
        ends.insert(f.status(id).to_string());
    }
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), ["completed", "rolled back"]);
}

fn ends_with(f: &mut Fleet, to: &str, params: RolloutParams) {
    let id = f.start(to, params);
    f.until_status(300, id, RolloutStatus::Completed);
    f.run(10);
    let d = &f.state.deployments[&f.shop()];
    let stable = d.arms.get(Role::Stable).expect("a stable arm");
    let of = |life: Life| f.state.instances.values().filter(|i| i.pair == stable.pair && i.life == life).count();
    assert_eq!((stable.pair.version.to_string().as_str(), of(Life::Running)), (to, d.desired as usize));
    let others = f.state.instances.values().filter(|i| i.life.is_live() && i.pair != stable.pair).count();
    assert_eq!((others, d.arms.get(Role::Previous).is_some()), (0, false));
}

/// Pools of three with three in use: what has no room beside the old ones takes their places over, one at a time.
#[test]
fn a_full_pool_takes_a_rolling_update_in_place_and_a_surge_where_one_address_is_free() {
    let full = Shape { workers: 2, per_worker: 3, pool: 3, ttl: 1, ..Shape::default() };
    for (uneven, surge) in [(BTreeMap::new(), 1), ([(2, (4, 20))].into(), 1), ([(2, (4, 20))].into(), 0)] {
        let mut f = Fleet::with_stable(&Shape { uneven, ..full.clone() });
        let rolling = RolloutParams {
            max_surge: Portion::count(surge),
            max_unavailable: Portion::count(1),
            parallelism: Portion::count(2),
            ..quick(StrategyName::ROLLING)
        };
        ends_with(&mut f, "2.0.0", rolling.clone());
        ends_with(&mut f, "3.0.0", rolling);
    }
}

#[test]
fn a_worker_that_takes_one_process_is_updated_in_place_beside_workers_with_room() {
    let mut f = Fleet::with_stable(&Shape {
        workers: 3,
        per_worker: 1,
        ttl: 1,
        uneven: [(2, (6, 1))].into(),
        ..Shape::default()
    });
    let rolling = RolloutParams {
        max_surge: Portion::count(1),
        max_unavailable: Portion::count(1),
        ..quick(StrategyName::ROLLING)
    };
    ends_with(&mut f, "2.0.0", rolling.clone());
    ends_with(&mut f, "3.0.0", rolling);
}

/// Addresses that a worker no longer offers leave with their users, in whichever step it stops offering them.
#[test]
fn a_pool_that_shrinks_in_the_midst_of_a_rollout_loses_no_instance_and_hands_nothing_out_again() {
    let mut withdrawn = 0;
    for after in [1, 8, 20] {
        for strategy in [StrategyName::ROLLING, StrategyName::CANARY] {
            let mut f = small();
            ends_with(&mut f, "2.0.0", quick(StrategyName::CANARY));
            let id = f.start("3.0.0", quick(strategy));
            for _ in 0..after {
                f.step();
            }
            // The last two that the new version takes are among those that go.
            f.register_with(1, 4, 20);
            let shrunk = f.now();
            f.until_status(300, id, RolloutStatus::Completed);
            f.run(10);
            let since = f.state.instances.values().filter(|i| i.life.is_live() && made(&f, i.id) > shrunk);
            let offered: Vec<String> = (1..=4).map(|a| format!("10.1.1.{a}")).collect();
            for i in since.filter(|i| i.worker.as_str() == "w1") {
                assert!(offered.contains(&i.address), "{} got {} after it was withdrawn", i.id, i.address);
            }
            let d = &f.state.deployments[&f.shop()];
            assert_eq!(f.state.instances.values().filter(|i| i.life.is_live()).count(), d.desired as usize);
            let kept = &f.state.workers[&WorkerName::new("w1").expect("a name")];
            withdrawn += usize::from(!kept.withdrawn.is_empty());
            assert_eq!(kept.pool.len(), 4 + kept.withdrawn.len(), "what is withdrawn stays for its user alone");
            ends_with(
                &mut f,
                "4.0.0",
                RolloutParams { max_unavailable: Portion::count(1), ..quick(StrategyName::ROLLING) },
            );
            assert_eq!(f.state.workers[&WorkerName::new("w1").expect("a name")].pool.len(), 4, "and leaves with it");
        }
    }
    assert!(withdrawn > 2, "{withdrawn} times an address was in use that is not offered any more");
}

/// When an instance was begun, by the entry that made it.
fn made(f: &Fleet, id: InstanceId) -> Millis {
    f.state.events.iter().find(|(key, _)| key.index >= id.index).map_or(Millis(0), |(_, e)| e.at)
}

/// Two deployments on the same workers and in the same pools, each with its own rollout at once, under every fault of
/// proposals.
#[test]
fn two_rollouts_on_shared_workers_come_to_their_ends_whatever_becomes_of_proposals() {
    for seed in 1..=4 {
        let shape = Shape { workers: 2, per_worker: 1, pool: 3, ttl: 1, ..Shape::default() };
        let mut f = Fleet::with_stable(&shape);
        f.add_cart(&Shape { metrics: false, ..shape });
        let first = f.start_of(cart(), "1.0.0", quick(StrategyName::DIRECT));
        f.until_status(60, first, RolloutStatus::Completed);
        f.faults.proposals = Some(Dice::new(seed));
        // One free address on each worker: the second to ask waits for the first, or takes what is left.
        let strategy = if seed % 2 == 0 { StrategyName::ROLLING } else { StrategyName::CANARY };
        let shop = f.start("2.0.0", quick(StrategyName::ROLLING));
        let other =
            f.start_of(cart(), "2.0.0", RolloutParams { max_unavailable: Portion::count(0), ..quick(strategy) });
        f.until_status(300, shop, RolloutStatus::Completed);
        f.until_status(300, other, RolloutStatus::Completed);
        once(&f, "two");
        for d in [f.shop(), cart()] {
            let live = f.state.instances_of(&d).filter(|i| i.serves() && i.pair.version == version("2.0.0"));
            assert_eq!(live.count(), 2, "{d}");
        }
    }
}

/// A second deployment on a shared pool: what the first let go of is not its own before a server that was cut off is
/// heard again.
#[test]
fn a_second_deployment_waits_for_an_address_that_a_silent_server_may_still_name() {
    let shape = Shape { workers: 2, per_worker: 1, pool: 3, ttl: 1, ..Shape::default() };
    let mut f = Fleet::with_stable(&shape);
    f.add_cart(&Shape { metrics: false, per_worker: 2, ..shape });
    f.nodes.get_mut(&3).expect("n3").alive = false;
    ends_with(&mut f, "2.0.0", quick(StrategyName::ROLLING));
    assert!(f.state.nodes[&3].silent_since.is_some(), "the drain went on without it");
    // On each worker one address is in use, one was never used, and one was let go of.
    let id = f.start_of(cart(), "1.0.0", quick(StrategyName::DIRECT));
    f.run(20);
    assert_eq!(f.status(id), RolloutStatus::Pending, "{}", f.transcript.join("\n"));
    assert!(f.transcript.iter().any(|l| l.contains("no free address on w1; no free address on w2")));
    assert_eq!(f.state.instances_of(&cart()).count(), 0);
    f.nodes.get_mut(&3).expect("n3").alive = true;
    f.until_status(60, id, RolloutStatus::Completed);
    assert_eq!(f.state.instances_of(&cart()).filter(|i| i.serves()).count(), 4);
}

#[test]
fn the_last_command_of_a_story_is_not_the_end_of_its_faults() {
    // What comes late after its rollout has ended is refused by name, and changes nothing.
    let mut f = small();
    let id = f.start("2.0.0", quick(StrategyName::DIRECT));
    f.until(60, "it installs", |f| f.at(id, "install", "install"));
    let plan = slipway::engine::plan(&f.state, &f.seen, f.now()).commands;
    let seen = f.state.rollouts[&id].meta.revision;
    f.until_status(120, id, RolloutStatus::Completed);
    for body in plan
        .into_iter()
        .chain([Command::PromotionBegan(slipway::state::command::PromotionBegan { rollout: last(&f), seen })])
    {
        let before = f.state.deployments[&f.shop()].clone();
        assert!(f.commit(body).is_err());
        assert_eq!(before, f.state.deployments[&f.shop()]);
    }
}
