//! Golden transcripts: whole rollouts on a simulated fleet, entry by entry, with the reasons for waiting between them.
//! A change of the engine shows as a change of these files. `GOLDEN=write cargo test --test pure transcripts` writes
//! them anew.

mod canary;
mod crash_loop;
mod deaths;
mod evidence;
mod faults;
mod servers;
mod settings;
mod stops;
mod unfit;
mod rollbacks;

use std::path::PathBuf;

use crate::sim_fleet::{Behaviour, Fleet, Shape, Walked, params, starting};
use canary::{
    canary_abort, canary_errors, canary_happy, canary_health, canary_held, canary_held_errors, canary_host,
    canary_leader_changes, canary_no_data, canary_rollback, canary_verbs,
};
use rollbacks::{rolling_in_place_pool, undo_fails};
use servers::{canary_slots, fenced_switches};
use slipway::engine::STRATEGIES;
use slipway::model::{FailureAction, OnNoData, Period, Portion, Principal, RolloutId, StrategyName};
use slipway::state::{
    Command, Rejection, RolloutStatus, StepStatus,
    command::{Abort, Pause, Promote, Resume, Rollback, Tick},
    lifecycle,
};
use stops::stopped_and_started;
use unfit::unfit_worker;

type Scenario = fn() -> Fleet;

fn golden(name: &str, fleet: &Fleet) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    let text = fleet.transcript.join("\n") + "\n";
    if std::env::var("GOLDEN").is_ok_and(|v| v == "write") {
        std::fs::write(&path, text).expect("the golden file is written");
        return;
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    if text != want {
        let line = want.lines().zip(text.lines()).position(|(a, b)| a != b);
        let line = line.unwrap_or(want.lines().count().min(text.lines().count()));
        let at = |t: &str| t.lines().nth(line).unwrap_or("(the end)").to_string();
        panic!(
            "{name} differs at line {}:\n  golden: {}\n  now:    {}\nGOLDEN=write cargo test --test pure transcripts, then \
             read the difference",
            line + 1,
            at(&want),
            at(&text)
        );
    }
}

/// The list of stories: each is a test of its golden file, and all together cover every transition.
macro_rules! stories {
    ($($name:ident),* $(,)?) => {
        const ALL: &[(&str, Scenario)] = &[$((stringify!($name), $name)),*];

        mod golden_tests {
            $(#[test]
            fn $name() {
                super::golden(stringify!($name), &super::$name());
            })*
        }
    };
}

stories!(
    direct_first,
    direct_second,
    first_fails,
    rolling_happy,
    rolling_unavailable,
    rolling_in_place_host,
    rolling_fails_rollback,
    rolling_fails_pause,
    rolling_fails_continue,
    rolling_errors,
    canary_happy,
    canary_errors,
    canary_health,
    canary_verbs,
    canary_held,
    canary_held_errors,
    canary_abort,
    canary_rollback,
    canary_host,
    canary_leader_changes,
    canary_no_data,
    blue_green,
    blue_green_smoke_fails,
    worker_lost,
    undo_fails,
    rolling_in_place_pool,
    keeper,
    fenced_switches,
    canary_slots,
    unfit_worker,
    stopped_and_started,
);

fn direct_first() -> Fleet {
    let mut f = Fleet::new(&Shape::default());
    let id = f.start("1.0.0", params(StrategyName::CANARY));
    f.until_status(60, id, RolloutStatus::Completed);
    f.run(5);
    f
}

fn direct_second() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", params(StrategyName::DIRECT));
    f.until_status(90, id, RolloutStatus::Completed);
    f.run(3);
    f
}

fn first_fails() -> Fleet {
    let mut f = Fleet::new(&Shape::default());
    f.behaviour.insert("1.0.0".into(), Behaviour { exits_after: Some(500), ..Behaviour::default() });
    let id = f.start("1.0.0", params(StrategyName::DIRECT));
    f.until_status(60, id, RolloutStatus::Failed);
    f.run(3);
    assert!(f.state.deployments[&f.shop()].route.is_none());
    // No worker at all: refused by the law before anything runs.
    f
}

fn rolling_happy() -> Fleet {
    let mut f = Fleet::with_stable(&Shape { workers: 2, ..Shape::default() });
    let id = f.start("2.0.0", params(StrategyName::ROLLING));
    f.until_status(300, id, RolloutStatus::Completed);
    f.run(3);
    f
}

