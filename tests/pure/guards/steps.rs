//! Stories of steps: attempts, smoke tests, records of bakes, drains and stops.

use slipway::model::{Period, Samples};
use slipway::state::{
    CheckRecord, DeliveryKey, Evidence, PairSeen, Verdict,
    command::{DeliverySettled, DrainSettled, StepEnded, StepStarted, StopPermitted},
};

use super::*;

fn at(t: &Story) -> StepRef {
    StepRef { rollout: t.live().id, seen: t.live().meta.revision, step: t.live().cursor }
}

fn running(s: &State, kind: &str) -> bool {
    s.live_rollout(&shop()).and_then(|r| r.running()).is_some_and(|(_, row)| row.step.kind.name() == kind)
}

#[test]
fn a_step_is_begun_by_its_next_attempt_alone() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::BLUE_GREEN).unwrap();
    t.until("a smoke test is next", |s| {
        let r = s.live_rollout(&shop()).unwrap();
        let row = r.steps.get(r.cursor as usize);
        row.is_some_and(|row| row.step.kind.name() == "smoke" && row.status == StepStatus::Waiting)
    });
    let step = at(&t);
    for attempt in [0, 2, 7] {
        let e = t.no(Command::StepStarted(StepStarted { at: step, attempt }));
        assert!(e.contains("the next attempt is 1"), "{attempt}: {e}");
        assert!(t.s().outbox.is_empty(), "nothing is owed for it");
    }
    let skips = StepRef { step: step.step + 1, ..step };
    assert!(t.no(Command::StepStarted(StepStarted { at: skips, attempt: 1 })).contains("is next, not"));
    t.ok(Command::StepStarted(StepStarted { at: step, attempt: 1 }));
    let again = t.try_(Command::StepStarted(StepStarted { at: step, attempt: 2 }));
    assert!(matches!(again, Err(Rejection::Stale { .. })), "{again:?}");
    let e = t.no(Command::StepStarted(StepStarted { at: at(&t), attempt: 2 }));
    assert!(e.contains("is running and cannot become running"), "{e}");
    assert_eq!(t.s().outbox.len(), 1);
}

/// Delivered twice, over a change of leader or by one that was slow: the first outcome of the running attempt counts.
#[test]
fn a_smoke_test_that_is_delivered_twice_counts_once() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::BLUE_GREEN).unwrap();
    t.until("a smoke test", |s| running(s, "smoke"));
    let key = *t.s().outbox.keys().next().unwrap();
    let settled = |key, attempt, ok: bool, detail: &str| {
        Command::DeliverySettled(DeliverySettled { key, attempt, ok, detail: detail.into() })
    };
    for attempt in [0, 2] {
        let e = t.no(settled(key, attempt, false, "500"));
        assert!(e.contains(&format!("attempt {attempt} is not the running one")), "{e}");
    }
    let other = DeliveryKey { ordinal: key.ordinal + 1, ..key };
    assert!(t.no(settled(other, 1, false, "500")).contains("is settled already"));
    t.ok(settled(key, 1, true, "200 from all"));
    let e = t.no(settled(key, 1, false, "500 from one"));
    assert!(e.contains("is settled already"), "{e}");
    let hook = t.live().running().unwrap().1.hook.clone();
    assert_eq!(hook, Some((true, "200 from all".to_string())));
    t.until("the switch", |s| running(s, "switch") || s.live_rollout(&shop()).is_some_and(|r| r.switched));
}

#[test]
fn a_bake_whose_record_contradicts_its_verdict_does_not_pass() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::CANARY).unwrap();
    t.until("a bake", |s| running(s, "bake"));
    let (to, from) = (t.live().to.clone(), t.live().from.clone().unwrap());
    let counts = |pair: &slipway::model::Pair, each: &[(u64, u64)]| {
        let of_one = |((requests, errors), n): (&(u64, u64), u32)| {
            (WorkerName::new(&format!("w{n}")).unwrap(), crate::counted(*requests, *errors))
        };
        let workers = each.iter().zip(1..).map(of_one).collect();
        vec![PairSeen { pair: pair.clone(), workers, rest: Samples::default() }]
    };
    let end = |t: &Story, verdict, seen, note: String| {
        let checks = crate::records(t.live().running().unwrap().1.step.kind.checks(), Verdict::Unjudged);
        let evidence = Evidence { from: Millis(0), to: t.s().now, checks, seen, verdict, note };
        Command::StepEnded(StepEnded { at: at(t), evidence })
    };
    let good = counts(&to, &[(100, 1)]);
    let e = t.no(end(&t, Verdict::NotWorse, good.clone(), String::new()));
    assert!(e.contains("its time is not over"), "{e}");
    t.pass(Period::seconds(3));
    // Over the sum of all workers, of the candidate alone.
    let bad = counts(&to, &[(100, 0), (100, 11)]);
    let e = t.no(end(&t, Verdict::NotWorse, bad, String::new()));
    assert!(e.contains("11 errors of 200 requests are above the ceiling of 500 basis points"), "{e}");
    let mut rest = counts(&to, &[(100, 1)]);
    rest[0].rest = crate::counted(100, 10);
    let e = t.no(end(&t, Verdict::NotWorse, rest, String::new()));
    assert!(e.contains("11 errors of 200 requests"), "also of workers that are not listed: {e}");
    let with = |t: &Story, change: &dyn Fn(&mut Vec<CheckRecord>)| {
        let Command::StepEnded(mut body) = end(t, Verdict::NotWorse, good.clone(), String::new()) else { panic!() };
        change(&mut body.evidence.checks);
        Command::StepEnded(body)
    };
    let e = t.no(with(&t, &|checks| drop(checks.pop())));
    assert!(e.contains("its record is not of the step's checks"), "{e}");
    let e = t.no(with(&t, &|checks| checks[1].check.limit = 10_000));
    assert!(e.contains("its record is not of the step's checks"), "{e}");
    let e = t.no(with(&t, &|checks| checks[0].verdict = Verdict::Worse));
    assert!(e.contains("the verdict on health is Worse"), "{e}");
    for (verdict, says) in
        [(Verdict::Worse, "Worse"), (Verdict::Undecided, "Undecided"), (Verdict::Unjudged, "Unjudged")]
    {
        let e = t.no(end(&t, verdict, good.clone(), String::new()));
        assert!(e.contains(&format!("the verdict is {says}")), "{e}");
    }
    let e = t.no(end(&t, Verdict::NotWorse, good, "x".repeat(17 * 1024)));
    assert!(e.contains("the evidence takes") && e.contains("over 16384"), "{e}");
    let (step, most) = (at(&t), u64::MAX);
    let e = t.no(end(&t, Verdict::NotWorse, counts(&to, &[(most, most), (most, most)]), String::new()));
    assert!(e.contains("are above the ceiling"), "{e}");
    assert_eq!(at(&t), step, "none of them moved it");
    // At the ceiling itself, and whatever the old version does, it passes.
    let mut edge = counts(&to, &[(100, 5), (100, 5)]);
    edge.extend(counts(&from, &[(100, 90)]));
    t.ok(end(&t, Verdict::NotWorse, edge, String::new()));
    assert!(at(&t).step > step.step);
}

