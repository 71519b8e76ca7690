//! Three nodes of etcd, and the three messages of its public API that are needed, with its field numbers.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prost::Message;
use tonic::{client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use super::{
    load::{System, Writer, connection},
    ports::free,
    process::Process,
};

const LIMIT: Duration = Duration::from_secs(60);
const VALUE: usize = 256;
const KEYS: u64 = 1000;
/// Bytes of a key.
const KEY: usize = 16;

/// Milliseconds; etcd's followers wait for once to twice the election timeout.
pub struct Times {
    pub heartbeat: u32,
    pub election: u32,
}

/// What etcd takes when nothing is said.
pub const DEFAULTS: Times = Times { heartbeat: 100, election: 1000 };
/// The same longest wait as Slipway's default profile, and its heartbeat.
pub const EQUAL: Times = Times { heartbeat: 50, election: 400 };

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
    #[prost(uint64, tag = "4")]
    raft_term: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// Bytes of one Put as it is sent.
pub fn message_size() -> usize {
    put(0).encoded_len()
}

fn put(n: u64) -> PutRequest {
    PutRequest { key: format!("bench/{:0width$}", n % KEYS, width = KEY - 6).into_bytes(), value: vec![b'v'; VALUE] }
}

/// etcd as it is installed.
pub struct Program {
    pub version: String,
}

/// Looks for it.
pub fn find() -> Result<Program, String> {
    let said = Command::new("etcd").arg("--version").output();
    let said =
        said.map_err(|_| "not installed (Debian package etcd-server; `scripts/setup.sh bench-raft`)".to_owned())?;
    let text =
        String::from_utf8_lossy(&said.stdout).lines().next().unwrap_or_default().replace("etcd Version:", "etcd");
    if text.starts_with("etcd 3.") { Ok(Program { version: text }) } else { Err(format!("not version 3: {text:?}")) }
}

struct Node {
    name: String,
    client: String,
    peer: String,
    process: Option<Process>,
}

/// A running cluster.
pub struct Cluster {
    dir: PathBuf,
    times: Times,
    nodes: Vec<Node>,
    count: Arc<AtomicU64>,
}

async fn call<Q, A>(channel: Channel, path: &'static str, request: Q) -> Result<A, String>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|e| e.to_string())?;
    let codec: ProstCodec<Q, A> = ProstCodec::default();
    let answer = grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await;
    answer.map(tonic::Response::into_inner).map_err(|e| e.to_string())
}

impl Cluster {
    pub async fn start(dir: &Path, times: &Times) -> Self {
        std::fs::create_dir_all(dir).expect("its directory");
        let nodes = (1..=3).map(|n| Node {
            name: format!("e{n}"),
            client: free().to_string(),
            peer: free().to_string(),
            process: None,
        });
        let times = Times { ..*times };
        let mut this = Self { dir: dir.into(), times, nodes: nodes.collect(), count: Arc::default() };
        for place in 0..3 {
            this.restart(place);
        }
        this.leader().await;
        this
    }

    /// Starts a node, again if it ran before.
    pub fn restart(&mut self, place: usize) {
        let all: Vec<String> = self.nodes.iter().map(|n| format!("{}=http://{}", n.name, n.peer)).collect();
        let node = &self.nodes[place];
        let (client, peer) = (format!("http://{}", node.client), format!("http://{}", node.peer));
        let mut command = Command::new("etcd");
        command.env_clear().args(["--name", &node.name]).arg("--data-dir").arg(self.dir.join(&node.name));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
        command.args(["--heartbeat-interval", &self.times.heartbeat.to_string()]);
        command.args(["--election-timeout", &self.times.election.to_string()]);
        command.args(["--logger", "zap", "--log-level", "error"]);
        let log = self.dir.join(format!("{}.log", node.name));
        self.nodes[place].process = Some(Process::spawn(command, &log));
    }

    /// `kill -9`.
    pub fn kill(&mut self, place: usize) {
        self.nodes[place].process = None;
    }

    async fn status(&self, place: usize) -> Option<StatusResponse> {
        let channel = connection(&self.nodes[place].client);
        let status = call(channel, "/etcdserverpb.Maintenance/Status", StatusRequest {});
        tokio::time::timeout(Duration::from_secs(1), status).await.ok()?.ok()
    }
}

impl System for Cluster {
    const NAME: &'static str = "etcd";
    type Writer = Putter;

    fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|n| n.client.clone()).collect()
    }

    async fn leader(&self) -> usize {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            let mut seen = Vec::new();
            for place in 0..3 {
                let Some(status) = self.status(place).await else { break };
                seen.push((status.header.unwrap_or_default().member_id, status.leader));
            }
            let leader = seen.first().map_or(0, |s| s.1);
            let place = seen.iter().position(|s| s.0 == leader);
            if let (3, Some(place), true) = (seen.len(), place, seen.iter().all(|s| s.1 == leader)) {
                return place;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("etcd has no leader; its logs are in {}", self.dir.display());
    }

    fn writer(&self, channel: Channel) -> Putter {
        Putter { channel, count: self.count.clone() }
    }

    fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|n| n.process.as_ref().map(Process::id)).collect()
    }
}

/// Puts.
#[derive(Clone)]
pub struct Putter {
    channel: Channel,
    count: Arc<AtomicU64>,
}

impl Writer for Putter {
    async fn write(&mut self) -> Result<(), String> {
        let request = put(self.count.fetch_add(1, Ordering::Relaxed));
        let answer: PutResponse = call(self.channel.clone(), "/etcdserverpb.KV/Put", request).await?;
        if answer.header.is_some_and(|h| h.revision > 0) { Ok(()) } else { Err("no revision in the answer".into()) }
    }
}
