//! The demo's cluster and instruments: processes, readings of metrics, the probe.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::task::JoinHandle;

use super::{
    layout::{Layout, NODES, WORKERS},
    metrics::{Reading, Readings},
    processes::{Output, Processes},
    ui::Ui,
};
use crate::{
    clock::Clock,
    probe::{FailedRequest, ProbeHandle, Summary},
};

/// What killing the leader showed.
pub struct Killed {
    pub node: u8,
    /// From the kill to the first entry that another leader had applied.
    pub to_progress_ms: u64,
}

/// A running demo cluster.
pub struct Cluster {
    pub layout: Layout,
    /// Its voice.
    pub ui: Ui,
    /// What its nodes' metrics say.
    pub readings: Readings,
    /// The load client, once act 3 has begun.
    pub probe: Option<ProbeHandle>,
    processes: Processes,
    clock: Clock,
    shop: PathBuf,
}

impl Cluster {
    /// Starts three nodes and four workers and forms the cluster, in front of the user.
    pub async fn up(layout: Layout, ui: Ui, clock: Clock) -> io::Result<Self> {
        let processes = Processes::new(&layout)?;
        let own = std::env::current_exe()?;
        let example = own.parent().map(|p| p.join("examples/shop")).unwrap_or_default();
        let shop = layout.install(&example, "shop")?;
        // Without `strip` the package is only larger.
        let _ = Command::new("strip").arg(&shop).stdin(Stdio::null()).stderr(Stdio::null()).status();
        let nodes = (1..=NODES).map(|n| (n, layout.http(n))).collect();
        let readings = Readings::start(nodes, clock.clone());
        let cluster = Self { layout, ui, readings, probe: None, processes, clock, shop };
        cluster.form().await?;
        Ok(cluster)
    }

