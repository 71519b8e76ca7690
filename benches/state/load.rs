//! The measured load: families of commands, one core, only decode, apply and publish inside the clock.
//!
//! The mix, named `fleet`: of 100 commands 70 reports of one health transition, 10 ticks, 10 new client requests that change a spec, 5
//! repeats of such requests, 4 confirmations of a package by a node, and 1 of a rollout that is under way. Client requests are fenced
//! and remembered; cluster time goes on by 50 ms a request, so the table holds what a minute brings and forgets as it goes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use slipway::{
    model::Period,
    state::{Command, State},
};

use super::build::{GROUP, World, digest, spec, transition, worker};

/// As the node does: views are published at least this often.
const PUBLISH_EVERY: u64 = 64;

#[derive(Default)]
struct Family {
    n: u64,
    refused: u64,
    spent: Duration,
    worst: Duration,
}

/// Commands a second in the mix.
pub fn run(world: &mut World, seconds: u64) -> u64 {
    let mut families: BTreeMap<&'static str, Family> = BTreeMap::new();
    let mut view: Arc<State> = world.state.clone();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut last = Vec::new();
    let mut rolling = 1;
    let (mut n, mut publishing) = (0_u64, Duration::ZERO);
    let total = |f: &BTreeMap<&str, Family>| f.values().map(|f| f.spent).sum::<Duration>();
    while total(&families) < Duration::from_secs(seconds) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = (random >> 33) as u32;
        let (s, w) = (pick % world.services + 1, pick / 7 % GROUP);
        let (name, entry) = match n % 100 {
            0 => {
                if world.live(rolling).is_none() {
                    rolling = rolling % world.services + 1;
                    world.start(rolling, true);
                }
                match world.next(rolling) {
                    Some(command) => ("rollout", world.entry(command, false, 1)),
                    None => ("tick", world.entry(Command::Tick, false, 1)),
                }
            }
            1..=10 => ("tick", world.entry(Command::Tick, false, 1)),
            11..=20 => {
                last = world.entry(
                    Command::SpecApplied { spec: spec(s, &n.to_string()), expected: None },
                    true,
                    Period(50).0,
                );
                ("spec", last.clone())
            }
            21..=25 if !last.is_empty() => ("repeat", last.clone()),
            21..=29 => {
                let body = Command::BlobHeld { digest: digest(s), size: 10, node: 1 };
                ("blob", world.entry(body, true, 50))
            }
            _ => {
                let key = (worker(s, w), super::build::deployment(s));
                let entry = world.state.assignments.get(&key).and_then(|a| a.content.instances.first()).map(|e| e.id);
                match entry.filter(|_| s != rolling) {
                    Some(id) => ("report", world.entry(transition(world, s, w, id), false, 1)),
                    None => ("tick", world.entry(Command::Tick, false, 1)),
                }
            }
        };
        let began = Instant::now();
        let result = world.commit(&entry);
        let took = began.elapsed();
        let f = families.entry(name).or_default();
        f.n += 1;
        f.refused += u64::from(result.is_err());
        f.spent += took;
        f.worst = f.worst.max(took);
        if let Ok(applied) = result {
            world.note(&applied);
        }
        n += 1;
        if n.is_multiple_of(PUBLISH_EVERY) {
            let began = Instant::now();
            view = world.state.clone();
            publishing += began.elapsed();
        }
    }
    drop(view);
    let spent = total(&families) + publishing;
    for (name, f) in &families {
        let each = f.spent.as_secs_f64() * 1e6 / f.n as f64;
        let worst = f.worst.as_secs_f64() * 1e3;
        println!("# {name:8} {:8} commands, {} refused, {each:9.1} us each, worst {worst:.1} ms", f.n, f.refused);
    }
    println!(
        "# mix `fleet`: {n} commands in {:.1} s of one core, a view published every {PUBLISH_EVERY}",
        spent.as_secs_f64()
    );
    (n as f64 / spent.as_secs_f64()) as u64
}
