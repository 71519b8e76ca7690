//! Switches under faults, judged as reads of a register: every node is asked 200 times a second while traffic is
//! switched to and fro, and once a switch was called fenced no answer to a later question may be from before it.
//!
//! Half of the switches are made in mode `armed`, half in mode `always`. `SLIPWAY_SWITCHES` and `SLIPWAY_SWITCH_SEED`
//! make the long form; the line of figures is also written to `SLIPWAY_SWITCH_REPORT`. The long form has leases of the
//! default length.

mod poll;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use poll::{Polled, poller};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use slipway::{
    client::{Client, Limits},
    clock::Clock,
    wire::v1,
};

use crate::lab::{Lab, Net, Release, SHOP, SOON, eventually, list, package, skip, spec, text};

const NAME: &str = "no_old_answer_follows_a_fenced_switch";
const NODES: u8 = 3;
const SHORT: u64 = 20;
/// Servers have so long to confirm under a fault; then the switch is made without them and says so.
const WITHIN_MS: u64 = 1200;
/// A switch that moved nothing is asked for so often, and how many of these there may be for each that was made.
const TRIES: u32 = 20;
const IN_VAIN: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    None,
    Kill,
    KillLeader,
    Pause,
    PauseLeader,
    Partition,
    PartitionLeader,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::KillLeader => "kill_leader",
            Self::Pause => "pause",
            Self::PauseLeader => "pause_leader",
            Self::Partition => "partition",
            Self::PartitionLeader => "partition_leader",
        }
    }
}

/// Every second switch has a fault, each kind in turn.
fn deck(random: &mut StdRng) -> Vec<Fault> {
    use Fault::*;
    let mut all = vec![Kill, KillLeader, Pause, PauseLeader, Partition, PartitionLeader];
    all.shuffle(random);
    all.into_iter().flat_map(|f| [f, None]).collect()
}

/// One switch, as it was seen from outside.
struct Made {
    asked: Instant,
    acked: Instant,
    to: String,
    fenced: bool,
    fault: Fault,
    always: bool,
    note: String,
    /// So many tries before it moved nothing.
    tries: u32,
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

fn cluster(lab: &mut Lab, net: &Net) {
    lab.block.bridge();
    for n in 1..=NODES {
        let config = lab.node_config(n) + "insecure = true\n";
        lab.add_node_within(n, &config, &net.within(n), &[]);
    }
    lab.form();
    for n in 1..=2 {
        let config = lab.agent_config(n) + "insecure = true\n";
        lab.add_agent(n, &config);
    }
    lab.workers_ready();
    let blue_green =
        spec("strategy: blue-green, bake: 100ms, warm_up: 100ms, monitor: 100ms, grace: 2h, min_requests: 0")
            .replace("per_worker: 2", "per_worker: 1");
    lab.apply(&blue_green);
    lab.apply(&blue_green.replace("service: shop", "service: cart"));
    for version in ["1.0.0", "2.0.0"] {
        lab.push(version);
        let dir = package(lab.dir(), &Release { version, settings: "" });
        lab.slipway(&["release", "push", "cart", version, dir.to_str().unwrap()]).ok();
    }
    for to in ["1.0.0", "2.0.0"] {
        let cart = ["rollout", "start", "production/cart", "--to", to, "--watch", "--within", "90s", "-o", "json"];
        lab.slipway(&cart).ok();
        lab.roll(to, &[]).ok();
    }
}

/// The versions by the addresses that stand for them.
fn addresses(lab: &Lab) -> BTreeMap<std::net::Ipv4Addr, String> {
    let shown = lab.slipway(&["traffic", "show", "production/shop", "-o", "json"]).ok().json();
    let shares = list(&shown, "shares");
    let all = shares.iter().flat_map(|s| list(s, "addresses").iter().map(move |a| (a, text(s, "version"))));
    all.map(|(a, v)| (a.as_str().unwrap().parse().unwrap(), v.to_string())).collect()
}

struct World {
    lab: Lab,
    net: Net,
    client: Client,
    runtime: tokio::runtime::Runtime,
    random: StdRng,
}

impl World {
    /// What the cluster says of itself, once it has a leader and a quorum.
    fn status(&self) -> v1::StatusReply {
        eventually("the cluster has a leader", SOON, || {
            let status = self.runtime.block_on(self.client.status()).map_err(|e| e.to_string())?;
            if status.leader_id > 0 && status.quorum { Ok(status) } else { Err(format!("{status:?}")) }
        })
    }

