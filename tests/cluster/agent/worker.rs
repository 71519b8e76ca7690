//! The real agent as a process, what it is told, and what the machine says of its instances. Nothing is left when it is
//! dropped.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use sha2::Digest;
use slipway::{
    model::{SpecFormat, read_spec},
    wire::v1,
};

use crate::{
    agent::node::Node,
    helpers::{procs::dies_with_us, scratch::Scratch},
};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_slipwayd");
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for something, and says what was missing.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < DEADLINE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A free port of 127.0.0.1; taken again at once by whom the test tells it.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The demo's service, built beside the tests.
fn shop() -> PathBuf {
    let path = Path::new(PROGRAM).parent().unwrap().join("examples/shop");
    assert!(path.exists(), "{} is not built: run `cargo build --example shop`", path.display());
    path
}

pub struct Package {
    pub version: String,
    pub bytes: Vec<u8>,
    pub digest: String,
}

impl Package {
    pub fn new(version: &str, files: &[(&str, &[u8])]) -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_mode(0o755);
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        let bytes = tar.into_inner().unwrap();
        let digest = sha2::Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        Self { version: version.into(), bytes, digest }
    }

    pub fn shop(version: &str) -> Self {
        let program = fs::read(shop()).unwrap();
        let settings = format!("version = \"{version}\"\n");
        Self::new(version, &[("bin/shop", &program), ("shop.toml", settings.as_bytes())])
    }

    /// The shop as `bin/real` beside a script that starts it.
    pub fn shop_under(version: &str, text: &str) -> Self {
        let script = format!("#!/bin/sh\n{text}\n");
        let settings = format!("version = \"{version}\"\n");
        let program = fs::read(shop()).unwrap();
        let files = [("bin/shop", script.as_bytes()), ("bin/real", &program), ("shop.toml", settings.as_bytes())];
        Self::new(version, &files)
    }

    pub fn script(version: &str, text: &str) -> Self {
        Self::new(version, &[("bin/shop", format!("#!/bin/sh\n{text}\n").as_bytes())])
    }

    pub fn pair(&self) -> v1::Pair {
        v1::Pair { version: self.version.clone(), digest: self.digest.clone(), spec: 1 }
    }

    pub fn hold(&self) -> v1::Hold {
        v1::Hold { digest: self.digest.clone(), size: self.bytes.len() as u64, version: self.version.clone() }
    }

    pub fn entry(&self, id: &str, port: u16) -> v1::Entry {
        v1::Entry {
            id: id.into(),
            pair: Some(self.pair()),
            address: "127.0.0.1".into(),
            ports: BTreeMap::from([("http".into(), port.into())]),
            replaces: String::new(),
        }
    }
}

/// The spec of all tests: quick checks.
pub fn spec() -> v1::SpecDoc {
    let text = r#"
service: shop
environment: production
run: {command: ["bin/shop", "--listen", "${SLIPWAY_ADDR_HTTP}"], stop: {signal: TERM, grace: 1s}}
address: pool
ports: {http: 8080}
placement: {per_worker: 1}
health: {http: /healthz, interval: 100ms, timeout: 1s, healthy_after: 2, unhealthy_after: 3, start_within: 20s}
metrics: {path: /metrics, requests: http_requests_total, errors: 'http_requests_total{code=~"5.."}'}
rollout: {strategy: direct}
"#;
    spec_of(text)
}

pub fn spec_of(text: &str) -> v1::SpecDoc {
    let spec = read_spec(text, SpecFormat::Yaml).unwrap();
    v1::SpecDoc { revision: 1, json: serde_json::to_string(&spec).unwrap() }
}

pub fn assignment(generation: u64, permit: &str, packages: &[&Package], entries: Vec<v1::Entry>) -> v1::Assignment {
    v1::Assignment {
        deployment: "production/shop".into(),
        generation,
        content_digest: u32::try_from(generation).unwrap(),
        permit: permit.into(),
        hold: packages.iter().map(|p| p.hold()).collect(),
        instances: entries,
        specs: vec![spec()],
        current: packages.first().map(|p| p.pair()),
        previous: None,
        mark: 0,
        next: None,
    }
}

static WORKERS: AtomicU32 = AtomicU32::new(0);

pub struct Worker {
    pub dir: Scratch,
    pub node: Node,
    pub name: String,
    pub child: Child,
    /// The agent's command line but for its last arguments; other than the program's name for an agent in another
    /// place.
    command: Vec<String>,
    index: u64,
}

