//! Batches of an installation as the planner asks for them, each bent in one thing: it is refused with its reason and
//! changes nothing (`Story::try_`). As it was asked for it is taken.

use slipway::model::{InstanceId, Overrides, Pair, Period, Portion};
use slipway::state::command::{BatchPassed, BatchStarted};

use super::*;
use crate::walk::{cart, prelude_of_two};

/// Two services run 1.0.0, and 2.0.0 of `shop` comes in batches of three, with five seconds between two of them.
fn updating() -> Story {
    let mut t = Story::new();
    prelude_of_two().into_iter().skip(prelude().len()).for_each(|body| t.ok(body));
    let first = start(t.s(), "1.0.0", StrategyName::DIRECT);
    t.ok(Command::StartRollout(StartRollout { deployment: cart(), ..first }));
    t.until("cart runs", |s| s.deployments[&cart()].live.is_none());
    t.completes("1.0.0", StrategyName::DIRECT);
    let update = start(t.s(), "2.0.0", StrategyName::ROLLING);
    let (max_surge, delay) = (Some(Portion::count(3)), Some(Period::seconds(5)));
    let overrides = Overrides { max_surge, parallelism: max_surge, delay, ..update.overrides };
    t.ok(Command::StartRollout(StartRollout { overrides, ..update }));
    t
}

fn begins(c: &Command) -> Option<BatchStarted> {
    if let Command::BatchStarted(b) = c { Some(b.clone()) } else { None }
}

fn passes(c: &Command) -> Option<BatchPassed> {
    if let Command::BatchPassed(b) = c { Some(b.clone()) } else { None }
}

/// The running step as it stands now.
fn now(t: &Story) -> StepRef {
    StepRef { rollout: t.live().id, seen: t.live().meta.revision, step: t.live().cursor }
}

fn runs(t: &Story, pair: &Pair) -> Vec<InstanceId> {
    t.s().instances_of(&shop()).filter(|i| i.pair == *pair && i.life == Life::Running).map(|i| i.id).collect()
}

fn some_of_cart(t: &Story) -> InstanceId {
    t.s().instances.values().find(|i| i.deployment == cart()).unwrap().id
}

fn named(n: u32) -> WorkerName {
    WorkerName::new(&format!("w{n}")).unwrap()
}

/// The story as it goes on if something else happens first.
fn but(t: &Story, body: Command) -> Story {
    let mut other = Story(t.0.clone());
    other.ok(body);
    other
}

