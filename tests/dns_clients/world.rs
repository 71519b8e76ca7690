//! The cluster that clients ask, in a namespace of its own: three nodes whose DNS has port 53, workers with addresses
//! of both families, two services, and `/etc/resolv.conf` as a file of this test.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    lab::{Lab, Release, eventually, list, package, text},
    tap::Tap,
};

pub const SHOP: &str = "shop.production.svc.slipway.internal";
pub const CART: &str = "cart.production.svc.slipway.internal";
/// How long answers may be kept, in seconds.
pub const TTL: u64 = 2;

pub struct World {
    pub lab: Lab,
    pub tap: Tap,
    resolv: PathBuf,
}

impl World {
    pub fn new() -> Self {
        let mut lab = Lab::empty();
        let resolv = lab.dir().join("resolv.conf");
        let switch = lab.dir().join("nsswitch.conf");
        std::fs::write(&resolv, "").unwrap();
        std::fs::write(&switch, "hosts: files dns\n").unwrap();
        for (ours, theirs) in [(&resolv, "/etc/resolv.conf"), (&switch, "/etc/nsswitch.conf")] {
            sh("mount", &["--bind", ours.to_str().unwrap(), theirs]);
        }
        for n in 1..=16 {
            sh("ip", &["-6", "addr", "add", &format!("fd99::{n:x}/128"), "dev", "lo"]);
        }
        for n in 1..=3 {
            let config = lab.node_config(n).replace(":8653", ":53");
            lab.add_node(n, &config);
        }
        lab.form();
        for n in 1..=3 {
            let nodes = lab.node_list();
            let pool: Vec<String> = match n {
                3 => (1..=16).map(|i| format!("fd99::{i:x}")).collect(),
                n => vec![format!("{}-{}", lab.block.worker(n, 1), lab.block.worker(n, 24))],
            };
            let role = if n == 3 { "six" } else { "four" };
            let config = format!(
                "name = 'w{n}'\ndata_dir = '{}'\nnodes = {:?}\npool = {pool:?}\nlabels = {{ family = '{role}' }}\n",
                lab.dir().join(format!("w{n}/data")).display(),
                nodes.split(',').collect::<Vec<_>>(),
            );
            lab.add_agent(n, &config);
        }
        lab.workers_ready();
        Self { tap: Tap::start(), resolv, lab }
    }

    /// Address of a node's DNS.
    pub fn node(&self, n: u8) -> Ipv4Addr {
        self.lab.block.node(n)
    }

    pub fn nodes(&self) -> [Ipv4Addr; 3] {
        [1, 2, 3].map(|n| self.node(n))
    }

    /// `/etc/resolv.conf` names these servers.
    pub fn resolve_by(&self, servers: &[Ipv4Addr]) {
        let lines: String = servers.iter().map(|s| format!("nameserver {s}\n")).collect();
        std::fs::write(&self.resolv, lines).unwrap();
    }

    /// The spec of a service with these rollout fields and so many instances on each worker, or on those with IPv4.
    pub fn spec(&self, name: &str, rollout: &str, per_worker: u8, four: bool) {
        let placement = match four {
            true => format!("{{workers: \"family=four\", per_worker: {per_worker}}}"),
            false => format!("{{per_worker: {per_worker}}}"),
        };
        let spec = crate::lab::spec(rollout)
            .replace("service: shop", &format!("service: {name}"))
            .replace("{per_worker: 2}", &placement)
            .replace("interval: 200ms", "interval: 1s")
            .replace("dns: {ttl: 1s, pin_ttl: 1s}", &format!("dns: {{ttl: {TTL}s, pin_ttl: {TTL}s}}"));
        self.lab.apply(&spec);
    }

    /// Version 1.0.0 of a service runs; version 2.0.0 is there, and its rollout will have these fields.
    pub fn service(&self, name: &str, rollout: &str, per_worker: u8, four: bool) {
        self.spec(name, "strategy: direct, bake: 100ms, min_requests: 0, monitor: 100ms", per_worker, four);
        for version in ["1.0.0", "2.0.0"] {
            let dir = package(self.lab.dir(), &Release { version, settings: "" });
            self.lab.slipway(&["release", "push", name, version, dir.to_str().unwrap()]).ok();
        }
        self.roll(name, "1.0.0");
        self.spec(name, rollout, per_worker, four);
    }

    /// Rolls a service to a version and waits for the end.
    pub fn roll(&self, name: &str, to: &str) {
        let deployment = format!("production/{name}");
        let args = ["rollout", "start", &deployment, "--to", to, "--watch", "--within", "120s", "-o", "json"];
        self.lab.slipway(&args).ok();
    }

    pub fn shown(&self, service: &str) -> serde_json::Value {
        self.lab.slipway(&["traffic", "show", &format!("production/{service}"), "-o", "json"]).ok().json()
    }

    /// The versions by the addresses that stand for them.
    pub fn versions(&self, service: &str) -> BTreeMap<IpAddr, String> {
        let shown = self.shown(service);
        let shares = list(&shown, "shares");
        let all = shares.iter().flat_map(|s| list(s, "addresses").iter().map(move |a| (a, text(s, "version"))));
        all.map(|(a, v)| (a.as_str().unwrap().parse().unwrap(), v.to_string())).collect()
    }

    /// Waits until every node answers by these weights, in basis points of the canary.
    pub fn weighs(&self, name: &str, bps: u32) {
        for node in self.nodes() {
            eventually(&format!("{node} answers {bps} for {name}"), Duration::from_secs(90), || {
                let said = run("dig", &["+short", &format!("@{node}"), &format!("_rollout.{name}"), "TXT"])?;
                if said.contains(&format!("\"bps={bps}\"")) { Ok(()) } else { Err(said) }
            });
        }
    }
}

/// Runs a program that must succeed.
pub fn sh(program: &str, args: &[&str]) -> String {
    run(program, args).unwrap_or_else(|e| panic!("{e}"))
}

/// Runs a program for at most a minute; what it printed.
pub fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let out = Command::new("timeout").arg("60").arg(program).args(args).stdin(Stdio::null()).output();
    let out = out.map_err(|e| format!("{program}: {e}"))?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        return Ok(said);
    }
    let complains = String::from_utf8_lossy(&out.stderr).into_owned();
    Err(format!("{program} {}: {}: {said}{complains}", args.join(" "), out.status))
}

/// The first line of what a program says of its version.
pub fn version(program: &str, args: &[&str], word: usize) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let line = said.lines().find(|l| !l.is_empty()).unwrap_or_default();
    line.split_whitespace().nth(word).unwrap_or(line).trim_matches(',').to_string()
}

pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dns_clients/programs").join(name)
}

/// How many addresses of each family an answer about this version has: eight at most.
pub fn sizes(of: &BTreeMap<IpAddr, String>, version: &str) -> (usize, usize) {
    let of_family = |v4: bool| of.iter().filter(|(a, v)| a.is_ipv4() == v4 && *v == version).count().min(8);
    (of_family(true), of_family(false))
}
