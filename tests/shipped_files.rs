//! The files that users are told to apply are accepted as they are, and say what their comments promise.

use slipway::model::{AddressMode, Period, RolloutParams, SpecFormat, Strategy, read_spec};

#[test]
fn the_demo_services_spec_is_valid_and_keeps_the_times_of_production() {
    let text = include_str!("../cluster/shop.yaml");
    let spec = read_spec(text, SpecFormat::of_file("cluster/shop.yaml")).expect("cluster/shop.yaml is a valid spec");
    assert_eq!(spec.deployment.to_string(), "production/shop");
    assert_eq!(spec.address, AddressMode::Pool);
    assert_eq!(spec.rollout.strategy, Some(Strategy::Canary));
    let defaults = RolloutParams::default();
    assert_eq!((spec.rollout.bake, &spec.rollout.steps), (defaults.bake, &defaults.steps));
    assert_eq!((spec.rollout.monitor, spec.rollout.grace), (defaults.monitor, defaults.grace));
    assert_eq!(spec.drain.0, Period::seconds(15));
}
