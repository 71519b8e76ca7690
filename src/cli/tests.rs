//! The command line as typed: spellings that must be understood, mistakes that must be explained.

mod documents;
mod fake;
mod transcripts;

use super::*;
use args::{Noun, RolloutVerb, ServiceVerb};

use crate::model::{BasisPoints, Ceiling, Period, Portion, StrategyName};

fn parse(line: &str) -> Result<Command, clap::Error> {
    super::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
}

fn session(line: &str) -> Session {
    Session::new(&parse(line).unwrap().global, Clock::manual(0)).unwrap()
}

#[test]
fn the_definition_is_sound() {
    args::definition().debug_assert();
}

#[test]
fn the_older_spelling_of_an_update_is_a_rollout() {
    let line = "slipway service update shop --to 2.0.0 --strategy canary --canary-steps 5,10%,50,100 --parallelism 2 \
                --max-surge 1 --max-unavailable 0 --stability-window PT10M --watch";
    let Noun::Service(ServiceVerb::Update { start, watch }) = parse(line).unwrap().noun else {
        panic!("not an update");
    };
    let p = start.params.0;
    assert_eq!((start.what.deployment.as_str(), start.to.as_str(), watch.watch), ("shop", "2.0.0", true));
    assert_eq!(p.strategy, Some(Some(StrategyName::CANARY)));
    assert_eq!(p.steps, Some([500, 1000, 5000, 10_000].map(BasisPoints).to_vec()));
    assert_eq!((p.parallelism, p.max_surge, p.max_unavailable), [2, 1, 0].map(|n| Some(Portion::count(n))).into());
    assert_eq!((p.bake, p.delay), (Some(Period::minutes(10)), None), "what is not given stays the spec's");
}

#[test]
fn a_rollout_start_takes_the_spec_s_names() {
    let line = "slipway rollout start production/shop --to 1.1.0 --strategy blue_green --bake 10m --max-error-rate 0.5% --within 5m";
    let Noun::Rollout(RolloutVerb::Start { start, replace, expect: None, watch }) = parse(line).unwrap().noun else {
        panic!("not a start")
    };
    assert!(!replace);
    let off = "slipway rollout start shop --to 1.1.0 --max-error-rate off --health-timeout 20s --replace";
    let Noun::Rollout(RolloutVerb::Start { start: other, replace, .. }) = parse(off).unwrap().noun else {
        panic!("not a start")
    };
    let p = other.params.0;
    assert!(replace && p.max_error_rate == Some(Ceiling(None)));
    assert_eq!(p.health_timeout, Some(Some(Period::seconds(20))));
    let p = start.params.0;
    assert_eq!(p.strategy, Some(Some(StrategyName::BLUE_GREEN)));
    assert_eq!((p.bake, p.max_error_rate), (Some(Period::minutes(10)), Some(Ceiling(Some(BasisPoints(50))))));
    assert_eq!(watch.limits.within.map(|p| p.0), Some(300_000));
}

#[test]
fn mistakes_are_explained() {
    for (line, wants) in [
        ("slipway rollot list", "rollout"),
        ("slipway rollout strt shop", "start"),
        ("slipway rollout start shop --to 1.0.0 --on-no-data wait", "hold, pass, fail"),
        ("slipway rollout start shop --to 1.0.0 --strategy a.b", "the name of a strategy"),
        ("slipway rollout start shop --to 1.0.0 --steps 10,120", "a percentage from 0 to 100"),
        ("slipway rollout start shop --to 1.0.0 --bake 10", "a duration (such as 30s"),
        ("slipway rollout start shop", "--to"),
        ("slipway service update shop", "--to"),
    ] {
        let text = parse(line).unwrap_err().to_string();
        assert!(text.contains(wants), "{line}:\n{text}");
    }
}

#[tokio::test]
async fn a_bare_service_is_in_the_environment_of_the_context() {
    let s = session("slipway --environment qa rollout status shop");
    assert_eq!(s.deployment_id("shop").unwrap(), "qa/shop");
    assert_eq!(s.deployment_id("production/shop").unwrap(), "production/shop");
    assert_eq!(s.target("r-52").unwrap().rollout, "r-52");
    assert_eq!(s.target("shop").unwrap().deployment, "qa/shop");
    assert!(
        s.deployment_id("Shop").is_err() && s.deployment_id("a/b/c").is_err() && s.deployment_id("qa/canary").is_err()
    );
}

#[tokio::test]
async fn exit_codes_tell_scripts_what_happened() {
    // Nothing listens on a port that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = async |line: String| run(line.split_whitespace().map(OsString::from), Clock::real()).await;
    assert_eq!(run("slipway rollout strt".into()).await, error::USAGE);
    assert_eq!(run(format!("slipway --node {free} rollout start Shop --to 1.0.0")).await, error::USAGE);
    assert_eq!(run(format!("slipway --node {free} apply -f does/not/exist.yaml")).await, error::FAILED);
    assert_eq!(run(format!("slipway --node {free} cluster status")).await, error::UNAVAILABLE);
    assert_eq!(run("slipway --version".into()).await, error::DONE);
    assert_eq!(run("slipway --node nowhere cluster status".into()).await, error::USAGE);
}
