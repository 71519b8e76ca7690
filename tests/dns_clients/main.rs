//! `make dns-clients`: what clients and forwarders of Debian do with the nodes' DNS, and HAProxy with the weighted SRV
//! records of a real canary. Prints the table of docs/dns.md; the last line is one JSON object of figures.
//!
//! It runs itself again in namespaces of its own (network, mounts, processes), where the nodes have port 53 and
//! `/etc/resolv.conf` is a file of this test: nothing of the machine's own changes, and nothing is left when it ends.
//! Everything in the table was asserted. It needs root and programs that `make dns-clients` installs, so it is no part
//! of `make test`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, unused_imports, reason = "each binary needs a part of it")]
#[path = "../helpers/mod.rs"]
mod helpers;

mod forwarder;
mod haproxy;
#[allow(dead_code, unused_imports, reason = "shared with tests/cluster")]
#[path = "../cluster/lab/mod.rs"]
mod lab;
mod report;
mod resolvers;
mod tap;
mod tools;
mod world;

use std::{path::PathBuf, process::Command};

use resolvers::Resolver;
use serde_json::json;
use world::{SHOP, World};

const INSIDE: &str = "SLIPWAY_TEST_INSIDE_NAMESPACE";
/// Where the package of systemd-resolved is unpacked.
const RESOLVED: &str = "SLIPWAY_RESOLVED";

fn main() {
    if std::env::var_os(INSIDE).is_none() {
        let status = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--"])
            .args(["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .env(INSIDE, "1")
            .status()
            .unwrap_or_else(|e| panic!("unshare: {e}"));
        std::process::exit(status.code().unwrap_or(1));
    }
    let only = std::env::var("SLIPWAY_CLIENTS").unwrap_or_default();
    let wanted = |part: &str| only.is_empty() || only.split(',').any(|o| o == part);
    let world = World::new();
    let mut rows = Vec::new();
    let mut figures = serde_json::Map::new();
    if wanted("tools") || wanted("resolvers") || wanted("forwarder") {
        let held = "strategy: canary, steps: [25, 100], bake: 2h, min_requests: 0, monitor: 100ms";
        world.service("shop", held, 6, false);
        let args = ["rollout", "start", "production/shop", "--to", "2.0.0", "-o", "json"];
        world.lab.slipway(&args).ok();
        world.weighs(SHOP, 2500);
    }
    if wanted("tools") {
        rows.extend(tools::TOOLS.iter().map(|tool| tool.row(&world)));
    }
    if wanted("resolvers") {
        for resolver in Resolver::all(&world) {
            rows.push(resolver.row(&world));
            let (mixed, asked) = resolver.three_servers(&world);
            let down = resolver.first_is_down(&world);
            println!(
                "{}: three servers: asks {}, {mixed} of 20 look-ups mixed; the first is down: {} ms",
                resolver.client,
                asked.len(),
                down.as_millis()
            );
            // musl asks all servers at once and takes what comes first; then its two families may come from two nodes.
            let all_at_once = resolver.client.starts_with("musl");
            if all_at_once {
                world.lab.nodes[0].pause();
                let (mixed, _) = resolver.three_servers(&world);
                world.lab.nodes[0].resume();
                println!("{}: the first of three is silent: {mixed} of 20 look-ups mixed", resolver.client);
                figures.insert("musl_first_silent_mixed_of_20".into(), json!(mixed));
            }
            let key = resolver.client.split(' ').next().unwrap().to_lowercase();
            figures.insert(
                key,
                json!({"three_servers_asked": asked.len(), "mixed_of_20": mixed, "first_down_ms": down.as_millis()}),
            );
            assert_eq!(asked.len(), if all_at_once { 3 } else { 1 }, "{}", resolver.client);
            assert!(all_at_once || mixed == 0, "{}: {mixed} mixed", resolver.client);
        }
    }
    if wanted("forwarder") {
        let unpacked = PathBuf::from(std::env::var(RESOLVED).expect("make dns-clients sets it"));
        let version =
            world::version(unpacked.join("lib/systemd/systemd-resolved").to_str().unwrap(), &["--version"], 1);
        let resolved = forwarder::Resolved::start(&world, &unpacked);
        rows.push(resolved.row(&world, &version));
    }
    if wanted("haproxy") {
        figures.insert("haproxy".into(), haproxy::run_through(&world));
    }
    println!("\n{}", report::table(&rows));
    let World { lab, tap, .. } = world;
    drop(tap);
    lab.finish();
    println!("{}", serde_json::Value::Object(figures));
}