#[test]
fn a_batch_that_is_begun_with_one_thing_wrong_is_refused_by_what_is_wrong() {
    let mut t = updating();
    let good = t.asked("a batch", begins);
    let (old, lost) = (runs(&t, t.live().from.as_ref().unwrap()), named(4));
    let with = |edit: &dyn Fn(&mut BatchStarted)| {
        let mut bent = good.clone();
        edit(&mut bent);
        Command::BatchStarted(bent)
    };
    for (bent, says) in [
        (with(&|b| b.at.step += 1), "is running, not"),
        (with(&|b| b.batch = 0), "batch 1 is next"),
        (with(&|b| b.batch = 2), "batch 1 is next"),
        (with(&|b| b.add = Vec::new()), "a batch adds 1 to 3 instances, not 0"),
        (with(&|b| b.add = vec![(named(1), 2), (named(2), 2)]), "a batch adds 1 to 3 instances, not 4"),
        (with(&|b| b.add = vec![(named(1), u32::MAX), (named(2), 1)]), "a batch adds 1 to 3 instances, not 4294967295"),
        (with(&|b| (b.add, b.replace) = (vec![(named(9), 1)], Vec::new())), "w9 is no worker"),
        (with(&|b| b.replace = vec![some_of_cart(&t)]), "is no instance of production/shop"),
        (with(&|b| b.replace = vec![old[0], old[1], old[0]]), "is not to be replaced, or named twice"),
        (with(&|b| b.replace = old[..4].to_vec()), "3 instances cannot replace 4"),
        (with(&|b| (b.in_place, b.replace) = (true, Vec::new())), "a batch in place replaces something"),
        (
            with(&|b| (b.in_place, b.replace) = (true, old[..1].to_vec())),
            "7 healthy instances would be left and at least 8",
        ),
    ] {
        t.refuses(bent, says);
    }
    let mut other = but(&t, Command::WorkerLost(WorkerLost { worker: lost.clone(), last_heard: t.s().now }));
    let on_lost = BatchStarted { at: now(&other), add: vec![(lost, 1)], replace: Vec::new(), ..good.clone() };
    other.refuses(Command::BatchStarted(on_lost), "worker w4 is lost");
    let mut other = but(&t, Command::Pause(Pause { rollout: t.live().id }));
    let paused = BatchStarted { at: now(&other), ..good.clone() };
    other.refuses(Command::BatchStarted(paused), "is paused");

    t.ok(Command::BatchStarted(good.clone()));
    let second =
        |t: &Story| Command::BatchStarted(BatchStarted { at: now(t), batch: 2, replace: Vec::new(), ..good.clone() });
    let early = second(&t);
    t.refuses(early, "batch 1 is under way or its delay is not over");
    let passed = t.asked("its end", passes);
    // Nobody leaves: then there is no room for the next.
    let mut full = but(&t, Command::BatchPassed(BatchPassed { drain: Vec::new(), ..passed.clone() }));
    full.pass(Period::seconds(5));
    let more = second(&full);
    full.refuses(more, "14 instances are over desired + surge = 11");
    t.ok(Command::BatchPassed(passed));
    t.pass(Period(4800));
    let early = second(&t);
    t.refuses(early, "batch 1 is under way or its delay is not over");
    t.pass(Period(100));
    let new = runs(&t, &t.live().to)[0];
    let next = BatchStarted { at: now(&t), replace: vec![new], ..t.asked("the second", begins) };
    t.refuses(Command::BatchStarted(next), &format!("{new} is not to be replaced, or named twice"));
    let (at, add) = (now(&t), t.asked("the second", begins).add);
    t.ok(Command::BatchStarted(BatchStarted { at, batch: 2, add, replace: Vec::new(), in_place: false }));
    let last = t.asked("the last", |c| begins(c).filter(|b| b.batch == 3));
    let many = BatchStarted { add: vec![(named(1), 3)], ..last.clone() };
    t.refuses(Command::BatchStarted(many), "6 of 8 instances are there: 3 more are too many");
    t.ok(Command::BatchStarted(last));
}

#[test]
fn a_batch_that_passes_with_one_thing_wrong_is_refused_by_what_is_wrong() {
    let mut t = updating();
    let begun = t.asked("a batch", begins);
    t.ok(Command::BatchStarted(begun));
    let early = BatchPassed { at: now(&t), batch: 1, drain: Vec::new(), weights: None };
    t.refuses(Command::BatchPassed(early), "is starting and unknown");
    let good = t.asked("its end", passes);
    let (old, new) = (runs(&t, t.live().from.as_ref().unwrap()), runs(&t, &t.live().to));
    let with = |edit: &dyn Fn(&mut BatchPassed)| {
        let mut bent = good.clone();
        edit(&mut bent);
        Command::BatchPassed(bent)
    };
    for (bent, says) in [
        (with(&|b| b.at.step += 1), "is running, not"),
        (with(&|b| b.batch = 2), "batch 2 is not under way"),
        (with(&|b| b.drain = vec![new[0]]), "is of the pair that is installed"),
        (with(&|b| b.drain = vec![some_of_cart(&t)]), "is no instance of production/shop"),
        (with(&|b| b.drain = old[..4].to_vec()), "7 healthy instances would be left and at least 8"),
        (with(&|b| b.weights = None), "weights are missing"),
    ] {
        t.refuses(bent, says);
    }
    t.ok(Command::BatchPassed(good.clone()));
    let again = BatchPassed { at: now(&t), ..good.clone() };
    t.refuses(Command::BatchPassed(again), "batch 1 is not under way");

    // Where steps set the weights, and nobody makes room, a batch does neither.
    let mut t = Story::new();
    t.completes("1.0.0", StrategyName::DIRECT);
    t.start("2.0.0", StrategyName::CANARY).unwrap();
    let canary = t.asked("the canary's end", passes);
    let weighs = BatchPassed { weights: good.weights, ..canary.clone() };
    t.refuses(Command::BatchPassed(weighs), "this installation sets no weights");
    let drains = BatchPassed { drain: runs(&t, t.live().from.as_ref().unwrap()), ..canary.clone() };
    t.refuses(Command::BatchPassed(drains), "only an installation that replaces drains here");
    t.ok(Command::BatchPassed(canary));
}
