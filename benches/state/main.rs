//! `make bench-state`: the law at its full size. Builds the State of a large fleet through real commands, then measures
//! how many commands a second one core decodes, applies and publishes, by family and in a named mix, what a snapshot of
//! that State costs, and what a whole node makes of it (memory, a restart, commits beside a snapshot, a node that
//! joins).
//!
//! Invariant: nothing is put into State but by `apply`.

mod build;
mod load;
mod node;

use std::{process::Command as Process, time::Instant};

use build::World;
use slipway::state::codec;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|a| a == "--load") {
        return restore(args.get(at + 1).expect("a file"));
    }
    let scale = if args.iter().any(|a| a == "--quick") { 10 } else { 1 };
    let (services, seconds) = (1000 / scale, 10);
    println!("# state: {services} services, 10 workers and 100 instances each, through real commands");
    let began = Instant::now();
    let mut world = World::new(services);
    println!("# built in {:.1} s by {} entries", began.elapsed().as_secs_f64(), world.index());
    let s = &world.state;
    println!("# {} services, {} workers, {} instances", s.services.len(), s.workers.len(), s.instances.len());

    let began = Instant::now();
    let bytes = codec::encode_snapshot(&world.state).expect("it encodes");
    let encode_ms = began.elapsed().as_millis();
    let file = std::env::temp_dir().join(format!("slipway-bench-state-{}", std::process::id()));
    std::fs::write(&file, &bytes).expect("room for a snapshot");
    let exe = std::env::current_exe().expect("a program");
    let loaded = Process::new(exe).arg("--load").arg(&file).output().expect("a second process");
    std::fs::remove_file(&file).expect("it was written");
    let loaded = String::from_utf8_lossy(&loaded.stdout).trim().to_owned();
    let (rss, decode) = loaded.split_once(' ').expect("two figures");
    println!("# snapshot: {} MiB, encoded in {encode_ms} ms on one core", bytes.len() >> 20);
    println!("# a fresh process that decodes it and does nothing else: {decode} s, {rss} MiB resident");
    let per_s = load::run(&mut world, seconds);
    let whole = node::run(&world.state, services);
    println!(
        "{{\"apply_per_s\":{per_s},\"rss_mib\":{},\"snapshot_stall_ms\":{:.1},\"restart_s\":{:.2},\"join_s\":{:.2},\
         \"state_rss_mib\":{rss},\"snapshot_encode_ms\":{encode_ms},\"snapshot_decode_s\":{decode}}}",
        whole.rss_mib, whole.stall_ms, whole.restart_s, whole.join_s
    );
}

/// The other process: what this State alone takes.
fn restore(file: &str) {
    let began = Instant::now();
    let state = {
        let bytes = std::fs::read(file).expect("the snapshot");
        codec::decode_snapshot(&bytes).expect("it decodes")
    };
    let took = began.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let kib = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).and_then(|l| l.split_whitespace().next());
    let kib: u64 = kib.and_then(|k| k.parse().ok()).expect("a figure");
    println!("{} {took:.2}", kib >> 10);
    drop(state);
}
