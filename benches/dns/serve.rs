//! The servers that are measured and are of this build: ours, a UDP echo, stock hickory-server. Each runs in a process
//! of its own, tells its address on its first line of output, and ends with its input.
//!
//! Ours is the product's own `DnsServer` over a `ViewStore`, fed with a State of the size asked for. `cluster` has that
//! State in a cluster of one on the client's core; a line `changes N` on its input makes it change N routes a second,
//! and is answered with how many it has changed.

use std::{
    io::{BufRead as _, Write as _},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use hickory_proto::rr::{
    Name, RData, Record,
    rdata::{A, SOA},
};
use hickory_server::{
    Server,
    net::runtime::TokioRuntimeProvider,
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneType},
};
use slipway::{
    clock::Clock,
    dns::{DnsLimits, DnsServer, DnsSettings, Rates, Responder, ViewStore},
};

use super::{
    cluster,
    mmsg::{BATCH, Datagrams},
    names,
    world::World,
};

/// What a child process serves, as its command line says it.
pub fn run(what: &str, services: u32, dir: &str) {
    match what {
        "echo" => echo(),
        "hickory" => hickory(services),
        "plain" => still(&World::new(services, false)),
        "weighted" => still(&World::new(services, true)),
        "cluster" => changing(World::new(services, true), dir.into()),
        other => panic!("unknown server {other}"),
    }
}

fn tell(address: SocketAddr) {
    println!("{address}");
    std::io::stdout().flush().expect("somebody listens");
}

/// Hands each line of input to `with`; returns with the last.
fn obey(mut with: impl FnMut(&str)) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        with(line.trim());
    }
}

fn echo() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    tell(socket.local_addr().expect("its address"));
    thread::spawn(move || {
        let mut all = Datagrams::new(false);
        loop {
            let Ok(n) = all.receive(&socket, true) else { continue };
            for at in 0..n.min(BATCH) {
                all.set_outgoing(at, all.received(at));
            }
            all.send(&socket, n);
        }
    });
    obey(|_| {});
}

fn still(world: &World) {
    let store = Arc::new(ViewStore::new());
    store.set_node(1);
    store.publish(&world.state);
    store.set_ready(true);
    ours(store, &Arc::default(), &Arc::default());
    std::process::exit(0);
}

fn changing(world: World, dir: PathBuf) {
    let store = Arc::new(ViewStore::new());
    store.set_node(1);
    let (rate, made) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    thread::spawn({
        let (rate, made, store) = (Arc::clone(&rate), Arc::clone(&made), Arc::clone(&store));
        move || {
            // Nothing may be measured beside a cluster that has failed.
            let run = || cluster::run(world, &dir, &store, &rate, &made);
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                std::process::exit(1);
            }
        }
    });
    while *store.served_index().borrow() == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    ours(store, &rate, &made);
    // The thread of the changes does not end.
    std::process::exit(0);
}

/// Serves until its input ends.
fn ours(store: Arc<ViewStore>, rate: &Arc<AtomicU64>, made: &Arc<AtomicU64>) {
    let (rate, made) = (Arc::clone(rate), Arc::clone(made));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = udp.local_addr().expect("its address");
        // Rates as by default or so, with the client exempt: its own is looked up all the same.
        let exempt = vec!["127.0.0.0/8".parse().expect("a prefix")];
        let rates = Rates { answers: 1000, negative: 200, errors: 100, slip: 2, exempt };
        let settings = DnsSettings { rates, ..DnsSettings::default() };
        let responder = Arc::new(Responder::with(store, Clock::real(), settings));
        // As many as the other servers have, as there is one core.
        let limits = DnsLimits { udp_threads: 1, ..DnsLimits::default() };
        let server = DnsServer::start(vec![udp], vec![tcp], Arc::clone(&responder), &limits);
        tell(address);
        let told = tokio::task::spawn_blocking(move || {
            obey(|line| {
                let per_s = line.strip_prefix("changes ").and_then(|n| n.parse().ok()).expect("changes N");
                rate.store(per_s, Ordering::Relaxed);
                println!("{}", made.load(Ordering::Relaxed));
            });
        });
        told.await.expect("it reads");
        eprintln!("{:?}", responder.counts());
        server.stop().await;
    });
}

/// A zone in memory with every service's name.
fn hickory(services: u32) {
    let name = |text: &str| Name::from_ascii(format!("{text}.")).expect("a name");
    let origin = name(names::ZONE);
    let mut zone =
        InMemoryZoneHandler::<TokioRuntimeProvider>::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    let soa = SOA::new(name("ns1.slipway.internal"), name("hostmaster.slipway.internal"), 1, 60, 10, 3600, 2);
    zone.upsert_mut(Record::from_rdata(origin.clone(), 60, RData::SOA(soa)), 1);
    for n in 1..=services {
        let [a, b, c] = names::network(n, 0);
        for e in 1..=names::ENDPOINTS {
            let address = RData::A(A(Ipv4Addr::new(a, b, c, e)));
            zone.upsert_mut(Record::from_rdata(name(&names::service(n)), 5, address), 1);
        }
    }
    let mut catalog = Catalog::new();
    catalog.upsert(origin.into(), vec![Arc::new(zone)]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let mut server = Server::new(catalog);
        let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        tell(udp.local_addr().expect("its address"));
        server.register_socket(udp);
        tokio::task::spawn_blocking(|| obey(|_| {})).await.expect("it reads");
    });
    std::process::exit(0);
}
