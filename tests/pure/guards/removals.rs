//! Stories of deployments, services and environments that are made and removed.

use slipway::model::{Name, OnNoData};
use slipway::state::command::{
    ArmAdjusted, DeploymentRemoved, EnvironmentCreated, EnvironmentRemoved, EnvironmentSet, ReleaseRemoved,
    ReleasesPruned, ServiceRemoved,
};

use super::*;

fn removed(stop: bool) -> Command {
    DeploymentRemoved { deployment: shop(), stop }.into()
}

fn service(text: &str) -> Command {
    ServiceRemoved { service: Name::service(text).unwrap() }.into()
}

fn create(name: &str, order: Option<u32>) -> Command {
    let name = Name::service(name).unwrap();
    EnvironmentCreated { name, order, default_strategy: None, on_no_data: None }.into()
}

fn environment(name: &str) -> Command {
    EnvironmentRemoved { name: Name::service(name).unwrap() }.into()
}

fn spec(t: &Story) -> Command {
    let spec = t.s().specs.values().next_back().unwrap().clone();
    SpecApplied { spec, expected: None }.into()
}

#[test]
fn a_deployment_that_runs_is_stopped_first_and_goes_with_all_that_was_kept_for_it() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let said = t.no(removed(false));
    assert!(
        said.contains("8 instances of production/shop run: `slipway deployment remove production/shop --stop`"),
        "{said}"
    );
    let (again, started) = (spec(&t), start(t.s(), "2.0.0", StrategyName::ROLLING));
    t.ok(removed(true));
    let d = &t.s().deployments[&shop()];
    assert!(d.route.is_none() && d.arms.iter().next().is_none(), "out of DNS in this entry");
    assert!(t.s().instances_of(&shop()).all(|i| i.life == Life::Draining), "nothing stops before caches let go of it");
    // Nothing comes into it any more.
    assert!(t.no(Command::StartRollout(started)).contains("production/shop is being removed"));
    assert!(t.no(again.clone()).contains("apply it again once it is gone"));
    assert!(t.no(removed(false)).contains("8 instances of it are still there"));
    let adjusted = ArmAdjusted {
        deployment: shop(),
        seen: t.s().deployments[&shop()].meta.revision,
        add: Vec::new(),
        drain: Vec::new(),
        desired: 3,
        drop: Vec::new(),
    };
    assert!(t.no(adjusted.into()).contains("is being removed"));
    let before = t.s().clone();
    t.ok(removed(true));
    assert_eq!(t.s().deployments, before.deployments, "asked twice, done once");
    assert!(t.no(service("shop")).contains("has deployments (production/shop)"));
    t.until("the planner has it gone", |s| !s.deployments.contains_key(&shop()));
    let s = t.s();
    assert!(s.specs.is_empty() && s.rollouts.is_empty() && s.instances.is_empty() && s.assignments.is_empty());
    assert!(s.workers.values().all(|w| w.pool.values().all(|slot| matches!(slot, PoolSlot::Free { .. }))));
    assert!(t.no(removed(true)).contains("deployment production/shop does not exist"));
    // The releases are the service's, and it begins anew.
    t.ok(again);
    t.completes("1.0.0", StrategyName::DIRECT);
}

#[test]
fn who_starts_first_keeps_the_deployment_and_who_removes_first_ends_it() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let mut other = Story(t.0.clone());
    t.start("2.0.0", StrategyName::CANARY).unwrap();
    let rollout = t.live().id;
    assert_eq!(t.try_(removed(true)), Err(Rejection::Busy { rollout }));
    t.ok(Command::Abort(Abort { rollout, as_is: false }));
    t.ok(removed(true));
    t.no(Command::Rollback(Rollback { rollout }));
    other.ok(removed(true));
    assert!(other.start("2.0.0", StrategyName::CANARY).unwrap_err().to_string().contains("is being removed"));
    // One that never ran goes at once.
    let mut t = Story::new();
    t.ok(removed(false));
    assert!(t.s().deployments.is_empty());
}

#[test]
fn a_lost_worker_holds_a_removal_up_until_it_is_removed_too() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let one = WorkerName::new("w1").unwrap();
    t.ok(Command::WorkerLost(WorkerLost { worker: one.clone(), last_heard: t.s().now }));
    t.ok(removed(true));
    for _ in 0..300 {
        for body in good_round(t.s()).0 {
            // It says nothing.
            let body = match body {
                Command::FactsRecorded(mut said) => {
                    said.workers.retain(|f| f.worker != one);
                    said.into()
                }
                other => other,
            };
            let _ = t.try_(body);
        }
    }
    assert!(
        t.s().instances_of(&shop()).filter(|i| i.life.is_live()).all(|i| i.worker == one),
        "the others have stopped"
    );
    assert!(t.no(removed(false)).contains("2 instances of it are still there"));
    t.ok(slipway::state::command::WorkerRemoved { worker: one, gone: true }.into());
    t.until("it is gone", |s| s.deployments.is_empty());
}

