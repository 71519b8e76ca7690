//! An in-process cluster over real sockets on loopback: what `raft` runs its scenarios on.

use slipway::state::command::Tick;
use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use slipway::{
    clock::Clock,
    model::Principal,
    raft::{Applied, Consensus, ConsensusConfig, PEER_MESSAGE_LIMIT, Timing},
    state::Command,
    storage::{DataDir, Identity},
    wire::v1::{
        AdmitReply, AdmitRequest, HaveBlobReply, HaveBlobRequest, LogChunk, PanickedReply, PanickedRequest,
        PeerTailRequest, PresentReply, PresentRequest, ProposeReply, ProposeRequest, RaftMessage, ReadIndexReply,
        ReadIndexRequest, RelayAck, RelayItem, RenewReply, RenewRequest, WaitsReply, WaitsRequest,
        peer_server::{Peer, PeerServer},
    },
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub const CLUSTER: &str = "c-test";
pub const LIMIT: Duration = Duration::from_secs(30);

/// Raft's part of the peer service; the other calls belong to other modules.
struct Service {
    consensus: Consensus,
    pre_votes: Arc<AtomicU64>,
    stop: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn elsewhere<T>() -> Answer<T> {
    Err(Status::unimplemented("not raft's"))
}

#[tonic::async_trait]
impl Peer for Service {
    async fn append(&self, r: Request<RaftMessage>) -> Answer<RaftMessage> {
        Ok(Response::new(self.consensus.handle_append(r.into_inner()).await?))
    }
    type AppendStreamStream = Items<RaftMessage>;
    async fn append_stream(&self, r: Request<Streaming<RaftMessage>>) -> Answer<Self::AppendStreamStream> {
        let stopped = || self.stop.clone().cancelled_owned();
        let messages = tokio_stream::StreamExt::map_while(r.into_inner(), Result::ok).take_until(stopped());
        let answers = self.consensus.handle_append_stream(messages).map(|answer| answer.map_err(Status::from));
        Ok(Response::new(Box::pin(answers.take_until(stopped()))))
    }
    async fn vote(&self, r: Request<RaftMessage>) -> Answer<RaftMessage> {
        Ok(Response::new(self.consensus.handle_vote(r.into_inner()).await?))
    }
    async fn pre_vote(&self, r: Request<RaftMessage>) -> Answer<RaftMessage> {
        self.pre_votes.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(self.consensus.handle_pre_vote(r.into_inner()).await?))
    }
    async fn snapshot(&self, r: Request<Streaming<RaftMessage>>) -> Answer<RaftMessage> {
        let mut stream = r.into_inner();
        let first = stream.message().await?.ok_or_else(|| Status::invalid_argument("empty snapshot stream"))?;
        let mut receiver = self.consensus.begin_snapshot(&first)?;
        while let Some(next) = stream.next().await {
            receiver.push(&next?)?;
        }
        Ok(Response::new(receiver.finish().await?))
    }
    async fn transfer(&self, r: Request<RaftMessage>) -> Answer<RaftMessage> {
        Ok(Response::new(self.consensus.handle_transfer(r.into_inner()).await?))
    }
    async fn propose(&self, r: Request<ProposeRequest>) -> Answer<ProposeReply> {
        Ok(Response::new(self.consensus.handle_propose(r.into_inner()).await?))
    }
    async fn read_index(&self, r: Request<ReadIndexRequest>) -> Answer<ReadIndexReply> {
        Ok(Response::new(self.consensus.handle_read_index(r.into_inner()).await?))
    }
    async fn panicked(&self, r: Request<PanickedRequest>) -> Answer<PanickedReply> {
        self.consensus.check_peer(r.into_inner().header.as_ref())?;
        Ok(Response::new(PanickedReply {}))
    }
    async fn present(&self, r: Request<PresentRequest>) -> Answer<PresentReply> {
        self.consensus.check_peer(r.into_inner().header.as_ref())?;
        Ok(Response::new(PresentReply::default()))
    }
    type RelayStream = Items<RelayAck>;
    async fn relay(&self, _: Request<Streaming<RelayItem>>) -> Answer<Self::RelayStream> {
        elsewhere()
    }
    async fn renew(&self, _: Request<RenewRequest>) -> Answer<RenewReply> {
        elsewhere()
    }
    async fn have_blob(&self, _: Request<HaveBlobRequest>) -> Answer<HaveBlobReply> {
        elsewhere()
    }
    async fn waits(&self, _: Request<WaitsRequest>) -> Answer<WaitsReply> {
        elsewhere()
    }
    type TailLogsStream = Items<LogChunk>;
    async fn tail_logs(&self, _: Request<PeerTailRequest>) -> Answer<Self::TailLogsStream> {
        elsewhere()
    }
    async fn admit(&self, _: Request<AdmitRequest>) -> Answer<AdmitReply> {
        elsewhere()
    }
}

/// A listener that can be closed, as if the node's inbound network were cut.
struct Server {
    stop: CancellationToken,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Server {
    fn start(listener: TcpListener, consensus: Consensus, pre_votes: Arc<AtomicU64>) -> Self {
        let stop = CancellationToken::new();
        let service = Service { consensus, pre_votes, stop: stop.clone() };
        let service = PeerServer::new(service)
            .max_decoding_message_size(PEER_MESSAGE_LIMIT)
            .max_encoding_message_size(PEER_MESSAGE_LIMIT);
        let router = tonic::transport::Server::builder().add_service(service);
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(router.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped));
        Self { stop, task }
    }

    async fn close(self) {
        self.stop.cancel();
        tokio::time::timeout(LIMIT, self.task)
            .await
            .expect("the server ends")
            .expect("no panic")
            .expect("it ends well");
    }
}

pub struct Node {
    pub id: u64,
    pub addr: SocketAddr,
    pub consensus: Consensus,
    pub data: DataDir,
    pub clock: Clock,
    /// Pre-votes that reached this node.
    pub pre_votes: Arc<AtomicU64>,
    server: Option<Server>,
}

impl Node {
    pub async fn close_inbound(&mut self) {
        if let Some(server) = self.server.take() {
            server.close().await;
        }
    }

    pub async fn open_inbound(&mut self) {
        let listener = bind(self.addr).await;
        self.server = Some(Server::start(listener, self.consensus.clone(), self.pre_votes.clone()));
    }

    pub fn term(&self) -> u64 {
        self.consensus.leader().borrow().term
    }
}

/// The port was just released; the old socket may take a moment to go.
async fn bind(addr: SocketAddr) -> TcpListener {
    let bound = async {
        loop {
            match TcpListener::bind(addr).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(LIMIT, bound).await.expect("the port becomes free")
}

pub struct Cluster {
    pub config: ConsensusConfig,
    root: tempfile::TempDir,
    addrs: BTreeMap<u64, SocketAddr>,
    pub nodes: BTreeMap<u64, Node>,
}

impl Cluster {
    pub fn new() -> Self {
        let config = ConsensusConfig { timing: Timing::slow(), ..ConsensusConfig::default() };
        Self { config, root: tempfile::tempdir().unwrap(), addrs: BTreeMap::new(), nodes: BTreeMap::new() }
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Starts a node, or starts it again from its directory on its old address.
    pub async fn start(&mut self, id: u64) {
        let wanted = self.addrs.get(&id).copied().unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let listener = bind(wanted).await;
        let addr = listener.local_addr().unwrap();
        self.addrs.insert(id, addr);
        let data = DataDir::open(&self.root.path().join(id.to_string())).unwrap();
        // Each node's wall clock is off by hours: nothing may depend on it.
        let clock = Clock::manual(id * 10_000_000);
        let identity = Identity { cluster: CLUSTER.into(), node: id };
        let consensus = Consensus::start(self.config.clone(), &data, identity, clock.clone()).await.unwrap();
        let pre_votes = Arc::new(AtomicU64::new(0));
        let server = Some(Server::start(listener, consensus.clone(), pre_votes.clone()));
        self.nodes.insert(id, Node { id, addr, consensus, data, clock, pre_votes, server });
    }

    pub async fn stop(&mut self, id: u64) {
        let mut node = self.nodes.remove(&id).unwrap();
        node.consensus.shutdown().await.unwrap();
        node.close_inbound().await;
    }

    /// Ends all nodes as `kill -9` would, and starts them again: each goes on from a copy of its directory that was
    /// made while it ran. What was in its memory alone is lost, and nothing that it does at its end reaches the copy.
    /// Nobody may be writing meanwhile.
    pub async fn kill_all(&mut self) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        let copy = |id: &u64| self.path().join(format!("{id}-as-killed"));
        for id in &ids {
            let mut cp = std::process::Command::new("cp");
            let copied = cp.arg("-a").arg(self.path().join(id.to_string())).arg(copy(id)).status().unwrap();
            assert!(copied.success());
        }
        let copies: Vec<_> = ids.iter().map(copy).collect();
        for (id, copy) in ids.iter().zip(copies) {
            self.stop(*id).await;
            let at = self.path().join(id.to_string());
            std::fs::remove_dir_all(&at).unwrap();
            std::fs::rename(copy, at).unwrap();
        }
        for id in ids {
            self.start(id).await;
        }
    }

    /// Three voters, node 1 leading.
    pub async fn of_three() -> Self {
        let mut cluster = Self::new();
        cluster.start(1).await;
        let first = &cluster.nodes[&1];
        first.consensus.init_single(&first.addr.to_string()).await.unwrap();
        cluster.leader().await;
        for id in [2, 3] {
            cluster.start(id).await;
            let (leader, addr) = (cluster.nodes[&1].consensus.clone(), cluster.addrs[&id]);
            leader.add_learner(id, &addr.to_string()).await.unwrap();
            until("the learner has caught up", || async { leader.promote(id).await.is_ok() }).await;
        }
        // Two of three commit the last change; here all three shall know that they vote.
        cluster.agree().await;
        cluster
    }

    pub fn addr(&self, id: u64) -> String {
        self.addrs[&id].to_string()
    }

    /// Waits until some running node leads with its anchor taken.
    pub async fn leader(&self) -> u64 {
        let mut found = 0;
        until("somebody leads", || {
            // The highest term counts: an older leader may not know yet that it was replaced.
            let newest = self.nodes.values().map(|n| n.consensus.leader().borrow().clone()).max_by_key(|l| l.term);
            let leads = self.nodes.values().find(|n| {
                let seen = n.consensus.leader().borrow().clone();
                seen.ready && newest.as_ref().is_some_and(|top| top.term == seen.term)
            });
            found = leads.map_or(0, |n| n.id);
            std::future::ready(found != 0)
        })
        .await;
        found
    }

    pub fn at(&self, id: u64) -> &Consensus {
        &self.nodes[&id].consensus
    }

    /// One entry through whoever leads.
    pub async fn write(&self) -> Applied {
        let mut done = None;
        until("a write is accepted", || async {
            self.at(self.leader().await).propose(Principal::leader(), None, Command::Tick(Tick {})).await.is_ok()
        })
        .await;
        for node in self.nodes.values() {
            if node.consensus.leader().borrow().ready {
                done = node.consensus.propose(Principal::leader(), None, Command::Tick(Tick {})).await.ok();
            }
        }
        done.expect("the leader accepts a second write")
    }

    /// Waits until every running node's view holds everything committed, and returns it from each.
    pub async fn agree(&self) -> Vec<Arc<slipway::state::State>> {
        let index = self.at(self.leader().await).read_index().await.unwrap();
        let mut views = Vec::new();
        for node in self.nodes.values() {
            node.consensus.wait_applied(index, LIMIT).await.unwrap();
            views.push(node.consensus.view());
        }
        views
    }
}

/// Polls a condition until it holds; fails by name after the limit.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waited).await.is_ok(), "within {LIMIT:?}: {what}");
}
