//! A node as an agent sees one: `Workers` and `Artifacts` over gRPC, with what is desired set by the test and packages
//! that can be held back half way.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use ed25519_dalek::{Signature, VerifyingKey};
use slipway::wire::v1::{self, FromAgent, ToAgent, artifacts_server, from_agent, to_agent, workers_server};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub const CLUSTER: &str = "test-cluster";

/// What the test sees and sets.
pub struct Shared {
    pub desired: watch::Sender<Option<v1::Desired>>,
    pub reports: watch::Sender<(v1::Report, u64)>,
    pub hellos: Mutex<Vec<v1::Hello>>,
    pub refuse: Mutex<Option<String>>,
    /// What the cluster says is the newest report that counts.
    pub known_report: Mutex<(u64, u64)>,
    pub packages: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Bytes of a package that are sent before the stream waits for the test.
    pub hold_at: watch::Sender<Option<u64>>,
    pub fetches: Mutex<Vec<u64>>,
    pub tail: watch::Sender<Option<v1::TailLogs>>,
    pub lines: Mutex<Vec<v1::LogChunk>>,
}

#[derive(Clone)]
pub struct Node {
    pub shared: Arc<Shared>,
    pub address: SocketAddr,
}

fn down(body: to_agent::Body) -> Result<ToAgent, Status> {
    Ok(ToAgent { body: Some(body) })
}

impl Node {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            desired: watch::Sender::new(None),
            reports: watch::Sender::default(),
            hellos: Mutex::default(),
            refuse: Mutex::default(),
            known_report: Mutex::default(),
            packages: Mutex::default(),
            hold_at: watch::Sender::new(None),
            fetches: Mutex::default(),
            tail: watch::Sender::new(None),
            lines: Mutex::default(),
        });
        let node = Self { shared, address };
        let (workers, artifacts) =
            (workers_server::WorkersServer::new(node.clone()), artifacts_server::ArtifactsServer::new(node.clone()));
        let serve = tonic::transport::Server::builder()
            .add_service(workers)
            .add_service(artifacts)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serve);
        node
    }

    async fn talk(self, mut up: Streaming<FromAgent>, out: mpsc::Sender<Result<ToAgent, Status>>) -> Option<()> {
        let Some(from_agent::Body::Hello(hello)) = up.message().await.ok()??.body else { return None };
        let refuse = self.shared.refuse.lock().unwrap().clone();
        if let Some(reason) = refuse {
            out.send(down(to_agent::Body::Refused(v1::Refused { reason, permanent: true }))).await.ok()?;
            return None;
        }
        let nonce = vec![7; 32];
        let challenge = v1::Challenge { nonce: nonce.clone(), cluster_id: CLUSTER.into(), lineage: Vec::new() };
        out.send(down(to_agent::Body::Challenge(challenge))).await.ok()?;
        let Some(from_agent::Body::Proof(proof)) = up.message().await.ok()??.body else { return None };
        let bytes: Vec<u8> =
            (0..32).map(|i| u8::from_str_radix(&hello.public_key[i * 2..i * 2 + 2], 16).unwrap()).collect();
        let key = VerifyingKey::from_bytes(bytes.as_slice().try_into().unwrap()).unwrap();
        let signed = [b"slipway-worker-v1", nonce.as_slice(), CLUSTER.as_bytes(), hello.name.as_bytes()].concat();
        key.verify_strict(&signed, &Signature::from_slice(&proof.signature).unwrap()).expect("the proof holds");
        self.shared.hellos.lock().unwrap().push(hello);
        let (report_epoch, report_seq) = *self.shared.known_report.lock().unwrap();
        let welcome = v1::Welcome {
            cluster_id: CLUSTER.into(),
            node_id: 1,
            applied: 1,
            now_ms: 1,
            nodes: vec![],
            report_epoch,
            report_seq,
        };
        out.send(down(to_agent::Body::Welcome(welcome))).await.ok()?;
        let (mut desired, mut tail) = (self.shared.desired.subscribe(), self.shared.tail.subscribe());
        desired.mark_changed();
        loop {
            tokio::select! {
                _ = desired.changed() => {
                    let now = desired.borrow_and_update().clone();
                    if let Some(now) = now {
                        out.send(down(to_agent::Body::Desired(now))).await.ok()?;
                    }
                }
                _ = tail.changed() => {
                    let ask = tail.borrow_and_update().clone();
                    if let Some(ask) = ask {
                        out.send(down(to_agent::Body::TailLogs(ask))).await.ok()?;
                    }
                }
                message = up.message() => {
                    if let Some(from_agent::Body::Report(report)) = message.ok()??.body {
                        self.shared.reports.send_modify(|(last, n)| {
                            assert!((report.epoch, report.seq) > (last.epoch, last.seq), "reports go forward");
                            *last = report;
                            *n += 1;
                        });
                    }
                }
            }
        }
    }
}

#[tonic::async_trait]
impl workers_server::Workers for Node {
    type SessionStream = ReceiverStream<Result<ToAgent, Status>>;
    type LogsStream = ReceiverStream<Result<v1::LogsItem, Status>>;

    async fn session(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Self::SessionStream>, Status> {
        let (send, receive) = mpsc::channel(16);
        tokio::spawn(self.clone().talk(request.into_inner(), send));
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    async fn push_logs(
        &self,
        request: Request<Streaming<v1::LogChunk>>,
    ) -> Result<Response<v1::PushLogsReply>, Status> {
        let mut chunks = request.into_inner();
        while let Some(chunk) = chunks.message().await? {
            self.shared.lines.lock().unwrap().push(chunk);
        }
        Ok(Response::new(v1::PushLogsReply {}))
    }

    async fn logs(&self, _: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        Err(Status::unimplemented("agents do not ask for logs"))
    }
}

#[tonic::async_trait]
impl artifacts_server::Artifacts for Node {
    type FetchStream = ReceiverStream<Result<v1::FetchChunk, Status>>;

    async fn stat(&self, _: Request<v1::StatRequest>) -> Result<Response<v1::StatReply>, Status> {
        Err(Status::unimplemented("agents do not ask"))
    }

    async fn push(&self, _: Request<Streaming<v1::PushChunk>>) -> Result<Response<v1::PushReply>, Status> {
        Err(Status::unimplemented("agents do not push"))
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let ask = request.into_inner();
        let package = self.shared.packages.lock().unwrap().get(&ask.digest).cloned();
        let package = package.ok_or_else(|| Status::not_found("no such package"))?;
        self.shared.fetches.lock().unwrap().push(ask.offset);
        let (send, receive) = mpsc::channel(1);
        let mut hold_at = self.shared.hold_at.subscribe();
        tokio::spawn(async move {
            let mut at = ask.offset as usize;
            while at < package.len() {
                let open = |hold: &Option<u64>| hold.is_none_or(|h| (at as u64) < h);
                if hold_at.wait_for(open).await.is_err() {
                    return;
                }
                let end = package.len().min(at + (64 << 10));
                let chunk = v1::FetchChunk { size: package.len() as u64, data: package[at..end].to_vec() };
                if send.send(Ok(chunk)).await.is_err() {
                    return;
                }
                at = end;
            }
        });
        Ok(Response::new(ReceiverStream::new(receive)))
    }
}
