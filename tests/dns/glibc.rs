//! DNS asked by glibc's own resolver, through `getent`, in a network namespace of its own where the server has port 53.
//!
//! The test runs itself again under `unshare`; namespace and mounts end with that process, so nothing is left on the
//! machine. Needs root (or user namespaces that may do the same) and says SKIP without.

use std::{collections::BTreeSet, io::Write, net::IpAddr, process::Command};

use slipway::{dns::DnsLimits, model::InstanceId};
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    fixture::{Serving, World},
    helpers::skip::skip,
};

const NAME: &str = "glibc_gets_exact_shares_one_version_and_the_next_server";
const INSIDE: &str = "SLIPWAY_TEST_INSIDE_NAMESPACE";

#[test]
fn glibc_gets_exact_shares_one_version_and_the_next_server() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let may = Command::new("unshare").args(["--net", "--mount", "ip", "link", "set", "lo", "up"]).output();
    match may {
        Ok(out) if out.status.success() => {}
        Ok(out) => return skip(NAME, &format!("no namespace: {}", String::from_utf8_lossy(&out.stderr))),
        Err(e) => return skip(NAME, &format!("no namespace: {e}")),
    }
    // The first server is one that is not ready: glibc goes on to the second at once.
    let mut resolv = tempfile::NamedTempFile::new().unwrap();
    resolv.write_all(b"search production.svc.slipway.internal\nnameserver 127.0.0.2\nnameserver 127.0.0.1\n").unwrap();
    let mut switch = tempfile::NamedTempFile::new().unwrap();
    switch.write_all(b"hosts: dns\n").unwrap();
    let script = "set -e; ip link set lo up; ip addr add 10.9.9.9/32 dev lo; ip -6 addr add fd99::9/128 dev lo || true; \
                  mount --bind \"$1\" /etc/resolv.conf; mount --bind \"$2\" /etc/nsswitch.conf; shift 2; exec \"$@\"";
    let out = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", script, "sh"])
        .args([resolv.path(), switch.path(), &std::env::current_exe().unwrap()])
        .args([&format!("glibc::{NAME}"), "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::main]
async fn inside() {
    let mut world = World::shop(3, 3, (7500, 2500));
    for n in 0..3 {
        world.instance(101, n, "1.0.0", &format!("fd00:1::{n}"));
        world.instance(201, n, "2.0.0", &format!("fd00:2::{n}"));
    }
    let six = UdpSocket::bind("[fd99::9]:0").await;
    if let Err(e) = &six {
        skip(&format!("{NAME}/ipv6"), &format!("glibc asks for no AAAA: {e}"));
    }
    let serving = at("127.0.0.1").await;
    let not_ready = at("127.0.0.2").await;
    serving.publish(&world);
    serving.store.set_ready(true);
    let mut canary = 0;
    for _ in 0..20 {
        // The short name, by the search list.
        let found = getent("shop").await;
        let versions: BTreeSet<u16> = found
            .iter()
            .map(|ip| match ip {
                IpAddr::V4(v4) => u16::from(v4.octets()[2]),
                IpAddr::V6(v6) => v6.segments()[1],
            })
            .collect();
        assert_eq!(versions.len(), 1, "one version in both families: {found:?}");
        assert_eq!(found.len(), if six.is_ok() { 6 } else { 3 }, "{found:?}");
        canary += u32::from(versions.contains(&2));
    }
    assert_eq!(canary, 5, "a look-up of both families takes one card");
    assert!(not_ready.responder.counts().rcodes[2] >= 20, "SERVFAIL sent it on");
    for ordinal in 0..3 {
        for index in [200, 201] {
            world.drain(InstanceId { index, ordinal });
        }
    }
    serving.publish(&world);
    for _ in 0..8 {
        assert!(getent("shop").await.iter().all(|ip| !ip.to_string().starts_with("10.0.2.")), "drained");
    }
    assert!(getent("other").await.is_empty());
    serving.stop().await;
    not_ready.stop().await;
}

async fn at(ip: &str) -> Serving {
    let (udp, tcp) = (UdpSocket::bind((ip, 53)).await.unwrap(), TcpListener::bind((ip, 53)).await.unwrap());
    Serving::with(udp, tcp, DnsLimits::default(), crate::fixture::settings())
}

async fn getent(name: &str) -> BTreeSet<IpAddr> {
    let out = tokio::process::Command::new("getent").args(["ahosts", name]).output().await.unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().filter_map(|l| l.split_whitespace().next()?.parse().ok()).collect()
}
