//! `make bench-dns`: our DNS server beside Knot, a UDP echo and stock hickory-server, on this machine, in one run.
//!
//! Servers have one core, the load client the other. Rounds alternate: each server in turn, each right after the echo
//! of the same moment, by which its figure is divided, so that what disturbs the machine disturbs both. A ratio in the
//! last line is the lower end of a 95 % bootstrap interval over the rounds. Invariants: the same client, the same
//! number outstanding and the same names for all; only right answers count; every process started here dies with this
//! one. Not here: what bounds the figures (docs/results.md).

mod client;
mod cluster;
mod commit;
#[path = "../state/build.rs"]
#[allow(dead_code, reason = "the other benchmark needs the rest")]
mod fleet;
mod host;
#[path = "../../src/dns/mmsg.rs"]
#[allow(dead_code, reason = "the load client needs a part of it")]
mod mmsg;
mod names;
mod peers;
#[path = "../raft/ports.rs"]
mod ports;
mod report;
mod serve;
#[path = "../raft/stats.rs"]
#[allow(dead_code, reason = "the other benchmark needs the rest")]
mod stats;
mod world;

use std::{collections::BTreeMap, time::Duration};

use client::{Client, OUTSTANDING, Outcome, Questions};
use peers::Process;
use report::Report;

/// The servers' core, and the client's.
const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;
/// Route changes a second while "under change".
const CHANGES: u32 = 100;
/// Services of most variants.
const SERVICES: u32 = 1000;

struct Options {
    rounds: usize,
    seconds: f64,
    only: Option<Vec<String>>,
    /// Services of the measurement from commit to answer; 0: none.
    fleet: u32,
}

impl Options {
    fn read(args: &[String]) -> Self {
        let quick = args.iter().any(|a| a == "--quick");
        let (rounds, seconds, fleet) = if quick { (3, 0.5, 0) } else { (12, 1.0, SERVICES) };
        let mut this = Self { rounds, seconds, only: None, fleet };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| usage(&format!("{arg} needs a value"))).clone();
            match arg.as_str() {
                "--bench" | "--quick" => {}
                "--rounds" => this.rounds = number(&value()),
                "--seconds" => this.seconds = number(&value()),
                "--fleet" => this.fleet = number(&value()),
                "--only" => this.only = Some(value().split(',').map(str::to_owned).collect()),
                "--help" => usage("what it takes"),
                other => usage(&format!("unknown flag {other}")),
            }
        }
        this
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| usage(&format!("{text:?} is not a number that fits")))
}

fn usage(problem: &str) -> ! {
    eprintln!(
        "bench-dns: {problem}\nflags: --quick, --rounds N, --seconds S (of a measurement), --fleet SERVICES (of 100 instances, for commit to \
         answer; 0: not), --only plain,weighted,sticky,knot,few,many,still,change,hickory"
    );
    std::process::exit(2)
}

/// Something that is measured in every round.
struct Target {
    name: &'static str,
    /// Which process.
    server: &'static str,
    questions: Questions,
    changes: bool,
}

