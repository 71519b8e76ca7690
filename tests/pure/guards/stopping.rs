//! What a leader makes of a report that leaves a stopping instance out.

use slipway::engine::facts;
use slipway::model::{InstanceId, Period};
use slipway::state::{Observations, Reached, ReachedFact, Seen, WorkerFacts};

use super::*;

#[test]
fn a_stopping_instance_is_gone_when_a_report_of_its_newest_assignment_leaves_it_out() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::DIRECT).unwrap();
    let stopping = |s: &State| s.instances.values().find(|i| i.life == Life::Stopping).cloned();
    t.until("a stop", |s| stopping(s).is_some());
    let i = stopping(t.s()).unwrap();
    let generation = t.s().assignments[&(i.worker.clone(), shop())].generation;
    let (epoch, seq) = t.s().workers[&i.worker].report;
    // Who is said to be gone by a report that says no more than how far the agent has come.
    let gone = |of: &[(u64, &str)], newer: u64| -> Vec<InstanceId> {
        let reached = of.iter().map(|(generation, deployment)| ReachedFact {
            deployment: deployment.parse().unwrap(),
            generation: *generation,
            reached: Reached::Committed,
            fit: None,
        });
        let value = WorkerFacts {
            worker: i.worker.clone(),
            epoch,
            seq: seq + newer,
            instances: Vec::new(),
            reached: reached.collect(),
            staged: None,
        };
        let mut seen = Observations { leader_since: t.s().now, ..Observations::default() };
        seen.workers.insert(i.worker.clone(), Seen::Known { at: t.s().now, value });
        let said = facts(t.s(), &seen, t.s().now.plus(Period(1))).into_iter().flat_map(|c| match c {
            Command::FactsRecorded(f) => f.workers.into_iter().flat_map(|w| w.instances),
            other => panic!("{}", other.name()),
        });
        said.inspect(|f| assert_eq!((f.life, f.health), (Life::Gone, Health::Unknown))).map(|f| f.id).collect()
    };
    let stops = |n: &slipway::state::Instance| n.life == Life::Stopping && n.worker == i.worker;
    let all: Vec<InstanceId> = t.s().instances.values().filter(|n| stops(n)).map(|n| n.id).collect();
    assert_eq!(gone(&[(generation, "production/shop")], 1), all);
    for (of, why) in [
        (vec![], "an agent that says nothing of the deployment has not read its journal yet"),
        (vec![(generation - 1, "production/shop")], "it may not know yet that the instance is to stop"),
        (vec![(generation + 1, "production/shop")], "that generation is of another cluster"),
        (vec![(generation, "production/cart")], "that is another deployment"),
    ] {
        assert!(gone(&of, 1).is_empty(), "{why}");
    }
    assert!(gone(&[(generation, "production/shop")], 0).is_empty(), "that report is committed");
}
