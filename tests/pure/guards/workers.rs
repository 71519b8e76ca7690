//! Stories of workers that come, and of what they say before they run something.
//!
//! Not here: what they run.

use slipway::{
    engine::facts,
    model::Period,
    state::{
        Evidence, Fit, Observations, Reached, ReachedFact, Verdict, WorkerFacts,
        command::{StepEnded, WorkerLost},
    },
};

use super::*;

#[test]
fn a_worker_that_has_just_registered_is_not_lost() {
    let mut t = Story::new();
    t.pass(Period::minutes(1));
    t.ok(worker("w9", 9, &["127.1.9.1"]));
    let lost = |t: &Story| {
        let seen = Observations { leader_since: Millis(0), ..Observations::default() };
        let name = WorkerName::new("w9").unwrap();
        facts(t.s(), &seen, t.s().now)
            .iter()
            .any(|c| matches!(c, Command::WorkerLost(WorkerLost { worker, .. }) if *worker == name))
    };
    t.pass(Period::seconds(9));
    assert!(!lost(&t), "it has had no time to report");
    t.pass(Period::seconds(1));
    assert!(lost(&t), "it never did");
}

/// What w1 says of the pair that is to run there next, for a generation.
fn says(t: &Story, generation: u64, fit: Fit) -> Command {
    let name = WorkerName::new("w1").unwrap();
    let (epoch, seq) = t.s().workers[&name].report;
    let reached = ReachedFact { deployment: shop(), generation, reached: Reached::Committed, fit: Some(fit) };
    Command::FactsRecorded(FactsRecorded {
        workers: vec![WorkerFacts {
            worker: name,
            epoch,
            seq: seq + 1,
            instances: Vec::new(),
            reached: vec![reached],
            staged: None,
        }],
    })
}

#[test]
fn a_stage_ends_only_when_every_worker_said_in_this_generation_that_it_has_what_is_asked_for() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::ROLLING).unwrap();
    let w1 = WorkerName::new("w1").unwrap();
    let next = |s: &State| s.assignments.get(&(w1.clone(), shop())).and_then(|a| a.content.next.clone());
    t.until("the package is staged", |s| next(s).is_some() && s.assignments[&(w1.clone(), shop())].looked().is_some());
    let generation = t.s().assignments[&(w1.clone(), shop())].generation;
    let ends = |t: &Story| {
        let (step, _) = t.live().running().unwrap();
        let at = StepRef { rollout: t.live().id, seen: t.live().meta.revision, step };
        let evidence = Evidence {
            from: Millis(0),
            to: t.s().now,
            checks: Vec::new(),
            seen: Vec::new(),
            verdict: Verdict::Unjudged,
            note: String::new(),
        };
        Command::StepEnded(StepEnded { at, evidence })
    };
    t.ok(says(&t, generation, Fit::Lacks("no user".into())));
    let since = t.s().assignments[&(w1.clone(), shop())].looked().unwrap().since;
    let said = t.no(ends(&t));
    assert!(said.contains("1 workers have not unpacked 2.0.0, or do not have what it asks for"), "{said}");
    // What it said of an earlier generation is no word about this one, and other words for the same lack begin no new
    // wait.
    t.ok(says(&t, generation - 1, Fit::Fits));
    t.ok(says(&t, generation, Fit::Lacks("no user, still".into())));
    let look = t.s().assignments[&(w1.clone(), shop())].looked().unwrap().clone();
    assert_eq!((look.since, look.fit), (since, Fit::Lacks("no user, still".into())));
    t.no(ends(&t));
    t.ok(says(&t, generation, Fit::Fits));
    t.ok(ends(&t));
    // With its first instance there is nothing to look at any more.
    t.until("an instance of it", |s| {
        s.instances.values().any(|i| i.worker == w1 && i.pair.version == "2.0.0".parse().unwrap())
    });
    assert_eq!(next(t.s()), None);
    t.until("completion", |s| s.deployments[&shop()].live.is_none());
}
