//! A real node's DNS under floods: random names, ANY, ever new sources, thousands of connections of bad kinds. Its
//! memory stays flat, and a client in a network of its own keeps its answers, over UDP and TCP.
//!
//! `make dns-flood` is the long form (`SLIPWAY_DNS_FLOOD`: seconds of each flood; `SLIPWAY_DNS_FLOOD_RATE`: datagrams a
//! second); the line of figures is also written to `SLIPWAY_DNS_FLOOD_REPORT`.

mod client;
mod load;

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    time::{Duration, Instant},
};

use client::{By, Calm, Seen};
use load::{Flood, Kind, crowd, half_open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::lab::{Lab, SHOP, SOON, eventually, skip, spec};

const NAME: &str = "floods_leave_memory_flat_and_a_calm_client_its_answers";
/// Memory that floods may cost once each kind has been seen for a moment.
const FLAT_KIB: u64 = 16 * 1024;
/// And while thousands of connections are held: of 512 that are served, what they have read and not sent.
const HELD_KIB: u64 = 64 * 1024;
/// Fewer than one answer in a hundred takes longer: asking again takes a second.
const WORST_P99_MS: f64 = 900.0;

fn setting(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).ok().map_or(otherwise, |v| v.parse().expect("a number"))
}

struct Flooded {
    lab: Lab,
    lasting: Duration,
    rate: u32,
    before: (u64, Seen, Seen),
    report: serde_json::Map<String, Value>,
    /// Whether this is `make dns-flood`, which has the machine for itself.
    long: bool,
}

impl Flooded {
    /// Resident memory of the node, in KiB.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.lab.nodes[0].pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.lab.nodes[0].pid())).unwrap().count()
    }

    /// A count of `/metrics`.
    fn events(&self, kind: &str) -> u64 {
        let mut stream = TcpStream::connect(self.lab.block.at(1, 7653)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: n1\r\nconnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let line = format!("slipway_dns_events_total{{kind=\"{kind}\"}} ");
        page.lines().find_map(|l| l.strip_prefix(&line)).unwrap().trim().parse().unwrap()
    }

    /// Calm clients, by UDP and by TCP, while something happens; it returns when it has lasted long enough.
    fn calm<T>(&self, meanwhile: impl FnOnce() -> T) -> (T, Seen, Seen) {
        let server = self.lab.block.at(1, 8653);
        let udp = Calm::start(By::Udp, Ipv4Addr::new(127, 98, 1, 1), server, Duration::from_millis(10));
        let tcp = Calm::start(By::Tcp, Ipv4Addr::new(127, 98, 2, 1), server, Duration::from_millis(50));
        let begun = Instant::now();
        let result = meanwhile();
        std::thread::sleep(self.lasting.saturating_sub(begun.elapsed()));
        (result, udp.end(), tcp.end())
    }

    /// Judges what calm clients saw, and what the node's memory is.
    fn judge(&mut self, what: &str, udp: &Seen, tcp: &Seen, bound: u64, mut more: Value) {
        for (how, seen) in [("UDP", udp), ("TCP", tcp)] {
            assert!(seen.failed.is_empty(), "{what}: {how}: without an answer: {:#?}", seen.failed);
            assert!(!seen.took.is_empty(), "{what}: {how}: nothing was asked");
            let p99 = seen.percentile_ms(99);
            // In a test among others it says as much about the others.
            assert!(
                !self.long || p99 < WORST_P99_MS,
                "{what}: {how}: p99 {p99} ms, before {:?}",
                self.before.1.percentile_ms(99)
            );
        }
        let resident = self.resident();
        let grown = resident.saturating_sub(self.before.0);
        assert!(grown < bound, "{what}: {grown} KiB more, {resident} in all");
        more["udp_answers"] = json!(udp.took.len());
        more["udp_again"] = json!(udp.again);
        more["udp_p50_p99_ms"] = json!([udp.percentile_ms(50), udp.percentile_ms(99)]);
        more["tcp_answers"] = json!(tcp.took.len());
        more["tcp_p50_p99_ms"] = json!([tcp.percentile_ms(50), tcp.percentile_ms(99)]);
        more["resident_kib"] = json!(resident);
        self.report.insert(what.into(), more);
    }

    fn datagrams(&mut self, what: &str, kind: Kind) {
        let server = self.lab.block.at(1, 8653);
        let (taken, limited, slipped) = (self.events("udp"), self.events("limited"), self.events("slipped"));
        let flood = Flood::start(kind, server, self.rate);
        let ((), udp, tcp) = self.calm(|| {});
        let sent = flood.end();
        let taken = self.events("udp") - taken;
        let (limited, slipped) = (self.events("limited") - limited, self.events("slipped") - slipped);
        assert!(
            taken > sent / 10,
            "{what}: of {sent} datagrams only {taken} were taken in: this floods a queue, not the node"
        );
        if kind != Kind::Sources {
            assert!(limited > 0 && slipped > 0, "{what}: {limited} dropped, {slipped} short");
        }
        self.judge(
            what,
            &udp,
            &tcp,
            FLAT_KIB,
            json!({"sent": sent, "taken": taken, "dropped": limited, "short": slipped}),
        );
    }

    fn connections(&mut self, many: u32) {
        let server = self.lab.block.at(1, 8653);
        let files = self.open_files();
        let (evicted, refused) = (self.events("tcp_evicted"), self.events("tcp_refused"));
        let (crowd, udp, tcp) = self.calm(|| crowd(server, many));
        // What was evicted is closed a moment later, so a few more may be open.
        let more = eventually("512 connections at most", SOON, || {
            let more = self.open_files().saturating_sub(files);
            if more < 530 { Ok(more) } else { Err(format!("{more} more open files")) }
        });
        assert!(crowd.held.len() > many as usize * 9 / 10, "{} of {many} connected", crowd.held.len());
        let (evicted, refused) = (self.events("tcp_evicted") - evicted, self.events("tcp_refused") - refused);
        assert!(evicted > 100, "{evicted} made room and {refused} had none, of {many}");
        let took = crowd.took.as_millis();
        let said = json!({"opened": many, "not_connected": crowd.refused, "within_ms": took, "files": more, "evicted": evicted, "refused": refused});
        self.judge("connections", &udp, &tcp, HELD_KIB, said);
        drop(crowd);
        // All of the server's places are taken by those who are in the middle of a query, and stay so for seconds.
        let (half, udp, tcp) = self.calm(|| half_open(server, 1000));
        assert!(half.len() > 900, "{} connected", half.len());
        self.judge("half_open", &udp, &tcp, HELD_KIB, json!({"opened": half.len()}));
        drop(half);
        eventually("the connections are given back", SOON, || {
            let more = self.open_files().saturating_sub(files);
            if more < 16 { Ok(()) } else { Err(format!("{more} more open files than before")) }
        });
    }
}

