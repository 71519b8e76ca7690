//! Stories of settings: what is out of its range or below what there is, and whose default counts.

use slipway::model::{Name, Overrides, Period, Portion};
use slipway::state::{ROLLOUT_PREFIX, SettingsChange, command::SettingsSet, declared_settings, rollout_defaults};

use super::*;

fn set(service: Option<&str>, all: &[(&str, &str)]) -> Command {
    let mut change = SettingsChange::default();
    all.iter().for_each(|(name, text)| change.set(name, text).unwrap());
    let service = service.map(|s| Name::service(s).unwrap());
    SettingsSet { service, change, unset: Vec::new() }.into()
}

fn unset(service: Option<&str>, name: &str) -> Command {
    let service = service.map(|s| Name::service(s).unwrap());
    SettingsSet { service, change: SettingsChange::default(), unset: vec![name.into()] }.into()
}

#[test]
fn a_setting_is_refused_by_name_with_its_range_and_with_what_there_is() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    for (name, text, why) in [
        ("lost_after", "1s", "lost_after: must be from 3s to 1h"),
        ("dns_out_after", "5s", "dns_out_after: 5s is before lost_after (10s)"),
        ("limits.environments", "0", "limits.environments: must be from 1 to 1000"),
        ("limits.environments", "3", "limits.environments: 3 is below the 4 that there are"),
        ("limits.workers", "3", "limits.workers: 3 is below the 4 that there are"),
        ("limits.releases_per_service", "2", "limits.releases_per_service: 2 is below the 4 that there are"),
        ("limits.instances_per_deployment", "7", "limits.instances_per_deployment: 7 is below the 8 that there are"),
        ("limits.history_per_deployment", "1001", "must be from 0 to 1000"),
        ("health_interval", "1ms", "health_interval: must be from 100ms to 1h"),
        ("package_keep", "1s", "package_keep: must be from 1m to 720h"),
        ("rollout.parallelism", "0", "rollout.parallelism: must be from 1 to 1000, or above"),
        ("rollout.max_surge", "0", "max_surge and max_unavailable are both 0"),
    ] {
        let before = t.s().cluster.clone();
        let said = t.no(set(None, &[(name, text)]));
        assert!(said.contains(why), "{name}={text}: {said}");
        assert_eq!(t.s().cluster, before);
    }
    let wrong = |name: &str, text: &str| SettingsChange::default().set(name, text).unwrap_err().to_string();
    assert!(wrong("lost_afer", "1s").contains("did you mean lost_after?"));
    assert!(wrong("limits.workers", "many").starts_with("limits.workers: \"many\" is not a whole number"));
    assert!(wrong("rollout.bakes", "1s").contains("did you mean bake?"));
    assert!(t.no(unset(None, "limits.worker")).contains("did you mean limits.workers?"));
    assert!(t.no(set(Some("shpo"), &[("rollout.bake", "1s")])).contains("did you mean shop?"));
    let said = t.no(set(Some("shop"), &[("lost_after", "10s")]));
    assert!(said.contains("a service has settings of its rollouts alone (rollout.NAME)"), "{said}");
    assert!(t.no(unset(Some("shop"), "lost_after")).contains("of its rollouts alone"));
}

#[test]
fn a_limit_holds_from_the_entry_that_sets_it_and_two_people_take_nothing_from_each_other() {
    let mut t = Story::new();
    t.ok(set(None, &[("limits.workers", "4"), ("lost_after", "12s")]));
    assert!(t.no(worker("w5", 5, &[])).contains("too many workers (limit 4)"));
    t.ok(set(None, &[("limits.workers", "5")]));
    t.ok(worker("w5", 5, &[]));
    let settings = t.s().cluster.as_ref().unwrap().settings.clone();
    assert_eq!((settings.limits.workers, settings.lost_after), (5, Period::seconds(12)));
    let told = t.s().events.values().rev().find_map(|e| {
        let told = e.body.describe();
        (told.kind == "settings_changed").then_some(told.text)
    });
    assert_eq!(told.unwrap(), "settings: limits.workers 4 -> 5");
    let events = t.s().events.len();
    t.ok(set(None, &[("limits.workers", "5")]));
    assert_eq!(t.s().events.len(), events, "it was so already");
    t.ok(unset(None, "lost_after"));
    assert_eq!(t.s().cluster.as_ref().unwrap().settings.lost_after, Period::seconds(10));
}

