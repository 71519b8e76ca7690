//! A whole node with the large State: real processes of this build, on the disk that holds the target directory.
//!
//! The State is restored from a backup into a node's directory. No agent is there, so the leader declares all workers
//! lost first; what is measured begins once that is over. Commits come over gRPC from this process: changed specs of
//! random services.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use slipway::{
    client::{Client, Limits},
    clock::Clock,
    raft::{BackupSource, write_backup},
    state::State,
    storage::BlobStore,
    wire::v1,
};

/// Clients that write at the same time, and the pause of each between two writes.
const CLIENTS: usize = 16;
const PAUSE: Duration = Duration::from_millis(20);
/// Rounds of a window without and one with a snapshot, and their length.
const ROUNDS: usize = 10;
const WINDOW: Duration = Duration::from_secs(3);
/// Entries that a restart has to apply again: what a node writes between two snapshots by default.
const TAIL: u64 = 50_000;

/// What was measured.
pub struct Figures {
    pub rss_mib: u64,
    pub stall_ms: f64,
    pub restart_s: f64,
    pub join_s: f64,
}

struct Node {
    child: Child,
    client: SocketAddr,
    http: SocketAddr,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_tcp() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

fn free_dns() -> SocketAddr {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        if UdpSocket::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// A directory and a configuration of a node; no snapshot is made but those asked for.
fn config(dir: &Path, name: &str) -> (PathBuf, SocketAddr, SocketAddr) {
    let (client, http) = (free_tcp(), free_tcp());
    let text = format!(
        "name = {name:?}\ndata_dir = {:?}\npeer_listen = \"{}\"\nclient_listen = \"{client}\"\ndns_listen = \"{}\"\n\
         http_listen = \"{http}\"\nsnapshot_every = 1000000000\n",
        dir.join(name),
        free_tcp(),
        free_dns(),
    );
    let file = dir.join(format!("{name}.toml"));
    fs::write(&file, text).expect("room for a file");
    (file, client, http)
}

fn slipwayd(args: &[&str], log: &Path) -> Command {
    let out = File::options().create(true).append(true).open(log).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipwayd"));
    command.args(args).stdin(Stdio::null()).stdout(out.try_clone().expect("a log")).stderr(out);
    command
}

fn start(dir: &Path, name: &str, config: &(PathBuf, SocketAddr, SocketAddr)) -> Node {
    let file = config.0.to_str().expect("a path");
    let child = slipwayd(&["node", "--config", file], &dir.join(format!("{name}.log"))).spawn().expect("slipwayd");
    Node { child, client: config.1, http: config.2 }
}

impl Node {
    /// Whether `/readyz` says so.
    fn is_ready(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.http) else { return false };
        let ask = format!("GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http);
        let mut answer = String::new();
        stream.write_all(ask.as_bytes()).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
    }

    /// Seconds from `since` until it is ready.
    fn ready_after(&mut self, since: Instant) -> f64 {
        while !self.is_ready() {
            assert!(since.elapsed() < Duration::from_secs(120), "the node does not become ready");
            assert!(self.child.try_wait().expect("a child").is_none(), "the node has ended, see its log");
            std::thread::sleep(Duration::from_millis(5));
        }
        since.elapsed().as_secs_f64()
    }

    /// Resident MiB: now, and at its highest.
    fn rss(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux");
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).and_then(|l| l.split_whitespace().next());
            line.and_then(|k| k.parse::<u64>().ok()).expect("a figure") >> 10
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    fn client(&self) -> Client {
        let limits = Limits { deadline: Duration::from_secs(30), ..Limits::default() };
        Client::new(&[self.client.to_string()], limits, Clock::real()).expect("an address")
    }
}

fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

/// The value below which 99 of 100 lie.
fn p99(mut of: Vec<Duration>) -> f64 {
    of.sort_unstable();
    millis(of.get((of.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default())
}

/// One commit: a spec of a random service that nobody has seen before.
async fn write(client: &Client, services: u32, n: u64) -> bool {
    let service = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u32 % services + 1;
    let request = v1::ApplyRequest {
        document: super::build::spec_text(service, &format!("n{n}")),
        format: "yaml".into(),
        ..v1::ApplyRequest::default()
    };
    client.apply(request).await.is_ok()
}

/// Writes from all clients for a while; how long each took, and how many failed.
async fn load(client: &Client, services: u32, count: &Arc<AtomicU64>, stop: &Arc<AtomicBool>) -> (Vec<Duration>, u64) {
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|k| {
            let (client, count, stop) = (client.clone(), count.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::time::sleep(PAUSE * k as u32 / CLIENTS as u32).await;
                let (mut took, mut failed) = (Vec::new(), 0);
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    failed += u64::from(!write(&client, services, count.fetch_add(1, Ordering::Relaxed)).await);
                    took.push(began.elapsed());
                    tokio::time::sleep(PAUSE).await;
                }
                (took, failed)
            })
        })
        .collect();
    let (mut all, mut failed) = (Vec::new(), 0);
    for task in tasks {
        let (took, f) = task.await.expect("a writer");
        all.extend(took);
        failed += f;
    }
    (all, failed)
}

/// Until nothing but ticks is committed any more.
async fn settled(client: &Client) {
    let began = Instant::now();
    let mut quiet = 0;
    let mut last = client.status().await.expect("status").applied_index;
    // Workers count as lost ten seconds after the term began at the earliest.
    while quiet < 3 || began.elapsed() < Duration::from_secs(16) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = client.status().await.expect("status").applied_index;
        quiet = if now - last <= 5 { quiet + 1 } else { 0 };
        last = now;
        assert!(began.elapsed() < Duration::from_secs(300), "the cluster does not come to rest");
    }
}