impl Worker {
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// With more lines in its configuration.
    pub async fn start_with(more: &str) -> Self {
        Self::start_as(more, |_| vec![PROGRAM.into()]).await
    }

    /// With a command to start the agent by, for this directory of the test.
    pub async fn start_as(more: &str, command: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let node = Node::start().await;
        let dir = Scratch::new();
        let n = WORKERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("w{n}-{}", std::process::id());
        let config = format!(
            "name = \"{name}\"\ndata_dir = \"{}\"\nnodes = [\"{}\"]\n{more}",
            dir.path().join("data").display(),
            node.address
        );
        fs::write(dir.path().join("agent.toml"), config).unwrap();
        let command = command(dir.path());
        let child = spawn(dir.path(), &command);
        Self { dir, node, name, child, command, index: 1 }
    }

    pub fn offer(&self, packages: &[&Package]) {
        let mut all = self.node.shared.packages.lock().unwrap();
        all.extend(packages.iter().map(|p| (p.digest.clone(), p.bytes.clone())));
    }

    pub fn desire(&mut self, assignments: Vec<v1::Assignment>) {
        self.index += 1;
        let desired =
            v1::Desired { incarnation: 1, index: self.index, set_generation: self.index, assignments, now_ms: 1 };
        self.node.shared.desired.send_replace(Some(desired));
    }

    /// Kills the agent as no handler can catch.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.child = spawn(self.dir.path(), &self.command);
    }

    pub fn data(&self, path: &str) -> PathBuf {
        self.dir.path().join("data").join(path)
    }

    pub fn report(&self) -> v1::Report {
        self.node.shared.reports.borrow().0.clone()
    }

    pub fn instance(&self, id: &str) -> Option<v1::InstanceReport> {
        self.report().instances.into_iter().find(|i| i.id == id)
    }

    pub fn epoch(&self) -> u64 {
        self.node.shared.hellos.lock().unwrap().last().map_or(0, |h| h.epoch)
    }

    /// Waits until a report of this agent's start says so of an instance.
    pub async fn instance_is(&self, id: &str, life: &str, health: &str) -> v1::InstanceReport {
        let what = format!("{id} {life} {health}");
        until(&what, || {
            let report = self.report();
            let new = report.epoch == self.epoch();
            let found = report.instances.into_iter().find(|i| i.id == id && i.life == life && i.health == health);
            found.filter(|_| new)
        })
        .await
    }

    pub async fn reached(&self, generation: u64, state: &str) -> v1::ReachedReport {
        let what = format!("generation {generation} {state}");
        until(&what, || self.report().reached.into_iter().find(|r| r.generation == generation && r.state == state))
            .await
    }

    /// Pids of an instance's programs, by what stands in their environment.
    pub fn pids(&self, id: &str) -> Vec<u32> {
        let (instance, worker) = (format!("SLIPWAY_INSTANCE={id}"), format!("SLIPWAY_WORKER={}", self.name));
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            let Ok(environ) = fs::read(entry.path().join("environ")) else { continue };
            let variables: Vec<&[u8]> = environ.split(|b| *b == 0).collect();
            if variables.contains(&instance.as_bytes()) && variables.contains(&worker.as_bytes()) {
                found.push(pid);
            }
        }
        found
    }

    /// The one process of an instance: never none, never two.
    pub fn pid(&self, id: &str) -> u32 {
        let pids = self.pids(id);
        assert_eq!(pids.len(), 1, "processes of {id}: {pids:?}");
        pids[0]
    }

    pub async fn get(&self, port: u16, path: &str) -> u16 {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

fn spawn(dir: &Path, within: &[String]) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("agent.log")).unwrap();
    let mut command = Command::new(&within[0]);
    command.args(&within[1..]).args(["agent", "--config"]).arg(dir.join("agent.toml")).stdin(Stdio::null()).stderr(log);
    dies_with_us(command.stdout(Stdio::null())).spawn().unwrap()
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default());
            eprintln!("last report: {:#?}", self.report());
        }
        let drain = Command::new(PROGRAM).args(["agent", "drain", "--data-dir"]).arg(self.data("")).output();
        // A second panic would end the process at once and hide the first.
        if !std::thread::panicking() {
            let drain = drain.unwrap();
            assert!(drain.status.success(), "{}", String::from_utf8_lossy(&drain.stderr));
        }
    }
}