    /// Switches to the other version; a fault happens around it, and is over when this returns.
    fn switch(&mut self, to: &str, fault: Fault, always: bool) -> Made {
        let leader = usize::try_from(self.status().leader_id - 1).unwrap();
        let follower = (leader + 1 + self.random.random_range(0..2)) % usize::from(NODES);
        let at = match fault {
            Fault::KillLeader | Fault::PauseLeader | Fault::PartitionLeader => leader,
            Fault::None | Fault::Kill | Fault::Pause | Fault::Partition => follower,
        };
        // Before the switch is asked for, or somewhere in its middle.
        let before = self.random.random_bool(0.4);
        let offset = Duration::from_millis(self.random.random_range(0..30));
        if before {
            self.begin(fault, at);
            std::thread::sleep(offset);
        }
        let request = v1::SwitchRequest {
            request: None,
            deployments: vec!["production/shop".into(), "production/cart".into()],
            to: to.into(),
            wait: "fenced".into(),
            // Without a fault a machine that is merely busy may take its time.
            within_ms: if fault == Fault::None { 15_000 } else { WITHIN_MS },
            wait_ms: 2000,
            ..v1::SwitchRequest::default()
        };
        let client = self.client.clone();
        let asked = Instant::now();
        let asking = self.runtime.spawn(async move {
            let mut why = String::new();
            // A machine that is busy may find an instance failing its check for a moment: then nothing moves, and it is
            // asked again.
            for tries in 0..TRIES {
                match made(&client, &request).await {
                    Ok(s) if s.phase == "ended" => return Ok((s, Instant::now(), tries)),
                    Ok(s) => why = s.note,
                    Err(e) => why = e.to_string(),
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(why)
        });
        if !before {
            std::thread::sleep(offset);
            self.begin(fault, at);
        }
        let paused = Duration::from_millis(self.random.random_range(300..2500));
        if matches!(fault, Fault::Pause | Fault::PauseLeader) {
            std::thread::sleep(paused);
            self.lab.nodes[at].resume();
        }
        let (s, acked, tries) = self.runtime.block_on(asking).unwrap().unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        // What was not told must still hold for a while after the acknowledgement, with the fault still on.
        std::thread::sleep(Duration::from_millis(150));
        self.end(fault, at);
        Made { asked, acked, to: to.into(), fenced: s.fenced, fault, always, note: s.note, tries }
    }

    fn others(at: usize) -> impl Iterator<Item = u8> {
        let n = u8::try_from(at + 1).unwrap();
        (1..=NODES).filter(move |o| *o != n)
    }

    fn begin(&mut self, fault: Fault, at: usize) {
        let n = u8::try_from(at + 1).unwrap();
        match fault {
            Fault::None => {}
            Fault::Kill | Fault::KillLeader => self.lab.nodes[at].kill(),
            Fault::Pause | Fault::PauseLeader => self.lab.nodes[at].pause(),
            Fault::Partition | Fault::PartitionLeader => Self::others(at).for_each(|o| {
                self.net.cut(n, o);
                self.net.cut(o, n);
            }),
        }
    }

    fn end(&mut self, fault: Fault, at: usize) {
        let n = u8::try_from(at + 1).unwrap();
        match fault {
            Fault::None | Fault::Pause | Fault::PauseLeader => {}
            Fault::Kill | Fault::KillLeader => self.lab.nodes[at].start(),
            Fault::Partition | Fault::PartitionLeader => Self::others(at).for_each(|o| {
                self.net.mend(n, o);
                self.net.mend(o, n);
            }),
        }
        if fault != Fault::None {
            self.healed();
        }
    }

    /// Every node serves what is committed, and has a lease again.
    fn healed(&self) {
        let target = self.status().applied_index;
        eventually("every node serves what is committed", SOON, || {
            let status = self.status();
            let behind = status.nodes.iter().filter(|n| n.served_index < target || n.dns_silent).count();
            if behind == 0 { Ok(()) } else { Err(format!("{status:?}")) }
        });
        for n in 1..=NODES {
            eventually(&format!("n{n} answers again"), SOON, || {
                let answer = self.lab.dns(n, SHOP)?;
                if answer.addresses.is_empty() { Err(format!("{answer:?}")) } else { Ok(()) }
            });
        }
    }

    fn lease(&self, args: &[&str]) {
        let mut all = vec!["traffic", "lease", "-o", "json"];
        all.extend(args);
        self.lab.slipway(&all).ok();
    }
}

/// One switch from its request to its end.
async fn made(client: &Client, request: &v1::SwitchRequest) -> Result<v1::Switch, slipway::client::ClientError> {
    let mut s = client.switch_traffic(request.clone()).await?.switch.unwrap_or_default();
    while !s.ended {
        s = client.switch(v1::GetSwitchRequest { switch: s.id.clone(), wait_ms: 2000 }).await?;
    }
    Ok(s)
}

/// The value at so many hundredths of the sorted values.
fn quantile(values: &mut [u64], hundredths: usize) -> u64 {
    values.sort_unstable();
    let at = (values.len() * hundredths).div_ceil(100).saturating_sub(1);
    values.get(at).copied().unwrap_or_default()
}

/// What came of looking at the answers.
#[derive(Default)]
struct Judged {
    /// Answers that are from before a switch that had been called fenced when they were asked for; as text.
    wrong: Vec<String>,
    /// Answers looked at, by the switch that came before them.
    answers: BTreeMap<usize, usize>,
}

fn judge(made: &[Made], polled: &[Polled]) -> Judged {
    let mut judged = Judged::default();
    for (n, one) in made.iter().enumerate().filter(|(_, m)| m.fenced) {
        let until = made.get(n + 1).map(|next| next.asked);
        for p in polled.iter().filter(|p| p.sent > one.acked && until.is_none_or(|u| p.received < u)) {
            *judged.answers.entry(n).or_default() += usize::from(!p.versions.is_empty());
            if p.versions.iter().any(|v| *v != one.to) {
                judged.wrong.push(format!(
                    "switch {n} ({:?}, always {}) to {} was fenced, and {:?} later n{} said {:?}",
                    one.fault,
                    one.always,
                    one.to,
                    p.sent - one.acked,
                    p.node,
                    p.versions
                ));
            }
        }
    }
    judged
}

/// What a run must have seen to be worth anything: answers to judge after each switch, and switches of each kind that
/// were fenced.
fn enough(made: &[Made], judged: &Judged) {
    for (n, one) in made.iter().enumerate().filter(|(_, m)| m.fenced) {
        let answers = judged.answers.get(&n).copied().unwrap_or_default();
        // The pause between two switches alone is twenty questions to each node.
        assert!(answers >= 10, "switch {n} ({:?}): only {answers} answers after it to judge", one.fault);
    }
    for always in [false, true] {
        let fenced = made.iter().filter(|m| m.always == always && m.fault != Fault::None && m.fenced).count();
        assert!(fenced > 0, "always {always}: no switch with a fault was fenced: their answers were not judged");
    }
    let tries: u32 = made.iter().map(|m| m.tries).sum();
    let most = IN_VAIN * u32::try_from(made.len()).unwrap();
    assert!(tries <= most, "{tries} switches moved nothing, beside {} that were made", made.len());
}

#[test]
fn no_old_answer_follows_a_fenced_switch() {
    let mut lab = Lab::empty();
    let mut net = match Net::make(&lab.block, NODES) {
        Ok(net) => net,
        Err(why) => {
            skip(NAME, &why);
            return lab.finish();
        }
    };
    // Without filters links are cut by routes instead.
    if let Err(why) = net.filter() {
        skip(&format!("{NAME}/filters"), &why);
    }
    let (seed, count) = (setting("SLIPWAY_SWITCH_SEED", 1), setting("SLIPWAY_SWITCHES", SHORT));
    println!("switch history: seed {seed}, {count} switches");
    cluster(&mut lab, &net);
    let versions = Arc::new(addresses(&lab));
    assert_eq!(versions.len(), 4, "{versions:?}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let nodes: Vec<String> = (1..=NODES).map(|n| lab.client(n)).collect();
    let limits = Limits { deadline: Duration::from_secs(60), ..Limits::default() };
    let client = runtime.block_on(async { Client::new(&nodes, limits, Clock::real()) }).unwrap();
    let mut world = World { lab, net, client, runtime, random: StdRng::seed_from_u64(seed) };
    if count <= 50 {
        world.lease(&["--duration", "1s"]);
    }
    let servers = world.lab.dns_servers();
    let polls = poll::start(&servers, &versions);

    let (mut made, mut faults) = (Vec::new(), Vec::new());
    for n in 0..count {
        let always = n >= count / 2;
        if n == count / 2 {
            world.lease(&["--mode", "always"]);
            faults.clear();
        }
        if faults.is_empty() {
            faults = deck(&mut world.random);
        }
        let fault = faults.pop().unwrap_or(Fault::None);
        let to = if n % 2 == 0 { "1.0.0" } else { "2.0.0" };
        let one = world.switch(to, fault, always);
        println!(
            "{n}: {} {} {} ms fenced {} {}",
            fault.name(),
            if always { "always" } else { "armed" },
            (one.acked - one.asked).as_millis(),
            one.fenced,
            one.note
        );
        made.push(one);
        std::thread::sleep(Duration::from_millis(100));
    }
    let polled = poller(polls);
    let judged = judge(&made, &polled);
    let wrong = &judged.wrong;
    report(&made, &polled, &judged);
    enough(&made, &judged);
    assert!(wrong.is_empty(), "seed {seed}: {} old answers, such as {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    let unfenced: Vec<&Made> = made.iter().filter(|m| m.fault == Fault::None && !m.fenced).collect();
    assert!(unfenced.is_empty(), "seed {seed}: not fenced without a fault: {}", unfenced[0].note);
    let always: Vec<&Made> = made.iter().filter(|m| m.always && m.fault == Fault::Partition && !m.fenced).collect();
    assert!(always.is_empty(), "seed {seed}: a server that is cut off was not waited out: {}", always[0].note);
    for m in made.iter().filter(|m| !m.fenced) {
        assert!(!m.note.is_empty(), "a switch that is not fenced says why");
    }
    // The same through the command line, taken back in one entry.
    let said = world.lab.slipway(&["traffic", "switch", "--back", &newest(&world.lab), "-o", "json"]).ok().json();
    assert_eq!((said["fenced"].as_bool(), list(&said, "targets").len()), (Some(true), 2), "{said:#}");
    // Who asks what moved the traffic last finds it.
    let (moved, of) = (text(&said, "id"), text(&list(&said, "targets")[0], "deployment").to_string());
    let past = world.lab.slipway(&["rollout", "history", &of]).ok().out;
    assert!(past.lines().nth(1).is_some_and(|newest| newest.starts_with(moved)), "{past}");
    let why = world.lab.slipway(&["explain", &of]).ok().out;
    assert!(why.contains(&format!("last: {moved} switched its traffic")), "{why}");
    let World { lab, net, client, runtime, .. } = world;
    drop((client, runtime));
    lab.finish();
    drop(net);
}

fn newest(lab: &Lab) -> String {
    let lease = lab.slipway(&["traffic", "lease", "-o", "json"]).ok().json();
    text(&list(&lease, "switches")[0], "id").to_string()
}

fn report(made: &[Made], polled: &[Polled], judged: &Judged) {
    let took = |f: &dyn Fn(&&Made) -> bool| -> Vec<u64> {
        made.iter().filter(f).map(|m| u64::try_from((m.acked - m.asked).as_millis()).unwrap_or(u64::MAX)).collect()
    };
    let mut calm = took(&|m| m.fault == Fault::None);
    let mut cut = took(&|m| matches!(m.fault, Fault::Partition | Fault::PartitionLeader));
    let mut shares: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for m in made {
        let key = format!("{}_{}", m.fault.name(), if m.always { "always" } else { "armed" });
        let share = shares.entry(key).or_default();
        *share = (share.0 + u32::from(m.fenced), share.1 + 1);
    }
    let shares: BTreeMap<String, f64> =
        shares.into_iter().map(|(k, (n, of))| (k, (f64::from(n) / f64::from(of) * 1000.0).round() / 1000.0)).collect();
    let line = serde_json::json!({
        "switches": made.len(),
        "old_after_ack": judged.wrong.len(),
        "judged": judged.answers.values().sum::<usize>(),
        "tries_in_vain": made.iter().map(|m| m.tries).sum::<u32>(),
        "ack_p50_ms": quantile(&mut calm, 50),
        "ack_p99_ms": quantile(&mut calm, 99),
        "ack_p99_partitioned_ms": quantile(&mut cut, 99),
        "fenced": made.iter().filter(|m| m.fenced).count(),
        "fenced_share": shares,
        "answers": polled.iter().filter(|p| !p.versions.is_empty()).count(),
        "without_answer": polled.iter().filter(|p| p.versions.is_empty()).count(),
    });
    println!("{line}");
    if let Ok(path) = std::env::var("SLIPWAY_SWITCH_REPORT") {
        std::fs::write(path, format!("{line}\n")).unwrap();
    }
    let answered = polled.iter().filter(|p| !p.versions.is_empty()).count();
    assert!(answered > made.len() * 20, "too little was asked: {answered} answers");
}
