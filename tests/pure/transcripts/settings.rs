//! Which settings a strategy reads, held against its compiler: a setting is read exactly when its change changes the
//! steps.

use slipway::{
    engine::{STRATEGIES, Strategy, preview, settings_page},
    model::{AddressMode, Overrides, Portion, Principal, RolloutParams, StepKind, StrategyName},
    state::RolloutStatus,
};

use crate::sim_fleet::{Fleet, Shape, params, starting};

/// Another value of each setting that only some strategies read.
const OTHERS: [(&str, &str); 11] = [
    ("steps", "40"),
    ("bake", "99s"),
    ("parallelism", "1"),
    ("delay", "99s"),
    ("max_surge", "3"),
    ("max_unavailable", "3"),
    ("warm_up", "99s"),
    ("smoke", "/other"),
    ("auto_promote", "false"),
    ("monitor", "99s"),
    ("grace", "99s"),
];

#[test]
fn a_strategy_reads_the_settings_that_it_says_and_no_others() {
    let mut of_some: Vec<&str> = Strategy::of_some().iter().map(|s| s.name).collect();
    of_some.sort_by_key(|name| OTHERS.iter().position(|(n, _)| n == name));
    assert_eq!(of_some, OTHERS.map(|(name, _)| name), "this test has another value of each");
    for (host, mode) in [(false, AddressMode::Pool), (true, AddressMode::Host)] {
        let f = Fleet::with_stable(&Shape { host, ..Shape::default() });
        let steps = |params: RolloutParams| {
            preview(&f.state, &Principal::local_operator(), &starting(f.shop(), "2.0.0", params))
        };
        for strategy in STRATEGIES {
            let name = strategy.name.clone();
            let p = RolloutParams {
                parallelism: Portion::count(8),
                max_surge: Portion::count(1),
                max_unavailable: Portion::count(2),
                ..params(name.clone())
            };
            let Ok(before) = steps(p.clone()) else {
                // Blue-green has no room on a fleet of hosts without spare workers.
                assert_eq!((name, mode), (StrategyName::BLUE_GREEN, AddressMode::Host));
                continue;
            };
            for (setting, text) in OTHERS {
                let mut other = Overrides::default();
                other.set(setting, text).expect("a value");
                let reads = steps(other.over(p.clone())).expect("a preview") != before;
                assert_eq!(strategy.reads(mode).iter().any(|s| s.name == setting), reads, "{name}, {mode}: {setting}");
            }
        }
    }
}

#[test]
fn an_unknown_strategy_is_refused_before_it_starts_with_the_nearest() {
    let f = Fleet::with_stable(&Shape::default());
    let canery: StrategyName = "canery".parse().expect("a name");
    let said = preview(&f.state, &Principal::local_operator(), &starting(f.shop(), "2.0.0", params(canery)))
        .expect_err("no such strategy")
        .to_string();
    assert_eq!(said, "unknown strategy \"canery\"; did you mean canary?; known: direct, rolling, canary, blue-green");
}

#[test]
fn the_page_of_settings_is_current() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rollout-settings.md");
    if std::env::var("GOLDEN").is_ok_and(|v| v == "write") {
        std::fs::create_dir_all(file.parent().expect("docs")).expect("docs");
        std::fs::write(&file, settings_page()).expect("written");
    }
    // The pure layers are also built by themselves, without docs.
    let kept = std::fs::read_to_string(&file).unwrap_or_else(|_| settings_page());
    assert!(kept == settings_page(), "{} is out of date: GOLDEN=write cargo test --test pure settings", file.display());
}

/// A quarter of eight is two, whether they come beside the old ones or take their places; three quarters of the eight
/// go on serving all the while (`sim_fleet::watch` and invariant 12 look at every entry).
#[test]
fn a_rolling_update_in_shares_moves_so_many_of_the_instances_at_once() {
    let share = |text: &str| text.parse::<Portion>().expect("a portion");
    for (surge, unavailable) in [("25%", "0"), ("0", "25%"), ("13%", "24%")] {
        let mut f = Fleet::with_stable(&Shape::default());
        let p = RolloutParams {
            parallelism: share("25%"),
            max_surge: share(surge),
            max_unavailable: share(unavailable),
            ..params(StrategyName::ROLLING)
        };
        let id = f.start("2.0.0", p);
        f.until_status(600, id, RolloutStatus::Completed);
        let r = &f.state.rollouts[&id];
        let batch = r
            .steps
            .iter()
            .find_map(|s| if let StepKind::Install { batch, .. } = s.step.kind { Some(batch) } else { None });
        assert_eq!((r.desired, batch), (8, Some(2)), "surge {surge}, unavailable {unavailable}");
    }
}

/// W12: the environment's strategy, where neither flags nor the spec name one.
#[test]
fn a_rollout_without_a_strategy_moves_as_its_environment_says() {
    let mut f = Fleet::with_stable(&Shape::default());
    let id = f.start("2.0.0", RolloutParams { strategy: None, ..params(StrategyName::DIRECT) });
    assert_eq!(f.state.rollouts[&id].strategy, StrategyName::CANARY, "it is production's");
    f.until_status(600, id, RolloutStatus::Completed);
    let shares: Vec<_> = f.state.rollouts[&id].steps.iter().filter(|s| s.step.kind.name() == "route").collect();
    assert_eq!(shares.len(), 4, "each of 10, 25, 50 and 100 %");
}
