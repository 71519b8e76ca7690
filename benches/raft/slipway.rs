//! Three nodes of Slipway, as optimised as this program.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use slipway::wire::v1::{
    self, artifacts_client::ArtifactsClient, catalog_client::CatalogClient, cluster_client::ClusterClient,
};
use tonic::transport::Channel;

use super::{
    etcd,
    load::{System, Writer, connection},
    ports::free,
    process::Process,
};

const LIMIT: Duration = Duration::from_secs(60);
const PACKAGE: &[u8] = b"what this release holds does not matter here";
/// How far ahead of cluster time a request may take effect. A cluster remembers 100,000 requests, so at 50,000 a second
/// this long.
const AHEAD_MS: u64 = 2_000;

struct Node {
    name: String,
    peer: SocketAddr,
    client: SocketAddr,
    process: Option<Process>,
}

/// A running cluster with one registered release.
pub struct Cluster {
    dir: PathBuf,
    nodes: Vec<Node>,
    time: Arc<Time>,
    request: v1::RegisterReleaseRequest,
}

/// Cluster time as the newest reply told it, by the clock of this process.
struct Time {
    began: Instant,
    offset: AtomicU64,
}

impl Time {
    fn learn(&self, now_ms: u64) {
        let elapsed = self.began.elapsed().as_millis() as u64;
        self.offset.store(now_ms.wrapping_sub(elapsed), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.offset.load(Ordering::Relaxed).wrapping_add(self.began.elapsed().as_millis() as u64)
    }
}

impl Cluster {
    pub async fn start(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("its directory");
        let nodes = (1..=3).map(|n| Node { name: format!("n{n}"), peer: free(), client: free(), process: None });
        let time = Arc::new(Time { began: Instant::now(), offset: AtomicU64::new(0) });
        let digest: String = Sha256::digest(PACKAGE).iter().map(|b| format!("{b:02x}")).collect();
        let request = v1::RegisterReleaseRequest {
            service: "bench".into(),
            version: "1.0.0".into(),
            digest,
            ..v1::RegisterReleaseRequest::default()
        };
        let mut this = Self { dir: dir.into(), nodes: nodes.collect(), time, request };
        for place in 0..3 {
            this.restart(place);
        }
        for place in 0..3 {
            this.answers(place).await;
        }
        let channel = connection(&this.addresses()[0]);
        let init = v1::InitRequest { name: "bench".into(), zone: String::new() };
        ClusterClient::new(channel.clone()).init(init).await.expect("a new cluster");
        let seed = this.addresses()[0].clone();
        for address in &this.addresses()[1..] {
            let join = v1::JoinRequest { seed: seed.clone() };
            ClusterClient::new(connection(address)).join(join).await.expect("a node that joins");
        }
        this.leader().await;
        this.register(channel).await;
        this
    }

    /// Makes the release, and pads the request that is repeated to the size of etcd's.
    async fn register(&mut self, channel: Channel) {
        let chunk = v1::PushChunk {
            digest: self.request.digest.clone(),
            size: PACKAGE.len() as u64,
            offset: 0,
            data: PACKAGE.to_vec(),
        };
        let pushed = ArtifactsClient::new(channel.clone()).push(tokio_stream::once(chunk)).await;
        pushed.expect("a package on three nodes");
        let now = ClusterClient::new(channel.clone()).status(v1::StatusRequest {}).await.expect("a status");
        self.time.learn(now.into_inner().now_ms);
        let mut padded = self.request.clone();
        padded.labels = BTreeMap::from([("pad".to_owned(), String::new())]);
        padded.request = Some(meta(&self.time));
        let missing = etcd::message_size().saturating_sub(padded.encoded_len());
        // A field of 128 bytes and more takes longer lengths, in the label and around it.
        let missing = if missing >= 122 { missing - 2 } else { missing };
        padded.labels = BTreeMap::from([("pad".to_owned(), "p".repeat(missing))]);
        println!("# message: etcd {} bytes, Slipway {} bytes", etcd::message_size(), padded.encoded_len());
        self.request = padded;
        self.writer(channel).write().await.expect("a first release");
    }