/// Measures, and prints how.
pub fn run(state: &State, services: u32) -> Figures {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-state-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let figures = runtime.block_on(measure(&dir, state, services));
    fs::remove_dir_all(&dir).expect("it is ours");
    figures
}

async fn measure(dir: &Path, state: &State, services: u32) -> Figures {
    let blobs = BlobStore::open(&dir.join("none")).expect("a directory");
    let backup = dir.join("backup");
    let source = BackupSource { state, blobs: &blobs, without_packages: true, wall_ms: 0 };
    write_backup(&source, |_| File::create(&backup).expect("a file")).expect("a backup");
    let files = config(dir, "n1");
    let (file, from) = (files.0.to_str().expect("a path"), backup.to_str().expect("a path"));
    let restored = slipwayd(&["restore", from, "--config", file], &dir.join("n1.log")).status().expect("slipwayd");
    assert!(restored.success(), "it does not restore, see {}", dir.display());
    fs::remove_file(&backup).expect("it is ours");

    let began = Instant::now();
    let mut node = start(dir, "n1", &files);
    let first_s = node.ready_after(began);
    println!("# node restored from a backup: ready {first_s:.2} s after its start, {} MiB resident", node.rss().0);
    let client = node.client();
    settled(&client).await;
    let count = Arc::new(AtomicU64::new(0));
    let stall_ms = stall(&client, services, &count).await;
    let (now, peak) = node.rss();
    println!("# node after {ROUNDS} snapshots: {now} MiB resident, {peak} MiB at its highest");
    let restart_s = restart(dir, &mut node, &client, services, &count, &files).await;
    let join_s = join(dir, &client, node.client, services, &count).await;
    let (now, again) = node.rss();
    println!("# node after its restart and the join: {now} MiB resident, {again} MiB at its highest");
    let rss_mib = peak.max(again);
    Figures { rss_mib, stall_ms, restart_s: restart_s.max(first_s), join_s }
}

