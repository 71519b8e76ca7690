//! Stories of releases that are taken out of use.

use slipway::state::command::{ReleaseRemoved, ReleaseRetired, SwitchAsked};
use slipway::state::{Role, SwitchAsk, SwitchTo, Unfenced, WaitLevel};

use super::*;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn retire(text: &str) -> Command {
    Command::ReleaseRetired(ReleaseRetired { service: shop().service, version: version(text) })
}

fn remove(text: &str) -> Command {
    Command::ReleaseRemoved(ReleaseRemoved { service: shop().service, version: version(text) })
}

fn push(text: &str, n: u32) -> Command {
    Command::ReleaseRegistered(ReleaseRegistered {
        service: shop().service,
        version: version(text),
        digest: Digest::new(&format!("{n:064x}")).unwrap(),
        build: BuildInfo::default(),
        labels: BTreeMap::new(),
    })
}

impl Story {
    /// Neither verb is taken, for this reason, and nothing changes.
    fn kept(&mut self, version: &str, why: &str) {
        for verb in [retire(version), remove(version)] {
            let before = self.s().releases.clone();
            let said = self.no(verb);
            assert!(said.starts_with(&format!("shop {version} is needed: ")) && said.contains(why), "{said}");
            assert_eq!(self.s().releases, before);
        }
    }
}

#[test]
fn what_runs_or_could_be_gone_back_to_is_neither_retired_nor_removed() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.kept("1.0.0", "production/shop runs it: start another version first");
    t.start("2.0.0", StrategyName::CANARY).unwrap();
    let id = t.live().id;
    t.kept("2.0.0", &format!("{id} of production/shop is under way"));
    t.kept("1.0.0", &format!("{id} of production/shop is under way"));
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
    t.kept("1.0.0", "instances of it still run");
    let (wait, unfenced, within) = (WaitLevel::Fenced, Unfenced::Proceed, slipway::model::Period::seconds(10));
    let ask = SwitchAsk { deployments: vec![shop()], to: SwitchTo::Previous, wait, unfenced, within };
    t.ok(Command::SwitchAsked(SwitchAsked { ask }));
    t.kept("1.0.0", "is being switched");

    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    let done = t.s().deployments[&shop()].last.unwrap();
    t.completes("2.0.0", StrategyName::ROLLING);
    let newest = t.s().deployments[&shop()].last.unwrap();
    t.kept("1.0.0", &format!("a rollback of {newest} would take production/shop back to it"));
    t.completes("3.0.0", StrategyName::ROLLING);
    t.ok(remove("1.0.0"));
    invariants::check(t.s()).unwrap();
    assert!(t.no(Command::Rollback(Rollback { rollout: done })).contains("did not make what"));
    assert!(t.start("1.0.0", StrategyName::DIRECT).unwrap_err().to_string().contains("does not exist"));
    assert!(t.no(remove("1.0.0")).contains("does not exist"));
}

#[test]
fn a_version_that_ran_never_comes_back_with_other_bytes_and_one_that_never_ran_may() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.completes("2.0.0", StrategyName::ROLLING);
    t.completes("3.0.0", StrategyName::ROLLING);
    t.ok(remove("1.0.0"));
    let said = t.no(push("1.0.0", 2));
    assert!(said.contains("ran with package") && said.contains("push a new one"), "{said}");
    t.ok(push("1.0.0", 1));
    t.ok(remove("1.0.0"));
    assert!(t.no(push("1.0.0", 2)).contains("ran with package"), "also after it was back for a while");
    t.ok(push("9.0.0", 1));
    t.ok(remove("9.0.0"));
    t.ok(push("9.0.0", 2));
}

#[test]
fn components_are_kept_with_the_release_and_a_wrong_one_is_refused_by_name() {
    let mut t = Story::new();
    let with = |version: &str, components: &[(&str, &str)]| {
        let Command::ReleaseRegistered(mut release) = push(version, 1) else { panic!("not a registration") };
        release.build.components = components.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Command::from(release)
    };
    let said = t.no(with("9.0.0", &[("parser", "2 1")]));
    assert!(said.contains("\"parser\" has a version that is not") && said.contains("such as parser=2.1.0"), "{said}");
    assert!(t.no(with("9.0.0", &[("", "1")])).contains("is not a name of 1 to 256"));
    t.ok(with("9.0.0", &[("parser", "2.1.0"), ("ui", "v3")]));
    assert_eq!(t.s().releases[&(shop().service, version("9.0.0"))].build.components.len(), 2);
}

#[test]
fn a_retired_version_is_listed_and_starts_no_more() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.ok(retire("2.0.0"));
    let events = t.s().events.len();
    t.ok(retire("2.0.0"));
    assert_eq!(t.s().events.len(), events, "it was so already");
    let digest = t.s().releases[&(shop().service, version("2.0.0"))].digest.clone();
    let again = ReleaseRegistered {
        service: shop().service,
        version: version("2.0.0"),
        digest,
        build: BuildInfo::default(),
        labels: BTreeMap::new(),
    };
    assert!(t.no(Command::ReleaseRegistered(again)).contains("is retired"));
    let said = t.start("2.0.0", StrategyName::ROLLING).unwrap_err().to_string();
    assert!(said.contains("release shop 2.0.0 is retired: push a new version"), "{said}");
    let key = (shop().service, version("2.0.0"));
    assert_eq!(t.s().releases[&key].status, ReleaseStatus::Retired);
    t.ok(remove("2.0.0"));
    t.ok(push("2.0.0", 1));
    assert!(t.no(retire("3.0.1")).contains("did you mean 3.0.0"));
}

#[test]
fn a_version_that_was_fled_from_may_be_retired_and_one_that_was_aborted_has_run() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.completes("2.0.0", StrategyName::ROLLING);
    let rollout = t.s().deployments[&shop()].last.unwrap();
    t.ok(Command::Rollback(Rollback { rollout }));
    t.until("back", |s| s.deployments[&shop()].live.is_none());
    t.until("nothing of it runs", |s| {
        !s.instances_of(&shop()).any(|i| i.life.is_live() && i.pair.version.to_string() == "2.0.0")
            && s.deployments[&shop()].arms.get(Role::Previous).is_none()
    });
    t.ok(retire("2.0.0"));
    t.start("3.0.0", StrategyName::CANARY).unwrap();
    t.until("it has traffic", |s| s.deployments[&shop()].arms.weight(Role::Candidate).0 > 0);
    let rollout = t.live().id;
    t.ok(Command::Abort(Abort { rollout, as_is: false }));
    assert!(t.s().releases[&(shop().service, version("3.0.0"))].ran);
}
