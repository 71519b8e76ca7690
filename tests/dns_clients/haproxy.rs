//! HAProxy in front of a real canary and a switch, by `cluster/haproxy.cfg`: who got the requests, and whether any
//! failed.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    lab::eventually,
    world::{CART, World, run},
};

const FRONT: &str = "127.0.0.1:8000";
/// Requests at a time.
const CLIENTS: usize = 3;
/// After a change of weights HAProxy may go by the old ones for so long: it asks every second.
const SETTLES: Duration = Duration::from_millis(2500);
/// Instances of each version.
const EACH: usize = 4;

/// A request: when it ended, by whom it was answered, or why not.
struct Request {
    at: Instant,
    answer: Result<String, String>,
}

struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(world: &World) -> Proxy {
    let shipped = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/haproxy.cfg")).unwrap();
    let mut config = shipped.replace("shop.production", "cart.production");
    for (n, node) in (1_u8..).zip(world.nodes()) {
        let line = format!("nameserver n{n} tcp@127.0.0.{n}:8653");
        assert!(config.contains(&line), "{config}");
        config = config.replace(&line, &format!("nameserver n{n} tcp@{node}:53"));
    }
    config +=
        "\nfrontend figures\n    bind 127.0.0.1:8001\n    stats enable\n    stats uri /\n    stats show-legends\n";
    let (file, log) = (world.lab.dir().join("haproxy.cfg"), world.lab.dir().join("haproxy.log"));
    std::fs::write(&file, config).unwrap();
    let log = std::fs::File::create(log).unwrap();
    let child = Command::new("/usr/sbin/haproxy")
        .args(["-db", "-f", file.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Proxy(child)
}

/// GET at an address: the whole answer.
fn get(at: &str, path: &str) -> Result<String, String> {
    let why = |e: std::io::Error| format!("{at}: {e}");
    let at: SocketAddr = at.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5)).map_err(why)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(why)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(why)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).map_err(why)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Servers of the backend: address, status and weight of each that has one.
fn servers() -> Result<BTreeMap<String, (String, u32)>, String> {
    let page = get("127.0.0.1:8001", "/;csv")?;
    let mut lines = page.lines().skip_while(|l| !l.starts_with("# pxname"));
    let names: Vec<&str> = lines.next().ok_or("no figures")?.trim_start_matches("# ").split(',').collect();
    let at = |name: &str| names.iter().position(|n| *n == name).ok_or(format!("no {name}"));
    let (status, weight, addr) = (at("status")?, at("weight")?, at("addr")?);
    let rows = lines.map(|l| l.split(',').collect::<Vec<_>>()).filter(|f| f.len() > addr && f[1].starts_with("shop"));
    let row = |f: Vec<&str>| {
        (!f[addr].is_empty()).then(|| (f[addr].to_string(), (f[status].to_string(), f[weight].parse().unwrap_or(0))))
    };
    Ok(rows.filter_map(row).collect())
}

/// Requests through the proxy, one behind the other by a few clients, until it ends.
struct Load {
    stop: Arc<AtomicBool>,
    all: Arc<Mutex<Vec<Request>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start() -> Self {
        let (stop, all) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let client = |_| {
            let (stop, all) = (Arc::clone(&stop), Arc::clone(&all));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = get(FRONT, "/").and_then(|text| {
                        let version = text.lines().find_map(|l| l.strip_prefix("x-version: "));
                        match version {
                            Some(v) if text.starts_with("HTTP/1.1 200") => Ok(v.trim().to_string()),
                            _ => Err(text),
                        }
                    });
                    all.lock().unwrap().push(Request { at: Instant::now(), answer });
                    std::thread::sleep(Duration::from_millis(3));
                }
            })
        };
        let threads = (0..CLIENTS).map(client).collect();
        Self { stop, all, threads }
    }

    fn count(&self) -> usize {
        self.all.lock().unwrap().len()
    }

    fn end(mut self) -> Vec<Request> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        std::mem::take(&mut *self.all.lock().unwrap())
    }
}

/// The canary's weight as node 1 answers it now, in basis points.
fn weight(node: Ipv4Addr) -> Option<u32> {
    let said = run("dig", &["+short", &format!("@{node}"), &format!("_rollout.{CART}"), "TXT"]).ok()?;
    said.split('"').find_map(|w| w.strip_prefix("bps=")).and_then(|w| w.parse().ok())
}

/// Answers by version between two moments.
fn shares(all: &[Request], from: Instant, to: Instant) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for r in all.iter().filter(|r| r.at >= from && r.at < to) {
        if let Ok(version) = &r.answer {
            *counts.entry(version.clone()).or_default() += 1;
        }
    }
    counts
}