/// Drains of two entries, with all servers but what they have served.
#[test]
fn a_drain_is_settled_by_every_servers_word_about_it_and_a_stop_waits_for_the_caches() {
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::DIRECT).unwrap();
    let open = |s: &State| s.instances.values().find_map(|i| i.drain.filter(|d| d.clear_at.is_none())).map(|d| d.index);
    t.until("a drain", |s| open(s).is_some());
    let index = open(t.s()).unwrap();
    let draining: Vec<_> = t.s().instances.values().filter(|i| i.life == Life::Draining).map(|i| i.id).collect();
    let running = t.s().instances.values().find(|i| i.life == Life::Running).unwrap().id;
    let settled = |index: u64, served: [u64; 3], ttl_ms| {
        Command::DrainSettled(DrainSettled {
            deployment: shop(),
            index,
            confirmed: served.iter().zip(1..).map(|(at, node)| (node, *at)).collect(),
            silent: Vec::new(),
            unready: Vec::new(),
            ttl_ms,
        })
    };
    let stop = |instances: &[slipway::model::InstanceId]| {
        Command::StopPermitted(StopPermitted { deployment: shop(), instances: instances.to_vec() })
    };
    let all = |s: &State| [s.applied.index; 3];
    let e = t.no(settled(index, [index, index - 1, index], 0));
    assert!(e.contains(&format!("node 2 has not served index {index}")), "{e}");
    let mut nobody = settled(index, all(t.s()), 0);
    if let Command::DrainSettled(DrainSettled { deployment, .. }) = &mut nobody {
        *deployment = "production/till".parse().unwrap();
    }
    assert!(t.no(nobody).contains("production/till does not exist: there is production/shop"));
    assert!(t.no(stop(&[])).contains("no instance named"));
    assert!(t.no(stop(&draining)).contains("is draining and may not be stopped yet"), "nobody has settled it");
    // Words that are enough for an earlier index settle nothing of this one.
    t.ok(settled(index - 1, [index - 1; 3], 0));
    assert!(t.s().instances[&draining[0]].drain.unwrap().clear_at.is_none());
    let e = t.no(settled(index - 1, [index - 1; 3], 0));
    assert!(e.contains(&format!("nothing drains at or before index {}", index - 1)), "{e}");
    // A TTL beyond belief is cut to an hour.
    let now = t.s().now;
    t.ok(settled(index, all(t.s()), u64::MAX));
    let clear = t.s().instances[&draining[0]].drain.unwrap().clear_at.unwrap();
    let hour = Period::minutes(60).0 + 1000;
    assert!(clear.0 >= now.0 + hour && clear.0 <= now.0 + hour + 200, "{clear} at {now}");
    assert!(t.no(stop(&draining)).contains("may not be stopped yet"), "caches have it");
    t.pass(Period(clear.since(t.s().now).0 - 150));
    assert!(t.no(stop(&draining)).contains("may not be stopped yet"));
    assert!(t.no(stop(&[draining[0], running])).contains("may not be stopped yet"));
    assert!(t.no(stop(&[slipway::model::InstanceId { index: 9999, ordinal: 0 }])).contains("is no instance of"));
    t.pass(Period(100));
    let e = t.no(stop(&[draining[0], running]));
    assert!(e.contains(&format!("{running} is running and may not be stopped yet")), "{e}");
    assert_eq!(t.s().instances[&draining[0]].life, Life::Draining, "all of them or none");
    t.ok(stop(&draining));
    assert!(draining.iter().all(|id| t.s().instances[id].life == Life::Stopping));
}