fn rolling_unavailable() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let p = slipway::model::RolloutParams {
        parallelism: Portion::count(4),
        max_surge: Portion::count(2),
        max_unavailable: Portion::count(2),
        delay: Period::seconds(3),
        ..params(StrategyName::ROLLING)
    };
    let id = f.start("2.0.0", p);
    f.until_status(300, id, RolloutStatus::Completed);
    f
}

fn rolling_in_place_host() -> Fleet {
    let mut f = Fleet::with_stable(&Shape { host: true, ..Shape::default() });
    let p = slipway::model::RolloutParams {
        parallelism: Portion::count(2),
        max_surge: Portion::count(0),
        max_unavailable: Portion::count(1),
        ..params(StrategyName::ROLLING)
    };
    let id = f.start("2.0.0", p);
    f.until_status(300, id, RolloutStatus::Completed);
    f
}

fn bad_on(worker: &str) -> Behaviour {
    Behaviour { exits_after: Some(750), only_on: [worker.to_string()].into(), ..Behaviour::default() }
}

fn rolling_fails_rollback() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    f.behaviour.insert("2.0.0".into(), bad_on("w3"));
    let id = f.start("2.0.0", params(StrategyName::ROLLING));
    f.until_status(300, id, RolloutStatus::RolledBack);
    f.run(3);
    f
}

fn rolling_fails_pause() -> Fleet {
    let mut f = Fleet::with_stable(&Shape { workers: 2, ..Shape::default() });
    f.behaviour.insert("2.0.0".into(), bad_on("w2"));
    let p = slipway::model::RolloutParams { failure_action: FailureAction::Pause, ..params(StrategyName::ROLLING) };
    let id = f.start("2.0.0", p);
    f.until_status(300, id, RolloutStatus::Paused);
    f.run(10);
    f.note("the machine is mended; resume");
    f.behaviour.remove("2.0.0");
    f.operator(Command::Resume(Resume { rollout: id })).expect("resumed");
    f.until_status(300, id, RolloutStatus::Completed);
    f
}

fn rolling_fails_continue() -> Fleet {
    let mut f = Fleet::with_stable(&Shape { workers: 2, ..Shape::default() });
    f.behaviour.insert("2.0.0".into(), bad_on("w2"));
    let p = slipway::model::RolloutParams { failure_action: FailureAction::Continue, ..params(StrategyName::ROLLING) };
    let id = f.start("2.0.0", p);
    f.until_status(300, id, RolloutStatus::Completed);
    f.note("the machine is mended: the keeper fills up");
    f.behaviour.remove("2.0.0");
    f.run(40);
    f
}

fn rolling_errors() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    f.behaviour.insert("4.0.0".into(), Behaviour { errors: 3000, ..Behaviour::default() });
    let id = f.start("4.0.0", params(StrategyName::ROLLING));
    f.until_status(300, id, RolloutStatus::RolledBack);
    let r = &f.state.rollouts[&id];
    assert_eq!(r.reason.as_ref().map(|r| r.label()), Some("error_rate"));
    f
}

/// Without a grace the old ones go within the rollout.
fn at_once(strategy: StrategyName) -> slipway::model::RolloutParams {
    slipway::model::RolloutParams { grace: Period(0), ..params(strategy) }
}

/// With `on_no_data: pass`, too: errors that nobody can read are not a lack of requests.
#[test]
fn a_candidate_whose_errors_are_unknown_is_not_promoted() {
    let mut f = Fleet::with_stable(&Shape::default());
    f.behaviour.insert("2.0.0".into(), Behaviour { errors: 10_000, blind: true, ..Behaviour::default() });
    let p = slipway::model::RolloutParams { on_no_data: Some(OnNoData::Pass), ..params(StrategyName::CANARY) };
    let id = f.start("2.0.0", p);
    let bakes = |f: &Fleet, status: StepStatus| {
        let all = &f.state.rollouts[&id].steps;
        all.iter().filter(|s| s.step.kind.name() == "bake" && s.status == status).count()
    };
    f.until(60, "a bake", |f| bakes(f, StepStatus::Running) == 1);
    f.run(120);
    assert_ne!(f.state.rollouts[&id].status, RolloutStatus::Completed);
    assert_eq!(bakes(&f, StepStatus::Passed), 0, "nothing was judged");
}

