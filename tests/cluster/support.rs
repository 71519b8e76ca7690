//! Starts real processes on allocated loopback ports, waits for conditions with deadlines, kills everything at the end.

use std::{
    collections::BTreeSet,
    fs::File,
    future::Future,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use slipway::wire::v1::{self, catalog_client::CatalogClient, cluster_client::ClusterClient};
use tonic::transport::Channel;

use crate::lab::{Scratch, dies_with_us, forget_clock};

/// Generous, as the machine may be busy; conditions are met long before.
pub const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(30);

/// Four addresses of one node.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub peer: SocketAddr,
    pub client: SocketAddr,
    pub dns: SocketAddr,
    pub http: SocketAddr,
}

/// Ports that this process has handed out: the kernel gives one that was let go of to the next who asks.
static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that is free for both transports, and is handed out once.
fn free() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = tcp.local_addr().unwrap();
        if UdpSocket::bind(addr).is_ok() && HANDED_OUT.lock().unwrap().insert(addr.port()) {
            return addr;
        }
    }
}

impl Addresses {
    pub fn allocate() -> Self {
        Self { peer: free(), client: free(), dns: free(), http: free() }
    }
}

/// A process that does not outlive the test.
pub struct Process {
    child: Child,
    pub log: PathBuf,
}

impl Process {
    /// Starts `slipwayd` with these arguments; both outputs go to `log`.
    pub fn slipwayd(args: &[&str], log: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipwayd"));
        command.args(args);
        Self::spawn(command, log)
    }

    pub fn spawn(command: Command, log: &Path) -> Self {
        Self::spawn_with(command, log, |_| {})
    }

    /// The same, with another standard error than the log, say.
    pub fn spawn_with(mut command: Command, log: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let out = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).process_group(0);
        change(&mut command);
        Self { child: dies_with_us(&mut command).spawn().unwrap(), log: log.into() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// A signal, such as TERM, STOP or CONT.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its own end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < LIMIT, "{} did not end:\n{}", self.id(), self.said());
            std::thread::sleep(POLL);
        }
    }

    /// Everything it has logged.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        forget_clock(self.child.id());
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n");
            eprintln!("---- {}\n{tail}", self.log.display());
        }
    }
}

/// One node: its place and, while it runs, its process.
pub struct TestNode {
    pub name: String,
    pub addresses: Addresses,
    pub dir: PathBuf,
    pub process: Option<Process>,
    /// Lines of a configuration file beside the flags.
    pub settings: String,
    /// More flags of `slipwayd node`.
    pub flags: Vec<String>,
    /// Variables of its environment.
    pub environment: Vec<(&'static str, String)>,
    /// Raft's timing; `None`: nothing is said of it.
    pub raft: Option<&'static str>,
}

impl TestNode {
    pub fn new(root: &Path, name: &str) -> Self {
        Self {
            name: name.into(),
            addresses: Addresses::allocate(),
            dir: root.join(name),
            process: None,
            settings: String::new(),
            flags: Vec::new(),
            environment: Vec::new(),
            raft: Some("slow"),
        }
    }

    pub fn log(&self) -> PathBuf {
        self.dir.with_extension("log")
    }

    pub fn start(&mut self) {
        let a = &self.addresses;
        let (peer, client) = (a.peer.to_string(), a.client.to_string());
        let (dns, http) = (a.dns.to_string(), a.http.to_string());
        let dir = self.dir.display().to_string();
        let config = self.dir.with_extension("toml");
        let json = self.settings == "log-format-json";
        let settings = if json { "" } else { self.settings.as_str() };
        let text = format!("name = {:?}\ndata_dir = {dir:?}\n{settings}", self.name);
        std::fs::write(&config, text).unwrap();
        let config = config.display().to_string();
        let args = [
            "--log",
            "slipway=debug",
            "--log-format",
            if json { "json" } else { "text" },
            "node",
            "--config",
            &config,
            "--name",
            &self.name,
            "--data-dir",
            &dir,
            "--peer-listen",
            &peer,
            "--client-listen",
            &client,
            "--dns-listen",
            &dns,
            "--http-listen",
            &http,
        ];
        let raft = self.raft.into_iter().flat_map(|timing| ["--raft", timing]);
        let args: Vec<&str> = args.into_iter().chain(raft).chain(self.flags.iter().map(String::as_str)).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipwayd"));
        command.args(args).envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::spawn(command, &self.log()));
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addresses.client)
    }

    pub async fn channel(&self) -> Result<Channel, String> {
        let endpoint = tonic::transport::Endpoint::from_shared(self.url()).unwrap().timeout(Duration::from_secs(40));
        endpoint.connect().await.map_err(|e| e.to_string())
    }

    pub async fn status(&self) -> Result<v1::StatusReply, String> {
        let mut client = ClusterClient::new(self.channel().await?);
        client.status(v1::StatusRequest {}).await.map(tonic::Response::into_inner).map_err(|e| e.to_string())
    }

    pub async fn join(&self, seed: &Self) -> Result<v1::JoinReply, tonic::Status> {
        let mut client = ClusterClient::new(self.channel().await.map_err(tonic::Status::unavailable)?);
        let request = v1::JoinRequest { seed: seed.addresses.client.to_string() };
        client.join(request).await.map(tonic::Response::into_inner)
    }

    pub async fn catalog(&self) -> CatalogClient<Channel> {
        CatalogClient::new(self.channel().await.unwrap())
    }

    /// The body of a page on the HTTP listener.
    pub async fn page(&self, path: &str) -> Result<(u16, String), String> {
        page(self.addresses.http, path).await
    }
}