#[test]
fn floods_leave_memory_flat_and_a_calm_client_its_answers() {
    let seconds = setting("SLIPWAY_DNS_FLOOD", 0);
    let (many, rate) = (if seconds == 0 { 1000 } else { 10_000 }, setting("SLIPWAY_DNS_FLOOD_RATE", 4000));
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < u64::from(many) + 2000) {
        return skip(NAME, &format!("only {:?} open files are allowed here", limit.maximum));
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum.or(Some(1 << 20)), maximum: limit.maximum }).unwrap();
    let mut lab = Lab::empty();
    let config = lab.node_config(1) + "dns_rate_exempt = []\n";
    lab.add_node(1, &config);
    lab.form();
    let config = lab.agent_config(1);
    lab.add_agent(1, &config);
    lab.workers_ready();
    lab.apply(&spec("strategy: direct, bake: 100ms, min_requests: 0, monitor: 100ms"));
    lab.push("1.0.0");
    lab.roll("1.0.0", &[]).ok();
    lab.dns_names(SHOP, "1.0.0", 2);
    let lasting = Duration::from_millis(if seconds == 0 { 1000 } else { u64::from(seconds) * 1000 });
    let mut flooded =
        Flooded { lab, lasting, rate, before: Default::default(), report: serde_json::Map::new(), long: seconds > 0 };
    let server = flooded.lab.block.at(1, 8653);
    for kind in [Kind::RandomNames, Kind::Any, Kind::Sources] {
        let warm = Flood::start(kind, server, rate);
        std::thread::sleep(Duration::from_millis(300));
        warm.end();
    }
    let ((), udp, tcp) = flooded.calm(|| {});
    flooded.before = (flooded.resident(), udp.clone(), tcp.clone());
    flooded.judge("before", &udp, &tcp, FLAT_KIB, json!({}));
    flooded.datagrams("random_names", Kind::RandomNames);
    flooded.datagrams("any", Kind::Any);
    flooded.datagrams("sources", Kind::Sources);
    flooded.connections(many);
    assert_eq!(flooded.events("panics"), 0, "nothing inside may fail");
    flooded.report.insert("flood_s".into(), json!(lasting.as_secs_f64()));
    flooded.report.insert("rate".into(), json!(rate));
    let report = format!("{}\n", Value::Object(flooded.report));
    if let Ok(path) = std::env::var("SLIPWAY_DNS_FLOOD_REPORT") {
        std::fs::write(path, &report).unwrap();
    }
    print!("{report}");
    flooded.lab.finish();
}
