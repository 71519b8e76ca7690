//! Faults from a seed on real nodes in network namespaces, while clients write, a canary runs and DNS is asked; the recorded
//! histories are judged afterwards.
//!
//! Each node has a namespace of its own; a link is cut in one direction by a blackhole route in the sender's. `SLIPWAY_CHAOS_SEED`
//! and `SLIPWAY_CHAOS_SECONDS` make the long form; the line of counts is also written to `SLIPWAY_CHAOS_REPORT`.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, RecordType},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use slipway::{
    client::{Client, ClientError, Limits},
    clock::Clock,
    wire::v1,
};

use crate::{
    history::{Call, Op, Out, Register, Verdict, check},
    host::{Net, ip},
    lab::{Lab, skip, spec},
};

const NAME: &str = "clients_see_one_register_each_under_faults";
const NODES: u8 = 3;
const CLIENTS: usize = 4;
const REGISTERS: usize = 3;
const JUDGE: Duration = Duration::from_secs(60);

type History = Vec<Call<Op, Out>>;

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
    histories: usize,
    lost: u64,
    linearizable: bool,
    dns_answers: u64,
    dns_went_back: u64,
    canary: String,
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

fn document(register: usize, value: u64) -> String {
    spec("strategy: direct").replace("service: shop", &format!("service: reg{register}\nlabels: {{v: \"{value}\"}}"))
}

/// What all writers share.
struct Shared {
    began: Instant,
    stop: AtomicBool,
    histories: Mutex<Vec<History>>,
    /// Refusals that no fault explains.
    unexpected: Mutex<Vec<String>>,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap()
    }
}

async fn read(client: &Client, register: usize) -> Result<(u64, u64), ClientError> {
    let request = v1::GetSpecRequest { deployment: format!("production/reg{register}"), spec: 0 };
    match client.spec(request).await {
        Ok(reply) => {
            let json: serde_json::Value = serde_json::from_str(&reply.json).unwrap();
            let value = json["labels"]["v"].as_str().unwrap_or_else(|| panic!("{json:#}"));
            Ok((reply.spec, value.parse().unwrap()))
        }
        Err(e) if e.reason() == "not_found" => Ok((0, 0)),
        Err(e) => Err(e),
    }
}

/// One operation; its outcome, or `None` when nobody knows.
async fn one(shared: &Shared, client: &Client, register: usize, op: &Op) -> Option<Out> {
    let said = match op {
        Op::Read => read(client, register).await.map(Out::Read),
        Op::Write { expected, value } => {
            let request = v1::ApplyRequest {
                document: document(register, *value),
                format: "yaml".into(),
                expected: expected.unwrap_or(0),
                ..v1::ApplyRequest::default()
            };
            match client.apply(request).await {
                Err(e) if e.reason() == "stale" => Ok(Out::Stale),
                other => other.map(|_| Out::Written),
            }
        }
    };
    if let Err(e @ (ClientError::Refused { .. } | ClientError::OutOfRange { .. })) = &said {
        shared.unexpected.lock().unwrap().push(format!("{op:?} of reg{register}: {e}"));
    }
    said.ok()
}

/// Records one operation of a client.
async fn record(shared: &Shared, at: (usize, &Client), register: usize, op: Op) -> Option<Out> {
    let called = shared.now();
    let out = one(shared, at.1, register, &op).await;
    let returned = out.clone().map(|out| (shared.now(), out));
    if returned.is_some() || op != Op::Read {
        shared.histories.lock().unwrap()[register].push(Call { client: at.0, op, called, returned });
    }
    out
}

/// Reads and writes until told to stop.
fn writer(shared: &Shared, n: usize, addresses: &[String], seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut random = StdRng::seed_from_u64(seed + n as u64);
    let mut addresses = addresses.to_vec();
    addresses.rotate_left(n % usize::from(NODES));
    let limits = Limits { deadline: Duration::from_secs(4), attempt: Duration::from_millis(1500), ..Limits::default() };
    runtime.block_on(async {
        let client = Client::new(&addresses, limits, Clock::real()).unwrap();
        let (mut seen, mut value) = ([0; REGISTERS], n as u64 * 1_000_000);
        while !shared.stop.load(Ordering::Relaxed) {
            let register = random.random_range(0..REGISTERS);
            value += 1;
            let op = match random.random_range(0..4) {
                0 | 1 => Op::Read,
                2 => Op::Write { expected: None, value },
                _ => Op::Write { expected: (seen[register] > 0).then_some(seen[register]), value },
            };
            if let Some(Out::Read((revision, _))) = record(shared, (n, &client), register, op).await {
                seen[register] = revision;
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(5..40))).await;
        }
    });
}

