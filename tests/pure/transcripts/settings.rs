//! Which settings a strategy reads, held against its compiler: a setting is read exactly when its change changes the steps.

use slipway::engine::preview;
use slipway::model::{AddressMode, BasisPoints, Period, RolloutParams, Setting, Strategy};

use crate::sim_fleet::{Fleet, Shape, params, starting};

fn changed(p: &RolloutParams, s: Setting) -> RolloutParams {
    let mut p = p.clone();
    match s {
        Setting::Steps => p.steps = vec![BasisPoints::percent(40)],
        Setting::Bake => p.bake = Period::seconds(99),
        Setting::Parallelism => p.parallelism = 1,
        Setting::Delay => p.delay = Period::seconds(99),
        Setting::MaxSurge => p.max_surge = 3,
        Setting::MaxUnavailable => p.max_unavailable = 3,
        Setting::WarmUp => p.warm_up = Period::seconds(99),
        Setting::Smoke => p.smoke = Some("/other".into()),
        Setting::Monitor => p.monitor = Period::seconds(99),
        Setting::Grace => p.grace = Period::seconds(99),
    }
    p
}

#[test]
fn a_strategy_reads_the_settings_that_it_says_and_no_others() {
    for (host, mode) in [(false, AddressMode::Pool), (true, AddressMode::Host)] {
        let f = Fleet::with_stable(&Shape { host, ..Shape::default() });
        let steps = |params: RolloutParams| preview(&f.state, &starting(f.shop(), "2.0.0", params));
        for &strategy in Strategy::ALL {
            let p = RolloutParams { parallelism: 8, max_surge: 1, max_unavailable: 2, ..params(strategy) };
            let Ok(before) = steps(p.clone()) else {
                // Blue-green has no room on a fleet of hosts without spare workers.
                assert_eq!((strategy, mode), (Strategy::BlueGreen, AddressMode::Host));
                continue;
            };
            for &s in Setting::ALL {
                let reads = steps(changed(&p, s)).expect("a preview") != before;
                assert_eq!(strategy.reads(mode).contains(&s), reads, "{strategy}, {mode}: {s}");
            }
        }
    }
}