fn targets() -> Vec<Target> {
    let new = |name, server, services, of: fn(u32) -> String| Target {
        name,
        server,
        questions: Questions::new(services, of),
        changes: false,
    };
    vec![
        new("plain", "plain", SERVICES, names::service),
        new("knot", "knot", SERVICES, names::service),
        new("weighted", "weighted", SERVICES, names::service),
        new("sticky", "weighted", SERVICES, |n| format!("k-user{}.{}", n * 7919, names::service(n))),
        new("still", "cluster", SERVICES, names::service),
        Target { changes: true, ..new("change", "cluster", SERVICES, names::service) },
        new("few", "few", 100, names::service),
        new("many", "many", 10_000, names::service),
        new("hickory", "hickory", SERVICES, names::service),
    ]
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = args.iter().position(|a| a == "--serve") {
        let services = args.get(at + 2).map(|n| number(n)).expect("a number of services");
        return serve::run(args.get(at + 1).expect("a server"), services, args.get(at + 3).expect("a directory"));
    }
    if let Some(at) = args.iter().position(|a| a == "--commits") {
        return commit::run(args.get(at + 1).map(|n| number(n)).expect("a number of services"));
    }
    let options = Options::read(&args);
    let dir = tempfile::Builder::new().prefix("bench-dns-").tempdir().expect("a directory");
    let knot = peers::find_knot();
    println!("# machine: {}", host::describe());
    match &knot {
        Ok((_, version)) => println!("# {version}, one thread for UDP"),
        Err(why) => println!("# Knot: {why}"),
    }
    println!(
        "# servers on core {SERVER_CORE}, one at a time under load; client on core {CLIENT_CORE}: one connected socket, {OUTSTANDING} queries outstanding, A \
         questions without EDNS, 5 addresses each, names of all services in turn; only right answers count; {} rounds of {} s each after \
         a warm-up, each right after {} s of echo",
        options.rounds,
        options.seconds,
        options.seconds / 2.0
    );
    let commits = (options.fleet > 0).then(|| commits(options.fleet)).flatten();
    let mut servers: BTreeMap<&str, Process> = BTreeMap::new();
    let mut wanted = targets();
    wanted.retain(|t| options.only.as_ref().is_none_or(|o| o.iter().any(|n| n == t.name)));
    wanted.retain(|t| t.server != "knot" || knot.is_ok());
    for target in &wanted {
        servers.entry(target.server).or_insert_with(|| match (target.server, &knot) {
            ("few", _) => Process::of_ours("plain", 100, dir.path()),
            ("many", _) => Process::of_ours("plain", 10_000, dir.path()),
            ("knot", Ok((program, _))) => Process::knot(program, dir.path(), SERVICES),
            (what, _) => Process::of_ours(what, SERVICES, dir.path()),
        });
    }
    let echo = Process::of_ours("echo", 0, dir.path());
    host::pin(CLIENT_CORE);

    let mut report = Report::new(knot.err(), commits);
    let echoed = Questions::new(SERVICES, names::service).echoed();
    let span = Duration::from_secs_f64(options.seconds);
    let mut clients: BTreeMap<&str, Client> = servers.iter().map(|(n, s)| (*n, Client::new(s.address))).collect();
    let mut ceiling = Client::new(echo.address);
    ceiling.saturate(&echoed, OUTSTANDING, span);
    wanted.retain(|target| {
        let client = clients.get_mut(target.server).expect("it runs");
        let first = client.saturate(&target.questions, OUTSTANDING, span);
        let answers = first.right > 0;
        if !answers {
            println!("# {}: not one right answer, left out ({} wrong)", target.name, first.wrong);
        }
        answers
    });
    for round in 0..options.rounds {
        let places = wanted.len();
        for target in (0..places).map(|n| &wanted[(n + round) % places]) {
            let echo = ceiling.saturate(&echoed, OUTSTANDING, span / 2);
            let mut change = |per_s| {
                let server = servers.get_mut(target.server).expect("it runs");
                target.changes.then(|| server.changes(per_s))
            };
            let before = change(CHANGES);
            let client = clients.get_mut(target.server).expect("it runs");
            let outcome = client.saturate(&target.questions, OUTSTANDING, span);
            if let (Some(before), Some(after)) = (before, change(0)) {
                println!("# round {:2}, {}: {} routes changed meanwhile", round + 1, target.name, after - before);
            }
            report.round(round, target.name, &outcome, echo.per_s());
        }
    }
    for (name, key) in [("plain", "p99_half_load_ms"), ("knot", "p99_half_load_knot_ms")] {
        let Some(rate) = report.median_of(name) else { continue };
        let target = wanted.iter().find(|t| t.name == name).expect("it was measured");
        let client = clients.get_mut(target.server).expect("it runs");
        let all: Vec<Outcome> = (0..options.rounds).map(|_| client.pace(&target.questions, rate / 2.0, span)).collect();
        report.latency(name, key, rate / 2.0, all);
    }
    println!("{}", report.line());
}

/// The 99th percentile from commit to answer, in milliseconds, of a process of its own on the servers' core.
fn commits(services: u32) -> Option<f64> {
    let out = peers::output_of_ours(&["--commits", &services.to_string()]);
    let (lines, last) = out.trim().rsplit_once('\n')?;
    println!("{lines}");
    last.parse().ok()
}
