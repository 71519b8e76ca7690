//! Faults from a seed on real nodes in network namespaces, while clients write, canaries run and DNS is asked; the
//! recorded histories are judged afterwards.
//!
//! Each node has a namespace, a disk and a clock of its own. `SLIPWAY_CHAOS_SEED` and `SLIPWAY_CHAOS_SECONDS` make the
//! long form; the line of counts is also written to `SLIPWAY_CHAOS_REPORT`. What the machine lacks is named in it and
//! in the log of skips, with the reason. Each kind of fault that the machine allows happens once at least, however
//! short the run is. `SLIPWAY_CHAOS_FAULTS` names the only faults to draw, such as `PowerCutAll,Kill`.

mod faults;
mod load;
mod members;

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use faults::Faults;
use load::{REGISTERS, Shared, asker, canaries, record, repeater, writer};
use members::{Changes, Churn, Place};
use rand::{SeedableRng, rngs::StdRng};
use slipway::{
    client::{Client, Limits},
    clock::Clock,
};

use crate::{
    helpers::history::{Call, Judgement, Op, Out, Register, Verdict, check},
    lab::{Disk, Lab, Net, SOON, Skew, eventually, skip, spec},
};

const NAME: &str = "clients_see_one_register_each_under_faults";
const NODES: u8 = 3;
const CLIENTS: usize = 4;
const DISK_MIB: u64 = 192;
/// Runs of so many seconds begin with an older build, and upgrade.
const LONG: u64 = 60;
const NEW: [&str; 2] = ["--max-feature-level", "2"];
const JUDGE: Duration = Duration::from_secs(60);
const CANARY: Duration = Duration::from_secs(90);

/// What happened, and what was seen.
#[derive(Debug, Default, serde::Serialize)]
struct Counts {
    seed: u64,
    seconds: u64,
    operations: usize,
    unknown: usize,
    kills: u32,
    pauses: u32,
    partitions: u32,
    one_way: u32,
    restart_loops: u32,
    snapshots: u32,
    power_cuts: u32,
    /// Of these, with all disks at once and right after a write was acknowledged.
    power_cuts_after_acknowledgements: u32,
    disk_errors: u32,
    full_disks: u32,
    ended_on_full_disks: u32,
    clock_jumps: u32,
    builds_changed: u32,
    feature_level: u32,
    joined: u32,
    left: u32,
    replaced: u32,
    histories: usize,
    linearizable: bool,
    /// One for each register: whether it was judged at all, and where the search was stuck if it was not explained.
    judgements: Vec<Judgement>,
    lost: u64,
    done_twice: u64,
    repeats: u64,
    repeats_answered_otherwise: u64,
    dns_answers: u64,
    dns_went_back: u64,
    canaries: u64,
    replicas_agree: bool,
    led_twice: usize,
    unexpected: usize,
    skipped: Vec<String>,
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

impl Counts {
    /// Notes a part of the machine that is not there.
    fn lacks(&mut self, part: &str, why: &str) {
        skip(&format!("{NAME}/{part}"), why);
        self.skipped.push(format!("{part}: {why}"));
    }

    /// What should have happened in a run of all kinds of faults and did not.
    fn missing(&self, disks: bool, clocks: bool) -> Vec<&'static str> {
        let always = [
            ("kills", self.kills),
            ("pauses", self.pauses),
            ("partitions", self.partitions),
            ("one_way", self.one_way),
            ("restart_loops", self.restart_loops),
            ("snapshots", self.snapshots),
            ("joined", self.joined),
        ];
        let with_disks = [
            ("power_cuts", self.power_cuts),
            ("power_cuts_after_acknowledgements", self.power_cuts_after_acknowledgements),
            ("disk_errors", self.disk_errors),
            ("full_disks", self.full_disks),
        ];
        let with_clocks = [("clock_jumps", self.clock_jumps)];
        let all = always.into_iter().chain(with_disks.into_iter().filter(|_| disks));
        let all = all.chain(with_clocks.into_iter().filter(|_| clocks));
        let repeats = [("repeats", self.repeats), ("canaries", self.canaries)];
        let none = all.filter(|(_, n)| *n == 0).map(|(what, _)| what);
        none.chain(repeats.into_iter().filter(|(_, n)| *n == 0).map(|(what, _)| what)).collect()
    }
}

