//! Bad input at real sockets: floods of idle connections, peers that are gone without a word, commands far too large,
//! no leader; and a log that programs can read.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use slipway::wire::v1::{self, peer_client::PeerClient};

use crate::support::{TestCluster, TestNode, apply, eventually, spec};

/// Resident memory of the node's process, in KiB.
fn resident(node: &TestNode) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.process.as_ref().unwrap().id())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Files and sockets that the node's process has open.
fn open_files(node: &TestNode) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.process.as_ref().unwrap().id())).unwrap().count()
}

fn connect(addr: SocketAddr) -> TcpStream {
    // A full backlog makes connecting wait, not fail.
    TcpStream::connect_timeout(&addr, Duration::from_secs(20)).unwrap()
}

/// So many connections, all held.
async fn flood(addr: SocketAddr, many: usize, say: &'static [u8]) -> Vec<TcpStream> {
    let connecting = tokio::task::spawn_blocking(move || {
        let one = |_| {
            let mut stream = connect(addr);
            // A node may have cut it already.
            let _ = stream.write_all(say);
            stream
        };
        (0..many).map(one).collect()
    });
    connecting.await.unwrap()
}

/// Reads what is there; whether it says so far that there are too many connections.
fn hear(stream: &mut TcpStream, said: &mut Vec<u8>) -> Option<()> {
    stream.set_nonblocking(true).unwrap();
    let mut more = [0u8; 512];
    while let Ok(n @ 1..) = stream.read(&mut more) {
        said.extend_from_slice(&more[..n]);
    }
    String::from_utf8_lossy(said).contains("too many connections: the limit of this listener is 40").then_some(())
}

/// The beginnings of a client's words: what a peer says whose machine then vanishes.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const HTTP1: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: ";

#[tokio::test]
async fn ten_thousand_idle_connections_cost_little_and_keep_nobody_out() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const IDLE: usize = 10_000;
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < 12_000) {
        let why = format!("only {:?} open files are allowed here", limit.maximum);
        crate::lab::skip("ten_thousand_idle_connections_cost_little_and_keep_nobody_out", &why);
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum.or(Some(1 << 20)), maximum: limit.maximum }).unwrap();
    let cluster = TestCluster::form(1).await;
    let node = &cluster.nodes[0];
    let before = (resident(node), open_files(node));
    for addr in [node.addresses.client, node.addresses.http, node.addresses.peer] {
        let held = flood(addr, IDLE, b"").await;
        assert_eq!(held.len(), IDLE);
        // While all of them are held at our end, everyone else is served.
        node.status().await.unwrap();
        assert_eq!(node.page("/readyz").await.unwrap().0, 200);
        node.catalog().await.apply(apply(&spec("shop", "{}"))).await.unwrap();
        let files = open_files(node).saturating_sub(before.1);
        assert!(files < 1100, "{files} more open files under a flood: the silent of two listeners at most");
    }
    let grown = resident(node).saturating_sub(before.0);
    assert!(grown < 64 * 1024, "{grown} KiB more");
    let (_, metrics) = node.page("/metrics").await.unwrap();
    let counted = "slipway_connections_refused_total{listener=\"peers\",reason=\"silent\"} ";
    let silent = metrics.lines().find_map(|l| l.strip_prefix(counted)).and_then(|n| n.parse::<f64>().ok());
    assert!(silent.is_some_and(|n| n >= 1.0), "{metrics}");
}

#[tokio::test]
async fn half_open_peers_fill_a_listener_only_for_a_while_and_who_comes_meanwhile_is_told() {
    let cluster = TestCluster::form_with(1, "max_connections = 40").await;
    let node = &cluster.nodes[0];
    let mut held = Vec::new();
    for (addr, say) in [(node.addresses.peer, HTTP2), (node.addresses.client, HTTP2), (node.addresses.http, HTTP1)] {
        // More than there are slots: which of them get one is not given, but five must be told.
        let peers = std::cell::RefCell::new(
            flood(addr, 45, say).await.into_iter().map(|s| (s, Vec::new())).collect::<Vec<_>>(),
        );
        eventually("those beyond the limit are told", || async {
            let mut peers = peers.borrow_mut();
            let told = peers.iter_mut().filter_map(|(stream, said)| hear(stream, said)).count();
            if told == 5 { Ok(()) } else { Err(format!("{told} of 5 are told")) }
        })
        .await;
        held.push(peers);
    }
    // Their machines are gone for all the node knows; keep-alives and the idle time free every slot.
    eventually("clients are served again", || async { node.status().await.map(|_| ()) }).await;
    eventually("pages are served again", || async { node.page("/readyz").await.map(|_| ()) }).await;
    eventually("peers are served again", || async {
        let url = format!("http://{}", node.addresses.peer);
        PeerClient::connect(url).await.map(|_| ()).map_err(|e| e.to_string())
    })
    .await;
    drop(held);
}

