//! What stands in the record of a step: by metric and check, in a size that does not grow with the fleet.

use slipway::model::{
    BasisPoints, Ceiling, Histogram, MetricName, Period, RolloutParams, Sample, Samples, StepKind, StrategyName,
};
use slipway::state::{Command, Evidence, Reason, RolloutStatus, Seen, State, StepCounts, StepRow, Verdict, codec};

use crate::sim_fleet::{Behaviour, Fleet, Shape, latency, params};

/// Evidence names forty workers and sums the rest, so that a record stays small in a fleet of any size.
#[test]
fn evidence_of_a_large_fleet_names_some_workers_and_sums_the_rest() {
    let mut f = Fleet::with_stable(&Shape { workers: 45, per_worker: 1, ..Shape::default() });
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    f.until_status(900, id, RolloutStatus::Completed);
    let steps = &f.state.rollouts[&id].steps;
    let listed = |e: &Evidence| e.seen.iter().map(|s| s.workers.len()).max();
    let large = steps.iter().filter_map(|s| s.evidence.as_ref()).filter(|e| listed(e) == Some(40));
    let notes: Vec<&str> = large.map(|e| e.note.as_str()).collect();
    assert!(
        notes.iter().any(|n| n.starts_with("5 more workers: ") && n.contains(" requests of the new pair, ")),
        "{notes:?}"
    );
}

/// What a spec declares beside requests and errors travels the same way; no check judges it yet.
#[test]
fn a_histogram_that_a_spec_declares_stands_in_the_evidence_by_name() {
    let mut f = Fleet::with_stable(&Shape { latency: true, ..Shape::default() });
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    f.until_status(300, id, RolloutStatus::Completed);
    let r = &f.state.rollouts[&id];
    let bakes: Vec<_> = r.steps.iter().filter(|s| s.step.kind.name() == "bake").collect();
    assert_eq!(bakes.len(), 4);
    for bake in bakes {
        let evidence = bake.evidence.as_ref().unwrap();
        let tests: Vec<String> = evidence.checks.iter().map(|c| format!("{} {}", c.check.test, c.verdict)).collect();
        assert_eq!(tests, ["health unjudged", "ceiling not worse"]);
        let seen = evidence.seen.iter().find(|s| s.pair == r.to).unwrap();
        let name: MetricName = "latency".parse().unwrap();
        for (worker, of_one) in &seen.workers {
            let requests = of_one.count(&MetricName::REQUESTS).unwrap();
            assert_eq!(of_one.0[&name], latency(requests), "{worker}");
        }
        let total = seen.total();
        let histogram = total.0[&name].histogram().unwrap();
        assert_eq!(total.count(&name), total.count(&MetricName::REQUESTS));
        assert_eq!(histogram.buckets().iter().map(|b| b.0).collect::<Vec<_>>(), [10_000, 50_000, 100_000]);
        assert!(histogram.buckets()[0].1 > 0 && histogram.sum() > 0, "{histogram:?}");
    }
}

/// Two hundred workers, each with ten metrics, eight of them histograms as fine as there are: what is told stays within
/// what the law takes.
#[test]
fn evidence_stays_small_whatever_is_counted() {
    let mut f = Fleet::with_stable(&Shape { workers: 45, per_worker: 1, latency: true, ..Shape::default() });
    let id = f.start("2.0.0", params(StrategyName::CANARY));
    f.until(60, "a bake", |f| f.at(id, "bake", "10 %"));
    let r = &f.state.rollouts[&id];
    let fine = |n: u64| {
        let buckets = (0..100).map(|b| (n * 1_000_000_007 + b * 1_000_000, u64::MAX - 100 + b)).collect();
        Sample::Histogram(Histogram::new(buckets, u64::MAX, u64::MAX).unwrap())
    };
    let step = r.running().unwrap().1.step_id.unwrap();
    let mut samples = crate::counted(1000, 1);
    samples.0.insert("latency".parse().unwrap(), fine(1));
    samples.0.extend((0..7).map(|n| (format!("undeclared_{n}").parse().unwrap(), fine(n))));
    let pairs = [r.to.clone(), r.from.clone().unwrap()].map(|pair| (pair, samples.clone())).into();
    let counts = StepCounts { pairs, ..StepCounts::default() };
    let mut seen = f.seen.clone();
    seen.counts.insert((f.shop(), step), f.state.workers.keys().map(|w| (w.clone(), counts.clone())).collect());
    let mut late = f.state.clone();
    late.now = late.now.plus(Period::seconds(60));
    for heard in seen.workers.values_mut() {
        if let Seen::Known { at, .. } = heard {
            *at = late.now;
        }
    }
    let ends = slipway::engine::plan(&late, &seen, late.now).commands;
    let Some(Command::StepEnded(end)) = ends.into_iter().next() else { panic!("the bake does not end") };
    let size = codec::encode_plain(&end.evidence).unwrap().len();
    assert!((6_000..13_000).contains(&size), "{size} bytes");
    let to = end.evidence.seen.iter().find(|s| s.pair == f.state.rollouts[&id].to).unwrap();
    let names: Vec<String> = to.total().0.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["errors", "latency", "requests"], "what nobody declared is not kept");
    assert_eq!(to.total().count(&MetricName::REQUESTS), Some(45_000), "nothing is lost but detail");
    assert!(to.workers.len() < 40 && end.evidence.note.contains(" more workers: "), "{}", end.evidence.note);
}