/// A cluster whose nodes have a namespace, a disk and a clock each, as far as the machine has such things.
fn cluster(lab: &mut Lab, mut net: Net, counts: &mut Counts) -> Faults {
    if let Err(why) = net.filter() {
        counts.lacks("filters", &why);
    }
    lab.block.bridge();
    let mut skews = Vec::new();
    for n in 1..=NODES {
        let mut config = lab.node_config(n) + "insecure = true\ndisk_low_mib = 12\n";
        let mut within = net.within(n);
        let dir = lab.dir().join(format!("n{n}"));
        std::fs::create_dir_all(&dir).unwrap();
        if lab.disks.len() + 1 == usize::from(n) {
            match Disk::make(&dir.join("disk"), DISK_MIB) {
                Ok(disk) => {
                    config = config.replace(&format!("/n{n}/data"), &format!("/n{n}/disk/data"));
                    lab.disks.push(disk);
                }
                Err(why) => counts.lacks("disks", &why),
            }
        }
        // The last one's monotonic clock runs fast too.
        let drifts = n == NODES;
        match Skew::make(&dir.join("clock"), drifts) {
            Ok(skew) => {
                within.extend(skew.within());
                if drifts {
                    skew.set("+0s x1.02");
                } else {
                    skews.push(skew);
                }
            }
            Err(why) if n == 1 => counts.lacks("clocks", &why),
            Err(_) => {}
        }
        let flags: &[&str] = if counts.seconds >= LONG { &[] } else { &NEW };
        lab.add_node_within(n, &config, &within, flags);
    }
    lab.form();
    for n in 1..=2 {
        let config = lab.agent_config(n) + "insecure = true\n";
        lab.add_agent(n, &config);
    }
    lab.workers_ready();
    lab.apply(&spec("strategy: canary, steps: [25, 50, 100], bake: 3s, min_requests: 0"));
    for version in ["1.0.0", "2.0.0"] {
        lab.push(version);
    }
    lab.roll("1.0.0", &[]).ok();
    let disks = lab.disks.len() == usize::from(NODES);
    Faults::new(StdRng::seed_from_u64(counts.seed), net, skews, disks, counts.seconds >= LONG)
}

/// Reads every register at every node, and counts what was acknowledged and is not there, and what is there more often
/// than sent.
fn look_everywhere(shared: &Shared, addresses: &[String], counts: &mut Counts) {
    for address in addresses {
        let only = std::slice::from_ref(address);
        load::runtime().block_on(async {
            let client = load::client(only, 0);
            for register in 0..REGISTERS {
                let (out, _) = record(shared, (CLIENTS + 1, &client), register, Op::Read, None).await;
                let Some(Out::Read((revision, _))) = out else { panic!("{address} does not answer") };
                let history = &shared.histories.lock().unwrap()[register];
                let writes = |c: &&Call<Op, Out>| c.op != Op::Read;
                let written = |c: &&Call<Op, Out>| matches!(c.returned, Some((_, Out::Written)));
                let unknown = |c: &&Call<Op, Out>| c.returned.is_none();
                let sure = history.iter().filter(writes).filter(written).count() as u64;
                let perhaps = history.iter().filter(writes).filter(unknown).count() as u64;
                counts.lost += sure.saturating_sub(revision);
                counts.done_twice += revision.saturating_sub(sure + perhaps);
            }
        });
    }
}

/// Members that come and go at hosts 4 and 5.
fn churn(lab: &Lab, net: &Net, shared: &Arc<Shared>, stay: &Arc<Vec<String>>) -> (Arc<Changes>, JoinHandle<()>) {
    let place = |n: u8| Place {
        config: lab.node_config(n).replace(&format!("'n{n}'"), "'NAME'").replace(&format!("/n{n}/"), "/NAME/")
            + "insecure = true\n",
        within: net.within(n),
        client: lab.client(n),
    };
    let changes = Arc::new(Changes::default());
    let churn = Churn {
        shared: Arc::clone(shared),
        changes: Arc::clone(&changes),
        dir: lab.dir().into(),
        places: [place(NODES + 1), place(NODES + 2)],
        stay: Arc::clone(stay),
        made: 0,
    };
    (changes, std::thread::spawn(move || churn.run()))
}

/// Terms that were led more than once, by whomever: a node that comes back has to be elected anew.
fn led_twice(lab: &Lab) -> Vec<String> {
    let mut terms: Vec<String> = Vec::new();
    for node in &lab.nodes {
        let led = |line: &str| line.split(" INFO leading term=").nth(1).map(str::to_string);
        terms.extend(node.said().lines().filter_map(led));
    }
    terms.sort();
    terms.windows(2).filter(|t| t[0] == t[1]).map(|t| t[0].clone()).collect()
}

fn agree(lab: &Lab) -> bool {
    let runtime = load::runtime();
    // It waits for every node's word: that takes longer than a write may.
    let limits = Limits { deadline: SOON, attempt: SOON, ..Limits::default() };
    let client = runtime.block_on(async { Client::new(&[lab.client(1)], limits, Clock::real()) }).unwrap();
    eventually("all nodes say what they hold", SOON, || {
        let reply = runtime.block_on(client.digest(slipway::wire::v1::DigestRequest {})).map_err(|e| e.to_string())?;
        if reply.nodes.iter().all(|n| n.reported) { Ok(reply) } else { Err(format!("{reply:?}")) }
    })
    .nodes
    .windows(2)
    .all(|two| two[0].digest == two[1].digest)
}