/// What a snapshot adds to the p99 of commits.
async fn stall(client: &Client, services: u32, count: &Arc<AtomicU64>) -> f64 {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut making, mut bytes) = (Duration::ZERO, 0);
    for _ in 0..ROUNDS {
        for snapshot in [false, true] {
            let stop = Arc::new(AtomicBool::new(false));
            let writers = {
                let (client, count, stop) = (client.clone(), count.clone(), stop.clone());
                tokio::spawn(async move { load(&client, services, &count, &stop).await })
            };
            let began = Instant::now();
            if snapshot {
                bytes = client.make_snapshot().await.expect("a snapshot").bytes;
                making = making.max(began.elapsed());
            }
            tokio::time::sleep(WINDOW.saturating_sub(began.elapsed())).await;
            stop.store(true, Ordering::Relaxed);
            let (took, failed) = writers.await.expect("writers");
            assert_eq!(failed, 0, "writes failed");
            if snapshot { with.extend(took) } else { without.extend(took) }
        }
    }
    let worst = |of: &Vec<Duration>| millis(of.iter().max().copied().unwrap_or_default());
    println!(
        "# {} commits without a snapshot: worst {:.1} ms; {} with one: worst {:.1} ms; a snapshot of {} MiB took {:.2} s at most",
        without.len(),
        worst(&without),
        with.len(),
        worst(&with),
        bytes >> 20,
        making.as_secs_f64()
    );
    let (quiet, busy) = (p99(without), p99(with));
    println!(
        "# p99 of commits from {CLIENTS} clients, {PAUSE:?} between two: {quiet:.1} ms, with a snapshot {busy:.1} ms"
    );
    (busy - quiet).max(0.0)
}

/// Kills the node with as many entries behind its snapshot as there ever are, and starts it again.
async fn restart(
    dir: &Path,
    node: &mut Node,
    client: &Client,
    services: u32,
    count: &Arc<AtomicU64>,
    files: &(PathBuf, SocketAddr, SocketAddr),
) -> f64 {
    let snapshot = client.make_snapshot().await.expect("a snapshot").index;
    let (began, mut written) = (Instant::now(), 0);
    while client.status().await.expect("status").applied_index < snapshot + TAIL
        && began.elapsed() < Duration::from_secs(120)
    {
        let batch = (0..256).map(|_| {
            let (client, n) = (client.clone(), count.fetch_add(1, Ordering::Relaxed));
            tokio::spawn(async move { write(&client, services, n).await })
        });
        for task in batch.collect::<Vec<_>>() {
            written += u64::from(task.await.expect("a writer"));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let tail = client.status().await.expect("status").applied_index - snapshot;
    println!("# {written} commits from 256 clients in {seconds:.1} s ({:.0}/s)", written as f64 / seconds);
    node.child.kill().expect("a child");
    node.child.wait().expect("a child");
    let began = Instant::now();
    *node = start(dir, "n1", files);
    let took = node.ready_after(began);
    println!("# killed and started again, {tail} entries behind its snapshot: ready after {took:.2} s");
    took
}

/// A second node joins while writes go on; it leaves with its process.
async fn join(dir: &Path, client: &Client, seed: SocketAddr, services: u32, count: &Arc<AtomicU64>) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let writers = {
        let (client, count, stop) = (client.clone(), count.clone(), stop.clone());
        tokio::spawn(async move { load(&client, services, &count, &stop).await })
    };
    let files = config(dir, "n2");
    let mut late = start(dir, "n2", &files);
    while TcpStream::connect(late.client).is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let began = Instant::now();
    late.client().join(v1::JoinRequest { seed: seed.to_string() }).await.expect("it joins");
    let took = late.ready_after(began);
    stop.store(true, Ordering::Relaxed);
    let (commits, failed) = writers.await.expect("writers");
    println!(
        "# a node that joins while {} commits go on ({failed} failed, worst {:.1} ms): ready after {took:.2} s",
        commits.len(),
        millis(commits.iter().max().copied().unwrap_or_default())
    );
    println!("# the joined node: {} MiB resident", late.rss().0);
    took
}