    /// Starts a node, again if it ran before.
    pub fn restart(&mut self, place: usize) {
        let node = &self.nodes[place];
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipwayd"));
        command.args(["node", "--name", &node.name]).arg("--data-dir").arg(self.dir.join(&node.name));
        command.args(["--peer-listen", &node.peer.to_string(), "--client-listen", &node.client.to_string()]);
        command.args(["--dns-listen", &free().to_string(), "--http-listen", &free().to_string()]);
        let log = self.dir.join(format!("{}.log", node.name));
        self.nodes[place].process = Some(Process::spawn(command, &log));
    }

    /// `kill -9`.
    pub fn kill(&mut self, place: usize) {
        self.nodes[place].process = None;
    }

    async fn status(&self, place: usize) -> Option<v1::StatusReply> {
        let mut client = ClusterClient::new(connection(&self.addresses()[place]));
        let status = client.status(v1::StatusRequest {});
        tokio::time::timeout(Duration::from_secs(1), status).await.ok()?.ok().map(tonic::Response::into_inner)
    }

    async fn answers(&self, place: usize) {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            let mut client = ClusterClient::new(connection(&self.addresses()[place]));
            match client.status(v1::StatusRequest {}).await {
                // It belongs to no cluster yet, and says so.
                Ok(_) => return,
                Err(status) if status.code() == tonic::Code::FailedPrecondition => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        panic!("a node does not answer; its log is in {}", self.dir.display());
    }

    /// The term, as the leader knows it.
    pub async fn term(&self) -> u64 {
        let leader = self.leader().await;
        self.status(leader).await.map_or(0, |s| s.term)
    }
}

fn meta(time: &Time) -> v1::RequestMeta {
    v1::RequestMeta { request_id: format!("{:032x}", rand::random::<u128>()), not_after_ms: time.now() + AHEAD_MS }
}

impl System for Cluster {
    const NAME: &'static str = "slipway";
    type Writer = Registrar;

    fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|n| n.client.to_string()).collect()
    }

    async fn leader(&self) -> usize {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            let mut seen = Vec::new();
            for place in 0..3 {
                let Some(status) = self.status(place).await else { break };
                // A follower's time is that of its newest entry, which is old after a pause.
                if status.node_id == status.leader_id {
                    self.time.learn(status.now_ms);
                }
                seen.push((
                    status.node_id,
                    status.leader_id,
                    status.nodes.iter().filter(|n| n.role == "voter").count(),
                ));
            }
            let leader = seen.first().map_or(0, |s| s.1);
            let place = seen.iter().position(|s| s.0 == leader);
            if let (3, Some(place), true) = (seen.len(), place, seen.iter().all(|s| s.1 == leader && s.2 == 3)) {
                return place;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("Slipway has no leader; its logs are in {}", self.dir.display());
    }

    fn writer(&self, channel: Channel) -> Registrar {
        Registrar { client: CatalogClient::new(channel), time: self.time.clone(), request: self.request.clone() }
    }

    fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|n| n.process.as_ref().map(Process::id)).collect()
    }
}

/// Registers the release.
#[derive(Clone)]
pub struct Registrar {
    client: CatalogClient<Channel>,
    time: Arc<Time>,
    request: v1::RegisterReleaseRequest,
}

impl Writer for Registrar {
    async fn write(&mut self) -> Result<(), String> {
        let request = v1::RegisterReleaseRequest { request: Some(meta(&self.time)), ..self.request.clone() };
        let answer = self.client.register_release(request).await.map_err(|e| e.to_string())?.into_inner();
        let receipt = answer.receipt.ok_or("no receipt in the answer")?;
        self.time.learn(receipt.now_ms);
        if receipt.index > 0 && !receipt.repeated { Ok(()) } else { Err("not a new entry".into()) }
    }
}