fn end(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn clients_see_one_register_each_under_faults() {
    let mut lab = Lab::empty();
    let net = match Net::make(&lab.block, NODES + 2) {
        Ok(net) => net,
        Err(why) => {
            skip(NAME, &why);
            return lab.finish();
        }
    };
    let (seed, seconds) = (setting("SLIPWAY_CHAOS_SEED", 1), setting("SLIPWAY_CHAOS_SECONDS", 20));
    let mut counts = Counts { seed, seconds, ..Counts::default() };
    println!("chaos: seed {seed}, {seconds} s of faults");
    let mut faults = cluster(&mut lab, net, &mut counts);

    let shared = Arc::new(Shared::new());
    let addresses: Arc<Vec<String>> = Arc::new((1..=NODES).map(|n| lab.client(n)).collect());
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for n in 0..=CLIENTS {
        let (shared, addresses) = (Arc::clone(&shared), Arc::clone(&addresses));
        let work = if n == CLIENTS { repeater } else { writer };
        threads.push(std::thread::spawn(move || work(&shared, n, &addresses, seed)));
    }
    for server in lab.dns_servers() {
        let shared = Arc::clone(&shared);
        threads.push(std::thread::spawn(move || asker(&shared, server)));
    }
    let rolling = {
        let (shared, addresses) = (Arc::clone(&shared), Arc::clone(&addresses));
        std::thread::spawn(move || canaries(&shared, &addresses))
    };
    eventually("all clients know the cluster", SOON, || {
        let ready = shared.ready.load(Ordering::Relaxed);
        if ready == CLIENTS as u64 + 2 { Ok(()) } else { Err(format!("{ready} do")) }
    });
    let (changes, changing) = churn(&lab, faults.net(), &shared, &addresses);
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until || !faults.each_happened() {
        faults.next(&mut lab, &shared, &mut counts);
    }

    faults.all_run(&mut lab);
    if seconds >= LONG {
        counts.feature_level = faults.finish_upgrade(&mut lab, &addresses, &mut counts);
    }
    // Healed: the change of members that is under way and the canary finish, and every node has everything.
    changes.stop.store(true, Ordering::Relaxed);
    shared.stop_canaries.store(true, Ordering::Relaxed);
    eventually("the canary finishes", CANARY, || if rolling.is_finished() { Ok(()) } else { Err(String::new()) });
    changing.join().unwrap();
    // What follows would fail for the same reason, and say less of it.
    let unexpected = shared.unexpected.lock().unwrap().clone();
    assert!(unexpected.is_empty(), "seed {seed}: {unexpected:#?}");
    shared.stop.store(true, Ordering::Relaxed);
    threads.push(rolling);
    end(threads);
    faults.all_run(&mut lab);
    lab.caught_up();
    look_everywhere(&shared, &addresses, &mut counts);
    counts.replicas_agree = agree(&lab);
    let led_twice = led_twice(&lab);
    counts.led_twice = led_twice.len();

    counts.joined = changes.joined.load(Ordering::Relaxed);
    counts.left = changes.left.load(Ordering::Relaxed);
    counts.replaced = changes.replaced.load(Ordering::Relaxed);
    let histories = shared.histories.lock().unwrap().clone();
    counts.judgements = histories.iter().map(|h| check::<Register>(h, JUDGE)).collect();
    counts.histories = histories.len();
    counts.operations = histories.iter().map(Vec::len).sum();
    counts.unknown = histories.iter().flatten().filter(|c| c.returned.is_none()).count();
    counts.linearizable = counts.judgements.iter().all(|j| j.verdict == Verdict::Linearizable);
    counts.repeats = shared.repeated.load(Ordering::Relaxed);
    counts.repeats_answered_otherwise = shared.answered_otherwise.load(Ordering::Relaxed);
    counts.dns_answers = shared.dns_answers.load(Ordering::Relaxed);
    counts.dns_went_back = shared.dns_went_back.load(Ordering::Relaxed);
    counts.canaries = shared.canaries.load(Ordering::Relaxed);
    let unexpected = shared.unexpected.lock().unwrap().clone();
    counts.unexpected = unexpected.len();
    let line = serde_json::to_string(&counts).unwrap();
    println!("{line}");
    if let Ok(path) = std::env::var("SLIPWAY_CHAOS_REPORT") {
        std::fs::write(path, line + "\n").unwrap();
    }
    assert!(unexpected.is_empty(), "seed {seed}: {unexpected:#?}");
    assert!(counts.linearizable, "seed {seed}: {:#?}", counts.judgements);
    assert_eq!((counts.lost, counts.done_twice), (0, 0), "seed {seed}: {counts:?}");
    assert!(led_twice.is_empty(), "seed {seed}: terms {led_twice:?} were led twice");
    assert!(counts.replicas_agree, "seed {seed}: {counts:?}");
    if faults.are_all() {
        let missing = counts.missing(lab.disks.len() == usize::from(NODES), faults.have_clocks());
        assert!(missing.is_empty(), "seed {seed}: none of {missing:?}: {counts:?}");
    }
    assert!(counts.operations > 100 && counts.dns_answers > 20, "too little was done: {counts:?}");
    lab.finish();
}