/// The generation in the status record of the shop, as one node gives it.
fn generation(server: SocketAddr) -> Option<(u64, u64)> {
    let name = Name::from_ascii("_rollout.shop.production.svc.slipway.internal.").unwrap();
    let mut question = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    question.add_query(Query::query(name, RecordType::TXT));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(server).ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(300))).ok()?;
    socket.send(&question.to_vec().unwrap()).ok()?;
    let mut buffer = [0; 4096];
    let n = socket.recv(&mut buffer).ok()?;
    let answer = Message::from_vec(&buffer[..n]).ok()?;
    let text = answer.answers.iter().find_map(|r| match &r.data {
        RData::TXT(txt) => Some(txt.to_string()),
        _ => None,
    })?;
    let told = text.split("gen=").nth(1)?.split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
    let (incarnation, index) = told.split_once('.')?;
    Some((incarnation.parse().ok()?, index.parse().ok()?))
}

/// Asks every node in turn; how many answers there were, and how many were older than one before from the same node.
fn ask_dns(shared: &Shared, servers: &[SocketAddr]) -> (u64, u64) {
    let mut newest: BTreeMap<SocketAddr, (u64, u64)> = BTreeMap::new();
    let (mut answers, mut back) = (0, 0);
    while !shared.stop.load(Ordering::Relaxed) {
        for server in servers {
            let Some(told) = generation(*server) else { continue };
            answers += 1;
            let before = newest.entry(*server).or_default();
            back += u64::from(told < *before);
            *before = told.max(*before);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    (answers, back)
}

/// Cuts or mends what `from` sends to `to`.
fn link(net: &Net, verb: &str, from: u8, to: u8) {
    ip(&format!("-n {} route {verb} blackhole {}/32", net.namespace(from), net.address(to))).unwrap();
}

fn fault(lab: &mut Lab, net: &Net, random: &mut StdRng, counts: &mut Counts) {
    let at = random.random_range(0..usize::from(NODES));
    let n = u8::try_from(at + 1).unwrap();
    let others = (1..=NODES).filter(|o| *o != n);
    let pause = |random: &mut StdRng, from, to| {
        std::thread::sleep(Duration::from_millis(random.random_range(from..to)));
    };
    match random.random_range(0..5) {
        0 => {
            counts.kills += 1;
            lab.nodes[at].kill();
            pause(random, 0, 1500);
            lab.nodes[at].start();
        }
        1 => {
            counts.pauses += 1;
            lab.nodes[at].pause();
            pause(random, 300, 3000);
            lab.nodes[at].resume();
        }
        kind @ (2 | 3) => {
            // 2: all links of one node in both directions; 3: what it sends, or what it is sent.
            let (out, inwards) = if kind == 2 {
                (true, true)
            } else if random.random() {
                (true, false)
            } else {
                (false, true)
            };
            *(if kind == 2 { &mut counts.partitions } else { &mut counts.one_way }) += 1;
            let cut: Vec<(u8, u8)> = others
                .flat_map(|o| [(out, (n, o)), (inwards, (o, n))])
                .filter(|(wanted, _)| *wanted)
                .map(|(_, ends)| ends)
                .collect();
            for (from, to) in &cut {
                link(net, "add", *from, *to);
            }
            pause(random, 500, 4000);
            for (from, to) in &cut {
                link(net, "del", *from, *to);
            }
        }
        _ => {
            counts.restart_loops += 1;
            for _ in 0..3 {
                lab.nodes[at].kill();
                lab.nodes[at].start();
                pause(random, 50, 500);
            }
        }
    }
    pause(random, 500, 2000);
}

#[test]
fn clients_see_one_register_each_under_faults() {
    let mut lab = Lab::empty();
    let net = match Net::make(lab.block.number()) {
        Ok(net) => net,
        Err(why) => {
            skip(NAME, &why);
            return lab.finish();
        }
    };
    let (seed, seconds) = (setting("SLIPWAY_CHAOS_SEED", 1), setting("SLIPWAY_CHAOS_SECONDS", 20));
    let mut counts = Counts { seed, seconds, ..Counts::default() };
    println!("chaos: seed {seed}, {seconds} s of faults");
    lab.block.bridge();
    for n in 1..=NODES {
        let config = lab.node_config(n) + "insecure = true\n";
        lab.add_node_within(n, &config, &["ip", "netns", "exec", &net.namespace(n)]);
    }
    lab.form();
    for n in 1..=2 {
        let config = lab.agent_config(n) + "insecure = true\n";
        lab.add_agent(n, &config);
    }
    lab.workers_ready();
    lab.apply(&spec("strategy: canary, steps: [25, 50, 100], bake: 3s, min_requests: 0"));
    lab.push("1.0.0");
    lab.roll("1.0.0", &[]).ok();
    lab.push("2.0.0");

    let shared = Arc::new(Shared {
        began: Instant::now(),
        stop: AtomicBool::new(false),
        histories: Mutex::new(vec![Vec::new(); REGISTERS]),
        unexpected: Mutex::new(Vec::new()),
    });
    let addresses: Vec<String> = (1..=NODES).map(|n| lab.client(n)).collect();
    let writers: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let (shared, addresses) = (Arc::clone(&shared), addresses.clone());
            std::thread::spawn(move || writer(&shared, n, &addresses, seed))
        })
        .collect();
    let asker = {
        let (shared, servers) = (Arc::clone(&shared), lab.dns_servers());
        std::thread::spawn(move || ask_dns(&shared, &servers))
    };
    let canary = lab.start("2.0.0", &[]);
    let mut random = StdRng::seed_from_u64(seed);
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        fault(&mut lab, &net, &mut random, &mut counts);
    }

    // Healed: the canary finishes, and every node has everything.
    let end = lab.ends(&canary, "completed");
    counts.canary = crate::lab::text(&end, "status").into();
    shared.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    (counts.dns_answers, counts.dns_went_back) = asker.join().unwrap();
    lab.caught_up();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for address in &addresses {
        let only = std::slice::from_ref(address);
        runtime.block_on(async {
            let client = Client::new(only, Limits::default(), Clock::real()).unwrap();
            for register in 0..REGISTERS {
                let out = record(&shared, (CLIENTS, &client), register, Op::Read).await;
                let Some(Out::Read((revision, _))) = out else { panic!("{address} does not answer") };
                let acknowledged = |c: &&Call<Op, Out>| matches!(c.returned, Some((_, Out::Written)));
                let written = shared.histories.lock().unwrap()[register].iter().filter(acknowledged).count() as u64;
                counts.lost += written.saturating_sub(revision);
            }
        });
    }
    let histories = shared.histories.lock().unwrap().clone();
    counts.histories = histories.len();
    counts.operations = histories.iter().map(Vec::len).sum();
    counts.unknown = histories.iter().flatten().filter(|c| c.returned.is_none()).count();
    let verdicts: Vec<Verdict> = histories.iter().map(|h| check::<Register>(h, JUDGE)).collect();
    counts.linearizable = verdicts.iter().all(|v| *v == Verdict::Linearizable);
    let line = serde_json::to_string(&counts).unwrap();
    println!("{line}");
    if let Ok(path) = std::env::var("SLIPWAY_CHAOS_REPORT") {
        std::fs::write(path, line + "\n").unwrap();
    }
    let unexpected = shared.unexpected.lock().unwrap().clone();
    assert!(unexpected.is_empty(), "seed {seed}: {unexpected:#?}");
    assert!(counts.linearizable, "seed {seed}: {verdicts:#?}");
    assert_eq!((counts.lost, counts.dns_went_back), (0, 0), "seed {seed}: {counts:?}");
    assert!(counts.operations > 100 && counts.dns_answers > 20, "too little was done: {counts:?}");
    lab.finish();
}
