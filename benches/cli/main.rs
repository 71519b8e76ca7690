//! `make bench-cli`: how long a call of `slipway` takes, from the start of its process to its end, on a `slipwayd dev`
//! of its own.
//!
//! Rounds alternate: each call in turn beside a bare `slipway --version` of the same moment, by which its time is
//! divided, so that what disturbs the machine disturbs both. Invariant: every call must succeed; every process started
//! here dies with this one. Not here: what a node makes of many changes (`make bench-raft`).

#[path = "../raft/ports.rs"]
mod ports;
#[path = "../raft/process.rs"]
#[allow(dead_code, reason = "the other benchmark needs the rest")]
mod process;
#[path = "../raft/stats.rs"]
#[allow(dead_code, reason = "the other benchmark needs the rest")]
mod stats;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use ports::free;
use process::Process;
use serde_json::{Map, Value, json};
use stats::median;

const SPEC: &str = "\
service: bench
environment: production
run: {command: [bin/run]}
ports: {http: 8080}
health: {http: /, start_within: 1h}
";
/// Never answers its check: the rollout stays at its first step, and can be paused and go on as often as one likes.
const PROGRAM: &str = "#!/bin/sh\nexec sleep 100000\n";
/// How long the node may take to be there.
const LIMIT: Duration = Duration::from_secs(60);
/// What is timed: name in the last line, command line.
const CALLS: [(&str, &[&str]); 5] = [
    ("version", &["--version"]),
    ("show", &["deployment", "show", "bench"]),
    ("list", &["release", "list"]),
    ("pause", &["rollout", "pause", "bench"]),
    ("resume", &["rollout", "resume", "bench"]),
];

/// A node with an agent, and a home for the CLI.
struct Place {
    dir: PathBuf,
    client: String,
    node: Option<Process>,
}

impl Drop for Place {
    /// Instances outlive a killed agent: those that still run are ended. The directory stays when something went wrong.
    fn drop(&mut self) {
        drop(self.node.take());
        let mut drain = Command::new(env!("CARGO_BIN_EXE_slipwayd"));
        let _ = drain.args(["agent", "drain", "--data-dir"]).arg(self.dir.join("dev/agent")).output();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Place {
    fn start() -> Self {
        let dir = std::env::temp_dir().join(format!("slipway-bench-cli-{}", std::process::id()));
        fs::create_dir_all(dir.join("build/bin")).expect("a directory");
        let program = dir.join("build/bin/run");
        fs::write(&program, PROGRAM).expect("a program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
        fs::write(dir.join("bench.yaml"), SPEC).expect("a spec");
        let client = free().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipwayd"));
        command.args(["dev", "--client-listen", &client, "--pool", "127.0.52.1-127.0.52.4"]);
        for listener in ["--dns-listen", "--http-listen", "--peer-listen"] {
            command.args([listener, &free().to_string()]);
        }
        command.arg("--dir").arg(dir.join("dev"));
        let node = Process::spawn(command, &dir.join("slipwayd.log"));
        Self { dir, client, node: Some(node) }
    }

    /// One call to its end; how long it took, and what it said when it failed.
    fn call(&self, arguments: &[&str]) -> (Duration, Result<(), String>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
        command.args(arguments).current_dir(&self.dir);
        command.env_clear().env("HOME", &self.dir).env("SLIPWAY_NODES", &self.client);
        let began = Instant::now();
        let out = command.output().expect("a program that starts");
        let took = began.elapsed();
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        (took, if out.status.success() { Ok(()) } else { Err(format!("{arguments:?}: {text}")) })
    }

    /// Calls until it succeeds.
    fn until(&self, arguments: &[&str]) {
        let began = Instant::now();
        while let (_, Err(problem)) = self.call(arguments) {
            assert!(began.elapsed() < LIMIT, "{problem}; the log is in {}", self.dir.display());
        }
    }
}

fn main() {
    let rounds = if std::env::args().any(|a| a == "--quick") { 20 } else { 300 };
    let place = Place::start();
    place.until(&["worker", "show", "dev"]);
    place.until(&["apply", "-f", "bench.yaml"]);
    place.until(&["release", "push", "bench", "1.0.0", "build", "--new"]);
    place.until(&["rollout", "start", "bench", "--to", "1.0.0"]);
    println!("# {rounds} rounds of {} calls, each a process of its own, on one node", CALLS.len());
    let mut took: [Vec<f64>; CALLS.len()] = Default::default();
    for _ in 0..rounds {
        for ((_, arguments), times) in CALLS.iter().zip(&mut took) {
            let (time, done) = place.call(arguments);
            done.unwrap_or_else(|problem| panic!("{problem}"));
            times.push(time.as_secs_f64() * 1000.0);
        }
    }
    println!("{}", Value::Object(figures(&took)));
}

/// Milliseconds of each call, and how many bare starts of a process it takes.
fn figures(took: &[Vec<f64>]) -> Map<String, Value> {
    let round = |x: f64| (x * 100.0).round() / 100.0;
    let mut line = Map::new();
    for ((name, _), times) in CALLS.iter().zip(took) {
        let mut sorted = times.clone();
        sorted.sort_by(f64::total_cmp);
        let p99 = sorted[(sorted.len() * 99).div_ceil(100) - 1];
        let ratios: Vec<f64> = times.iter().zip(&took[0]).map(|(t, bare)| t / bare).collect();
        println!("# {name:8}: median {:6.2} ms, p99 {p99:6.2} ms", median(times));
        line.insert(format!("{name}_ms"), json!(round(median(times))));
        line.insert(format!("{name}_p99_ms"), json!(round(p99)));
        line.insert(format!("{name}_vs_version"), json!(round(median(&ratios))));
    }
    line
}