    async fn form(&self) -> io::Result<()> {
        self.ui.heading("1. Three nodes form a cluster; four workers register");
        for n in 1..=NODES {
            self.processes.start("node", &format!("n{n}"), &self.layout.node_config(n)?)?;
        }
        let up = |r: &Reading| r.nodes.len() == usize::from(NODES);
        self.readings
            .wait(0, Duration::from_secs(20), up)
            .await
            .ok_or_else(|| self.stuck("the nodes do not answer"))?;
        let first = self.layout.client(1).to_string();
        self.must(&["--node", &first, "cluster", "init", "--name", "demo"]).await?;
        for n in 2..=NODES {
            let node = self.layout.client(n).to_string();
            self.must(&["--node", &node, "cluster", "join", &first]).await?;
        }
        for w in 1..=WORKERS {
            self.processes.start("agent", &format!("w{w}"), &self.layout.worker_config(w)?)?;
        }
        let ready = async {
            loop {
                let out = self.processes.slipway(&words(&["worker", "list", "-o", "json"]), |_| ()).await?;
                if out.code == 0 && out.text.matches("\"ready\"").count() == usize::from(WORKERS) {
                    return Ok::<(), io::Error>(());
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ready)
            .await
            .map_err(|_| self.stuck("the workers do not register"))??;
        self.must(&["cluster", "status"]).await?;
        self.must(&["worker", "list"]).await
    }

    fn stuck(&self, what: &str) -> io::Error {
        io::Error::other(format!("{what}; their logs are in {}", self.layout.dir.display()))
    }

    async fn must(&self, args: &[&str]) -> io::Result<()> {
        let out = self.slipway(args).await?;
        if out.code == 0 { Ok(()) } else { Err(io::Error::other(format!("slipway {} failed", args.join(" ")))) }
    }

    /// Runs a command of the CLI in front of the user.
    pub async fn slipway(&self, args: &[&str]) -> io::Result<Output> {
        self.ui.say(&format!("$ slipway {}", args.join(" ")));
        self.processes.slipway(&words(args), |l| self.ui.say(&format!("  {l}"))).await
    }

    /// The same in the background.
    pub fn spawn_slipway(&self, args: &[&str]) -> JoinHandle<io::Result<Output>> {
        self.ui.say(&format!("$ slipway {}", args.join(" ")));
        let (processes, args) = (self.processes.clone(), words(args));
        tokio::spawn(async move {
            let ui = Ui::new();
            processes.slipway(&args, |l| ui.say(&format!("  {l}"))).await
        })
    }

    /// Makes the package directory of a version and gives its path; 4.0.0 fails 30 % of its requests.
    pub async fn package(&self, version: &str) -> io::Result<String> {
        let dir = self.layout.dir.join("build").join(version);
        fs::create_dir_all(dir.join("bin"))?;
        fs::copy(&self.shop, dir.join("bin/shop"))?;
        fs::set_permissions(dir.join("bin/shop"), fs::Permissions::from_mode(0o755))?;
        let errors = if version == super::script::CULPRIT { "error_percent = 30\n" } else { "" };
        fs::write(dir.join("shop.toml"), format!("version = \"{version}\"\n{errors}"))?;
        Ok(dir.display().to_string())
    }

    /// Wall-clock milliseconds, as the readings' and the probe's.
    pub fn now(&self) -> u64 {
        self.clock.wall_ms()
    }

    /// Lets time pass, keeping the status line alive.
    pub async fn sleep(&self, ms: u64) {
        let end = self.now() + ms;
        while self.now() < end {
            self.status();
            tokio::time::sleep(Duration::from_millis((end.saturating_sub(self.now())).min(500))).await;
        }
    }

    fn status(&self) {
        let last = self.readings.last();
        let leader = last.leader().map_or("no leader".to_string(), |n| format!("leader n{n}"));
        let weights = last.leader().and_then(|n| last.nodes.get(&n)).map_or(String::new(), |n| {
            let shares = n.weights.iter().filter(|(_, w)| **w > 0);
            shares.map(|(v, w)| format!("{v} {} %", f64::from(*w) / 100.0)).collect::<Vec<_>>().join(", ")
        });
        let seen = self.seen(0, u64::MAX);
        let (sent, failed) = (seen.requests, seen.failed());
        self.ui.status(&format!("   {leader} | {weights} | {sent} requests, {failed} failed"), false);
    }

    /// Waits until all nodes that answer give a version this weight; the moment it was seen.
    pub async fn wait_weight(&self, version: &str, weight: u32, from: u64, seconds: u64) -> io::Result<u64> {
        let fits = |r: &Reading| r.weight(version) == Some(weight);
        let found = self.readings.wait(from, Duration::from_secs(seconds), fits).await;
        found
            .map(|r| r.at)
            .ok_or_else(|| self.stuck(&format!("{version} did not get weight {weight} within {seconds} s")))
    }

    /// Kills the leader with -9 and waits until another one has applied an entry of its own.
    pub async fn kill_leader(&self) -> io::Result<Killed> {
        let before = self.readings.last();
        let node = before.leader().ok_or_else(|| self.stuck("no node says it leads"))?;
        let applied = before.nodes.values().map(|n| n.applied).max().unwrap_or(0);
        self.ui.say(&format!("   kill -9 n{node}, the leader"));
        let at = self.now();
        self.processes.kill(&format!("n{node}"))?;
        // One entry is the new leader's blank one; the next is work.
        let progress = |r: &Reading| {
            r.leader().is_some_and(|l| l != node) && r.nodes.iter().any(|(n, v)| *n != node && v.applied > applied + 1)
        };
        let seen = self.readings.wait(at, Duration::from_secs(20), progress).await;
        let seen = seen.ok_or_else(|| self.stuck("no other node took over within 20 s"))?;
        let to_progress_ms = seen.at.saturating_sub(at);
        let leader = seen.leader().unwrap_or_default();
        self.ui.say(&format!("   n{leader} leads and goes on, {to_progress_ms} ms after the kill"));
        Ok(Killed { node, to_progress_ms })
    }

    /// Starts a killed node again and waits until it has applied what the others had; milliseconds it took.
    pub async fn restart(&self, node: u8) -> io::Result<u64> {
        let goal = self.readings.last().nodes.values().map(|n| n.applied).max().unwrap_or(0);
        let at = self.now();
        self.processes.start("node", &format!("n{node}"), &self.layout.node_config(node)?)?;
        let caught_up = |r: &Reading| r.nodes.get(&node).is_some_and(|n| n.applied >= goal && n.view > 0);
        let seen = self.readings.wait(at, Duration::from_secs(30), caught_up).await;
        seen.map(|r| r.at.saturating_sub(at)).ok_or_else(|| self.stuck("the restarted node did not catch up"))
    }

    /// Every node's DNS.
    pub fn dns_servers(&self) -> Vec<std::net::SocketAddr> {
        (1..=NODES).map(|n| self.layout.dns(n)).collect()
    }

    /// What the probe saw in the whole seconds that begin in a window.
    pub fn seen(&self, from: u64, to: u64) -> Summary {
        self.probe.as_ref().map(|p| p.between(from, to)).unwrap_or_default()
    }

    /// Failed requests of a window.
    pub fn failures(&self, from: u64) -> Vec<FailedRequest> {
        let all = self.probe.as_ref().map(ProbeHandle::failures).unwrap_or_default();
        all.into_iter().filter(|f| f.at_wall_ms >= from).collect()
    }
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(ToString::to_string).collect()
}