/// The status and the body of a page on an HTTP listener.
pub async fn page(http: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let answer = reqwest::get(format!("http://{http}{path}")).await.map_err(|e| e.to_string())?;
    let code = answer.status().as_u16();
    Ok((code, answer.text().await.map_err(|e| e.to_string())?))
}

/// Waits until `look` gives something; its last complaint is the test's.
pub async fn eventually<T, F: Future<Output = Result<T, String>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        match tokio::time::timeout(LIMIT, look()).await {
            Ok(Ok(found)) => return found,
            Ok(Err(why)) => assert!(started.elapsed() < LIMIT, "{what}: {why}"),
            Err(_) => panic!("{what}: no answer within {LIMIT:?}"),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A formed cluster.
pub struct TestCluster {
    pub nodes: Vec<TestNode>,
    pub root: Scratch,
}

impl TestCluster {
    /// Nodes that run and belong to nothing yet.
    pub async fn idle(size: usize) -> Self {
        Self::idle_with(size, "").await
    }

    /// The same, with lines in their configuration files.
    pub async fn idle_with(size: usize, settings: &str) -> Self {
        Self::idle_where(size, |node| node.settings = settings.into()).await
    }

    /// The same, each prepared before it starts.
    pub async fn idle_where(size: usize, prepare: impl Fn(&mut TestNode)) -> Self {
        let root = Scratch::new();
        let mut nodes: Vec<TestNode> = (1..=size).map(|n| TestNode::new(root.path(), &format!("n{n}"))).collect();
        for node in &mut nodes {
            prepare(node);
            node.start();
        }
        for node in &nodes {
            eventually("node answers", || node.status()).await;
        }
        Self { nodes, root }
    }

    /// The first node makes the cluster, the others join.
    pub async fn form(size: usize) -> Self {
        Self::form_with(size, "").await
    }

    /// The same, with lines in their configuration files.
    pub async fn form_with(size: usize, settings: &str) -> Self {
        Self::idle_with(size, settings).await.formed().await
    }

    /// Makes a cluster of nodes that belong to nothing yet.
    pub async fn formed(self) -> Self {
        let cluster = self;
        let first = &cluster.nodes[0];
        let mut client = ClusterClient::new(first.channel().await.unwrap());
        client.init(v1::InitRequest { name: "test".into(), zone: String::new() }).await.unwrap();
        for node in &cluster.nodes[1..] {
            let joined = node.join(first).await.unwrap();
            assert_eq!(joined.role, "voter");
        }
        for node in &cluster.nodes {
            cluster.ready(node).await;
        }
        cluster
    }

    /// Waits until the node says that it is ready.
    pub async fn ready(&self, node: &TestNode) {
        eventually("ready", || async {
            match node.page("/readyz").await? {
                (200, _) => Ok(()),
                (code, text) => Err(format!("{} answers {code}: {text}", node.name)),
            }
        })
        .await;
    }

    /// The place of the leader among `nodes`, by whoever knows of the newest term, once it is not `not`: an older one
    /// may have been replaced.
    pub async fn leader(&self, not: Option<usize>) -> usize {
        eventually("a leader", || async {
            let mut newest = None;
            for node in self.nodes.iter().filter(|n| n.process.is_some()) {
                let status = node.status().await?;
                let Some(row) = status.nodes.iter().find(|n| n.node_id == status.leader_id) else { continue };
                newest = newest.max(Some((status.term, row.name.clone())));
            }
            let (_, name) = newest.ok_or("nobody knows one")?;
            let place = self.nodes.iter().position(|n| n.name == name);
            place.filter(|p| Some(*p) != not).ok_or(format!("{name} leads"))
        })
        .await
    }
}

/// A spec of a service that runs `bin/shop` from its package, with times fit for tests.
pub fn spec(service: &str, rollout: &str) -> String {
    format!(
        "service: {service}\nenvironment: production\naddress: pool\nrun:\n  command: [bin/shop, --listen, \"${{SLIPWAY_ADDR_HTTP}}\"]\n  \
         stop: {{grace: 1s}}\nports: {{http: 8080}}\nplacement: {{per_worker: 2}}\nhealth: {{http: /healthz, interval: 200ms, \
         timeout: 1s, healthy_after: 1, unhealthy_after: 3, start_within: 20s}}\nmetrics: {{path: /metrics, requests: \
         http_requests_total, errors: 'http_requests_total{{code=~\"5..\"}}'}}\ndrain: 0s\ndns: {{ttl: 1s}}\nrollout: {rollout}\n"
    )
}

/// Applies a spec document.
pub fn apply(document: &str) -> v1::ApplyRequest {
    v1::ApplyRequest { document: document.into(), format: "yaml".into(), ..v1::ApplyRequest::default() }
}
