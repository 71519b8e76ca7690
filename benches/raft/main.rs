//! `make bench-raft`: three Slipway nodes beside three etcd nodes, on this machine, in one run, on one disk, with fsync
//! on.
//!
//! What is measured: committed writes a second and their latency at 1, 16 and 256 clients in alternating rounds; the
//! time without writes after `kill -9` of the leader, at default settings and at equal longest election timeouts;
//! elections that nobody asked for, under full load; resident memory of a node. Invariants: both systems get the same
//! client program, the same number of connections spread in the same way, and messages of the same size; every process
//! started here dies with this one. Every ratio is Slipway's figure by etcd's, and of its 95 % bootstrap interval the
//! end that speaks against Slipway: the lower one for writes, the upper one for times. Not here: what bounds the
//! figures (docs/results.md).

mod etcd;
mod failover;
mod host;
mod load;
mod ports;
mod process;
mod report;
mod slipway;
mod stats;

use std::time::Duration;

use load::{Sample, System};
use report::Report;

/// Clients of the three loads.
const CLIENTS: [usize; 3] = [1, 16, 256];

/// What is asked for on the command line.
pub struct Options {
    rounds: usize,
    seconds: f64,
    kills: usize,
    soak: u64,
    /// Connections to each node that is written to.
    connections: usize,
    /// Whether clients write at all three nodes, or at the leader.
    all: bool,
    clients: Vec<usize>,
    /// Only this system; no ratios then.
    only: Option<String>,
    dir: std::path::PathBuf,
}

impl Options {
    fn read() -> Self {
        let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
        let quick = args.iter().any(|a| a == "--quick");
        let (rounds, seconds, kills, soak) = if quick { (3, 2.0, 2, 0) } else { (10, 4.0, 20, 600) };
        let mut this = Self {
            rounds,
            seconds,
            kills,
            soak,
            connections: 4,
            all: false,
            clients: CLIENTS.to_vec(),
            only: None,
            dir: env!("CARGO_TARGET_TMPDIR").into(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| usage(&format!("{arg} needs a value"))).clone();
            match arg.as_str() {
                "--quick" => {}
                "--help" => usage("what it takes"),
                "--all-nodes" => this.all = true,
                "--rounds" => this.rounds = number(&value()),
                "--seconds" => this.seconds = number::<u32>(&value()).into(),
                "--kills" => this.kills = number(&value()),
                "--soak" => this.soak = number(&value()),
                "--connections" => this.connections = number(&value()),
                "--clients" => this.clients = value().split(',').map(number).collect(),
                "--only" => this.only = Some(value()),
                "--dir" => this.dir = value().into(),
                other => usage(&format!("unknown flag {other}")),
            }
        }
        this
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|o| o == name)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| usage(&format!("{text:?} is not a number that fits")))
}

fn usage(problem: &str) -> ! {
    eprintln!(
        "bench-raft: {problem}\nflags: --quick, --rounds N, --seconds N (of a round), --kills N, --soak SECONDS, --connections N (to a \
         node), --all-nodes (write at followers too), --clients 1,16,256, --only slipway|etcd, --dir DIRECTORY (on the disk to use)"
    );
    std::process::exit(2)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let options = Options::read();
    let root =
        tempfile::Builder::new().prefix("bench-raft-").tempdir_in(&options.dir).expect("a directory on the disk");
    let etcd = etcd::find();
    host::describe(root.path(), &options, etcd.as_ref());
    let mut report = Report::new(etcd.as_ref().err().cloned());

    let etcd = etcd.ok().filter(|_| options.wants("etcd"));
    let ours =
        if options.wants("slipway") { Some(slipway::Cluster::start(&root.path().join("slipway")).await) } else { None };
    let theirs = match &etcd {
        Some(_) => Some(etcd::Cluster::start(&root.path().join("etcd"), &etcd::DEFAULTS).await),
        None => None,
    };
    rounds(&options, ours.as_ref(), theirs.as_ref(), &mut report).await;
    for system in [ours.as_ref().map(|s| s as &dyn Described), theirs.as_ref().map(|s| s as &dyn Described)] {
        let Some(system) = system else { continue };
        println!("# memory after the load, resident, each node: {} {:?} MiB", system.label(), system.resident());
    }
    if let (Some(ours), true) = (&ours, options.soak > 0) {
        soak(&options, ours).await;
    }

    if options.kills > 0 {
        failover::run(&options, ours, theirs, etcd.is_some().then_some(root.path()), &mut report).await;
    }
    println!("{}", report.line());
}

/// Alternating rounds of the three loads.
async fn rounds(
    options: &Options,
    ours: Option<&slipway::Cluster>,
    theirs: Option<&etcd::Cluster>,
    report: &mut Report,
) {
    for &clients in &options.clients {
        let mut all: [Vec<Sample>; 2] = Default::default();
        for round in 0..options.rounds {
            // Who goes first alternates too.
            for place in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let sample = match (place, ours, theirs) {
                    (0, Some(ours), _) => load::run(ours, clients, options).await,
                    (1, _, Some(theirs)) => load::run(theirs, clients, options).await,
                    _ => continue,
                };
                println!("# {clients:3} clients, round {:2}: {sample}", round + 1);
                all[place].push(sample);
            }
        }
        report.writes(clients, &all[0], &all[1]);
    }
}

/// Full load for a while, and whether the leader stayed.
async fn soak(options: &Options, ours: &slipway::Cluster) {
    let before = ours.term().await;
    let long = Options {
        seconds: Duration::from_secs(options.soak).as_secs_f64(),
        dir: options.dir.clone(),
        ..Options::read()
    };
    let sample = load::run(ours, 256, &long).await;
    let elections = ours.term().await - before;
    println!("# full load of 256 clients for {} s: {elections} elections; {sample}", options.soak);
}

/// What is printed of a cluster.
trait Described {
    fn label(&self) -> &'static str;
    fn resident(&self) -> Vec<u64>;
}

impl<T: System> Described for T {
    fn label(&self) -> &'static str {
        T::NAME
    }

    fn resident(&self) -> Vec<u64> {
        self.pids().into_iter().map(host::resident_mib).collect()
    }
}
