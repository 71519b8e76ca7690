//! Stories of machines that lack what a release asks for: the step that stages it finds out, before a batch starts.

use slipway::state::StartRollout;

use super::*;

const NO_USER: &str = "run.user: this worker has no user \"shop\": create it";

fn lacking() -> Fleet {
    let mut f = Fleet::with_stable(&Shape::default());
    f.behaviour.insert("2.0.0".into(), lacks());
    f
}

fn lacks() -> Behaviour {
    Behaviour { lacks: [("w2".into(), NO_USER.into())].into(), ..Behaviour::default() }
}

fn policy(strategy: StrategyName, failure_action: FailureAction) -> slipway::model::RolloutParams {
    slipway::model::RolloutParams { failure_action, ..params(strategy) }
}

/// Versions of all instances that ever were.
fn versions(f: &Fleet) -> Vec<String> {
    f.state.instances.values().map(|i| i.pair.version.to_string()).collect()
}

fn reason(f: &Fleet, id: RolloutId) -> String {
    f.state.rollouts[&id].reason.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Whether the planner has said so.
fn waits(f: &Fleet, what: &str) -> bool {
    f.transcript.iter().any(|line| line.contains("waits: ") && line.contains(what))
}

/// Rolled back, then paused, mended and resumed.
pub fn unfit_worker() -> Fleet {
    let mut f = lacking();
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    f.until_status(60, id, RolloutStatus::RolledBack);
    f.run(5);
    let id = f.start("2.0.0", policy(StrategyName::CANARY, FailureAction::Pause));
    f.until_status(60, id, RolloutStatus::Paused);
    f.run(5);
    f.note("the user is added; resume");
    f.behaviour.remove("2.0.0");
    f.run(2);
    f.operator(Command::Resume(Resume { rollout: id })).expect("resumed");
    f.until_status(300, id, RolloutStatus::Completed);
    f
}

#[test]
fn a_worker_that_lacks_what_is_asked_for_is_named_before_a_batch_under_every_strategy_and_policy() {
    for strategy in STRATEGIES.iter().map(|s| &s.name) {
        for (action, end) in [
            (FailureAction::Rollback, RolloutStatus::RolledBack),
            (FailureAction::Continue, RolloutStatus::RolledBack),
            (FailureAction::Pause, RolloutStatus::Paused),
        ] {
            let mut f = lacking();
            let before = f.state.instances.clone();
            let id = f.start("2.0.0", policy(strategy.clone(), action));
            f.until(20, "it says who and why", |f| waits(f, NO_USER));
            f.until_status(60, id, end);
            f.run(5);
            assert_eq!(reason(&f, id), format!("worker w2: {NO_USER}"), "{strategy}, {action:?}");
            assert_eq!(f.state.instances.iter().collect::<Vec<_>>(), before.iter().collect::<Vec<_>>(), "{strategy}");
        }
    }
}

#[test]
fn a_machine_that_is_mended_while_the_step_waits_heals_by_itself() {
    let mut f = lacking();
    let id = f.start("2.0.0", params(StrategyName::ROLLING));
    f.until(20, "it waits", |f| waits(f, NO_USER));
    f.run(8);
    f.behaviour.remove("2.0.0");
    f.until_status(300, id, RolloutStatus::Completed);
}

#[test]
fn the_first_release_of_all_is_not_begun_on_any_worker_either() {
    let mut f = Fleet::new(&Shape::default());
    f.behaviour.insert("1.0.0".into(), lacks());
    let id = f.start("1.0.0", params(StrategyName::CANARY));
    f.until_status(60, id, RolloutStatus::Failed);
    assert_eq!(reason(&f, id), format!("worker w2: {NO_USER}"));
    assert_eq!(versions(&f), Vec::<String>::new());
}

#[test]
fn those_who_lack_the_same_are_named_together_and_the_reason_says_how_many_there_are() {
    let mut f = lacking();
    let all = ["w2", "w3", "w4"].map(|w| (w.to_string(), NO_USER.to_string()));
    f.behaviour.insert("2.0.0".into(), Behaviour { lacks: all.into(), ..Behaviour::default() });
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    f.until(20, "it waits", |f| waits(f, "w2, w3, w4 cannot run the release"));
    assert!(waits(&f, NO_USER));
    f.until_status(60, id, RolloutStatus::RolledBack);
    assert_eq!(reason(&f, id), format!("worker w2: {NO_USER}; 2 other workers cannot run it either"));
}

#[test]
fn a_new_spec_of_the_same_package_is_looked_at_too() {
    let mut f = Fleet::with_stable(&Shape::default());
    f.behaviour.insert("1.0.0".into(), lacks());
    let before = f.state.instances.clone();
    let restart = StartRollout { restart: true, ..starting(f.shop(), "1.0.0", params(StrategyName::ROLLING)) };
    let id = RolloutId(f.operator(Command::StartRollout(restart)).expect("started"));
    f.until_status(60, id, RolloutStatus::RolledBack);
    assert_eq!(reason(&f, id), format!("worker w2: {NO_USER}"));
    assert_eq!(f.state.instances.iter().collect::<Vec<_>>(), before.iter().collect::<Vec<_>>());
}