#[test]
fn history_can_be_switched_off() {
    let mut t = Story::new();
    t.ok(set(None, &[("limits.history_per_deployment", "0")]));
    for n in 1..=3 {
        t.completes(&format!("{n}.0.0"), StrategyName::DIRECT);
    }
    let kept: Vec<String> = t.s().rollouts.values().map(|r| r.to.version.to_string()).collect();
    assert_eq!(kept, ["3.0.0"], "what can be undone stays");
}

#[test]
fn a_rollout_takes_what_is_said_nearest_to_it_and_of_the_moment_it_starts() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    // The spec says 2s of its bake, and nothing of these two.
    t.ok(set(None, &[("rollout.bake", "9s"), ("rollout.parallelism", "7"), ("rollout.deadline", "40m")]));
    t.ok(set(Some("shop"), &[("rollout.parallelism", "5"), ("rollout.delay", "1s")]));
    let defaults = |t: &Story| rollout_defaults(t.s(), t.s().specs.values().next_back().unwrap());
    let of = |p: RolloutParams| (p.bake, p.parallelism, p.deadline, p.delay);
    let (two, long) = (Period::seconds(2), Period::minutes(40));
    assert_eq!(of(defaults(&t)), (two, Portion::count(5), long, Period::seconds(1)));
    let overrides = Overrides { delay: Some(Period(0)), ..Overrides::default() };
    let ask = StartRollout { overrides, ..start(t.s(), "2.0.0", StrategyName::ROLLING) };
    t.ok(Command::StartRollout(ask));
    assert_eq!(of(t.live().params.clone()), (two, Portion::count(5), long, Period(0)));
    t.ok(unset(Some("shop"), "rollout.parallelism"));
    t.ok(unset(None, "rollout.deadline"));
    assert_eq!(of(defaults(&t)), (two, Portion::count(7), RolloutParams::default().deadline, Period::seconds(1)));
    assert_eq!(t.live().params.parallelism, Portion::count(5), "one that has started keeps what it began with");
}

#[test]
fn a_spec_that_says_nothing_of_the_interval_gets_the_clusters() {
    let mut t = Story::new();
    let spec = |t: &Story| t.s().specs.values().next_back().unwrap().clone();
    let mut said = spec(&t);
    assert_eq!((said.health.interval, said.said.interval), (Period::seconds(2), None));
    t.ok(set(None, &[("health_interval", "5s")]));
    t.ok(SpecApplied { spec: said.clone(), expected: None }.into());
    assert_eq!(spec(&t).health.interval, Period::seconds(5));
    (said.said.interval, said.health.interval) = (Some(Period::seconds(3)), Period::seconds(3));
    t.ok(SpecApplied { spec: said, expected: None }.into());
    assert_eq!(spec(&t).health.interval, Period::seconds(3));
}

#[test]
fn what_is_shown_of_every_setting_can_be_set() {
    let settings = Story::new().s().cluster.as_ref().unwrap().settings.clone();
    let shown = settings.shown();
    assert_eq!(shown.len(), declared_settings().count());
    let mut change = SettingsChange::default();
    for (setting, [value, default, range]) in &shown {
        assert_eq!(value, default);
        assert!(range.starts_with("from ") && !setting.about.is_empty() && !setting.name.starts_with(ROLLOUT_PREFIX));
        change.set(setting.name, value).unwrap();
    }
    assert_eq!(settings.changed(&change, &[]).unwrap(), settings);
    settings.check().unwrap();
}
