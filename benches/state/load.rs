//! The measured load: families of commands, one core, only decode, apply and publish inside the clock.
//!
//! The mix, named `fleet`: of 100 commands 70 reports of one health transition, 10 ticks, 10 new client requests that
//! change a spec, 5 repeats of such requests, 4 confirmations of a package by a node, and 1 of a rollout that is under
//! way. Client requests are fenced and remembered; cluster time goes on by a millisecond a command, so the table grows
//! to what a minute of them brings (some 8,400) and forgets as it goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use slipway::state::{
    Command, State,
    command::{BlobHeld, SpecApplied, Tick},
};

use super::build::{GROUP, World, digest, spec, transition, worker};

/// As the node does: views are published at least this often.
const PUBLISH_EVERY: usize = 64;

#[derive(Default)]
struct Family {
    n: u64,
    refused: u64,
    spent: Duration,
    worst: Duration,
}

/// Nanoseconds this thread has run on a core: what else the machine does is not in it.
fn on_core() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a figure")
}

/// Commands a second in the mix. They are made in batches as long as one publication, so that the clock is read rarely:
/// within one no service is used twice.
pub fn run(world: &mut World, seconds: u64) -> u64 {
    let mut families: BTreeMap<&'static str, Family> = BTreeMap::new();
    let mut view: Arc<State> = world.state.clone();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut last = Vec::new();
    let mut rolling = 1;
    let (mut n, mut spent) = (0_u64, 0_u64);
    while spent < seconds * 1_000_000_000 {
        let mut used = BTreeSet::from([rolling]);
        let mut batch = Vec::new();
        while batch.len() < PUBLISH_EVERY {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pick = (random >> 33) as u32;
            let (s, w) = (pick % world.services + 1, pick / 7 % GROUP);
            if !used.insert(s) {
                continue;
            }
            batch.push(match n % 100 {
                0 => match next_of_rollout(world, &mut rolling, &mut used) {
                    Some(command) => ("rollout", world.entry(command, false, 1)),
                    None => ("tick", world.entry(Command::Tick(Tick {}), false, 1)),
                },
                1..=10 => ("tick", world.entry(Command::Tick(Tick {}), false, 1)),
                11..=20 => {
                    let body = Command::SpecApplied(SpecApplied { spec: spec(s, &n.to_string()), expected: None });
                    last = world.entry(body, true, 1);
                    ("spec", last.clone())
                }
                21..=25 if !last.is_empty() => ("repeat", last.clone()),
                21..=29 => {
                    let body = Command::BlobHeld(BlobHeld { digest: digest(s), size: 10, node: 1 });
                    ("blob", world.entry(body, true, 1))
                }
                _ => {
                    let key = (worker(s, w), super::build::deployment(s));
                    let row = world.state.assignments.get(&key);
                    match row.and_then(|a| a.content.instances.first()).map(|e| e.id) {
                        Some(id) => ("report", world.entry(transition(world, s, w, id), false, 1)),
                        None => ("tick", world.entry(Command::Tick(Tick {}), false, 1)),
                    }
                }
            });
            n += 1;
        }
        let mut done = Vec::with_capacity(batch.len());
        let from = on_core();
        for (name, entry) in &batch {
            let began = Instant::now();
            let result = world.commit(entry);
            done.push((*name, began.elapsed(), result));
        }
        view = world.state.clone();
        spent += on_core() - from;
        for (name, took, result) in done {
            let f = families.entry(name).or_default();
            f.n += 1;
            f.refused += u64::from(result.is_err());
            f.spent += took;
            f.worst = f.worst.max(took);
            if let Ok(applied) = result {
                world.note(&applied);
            }
        }
    }
    drop(view);
    for (name, f) in &families {
        let each = f.spent.as_secs_f64() * 1e6 / f.n as f64;
        let worst = f.worst.as_secs_f64() * 1e3;
        println!(
            "# {name:8} {:8} commands, {} refused, {each:9.1} us each by the clock, worst {worst:.1} ms",
            f.n, f.refused
        );
    }
    let seconds = spent as f64 / 1e9;
    println!("# mix `fleet`: {n} commands in {seconds:.1} s of one core, a view published every {PUBLISH_EVERY}");
    (n as f64 / seconds) as u64
}

/// The next command of the rollout under way; when one is over, the next service restarts.
fn next_of_rollout(world: &mut World, rolling: &mut u32, used: &mut BTreeSet<u32>) -> Option<Command> {
    if world.live(*rolling).is_none() {
        loop {
            *rolling = *rolling % world.services + 1;
            if used.insert(*rolling) {
                break;
            }
        }
        world.start(*rolling, true);
    }
    world.next(*rolling)
}