fn blue_green() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("3.0.0", params(StrategyName::BLUE_GREEN));
    f.until(60, "the switch", |f| f.at(id, "bake", "monitor"));
    f.run(2);
    f.change_leader(500, 7_200_000);
    f.until_status(60, id, RolloutStatus::Completed);
    f.run(3);
    f.note("back by one command: the traffic moves in its own entry");
    let back = RolloutId(f.operator(Command::Rollback(Rollback { rollout: id })).expect("a return"));
    assert!(f.state.rollouts[&back].traffic_back_at.is_some());
    f.until_status(60, back, RolloutStatus::Completed);
    assert!(f.operator(Command::Rollback(Rollback { rollout: id })).is_err(), "undone already");
    f.note("and forward again: the old side still runs");
    let id = f.start("3.0.0", params(StrategyName::BLUE_GREEN));
    f.until_status(60, id, RolloutStatus::Completed);
    f.note("after the grace the keeper retires the old side");
    f.run(630);
    f
}

fn blue_green_smoke_fails() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    f.behaviour.insert("3.0.0".into(), Behaviour { smoke: false, ..Behaviour::default() });
    let id = f.start("3.0.0", params(StrategyName::BLUE_GREEN));
    f.until_status(90, id, RolloutStatus::RolledBack);
    f
}

fn worker_lost() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    f.until(90, "bake 50 %", |f| f.at(id, "bake", "50 %"));
    f.cut_off("w2", true);
    f.run(40);
    assert!(f.at(id, "bake", "50 %"), "a bake does not end without its workers");
    f.cut_off("w2", false);
    f.until(60, "bake 100 %", |f| f.at(id, "bake", "100 %"));
    f.cut_off("w4", true);
    f.run(15);
    f.operator(Command::Rollback(Rollback { rollout: id })).expect("rolled back");
    f.until_status(120, id, RolloutStatus::RolledBack);
    f.cut_off("w4", false);
    f.run(20);
    f
}

fn keeper() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    let stable: Vec<_> = f.state.instances.values().filter(|i| i.serves()).map(|i| i.id).collect();
    f.kill(stable[0]);
    f.run(20);
    f.note("a crash loop on w1 is slowed down");
    f.behaviour.insert(
        "1.0.0".into(),
        Behaviour { exits_after: Some(500), only_on: ["w1".into()].into(), ..Behaviour::default() },
    );
    f.run(120);
    f.behaviour.remove("1.0.0");
    f.run(120);
    f.note("a worker joins");
    f.add_worker(5);
    f.run(10);
    f.cut_off("w3", true);
    f.run(20);
    f.cut_off("w3", false);
    f.run(10);
    f.note("a node's DNS falls silent and is heard again");
    f.nodes.get_mut(&3).expect("n3").alive = false;
    f.run(15);
    f.nodes.get_mut(&3).expect("n3").alive = true;
    f.run(2);
    f
}

#[test]
fn every_transition_is_walked() {
    let mut walked = Walked::default();
    for (_, scenario) in ALL {
        walked.add(&scenario().walked);
    }
    walked.add(&odd_ends().walked);
    let missing: Vec<_> = lifecycle::ROLLOUT.iter().filter(|m| !walked.rollouts.contains(m)).collect();
    assert!(missing.is_empty(), "rollout moves that no transcript walks: {missing:?}");
    let steps: Vec<(StepStatus, StepStatus)> = walked.steps.iter().map(|(_, a, b)| (*a, *b)).collect();
    let missing: Vec<_> = lifecycle::STEP.iter().filter(|m| !steps.contains(m)).collect();
    assert!(missing.is_empty(), "step moves that no transcript walks: {missing:?}");
    for kind in ["stage", "install", "route", "switch", "bake", "smoke", "promote", "retire"] {
        let passed = walked.steps.iter().any(|(k, _, to)| *k == kind && *to == StepStatus::Passed);
        assert!(passed, "no {kind} passed");
    }
    for kind in ["install", "bake", "smoke"] {
        let failed = walked.steps.iter().any(|(k, _, to)| *k == kind && *to == StepStatus::Failed);
        assert!(failed, "no {kind} failed");
    }
}