/// A canary in steps, a blue-green rollout back and a switch, under load; figures of all.
pub fn run_through(world: &World) -> Value {
    let canary = "strategy: canary, steps: [10, 25, 50, 100], bake: 12s, min_requests: 0, monitor: 2s, grace: 2h, max_error_rate: 5%";
    world.service("cart", canary, 2, true);
    let _proxy = start(world);
    eventually("HAProxy has every instance", Duration::from_secs(30), || {
        let up = servers()?.values().filter(|(status, _)| status == "UP").count();
        let log = || std::fs::read_to_string(world.lab.dir().join("haproxy.log")).unwrap_or_default();
        if up == EACH { Ok(()) } else { Err(format!("{up} of {EACH}: {:?}\n{}", servers(), log())) }
    });
    let load = Load::start();
    let args = ["rollout", "start", "production/cart", "--to", "2.0.0", "-o", "json"];
    let id = world.lab.slipway(&args).ok().json()["rollout"].as_str().unwrap().to_string();
    let (mut phases, mut least) = (Vec::<(u32, Instant, Instant)>::new(), usize::MAX);
    let mut weights = BTreeMap::new();
    let limit = Instant::now() + Duration::from_secs(300);
    loop {
        let now = weight(world.node(1));
        match (phases.last_mut(), now) {
            (Some((bps, _, until)), Some(now)) if *bps == now => *until = Instant::now(),
            (_, Some(now)) => phases.push((now, Instant::now(), Instant::now())),
            (_, None) => {}
        }
        let servers = servers().unwrap_or_default();
        if let Some((bps, since, _)) = phases.last()
            && since.elapsed() > SETTLES
        {
            // In the moment of a swap HAProxy takes servers out and in one by one.
            least = least.min(servers.values().filter(|(status, _)| status == "UP").count());
            let all: std::collections::BTreeSet<u32> = servers.values().map(|(_, w)| *w).collect();
            weights.insert(*bps, all);
        }
        let said = world.lab.slipway(&["rollout", "status", &id, "-o", "json"]).ok().json();
        if said["terminal"] == true {
            assert_eq!(said["status"], "completed", "{said:#}");
            break;
        }
        assert!(Instant::now() < limit, "{said:#}");
        std::thread::sleep(Duration::from_millis(150));
    }
    // A blue-green rollout back leaves the other side running, so that a switch moves everything at once.
    let before = Instant::now();
    world.spec(
        "cart",
        "strategy: blue-green, bake: 1s, warm_up: 500ms, monitor: 1s, grace: 2h, min_requests: 0",
        2,
        true,
    );
    world.roll("cart", "1.0.0");
    eventually("requests enough", Duration::from_secs(120), || {
        let n = load.count();
        if n >= 9000 && before.elapsed() > 3 * SETTLES { Ok(()) } else { Err(format!("{n} requests")) }
    });
    let asked = Instant::now();
    let switched = world.lab.slipway(&["traffic", "switch", "cart", "--to", "previous", "-o", "json"]).ok();
    let acked = Instant::now();
    eventually("ten thousand requests", Duration::from_secs(120), || {
        let n = load.count();
        if n >= 10_000 && acked.elapsed() > 2 * SETTLES { Ok(()) } else { Err(format!("{n} requests")) }
    });
    least = least.min(servers().unwrap().values().filter(|(status, _)| status == "UP").count());
    let ended = Instant::now();
    let all = load.end();
    let log = std::fs::read_to_string(world.lab.dir().join("haproxy.log")).unwrap();

    let failed: Vec<&String> = all.iter().filter_map(|r| r.answer.as_ref().err()).collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed: {:#?}\n{log}",
        failed.len(),
        all.len(),
        &failed[..failed.len().min(5)]
    );
    assert!(least >= EACH, "at one time only {least} servers were up\n{log}");
    // A server goes because the answer has it no more, never because it failed a check; and there is always one.
    for lost in [" is DOWN, reason", "has no server available"] {
        assert!(!log.contains(lost), "{log}");
    }
    let mut steps = serde_json::Map::new();
    for (bps, from, until) in phases.iter().filter(|(bps, ..)| (1..10_000).contains(bps)) {
        let counts = shares(&all, *from + SETTLES, *until);
        let (new, total) = (counts.get("2.0.0").copied().unwrap_or(0), counts.values().sum::<usize>());
        let (wanted, seen) = (f64::from(*bps) / 100.0, new as f64 * 100.0 / total as f64);
        assert!(total > 500, "{total} requests at {wanted} %");
        // HAProxy deals in turn by weights, so this is no matter of chance.
        assert!((seen - wanted).abs() < 1.0, "{seen:.2} % instead of {wanted} % of {total}: {weights:?}");
        steps.insert(format!("{wanted}"), json!({"requests": total, "share": (seen * 100.0).round() / 100.0}));
    }
    assert_eq!(steps.len(), 3, "{steps:?}");
    let after = shares(&all, acked + SETTLES, ended);
    assert!(after.len() == 1 && after.contains_key("2.0.0"), "after the switch: {after:?}");
    let last_old = all.iter().filter(|r| r.answer.as_deref() == Ok("1.0.0")).map(|r| r.at).max().unwrap();
    json!({
        "requests": all.len(),
        "failed": 0,
        "least_servers_up": least,
        "share_of_canary_by_wanted_percent": steps,
        "server_weights": format!("{weights:?}"),
        "switch_ms": (acked - asked).as_millis(),
        "fenced": switched.json()["fenced"],
        "last_old_answer_after_ack_ms": last_old.saturating_duration_since(acked).as_millis(),
    })
}