#[test]
fn a_service_goes_without_deployments_and_releases_and_what_ran_is_remembered() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    assert!(t.no(service("shpo")).contains("did you mean shop?"));
    t.ok(removed(true));
    t.until("it is gone", |s| s.deployments.is_empty());
    let said = t.no(service("shop"));
    assert!(said.contains("has 4 releases: `slipway release prune shop --keep 0`"), "{said}");
    let all = ReleasesPruned { service: shop().service, keep: Some(0), older_than: None };
    t.ok(all.into());
    t.ok(service("shop"));
    assert!(t.s().services.is_empty() && t.s().releases.is_empty());
    let push = |n: u32| ReleaseRegistered {
        service: shop().service,
        version: "1.0.0".parse().unwrap(),
        digest: Digest::new(&format!("{n:064x}")).unwrap(),
        build: BuildInfo::default(),
        labels: BTreeMap::new(),
    };
    assert!(t.no(push(2).into()).contains("ran with package"), "also of a service that was gone");
    t.ok(push(1).into());
    t.ok(ReleaseRemoved { service: shop().service, version: "1.0.0".parse().unwrap() }.into());
}

#[test]
fn environments_have_a_place_of_their_own_and_the_last_one_stays() {
    let mut t = Story::new();
    assert!(t.no(create("production", None)).contains("exists already: `slipway environment set production`"));
    assert!(t.no(create("beta", Some(2))).contains("order 2 is environment staging's"));
    assert!(t.no(create("beta", Some(10_000))).contains("is not from 0 to 9999"));
    t.ok(create("beta", None));
    let beta = Name::environment("beta").unwrap();
    let row = t.s().environments[&beta].clone();
    assert_eq!((row.order, row.default_strategy, row.on_no_data), (4, StrategyName::ROLLING, OnNoData::Hold));
    let set = |order, on_no_data| {
        let name = Name::environment("beta").unwrap();
        Command::from(EnvironmentSet { name, order, default_strategy: None, on_no_data })
    };
    assert!(t.no(set(None, None)).contains("nothing is said of environment beta"));
    assert!(t.no(set(Some(3), None)).contains("order 3 is environment production's"));
    t.ok(set(Some(9), Some(OnNoData::Fail)));
    let events = t.s().events.len();
    t.ok(set(Some(9), None));
    assert_eq!(t.s().events.len(), events, "it was so already");
    assert!(t.no(environment("betta")).contains("did you mean beta?"));
    let said = t.no(environment("production"));
    assert!(said.contains("environment production has deployments (production/shop)"), "{said}");
    for name in ["beta", "development", "qa", "staging"] {
        t.ok(environment(name));
    }
    t.ok(removed(false));
    assert!(t.no(environment("production")).contains("production is the last environment"));
    t.ok(create("live", None));
    t.ok(environment("production"));
}

#[test]
fn old_versions_go_by_registration_and_never_what_is_needed() {
    let mut t = Story::new();
    t.completes("3.0.0", StrategyName::DIRECT);
    t.completes("1.0.0", StrategyName::ROLLING);
    let prune = |keep, older_than| Command::from(ReleasesPruned { service: shop().service, keep, older_than });
    for both in [prune(None, None), prune(Some(1), Some(slipway::model::Period::seconds(1)))] {
        assert!(t.no(both).contains("say how many to keep, or how old"));
    }
    let left = |t: &Story| t.s().releases.keys().map(|(_, v)| v.to_string()).collect::<Vec<_>>();
    let events = t.s().events.len();
    t.ok(prune(Some(4), None));
    t.ok(prune(None, Some(slipway::model::Period::minutes(60 * 24))));
    assert_eq!((left(&t).len(), t.s().events.len()), (4, events), "nothing was old enough");
    // 1.0.0 runs, and a rollback would take it to 3.0.0; 4.0.0 is the newest.
    t.ok(prune(Some(1), None));
    assert_eq!(left(&t), ["1.0.0", "3.0.0", "4.0.0"]);
    let told = t.s().events.get_max().unwrap().1.body.describe().text;
    assert_eq!(told, "releases of shop were removed: 2.0.0");
    t.pass(slipway::model::Period::minutes(60));
    t.ok(prune(None, Some(slipway::model::Period::minutes(60))));
    assert_eq!(left(&t), ["1.0.0", "3.0.0"]);
}

#[test]
fn one_entry_prunes_a_bounded_number_and_says_how_many_are_left() {
    let mut t = Story::new();
    for n in 10..110 {
        let release = ReleaseRegistered {
            service: shop().service,
            version: format!("{n}.0.0").parse().unwrap(),
            digest: Digest::new(&format!("{:064x}", 1)).unwrap(),
            build: BuildInfo::default(),
            labels: BTreeMap::new(),
        };
        t.ok(release.into());
    }
    let prune = Command::from(ReleasesPruned { service: shop().service, keep: Some(10), older_than: None });
    let said = |t: &Story| t.s().events.get_max().unwrap().1.body.describe().fields.last().unwrap().1.clone();
    t.ok(prune.clone());
    assert_eq!((t.s().releases.len(), said(&t)), (40, "30".into()));
    t.ok(prune);
    assert_eq!((t.s().releases.len(), said(&t)), (10, "0".into()));
    assert!(t.s().tombstones.is_empty(), "none of them ran");
}
