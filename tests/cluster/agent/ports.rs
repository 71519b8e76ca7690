//! Health is an instance's, not an address's: nobody may listen there before it starts, and what answers its checks is
//! its own.

use std::{
    io::{Read, Write},
    net::{TcpListener, UdpSocket},
};

use rustix::process::Signal;
use slipway::wire::v1;

use super::{
    ID, running,
    worker::{Package, Worker, assignment, free_port, spec_of, until},
};
use crate::helpers::procs::signal;

/// A spec whose shop listens where `listen` says.
fn listens(listen: &str, health: &str, ports: &str) -> v1::SpecDoc {
    spec_of(&format!(
        "service: shop\nenvironment: production\nrun: {{command: [\"bin/shop\", \"--listen\", \"{listen}\"], stop: {{grace: 1s}}}}\n\
         ports: {ports}\nhealth: {{http: /healthz, interval: 100ms, {health}}}\n"
    ))
}

fn with(spec: v1::SpecDoc, generation: u64, packages: &[&Package], entries: Vec<v1::Entry>) -> v1::Assignment {
    v1::Assignment { specs: vec![spec], ..assignment(generation, "activate", packages, entries) }
}

/// An entry of the same port at another address.
fn beside(package: &Package, id: &str, port: u16) -> v1::Entry {
    v1::Entry { address: "127.0.0.9".into(), ..package.entry(id, port) }
}

/// Answers 200 to everything, from this process.
fn stranger(at: (&str, u16)) {
    let listener = TcpListener::bind(at).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_not_started_where_the_old_one_listens_on_all_addresses() {
    let mut w = Worker::start().await;
    let port = free_port();
    let (one, two) = (Package::shop("1.0.0"), Package::shop("2.0.0"));
    w.offer(&[&one, &two]);
    let spec = listens(&format!("0.0.0.0:{port}"), "start_within: 20s", "{http: 80}");
    w.desire(vec![with(spec.clone(), 1, &[&one], vec![one.entry(ID, port)])]);
    // Alone, a socket on all addresses is the instance's own.
    w.instance_is(ID, "running", "passing").await;
    let pid = w.pid(ID);
    w.desire(vec![with(spec.clone(), 2, &[&one, &two], vec![one.entry(ID, port), beside(&two, "70-0", port)])]);
    let failed = w.instance_is("70-0", "failed", "unknown").await;
    assert!(failed.exit.contains(&format!("port 127.0.0.9:{port} is in use by pid {pid} (shop)")), "{}", failed.exit);
    assert!(failed.exit.contains("listen on ${SLIPWAY_ADDR_HTTP} instead of 0.0.0.0"), "{}", failed.exit);
    assert!(w.reached(2, "failed").await.detail.contains("is in use by"));
    assert!(w.pids("70-0").is_empty() && w.pid(ID) == pid);
    // In place it takes the port over: it starts once its predecessor is gone.
    let taker = v1::Entry { replaces: ID.into(), ..two.entry("71-0", port) };
    w.desire(vec![with(spec, 3, &[&one, &two], vec![taker])]);
    w.instance_is("71-0", "running", "passing").await;
    w.instance_is(ID, "gone", "unknown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_somebody_else_is_no_health() {
    let mut w = Worker::start().await;
    let (package, port) = (Package::script("1.0.0", "exec sleep 1000"), free_port());
    w.offer(&[&package]);
    let spec = listens("nowhere", "start_within: 4s", "{http: 80}");
    w.desire(vec![with(spec, 1, &[&package], vec![package.entry(ID, port)])]);
    // The port is free when it starts; then somebody else answers there, and well.
    until("its process", || w.pids(ID).first().copied()).await;
    stranger(("0.0.0.0", port));
    let failed = w.instance_is(ID, "failed", "unknown").await;
    let me = std::process::id();
    let want = format!("127.0.0.1:{port} is answered by pid {me} (");
    assert!(failed.exit.contains(&want) && failed.exit.contains("not this instance's"), "{}", failed.exit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_somebody_has_fails_the_start_with_his_name() {
    let mut w = Worker::start().await;
    let (package, port) = (Package::shop("1.0.0"), free_port());
    w.offer(&[&package]);
    stranger(("127.0.0.1", port));
    w.desire(vec![assignment(1, "activate", &[&package], vec![package.entry(ID, port)])]);
    let failed = w.instance_is(ID, "failed", "unknown").await;
    let want = format!("port 127.0.0.1:{port} is in use by pid {} (", std::process::id());
    assert!(failed.exit.contains(&want) && failed.exit.contains("choose another port"), "{}", failed.exit);
    assert!(w.pids(ID).is_empty());
    // UDP likewise.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = socket.local_addr().unwrap().port();
    let spec = listens("${SLIPWAY_ADDR_HTTP}", "start_within: 20s", "{http: 80, dns: {port: 53, protocol: udp}}");
    let mut entry = package.entry("60-0", free_port());
    entry.ports.insert("dns".into(), udp.into());
    w.desire(vec![with(spec, 2, &[&package], vec![entry])]);
    let failed = w.instance_is("60-0", "failed", "unknown").await;
    assert!(failed.exit.contains(&format!("UDP port 127.0.0.1:{udp} is in use by pid")), "{}", failed.exit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_just_being_let_go_is_waited_for() {
    let mut w = Worker::start().await;
    let (package, port) = (Package::shop("1.0.0"), free_port());
    w.offer(&[&package]);
    let held = TcpListener::bind(("127.0.0.1", port)).unwrap();
    w.desire(vec![assignment(1, "activate", &[&package], vec![package.entry(ID, port)])]);
    let journal = w.data("deployments/production.shop/journal");
    let starting = || String::from_utf8_lossy(&std::fs::read(&journal).ok()?).contains("Starting").then_some(());
    until("its start", starting).await;
    drop(held);
    w.instance_is(ID, "running", "passing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_instance_left_on_its_port_ends_with_it_so_it_starts_again() {
    let mut w = Worker::start().await;
    let port = free_port();
    // A helper in a session of its own, which would outlive the program and listen in its place.
    let pid_file = w.dir.path().join("helper");
    let package =
        Package::shop_under("1.0.0", &format!("setsid bin/real & echo $! > '{}'; exec sleep 1000", pid_file.display()));
    w.offer(&[&package]);
    w.desire(vec![assignment(1, "activate", &[&package], vec![package.entry(ID, port)])]);
    // It descends from the instance, so its answers count as the instance's.
    w.instance_is(ID, "running", "passing").await;
    let helper = std::fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    let main = w.pids(ID).into_iter().find(|pid| pid.to_string() != helper).unwrap();
    signal(i32::try_from(main).unwrap(), Signal::KILL);
    until("one restart", || w.instance(ID).filter(|i| i.restarts == 1 && i.health == "passing")).await;
    assert!(!w.pids(ID).iter().any(|pid| pid.to_string() == helper));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_found_again_is_not_refused_for_its_own_socket() {
    let (mut w, package, port) = running().await;
    let pid = w.pid(ID);
    w.kill();
    w.restart();
    let report = w.instance_is(ID, "running", "passing").await;
    assert_eq!((w.pid(ID), report.restarts), (pid, 0));
    w.desire(vec![assignment(2, "activate", &[&package], vec![package.entry(ID, port)])]);
    w.reached(2, "active").await;
}