/// Ends that are no story of their own.
fn odd_ends() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    // Aborted before its steps were compiled: the leader hears nobody yet.
    f.change_leader(250, 0);
    let start = |f: &mut Fleet, p| {
        let body = starting(f.shop(), "2.0.0", p).into();
        RolloutId(f.must(body))
    };
    let id = start(&mut f, params(StrategyName::CANARY));
    f.operator(Command::Abort(Abort { rollout: id, as_is: false })).expect("aborted");
    assert_eq!(f.status(id), RolloutStatus::Aborted);
    f.run(3);
    // Paused, then aborted; paused, then rolled back; a failed step promoted over.
    let id = start(&mut f, params(StrategyName::CANARY));
    f.until(60, "bake 10 %", |f| f.at(id, "bake", "10 %"));
    f.operator(Command::Pause(Pause { rollout: id })).expect("paused");
    f.operator(Command::Abort(Abort { rollout: id, as_is: false })).expect("aborted");
    let id = start(&mut f, params(StrategyName::CANARY));
    f.until(60, "bake 10 %", |f| f.at(id, "bake", "10 %"));
    f.operator(Command::Pause(Pause { rollout: id })).expect("paused");
    f.operator(Command::Rollback(Rollback { rollout: id })).expect("rolled back");
    f.until_status(60, id, RolloutStatus::RolledBack);
    f.behaviour.insert("2.0.0".into(), Behaviour { errors: 1000, ..Behaviour::default() });
    let p = slipway::model::RolloutParams { failure_action: FailureAction::Pause, ..params(StrategyName::CANARY) };
    let id = start(&mut f, p);
    f.until_status(60, id, RolloutStatus::Paused);
    f.operator(Command::Promote(Promote { rollout: id, full: true })).expect("promoted over a failure, by an operator");
    f.until_status(120, id, RolloutStatus::Completed);
    // A worker shrinks between acceptance and compilation.
    let body = starting(f.shop(), "3.0.0", params(StrategyName::CANARY)).into();
    let id = RolloutId(f.must(body));
    f.register(1, 1);
    f.operator(Command::Tick(Tick {})).expect("a tick");
    assert_eq!(f.status(id), RolloutStatus::Failed);
    f
}

#[test]
fn a_second_rollout_on_a_busy_deployment_is_refused() {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    let body = starting(f.shop(), "3.0.0", params(StrategyName::CANARY)).into();
    assert_eq!(f.commit(body), Err(Rejection::Busy { rollout: id }));
}

#[test]
fn a_preview_is_what_is_compiled_and_changes_nothing() {
    let mut f = Fleet::with_stable(&Shape::default());
    let start = |to: &str, strategy| starting(f.shop(), to, params(strategy));
    let (before, by) = (f.state.clone(), Principal::local_operator());
    for strategy in STRATEGIES.iter().map(|s| s.name.clone()) {
        let preview = slipway::engine::preview(&f.state, &by, &start("2.0.0", strategy.clone())).expect("a preview");
        let mut copy = Fleet::with_stable(&Shape::default());
        let id = copy.start("2.0.0", params(strategy.clone()));
        let row = &copy.state.rollouts[&id];
        let compiled: Vec<_> = row.steps.iter().map(|s| s.step.clone()).collect();
        assert_eq!((preview.steps, preview.desired), (compiled, row.desired), "{strategy}");
    }
    let refused = slipway::engine::preview(&f.state, &by, &start("1.0.0", StrategyName::CANARY));
    assert!(refused.is_err_and(|e| e.to_string().contains("runs 1.0.0 already")));
    assert_eq!(f.state, before);
    f.run(1);
}

#[test]
fn a_new_leader_ends_no_bake_before_it_has_heard_the_workers() {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    f.until(60, "bake 10 %", |f| f.at(id, "bake", "10 %"));
    f.run(9);
    f.quiet(4000);
    f.change_leader(500, 0);
    f.run(3);
    assert!(f.at(id, "bake", "10 %"), "its time is over, but nobody has spoken");
    assert!(f.transcript.iter().any(|l| l.contains("still hearing from workers")));
    f.run(2);
    assert!(!f.at(id, "bake", "10 %"), "heard: it goes on");
}