/// A worker that says how many requests came and nothing of errors would thin the errors of the others out.
#[test]
fn requests_without_errors_are_no_share_and_nothing_is_judged_without_them() {
    let mut f = Fleet::with_stable(&Shape::default());
    f.behaviour.insert("2.0.0".into(), Behaviour { errors: 600, ..Behaviour::default() });
    let p = RolloutParams { steps: vec![BasisPoints::percent(50)], ..params(StrategyName::CANARY) };
    let p = RolloutParams { max_error_rate: Ceiling(Some(BasisPoints::percent(7))), ..p };
    let id = f.start("2.0.0", p);
    f.until(60, "a bake", |f| f.at(id, "bake", "50 %"));
    let r = &f.state.rollouts[&id];
    let step = r.running().unwrap().1.step_id.unwrap();
    let late = State { now: f.state.now.plus(Period::seconds(60)), ..f.state.clone() };
    let mut seen = f.seen.clone();
    for heard in seen.workers.values_mut() {
        if let Seen::Known { at, .. } = heard {
            *at = late.now;
        }
    }
    let says = |seen: &mut slipway::state::Observations, odd: Samples| {
        let counts =
            f.state.workers.keys().zip([odd, crate::counted(100, 6), crate::counted(100, 6), crate::counted(100, 6)]);
        let of = |samples| StepCounts { pairs: [(r.to.clone(), samples)].into(), ..StepCounts::default() };
        seen.counts.insert((f.shop(), step), counts.map(|(w, samples)| (w.clone(), of(samples))).collect());
        slipway::engine::plan(&late, seen, late.now)
    };
    let whole = says(&mut seen, crate::counted(100, 6));
    assert!(matches!(&whole.commands[..], [Command::StepEnded(end)] if end.evidence.verdict == Verdict::NotWorse));
    let mut half = crate::counted(100_000, 0);
    half.0.remove(&MetricName::ERRORS);
    let planned = says(&mut seen, half.clone());
    let waits: Vec<String> = planned.waits.values().flatten().map(ToString::to_string).collect();
    assert_eq!(waits, ["w1 cannot count: its errors and requests do not come together"]);
    assert!(planned.commands.is_empty());
    // What the others saw is enough to fail it, and is not thinned.
    let strict = |rows: &mut Vec<StepRow>| {
        for row in rows {
            if let StepKind::Bake { checks, .. } = &mut row.step.kind {
                checks.iter_mut().filter(|c| c.needs_traffic()).for_each(|c| c.limit = 500);
            }
        }
    };
    let mut stricter = late.clone();
    let mut row = stricter.rollouts[&id].clone();
    strict(&mut row.steps);
    stricter.rollouts.insert(id, row);
    let turned = slipway::engine::plan(&stricter, &seen, late.now).commands;
    let Some(Command::RollbackBegan(back)) = turned.first() else { panic!("{turned:?}") };
    assert_eq!(back.reason, Reason::ErrorRate { errors: 18, requests: 300, limit: 500 });
}
