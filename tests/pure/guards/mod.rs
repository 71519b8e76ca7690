//! What the law refuses, in words a person can use, and the effects that a random walk cannot name: one short story a
//! test.

mod requests;
mod addresses;
mod batches;
mod bounds;
mod copies;
mod keeper;
mod limits;
mod machines;
mod members;
mod packages;
mod plans;
mod registrations;
mod releases;
mod removals;
mod servers;
mod settings;
mod staged;
mod steps;
mod stopping;
mod stops;
mod traffic;
mod rollbacks;
mod workers;

use std::collections::BTreeMap;

use crate::properties::untouched;
use crate::walk::{
    Walk, prelude,
    rounds::{good_round, summary},
    shop,
};
use slipway::engine::{Refused, preview};
use slipway::model::{
    AddressMode, BasisPoints, BuildInfo, Digest, Health, Life, Millis, Portion, Principal, RequestId, RolloutParams,
    StepKind, StrategyName, Version, WorkerName,
};
use slipway::state::{
    Applied, Command, Fence, NewNode, NodeRole, PoolSlot, Rejection, ReleaseStatus, Role, RolloutStatus, StartRollout,
    State, StepRef, StepStatus, Weights, apply,
    command::{
        Abort, BlobHeld, FactsRecorded, Pause, Promote, ReleaseRegistered, Resume, Rollback, RouteSet, SpecApplied,
        Tick, WorkerLost, WorkerRegistered, WorkerReturned,
    },
    invariants, passing, serving, switching,
};

/// A State under hand.
struct Story(Walk);

impl Story {
    fn new() -> Self {
        let mut story = Self(Walk::default());
        for body in prelude() {
            story.ok(body);
        }
        story
    }

    fn s(&self) -> &State {
        &self.0.state
    }

    /// What is refused changes nothing.
    fn try_(&mut self, body: Command) -> Result<(), Rejection> {
        let before = self.s().clone();
        let (at, mut c) = self.0.stamp(body, 0);
        c.at = Millis(self.s().now.0 + 100);
        let result = apply(&mut self.0.state, at, &c).map(|_| ());
        assert!(result.is_ok() || untouched(&before, self.s()), "{}: refused and changed something", c.body.name());
        invariants::check(self.s()).unwrap();
        result
    }

