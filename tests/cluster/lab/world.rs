//! One test's cluster: nodes, agents and what runs below them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Daemon, Disk, Proc, ROLLOUT, Release, SOON, Said, Scratch, block::Block, cli, dns::Answer, list, load, number,
    procs, shop, text,
};

/// Addresses of one worker's pool.
pub const POOL: u8 = 8;
/// DNS name of the service.
pub const SHOP: &str = "shop.production.svc.slipway.internal.";

/// Looks again and again until there is a result; fails with the last reason when the time is over.
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return found,
            Err(why) if Instant::now() > until => panic!("not within {limit:?}: {what}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Every step of a rollout passed in its first attempt. A promotion is one entry: it is never running and has no
/// attempts.
pub fn clean(rollout: &Value) {
    for step in list(rollout, "steps") {
        let attempts = u64::from(step["kind"] != "promote");
        assert_eq!((text(step, "status"), number(step, "attempt")), ("passed", attempts), "{rollout:#}");
    }
}

/// The cluster. Everything of it is killed when it goes.
pub struct Lab {
    pub nodes: Vec<Daemon>,
    pub agents: Vec<Daemon>,
    pub block: Block,
    /// Nodes' own disks, gone after the nodes and before the directory.
    pub disks: Vec<Disk>,
    dir: Scratch,
    finished: bool,
}

impl Lab {
    /// A directory and addresses, and nothing that runs.
    pub fn empty() -> Self {
        let dir = Scratch::new();
        Self { nodes: Vec::new(), agents: Vec::new(), block: Block::take(), disks: Vec::new(), dir, finished: false }
    }

    /// A cluster of so many nodes and workers, all ready.
    pub fn new(nodes: u8, workers: u8) -> Self {
        let mut lab = Self::empty();
        for n in 1..=nodes {
            let config = lab.node_config(n);
            lab.add_node(n, &config);
        }
        lab.form();
        for n in 1..=workers {
            let config = lab.agent_config(n);
            lab.add_agent(n, &config);
        }
        lab.workers_ready();
        lab
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Client address of node `n`.
    pub fn client(&self, n: u8) -> String {
        self.block.at(n, 7652).to_string()
    }

    /// Client addresses of all nodes, joined.
    pub fn node_list(&self) -> String {
        (1..=self.nodes.len()).map(|n| self.client(u8::try_from(n).unwrap())).collect::<Vec<_>>().join(",")
    }

    /// DNS servers of all nodes.
    pub fn dns_servers(&self) -> Vec<SocketAddr> {
        (1..=self.nodes.len()).map(|n| self.block.at(u8::try_from(n).unwrap(), 8653)).collect()
    }

    pub fn node_config(&self, n: u8) -> String {
        format!(
            "name = 'n{n}'\ndata_dir = '{}'\npeer_listen = '{}'\nclient_listen = '{}'\nhttp_listen = '{}'\n\
             dns_listen = '{}'\nraft = 'slow'\n",
            self.dir().join(format!("n{n}/data")).display(),
            self.block.at(n, 7651),
            self.block.at(n, 7652),
            self.block.at(n, 7653),
            self.block.at(n, 8653),
        )
    }

    pub fn agent_config(&self, n: u8) -> String {
        self.agent_config_with(n, POOL)
    }

    /// With so many addresses in its pool.
    pub fn agent_config_with(&self, n: u8, pool: u8) -> String {
        let nodes: Vec<String> = (1..=self.nodes.len()).map(|n| self.client(u8::try_from(n).unwrap())).collect();
        format!(
            "name = 'w{n}'\ndata_dir = '{}'\nnodes = {nodes:?}\npool = ['{}-{}']\n",
            self.dir().join(format!("w{n}/data")).display(),
            self.block.worker(n, 1),
            self.block.worker(n, pool),
        )
    }

    pub fn add_node(&mut self, n: u8, config: &str) {
        self.add_node_within(n, config, &[], &[]);
    }

    /// A node with this in front of its command, such as a namespace.
    pub fn add_node_within(&mut self, n: u8, config: &str, within: &[String], flags: &[&str]) {
        let mut node = Daemon::new(self.dir(), &format!("n{n}"), "node", config, within);
        node.flags = flags.iter().map(ToString::to_string).collect();
        node.start();
        self.nodes.push(node);
    }

    pub fn add_agent(&mut self, n: u8, config: &str) {
        self.add_agent_within(n, config, &[]);
    }

    /// An agent with this in front of its command, such as a namespace.
    pub fn add_agent_within(&mut self, n: u8, config: &str, within: &[String]) {
        let mut agent = Daemon::new(self.dir(), &format!("w{n}"), "agent", config, within);
        agent.start();
        self.agents.push(agent);
    }

    /// Makes a cluster of the first node and joins the others.
    pub fn form(&mut self) {
        self.slipway(&["--node", &self.client(1), "cluster", "init", "--name", "test"]).ok();
        for n in 2..=u8::try_from(self.nodes.len()).unwrap() {
            self.slipway(&["--node", &self.client(n), "cluster", "join", &self.client(1)]).ok();
        }
        let all = self.nodes.len();
        eventually("all nodes vote", SOON, || {
            let status = self.status()?;
            let voters = list(&status, "nodes").iter().filter(|n| n["role"] == "voter").count();
            if voters == all { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// Waits for every agent to be registered and ready.
    pub fn workers_ready(&self) {
        let all = self.agents.len();
        eventually("all workers are ready", SOON, || {
            let said = self.slipway(&["worker", "list", "-o", "json"]);
            let ready = said.code == 0
                && said.json().as_array().unwrap().iter().filter(|w| w["status"] == "ready").count() == all;
            if ready { Ok(()) } else { Err(format!("{}{}", said.out, said.err)) }
        });
    }

    /// Runs the CLI against all nodes.
    pub fn slipway(&self, args: &[&str]) -> Said {
        cli::run(self.dir(), &self.node_list(), args)
    }

    /// `cluster status` as some node gives it.
    pub fn status(&self) -> Result<Value, String> {
        let said = self.slipway(&["cluster", "status", "-o", "json"]);
        if said.code == 0 { Ok(said.json()) } else { Err(said.err) }
    }

    /// Place of the leader among `nodes`, known to every node that runs.
    pub fn leader(&mut self) -> usize {
        eventually("all running nodes name one leader", SOON, || {
            let mut named = Vec::new();
            for n in 0..self.nodes.len() {
                if self.nodes[n].pid() == 0 {
                    continue;
                }
                let at = self.client(u8::try_from(n + 1).unwrap());
                let said = cli::run(self.dir(), &at, &["--node", &at, "cluster", "status", "-o", "json"]);
                if said.code != 0 {
                    return Err(said.err);
                }
                named.push((number(&said.json(), "term"), number(&said.json(), "leader_id")));
            }
            let one = named.windows(2).all(|w| w[0] == w[1]);
            match named.first() {
                Some((_, id)) if one && *id > 0 && self.nodes[usize::try_from(*id).unwrap() - 1].pid() > 0 => {
                    Ok(usize::try_from(*id).unwrap() - 1)
                }
                Some(_) | None => Err(format!("{named:?}")),
            }
        })
    }

    /// Waits until every node has applied what the leader has now.
    pub fn caught_up(&self) {
        let target = eventually("the cluster answers", SOON, || self.status().map(|s| number(&s, "applied_index")));
        for n in 1..=u8::try_from(self.nodes.len()).unwrap() {
            eventually(&format!("n{n} has applied entry {target}"), SOON, || {
                let at = self.client(n);
                let said = cli::run(self.dir(), &at, &["--node", &at, "cluster", "status", "-o", "json"]);
                if said.code != 0 {
                    return Err(said.err);
                }
                let (applied, answered) = (number(&said.json(), "applied_index"), number(&said.json(), "node_id"));
                if answered == u64::from(n) && applied >= target { Ok(()) } else { Err(said.out) }
            });
        }
    }

    /// Applies a spec.
    pub fn apply(&self, spec: &str) {
        let path = self.dir().join("spec.yaml");
        std::fs::write(&path, spec).unwrap();
        self.slipway(&["apply", "-f", path.to_str().unwrap()]).ok();
    }

    /// Packs and pushes a version that behaves well.
    pub fn push(&self, version: &str) {
        self.push_with(&Release { version, settings: "" });
    }

    pub fn push_with(&self, release: &Release<'_>) {
        self.push_to("shop", release);
    }

    /// The same for another service.
    pub fn push_to(&self, service: &str, release: &Release<'_>) {
        let dir = shop::package(self.dir(), release);
        self.slipway(&["release", "push", service, release.version, dir.to_str().unwrap()]).ok();
    }

    /// Starts a rollout and follows it to its end.
    pub fn roll(&self, to: &str, more: &[&str]) -> Said {
        let mut args =
            vec!["rollout", "start", "production/shop", "--to", to, "--watch", "--within", ROLLOUT, "-o", "json"];
        args.extend(more);
        self.slipway(&args)
    }

    /// Starts a rollout and leaves it running; its id.
    pub fn start(&self, to: &str, more: &[&str]) -> String {
        let mut args = vec!["rollout", "start", "production/shop", "--to", to, "-o", "json"];
        args.extend(more);
        text(&self.slipway(&args).ok().json(), "rollout").to_string()
    }

    /// A rollout as it is now.
    pub fn rollout(&self, id: &str) -> Value {
        self.slipway(&["rollout", "status", id, "-o", "json"]).ok().json()
    }

    /// Waits for a rollout's end; it must be this.
    pub fn ends(&self, id: &str, status: &str) -> Value {
        let end = eventually(&format!("{id} ends"), Duration::from_secs(90), || {
            let said = self.slipway(&["rollout", "status", id, "-o", "json"]);
            if said.code == 0 && said.json()["terminal"] == true { Ok(said.json()) } else { Err(said.out + &said.err) }
        });
        assert_eq!(text(&end, "status"), status, "{end:#}");
        end
    }

    /// The service's processes on this machine that belong to this test: worker, version, pid.
    pub fn instances(&self) -> Vec<(String, String, i32)> {
        let mut all = Vec::new();
        for Proc { pid, exe, .. } in procs::naming(self.dir()) {
            let Some(release) = exe.parent().and_then(Path::parent).filter(|_| exe.ends_with("bin/shop")) else {
                continue;
            };
            let settings = std::fs::read_to_string(release.join("shop.toml")).unwrap_or_default();
            let version = settings.split('"').nth(1).unwrap_or_default().to_string();
            let below = release.strip_prefix(self.dir()).unwrap();
            let worker = below.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
            all.push((worker, version, pid));
        }
        all.sort();
        all
    }

    /// Waits until exactly these versions run, so many on every worker.
    pub fn runs(&self, wanted: &[(&str, usize)]) {
        let mut want: BTreeMap<(String, String), usize> = BTreeMap::new();
        for agent in &self.agents {
            for (version, n) in wanted {
                want.insert((agent.name.clone(), version.to_string()), *n);
            }
        }
        eventually(&format!("{wanted:?} on every worker"), SOON, || {
            let mut have: BTreeMap<(String, String), usize> = BTreeMap::new();
            for (worker, version, _) in self.instances() {
                *have.entry((worker, version)).or_default() += 1;
            }
            if have == want { Ok(()) } else { Err(format!("{have:?}")) }
        });
    }

    /// A page of a node's HTTP listener: status and body.
    pub fn page(&self, n: u8, path: &str) -> Result<(u16, String), String> {
        use std::io::{Read as _, Write as _};
        let at = self.block.at(n, 7653);
        let mut stream = std::net::TcpStream::connect(at).map_err(|e| e.to_string())?;
        let ask = format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).map_err(|e| e.to_string())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or("no status")?;
        Ok((status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or_default()))
    }

    /// What one node's DNS says of a name.
    pub fn dns(&self, n: u8, name: &str) -> Result<Answer, String> {
        super::ask(self.block.at(n, 8653), name)
    }

    /// Which version the addresses of an answer belong to, by asking one of them.
    pub fn version_at(&self, ip: Ipv4Addr) -> String {
        load::get(ip, "/").unwrap_or_else(|e| panic!("{e}")).1
    }

    /// Waits until every node names only instances of this version, so many of them.
    pub fn dns_names(&self, name: &str, version: &str, count: usize) {
        for n in 1..=u8::try_from(self.nodes.len()).unwrap() {
            eventually(&format!("{name} at n{n} is {count} of {version}"), SOON, || {
                let answer = self.dns(n, name)?;
                let versions: Vec<String> = answer
                    .addresses
                    .iter()
                    .map(|ip| load::get(*ip, "/healthz").and_then(|_| load::get(*ip, "/")).map(|(_, v)| v))
                    .collect::<Result<_, _>>()?;
                if versions.len() == count && versions.iter().all(|v| v == version) {
                    Ok(())
                } else {
                    Err(format!("{answer:?} {versions:?}"))
                }
            });
        }
    }

    /// Ends everything in order, and nothing may be left then.
    pub fn finish(mut self) {
        for agent in &mut self.agents {
            agent.stop();
        }
        for node in &mut self.nodes {
            node.stop();
        }
        self.finished = true;
        // Instances outlive their agent by design: what is left now is theirs and their shims'.
        let strangers: Vec<Proc> = procs::naming(self.dir())
            .into_iter()
            .filter(|p| !p.exe.ends_with("bin/shop") && !p.command.contains(" shim "))
            .collect();
        assert!(strangers.is_empty(), "left behind: {strangers:#?}");
        let left = procs::kill_all(self.dir());
        assert!(left.is_empty(), "cannot be killed: {left:#?}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for daemon in self.nodes.iter().chain(&self.agents) {
                eprintln!("---- end of {}'s log\n{}", daemon.name, daemon.tail());
            }
        }
        for daemon in self.agents.iter_mut().chain(&mut self.nodes) {
            daemon.resume();
            daemon.kill();
        }
        let left = procs::kill_all(self.dir());
        if !self.finished && !std::thread::panicking() {
            panic!("a test ends with Lab::finish, which checks that nothing is left; killed: {left:#?}");
        }
    }
}