#[tokio::test]
async fn a_command_of_100_mb_is_refused_before_it_is_read_and_the_limit_is_named() {
    let cluster = TestCluster::form(1).await;
    let node = &cluster.nodes[0];
    let before = resident(node);
    let refused = node.catalog().await.apply(apply(&"x".repeat(100_000_000))).await.unwrap_err();
    assert!(refused.message().contains("4194304"), "{refused}");
    let mut peer = PeerClient::connect(format!("http://{}", node.addresses.peer)).await.unwrap();
    let command = v1::ProposeRequest { command: vec![0; 100_000_000], ..v1::ProposeRequest::default() };
    let refused = peer.propose(command).await.unwrap_err();
    assert!(refused.message().contains("8388608"), "{refused}");
    let grown = resident(node).saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    // What fits a message and not a specification is refused with that limit, and the node goes on.
    let refused = node.catalog().await.apply(apply(&"x".repeat(2_000_000))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    node.catalog().await.apply(apply(&spec("shop", "{}"))).await.unwrap();
}

#[tokio::test]
async fn without_a_leader_the_refusal_says_when_to_try_again() {
    let mut cluster = TestCluster::form(3).await;
    let leader = cluster.leader(None).await;
    let (a, b) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[leader].kill();
    cluster.nodes[b].kill();
    let left = &cluster.nodes[a];
    let refused = eventually("no leader", || async {
        let asked = std::time::Instant::now();
        let refused = left.catalog().await.apply(apply(&spec("shop", "{}"))).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
        // The dead leader is forgotten after an election time-out; from then on the answer comes at once.
        match refused.metadata().get("slipway-reason").and_then(|v| v.to_str().ok()) {
            Some("no_leader") if asked.elapsed() < Duration::from_secs(1) => Ok(refused),
            other => Err(format!("{other:?} after {:?}", asked.elapsed())),
        }
    })
    .await;
    assert_eq!(refused.metadata().get("slipway-retry-after-ms").unwrap(), "500");
    assert!(refused.message().contains("retry"), "{refused}");
    not_ready_for_want_of_a_quorum(left).await;
}

/// Waits until a node that was left alone says that it is not ready, and why.
async fn not_ready_for_want_of_a_quorum(node: &TestNode) {
    eventually("not ready", || async {
        match node.page("/readyz").await? {
            (503, why) if why.contains("no majority") || why.contains("no leader is known") => Ok(()),
            (code, text) => Err(format!("{code}: {text}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_lost_its_followers_is_not_ready_until_one_is_back() {
    let mut cluster = TestCluster::form(3).await;
    let leader = cluster.leader(None).await;
    let (a, b) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[a].kill();
    cluster.nodes[b].kill();
    not_ready_for_want_of_a_quorum(&cluster.nodes[leader]).await;
    cluster.nodes[a].start();
    cluster.ready(&cluster.nodes[leader]).await;
    cluster.ready(&cluster.nodes[a]).await;
}

#[tokio::test]
async fn a_log_in_json_has_one_line_an_event_and_every_line_parses() {
    let mut cluster = TestCluster::form_with(1, "log-format-json").await;
    let node = &mut cluster.nodes[0];
    node.catalog().await.apply(apply(&spec("shop", "{}"))).await.unwrap();
    assert!(node.status().await.unwrap().term > 0);
    let mut process = node.process.take().unwrap();
    process.signal(rustix::process::Signal::TERM);
    process.wait();
    let said = process.said();
    let lines: Vec<serde_json::Value> =
        said.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
    let having = |field: &str, value: &str| lines.iter().filter(|l| l[field] == value).count();
    assert_eq!(having("event", "cluster_created"), 1, "{said}");
    assert_eq!(having("event", "node_changed"), 1, "{said}");
    assert_eq!(having("message", "leading"), 1, "{said}");
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    let leading = lines.iter().find(|l| l["message"] == "leading").unwrap();
    assert!(leading["term"].is_u64(), "{leading}");
}