    fn ok(&mut self, body: Command) {
        let name = body.name();
        self.try_(body).unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    /// Time goes by, and nothing happens.
    fn pass(&mut self, by: slipway::model::Period) {
        let (at, mut c) = self.0.stamp(Command::Tick(Tick {}), 0);
        c.at = self.s().now.plus(by);
        apply(&mut self.0.state, at, &c).unwrap();
    }

    fn no(&mut self, body: Command) -> String {
        self.try_(body).unwrap_err().to_string()
    }

    /// Refuses it by these words.
    fn refuses(&mut self, body: Command, says: &str) {
        let said = self.no(body);
        assert!(said.contains(says), "{says}: {said}");
    }

    /// Plans and reports until a command comes that is looked for; it is given before it is applied.
    fn asked<T>(&mut self, what: &str, is: impl Fn(&Command) -> Option<T>) -> T {
        for _ in 0..2000 {
            for body in good_round(self.s()).0 {
                if let Some(found) = is(&body) {
                    return found;
                }
                match self.try_(body) {
                    // What came before it in the round moved the row.
                    Ok(()) | Err(Rejection::Stale { .. }) => {}
                    Err(e) => panic!("before {what}: {e}"),
                }
            }
        }
        panic!("{what} never came: {}", summary(self.s()));
    }

    /// Plans and reports until it holds.
    fn until(&mut self, what: &str, f: impl Fn(&State) -> bool) {
        for _ in 0..2000 {
            if f(self.s()) {
                return;
            }
            for body in good_round(self.s()).0 {
                let name = body.name();
                match self.try_(body) {
                    // What came before it in the round moved the row.
                    Ok(()) | Err(Rejection::Stale { .. }) => {}
                    Err(e) => panic!("{name} of a round: {e}"),
                }
                if f(self.s()) {
                    return;
                }
            }
        }
        panic!("{what} never came: {}", summary(self.s()));
    }

    fn start(&mut self, version: &str, strategy: StrategyName) -> Result<(), Rejection> {
        let command = start(self.s(), version, strategy);
        self.try_(Command::StartRollout(command))
    }

    /// Why no steps could be made of a start that the law would take.
    fn unplanned(&self, version: &str, strategy: StrategyName) -> String {
        match preview(self.s(), &Principal::local_operator(), &start(self.s(), version, strategy)) {
            Err(Refused::Plan(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    fn completes(&mut self, version: &str, strategy: StrategyName) {
        self.start(version, strategy).unwrap();
        self.until("completion", |s| s.deployments[&shop()].live.is_none());
        let last = self.s().deployments[&shop()].last.unwrap();
        assert_eq!(self.s().rollouts[&last].status, RolloutStatus::Completed);
    }

    fn live(&self) -> &slipway::state::Rollout {
        self.s().live_rollout(&shop()).unwrap()
    }

    fn weights(&self) -> Weights {
        self.s().deployments[&shop()].arms.weights()
    }
}

fn start(s: &State, version: &str, strategy: StrategyName) -> StartRollout {
    let spec = s.specs.values().next_back().unwrap();
    let params = RolloutParams { strategy: Some(strategy), ..spec.rollout.clone() };
    StartRollout {
        deployment: shop(),
        version: version.parse().unwrap(),
        overrides: params.into(),
        restart: false,
        replace: false,
        expected: None,
    }
}

fn worker(name: &str, key: u32, pool: &[&str]) -> Command {
    Command::WorkerRegistered(WorkerRegistered {
        name: WorkerName::new(name).unwrap(),
        key: format!("{key:064x}"),
        labels: BTreeMap::new(),
        capacity: 20,
        build: "1".into(),
        host: "10.0.9.9".into(),
        pool: pool.iter().map(|a| (*a).to_string()).collect(),
        absent: Vec::new(),
        keeping: String::new(),
    })
}

#[test]
fn unknown_names_get_the_nearest() {
    let mut t = Story::new();
    let mut s = start(t.s(), "1.0.0", StrategyName::DIRECT);
    s.deployment = "production/shpo".parse().unwrap();
    assert!(
        t.no(Command::StartRollout(s.clone()))
            .contains("production/shpo does not exist: did you mean production/shop?")
    );
    s.deployment = "productoin/shop".parse().unwrap();
    let e = t.no(Command::StartRollout(s));
    assert!(e.contains("productoin/shop does not exist: did you mean production/shop?"), "{e}");
    let e = t.start("1.0.1", StrategyName::DIRECT).unwrap_err().to_string();
    assert!(e.contains("release shop 1.0.1 does not exist: did you mean 1.0.0?"), "{e}");
    assert!(
        t.no(Command::Abort(Abort { rollout: "r-9".parse().unwrap(), as_is: false }))
            .contains("rollout r-9 does not exist: `slipway rollout list --all` shows")
    );
}

#[test]
fn a_busy_deployment_a_running_version_and_bad_steps_are_refused() {
    let mut t = Story::new();
    t.start("1.0.0", StrategyName::CANARY).unwrap();
    assert_eq!(t.live().strategy, StrategyName::DIRECT, "a first rollout is direct");
    let busy = t.live().id;
    assert_eq!(t.start("2.0.0", StrategyName::DIRECT), Err(Rejection::Busy { rollout: busy }));
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
    let e = t.start("1.0.0", StrategyName::DIRECT).unwrap_err().to_string();
    assert!(e.contains("runs 1.0.0 already") && e.contains("restart"), "{e}");
    let mut s = start(t.s(), "2.0.0", StrategyName::CANARY);
    s.overrides.steps = Some([50, 25].map(BasisPoints::percent).to_vec());
    let e = t.no(Command::StartRollout(s));
    assert!(e.contains("rollout.steps") && e.contains("rise"), "{e}");
}

#[test]
fn a_restart_is_a_pair_of_its_own() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let mut s = start(t.s(), "1.0.0", StrategyName::ROLLING);
    s.restart = true;
    t.ok(Command::StartRollout(s));
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
    let d = &t.s().deployments[&shop()];
    assert_eq!((d.arms.pair(Role::Stable).unwrap().spec, d.spec), (2, 2));
    assert!(t.s().instances.values().all(|i| !i.life.is_live() || i.pair.spec == 2));
}

#[test]
fn workers_and_addresses_must_be_there() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.ok(worker("w5", 5, &["127.1.5.1"]));
    let e = t.unplanned("2.0.0", StrategyName::CANARY);
    assert!(e.contains("worker w5 has room for 1 more instances of production/shop, 2 are needed"), "{e}");
    t.start("2.0.0", StrategyName::ROLLING).unwrap();

    let mut t = Story::new();
    for n in 1..=4 {
        t.ok(Command::WorkerLost(WorkerLost {
            worker: WorkerName::new(&format!("w{n}")).unwrap(),
            last_heard: t.s().now,
        }));
    }
    let e = t.unplanned("1.0.0", StrategyName::DIRECT);
    assert!(e.contains("no worker is ready") && e.contains("slipwayd agent"), "{e}");
}

#[test]
fn host_mode_says_what_it_cannot_do() {
    let mut t = Story::new();
    let mut spec = t.s().specs.values().next_back().unwrap().clone();
    (spec.address, spec.placement.per_worker) = (AddressMode::Host, 1);
    t.ok(Command::SpecApplied(SpecApplied { spec, expected: Some(1) }));
    t.completes("1.0.0", StrategyName::DIRECT);
    let e = t.unplanned("2.0.0", StrategyName::BLUE_GREEN);
    assert!(e.contains("a spare worker for each of the 4 instances") && e.contains("0 of the chosen"), "{e}");
    let e = t.unplanned("2.0.0", StrategyName::ROLLING);
    assert!(e.contains("max_unavailable"), "{e}");
    let mut s = start(t.s(), "2.0.0", StrategyName::ROLLING);
    s.overrides.max_unavailable = Some(Portion::count(1));
    t.ok(Command::StartRollout(s));
    // In place: never two at one address, and the new one has the old one's.
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
    let live: Vec<_> = t.s().instances.values().filter(|i| i.life.is_live()).collect();
    assert_eq!(live.len(), 4);
    assert!(live.iter().all(|i| i.pair.version.to_string() == "2.0.0" && i.address.starts_with("10.0.0.")));
    // And what runs in one mode stays in it: no later rollout could take its places over.
    let mut spec = t.s().specs.values().next_back().unwrap().clone();
    spec.address = AddressMode::Pool;
    let e = t.no(Command::SpecApplied(SpecApplied { spec, expected: Some(2) }));
    assert!(e.contains("runs with address: host") && e.contains("another name"), "{e}");
}

#[test]
fn a_worker_name_has_one_key_and_a_pool_one_owner() {
    let mut t = Story::new();
    assert!(t.no(worker("w1", 9, &[])).contains("worker name w1 is taken by another machine"));
    let e = t.no(worker("w9", 9, &["127.1.1.1"]));
    assert!(e.contains("127.1.1.1") && e.contains("worker w1"), "{e}");
    assert!(t.no(worker("w9", 9, &["here"])).contains("\"here\" is not an IP address"));
    let before = t.s().workers.clone();
    t.ok(Command::WorkerRegistered(WorkerRegistered {
        name: WorkerName::new("w1").unwrap(),
        key: format!("{:064x}", 1),
        labels: BTreeMap::new(),
        capacity: 20,
        build: "1".into(),
        host: "10.0.0.1".into(),
        pool: (1..=6).map(|a| format!("127.1.1.{a}")).collect(),
        absent: Vec::new(),
        keeping: String::new(),
    }));
    assert_eq!(t.s().workers, before, "the same again commits no change");
}

#[test]
fn addresses_that_a_machine_lacks_are_not_in_its_pool_and_leave_with_their_last_user() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let one = WorkerName::new("w1").unwrap();
    let used = |s: &State| {
        s.workers[&one].pool.iter().find(|(_, slot)| matches!(slot, PoolSlot::Used(_))).map(|(a, _)| a.clone())
    };
    let gone = used(t.s()).expect("an instance on w1");
    // Its machine loses that address and another one that is free.
    let register = |absent: &[&str]| {
        Command::WorkerRegistered(WorkerRegistered {
            name: one.clone(),
            key: format!("{:064x}", 1),
            labels: BTreeMap::new(),
            capacity: 20,
            build: "1".into(),
            host: "10.0.0.1".into(),
            pool: (1..=6).map(|a| format!("127.1.1.{a}")).filter(|a| !absent.contains(&a.as_str())).collect(),
            absent: absent.iter().map(|a| (*a).to_string()).collect(),
            keeping: "cgroup".into(),
        })
    };
    t.ok(register(&[&gone, "127.1.1.6"]));
    let row = &t.s().workers[&one];
    assert_eq!(row.absent, [gone.as_str(), "127.1.1.6"]);
    assert!(row.pool.contains_key(&gone), "an address in use stays");
    assert!(!row.pool.contains_key("127.1.1.6"));
    assert!(t.no(register(&["here"])).contains("\"here\" is not an IP address"));
    // The next version is placed on what is there; the address goes with its instance.
    t.completes("2.0.0", StrategyName::ROLLING);
    t.until("the old instance is gone", |s| !s.workers[&one].pool.contains_key(&gone));
    assert_eq!(t.s().workers[&one].pool.len(), 4);
    t.ok(register(&[]));
    let row = &t.s().workers[&one];
    assert!(row.absent.is_empty() && row.pool.len() == 6, "back again");
    // What its configuration no longer names is not lacking, and goes with its user as well: nobody else gets it.
    let used = used(t.s()).expect("an instance on w1");
    let Command::WorkerRegistered(WorkerRegistered { name, key, labels, capacity, build, host, pool, .. }) =
        register(&[&used])
    else {
        panic!("not a registration")
    };
    let (absent, keeping) = (Vec::new(), String::new());
    t.ok(Command::WorkerRegistered(WorkerRegistered {
        name,
        key,
        labels,
        capacity,
        build,
        host,
        pool,
        absent,
        keeping,
    }));
    assert!(t.s().workers[&one].pool.contains_key(&used) && t.s().workers[&one].withdrawn.contains(&used));
    t.completes("3.0.0", StrategyName::ROLLING);
    t.until("the old instance is gone", |s| !s.workers[&one].pool.contains_key(&used));
    assert!(t.s().workers[&one].withdrawn.is_empty() && t.s().workers[&one].pool.len() == 5);
}

#[test]
fn a_version_never_changes_and_needs_a_majority() {
    let mut t = Story::new();
    let release = |version: &str, n: u32| {
        Command::ReleaseRegistered(ReleaseRegistered {
            service: shop().service,
            version: version.parse().unwrap(),
            digest: Digest::new(&format!("{n:064x}")).unwrap(),
            build: BuildInfo::default(),
            labels: BTreeMap::new(),
        })
    };
    t.ok(release("1.0.0", 1));
    // `A` is `a-` and its hash in DNS, and so would be `a.` and the same digits.
    t.ok(release("A", 1));
    let slug = "A".parse::<Version>().unwrap().slug();
    assert!(t.no(release(&slug.replace('-', "."), 1)).contains(&format!("the DNS name of version A (v-{slug})")));
    assert!(t.no(release("1.0.0", 2)).contains("a version never changes"));
    assert!(t.no(release("9.0.0", 9)).contains("release push"));
    t.ok(Command::BlobHeld(BlobHeld { digest: Digest::new(&format!("{:064x}", 9)).unwrap(), size: 5, node: 3 }));
    assert!(t.no(release("9.0.0", 9)).contains("on 1 of 3 nodes"));
    let damaged =
        Command::BlobHeld(BlobHeld { digest: Digest::new(&format!("{:064x}", 9)).unwrap(), size: 6, node: 1 });
    assert!(t.no(damaged).contains("damaged"));
}

#[test]
fn a_spec_rises_only_when_it_differs() {
    let mut t = Story::new();
    let spec = t.s().specs.values().next_back().unwrap().clone();
    t.ok(Command::SpecApplied(SpecApplied { spec: spec.clone(), expected: None }));
    assert_eq!(t.s().deployments[&shop()].spec, 1);
    let mut other = spec;
    other.drain.0.0 += 1000;
    assert_eq!(
        t.try_(Command::SpecApplied(SpecApplied { spec: other.clone(), expected: Some(7) })),
        Err(Rejection::Stale { seen: 7, now: 1 })
    );
    t.ok(Command::SpecApplied(SpecApplied { spec: other.clone(), expected: Some(1) }));
    assert_eq!(t.s().deployments[&shop()].spec, 2);
    other.ports.clear();
    assert!(t.no(Command::SpecApplied(SpecApplied { spec: other, expected: None })).contains("ports"));
}

#[test]
fn a_pause_stops_the_bake_and_gives_it_its_rest_back() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::CANARY).unwrap();
    let baking =
        |s: &State| s.live_rollout(&shop()).and_then(|r| r.running()).is_some_and(|(_, row)| row.until.is_some());
    t.until("a bake", baking);
    let (id, until) = (t.live().id, t.live().running().unwrap().1.until.unwrap());
    t.ok(Command::Pause(Pause { rollout: id }));
    let left = until.since(t.s().now);
    let seen = t.live().meta.revision;
    let weights = t.weights();
    let more = Weights::all(Role::Candidate);
    let step = t.live().cursor;
    t.no(Command::RouteSet(RouteSet { at: StepRef { rollout: id, seen, step }, weights: more }));
    for _ in 0..50 {
        t.ok(Command::Tick(Tick {}));
    }
    assert_eq!(t.weights(), weights);
    t.ok(Command::Resume(Resume { rollout: id }));
    assert_eq!(t.live().running().unwrap().1.until, Some(t.s().now.plus(left)));
}

#[test]
fn commands_before_the_cluster_and_a_second_one_are_refused() {
    let mut t = Story(Walk::default());
    assert_eq!(t.try_(Command::Tick(Tick {})), Err(Rejection::NoCluster));
    let init = prelude().remove(0);
    t.ok(init.clone());
    assert_eq!(t.try_(init), Err(Rejection::AlreadyInitialised));
    let names: Vec<String> =
        t.s().environments.values().map(|e| format!("{} {}", e.name, e.default_strategy)).collect();
    assert_eq!(names, ["development direct", "production canary", "qa rolling", "staging rolling"]);
}
