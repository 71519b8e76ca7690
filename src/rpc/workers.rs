//! The `Workers` service: a session proves the worker's key, registers it when that is new, then carries Desired down
//! and reports up.
//!
//! Invariants: no word of an agent counts before its proof; Desired is made from this node's applied State, whole; a
//! session whose agent has been silent for [`SILENT`] ends.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use data_encoding::HEXLOWER_PERMISSIVE;
use ed25519_dalek::{Signature, VerifyingKey};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    door::caller,
    skin::{Sent, many, sent},
};
use crate::{
    api::{Api, ApiError, Kind, Report},
    model::{MAX_POOL, WorkerName, unfit},
    raft::Consensus,
    state::{Command, NodeRole, State, Worker, command::WorkerRegistered},
    wire::{
        convert_worker::{desired, desired_key, read_report},
        v1::{self, from_agent, to_agent},
    },
};

const PROTOCOL: u32 = 1;
const CONTEXT: &[u8] = b"slipway-worker-v1";
const HANDSHAKE: Duration = Duration::from_secs(10);
const SILENT: Duration = Duration::from_secs(30);
/// Least time between two looks of a session at what its worker is to run.
const LOOK: Duration = Duration::from_millis(10);
const OUT_BUFFER: usize = 16;
const MAX_LABELS: usize = 64;
const MAX_TEXT: usize = 256;

type Out = mpsc::Sender<Result<v1::ToAgent, Status>>;

/// Why a session is refused; `permanent` when coming again cannot help.
struct Refusal {
    reason: String,
    permanent: bool,
}

fn never(reason: impl Into<String>) -> Refusal {
    Refusal { reason: reason.into(), permanent: true }
}

fn later(reason: impl Into<String>) -> Refusal {
    Refusal { reason: reason.into(), permanent: false }
}

impl From<ApiError> for Refusal {
    fn from(e: ApiError) -> Self {
        Self { reason: e.text, permanent: matches!(e.kind, Kind::Exists | Kind::Invalid | Kind::Precondition) }
    }
}

fn to_agent(body: to_agent::Body) -> v1::ToAgent {
    v1::ToAgent { body: Some(body) }
}

#[async_trait]
impl v1::workers_server::Workers for Api {
    type SessionStream = ReceiverStream<Result<v1::ToAgent, Status>>;
    type LogsStream = Sent<v1::LogsItem>;

    async fn session(
        &self,
        request: Request<Streaming<v1::FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (out, receive) = mpsc::channel(OUT_BUFFER);
        let (api, stream) = (self.clone(), request.into_inner());
        let session = async move {
            if let Err(refusal) = api.session_with(stream, &out).await {
                tracing::info!(reason = refusal.reason, "worker's session refused");
                let refused = v1::Refused { reason: refusal.reason, permanent: refusal.permanent };
                // An agent that has gone needs no reason.
                let _ = out.send(Ok(to_agent(to_agent::Body::Refused(refused)))).await;
            }
        };
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(session));
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    async fn push_logs(
        &self,
        request: Request<Streaming<v1::LogChunk>>,
    ) -> Result<Response<v1::PushLogsReply>, Status> {
        let by = caller(&request)?;
        Api::push_logs(self, &by, sent(request.into_inner())).await?;
        Ok(Response::new(v1::PushLogsReply {}))
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let by = caller(&request)?;
        Ok(many(Api::logs(self, &by, request.into_inner()).await?))
    }
}

/// The next message's body, or the end.
async fn next(stream: &mut Streaming<v1::FromAgent>, limit: Duration) -> Option<from_agent::Body> {
    timeout(limit, stream.message()).await.ok()?.ok()??.body
}

/// A checked Hello.
struct Greeting {
    name: WorkerName,
    key: VerifyingKey,
    hello: v1::Hello,
}

fn check(hello: v1::Hello) -> Result<Greeting, Refusal> {
    if hello.protocol != PROTOCOL {
        return Err(never(format!(
            "the agent speaks protocol {}, this node {PROTOCOL}: use the same version",
            hello.protocol
        )));
    }
    let name = WorkerName::new(&hello.name).map_err(|e| never(e.to_string()))?;
    let key = HEXLOWER_PERMISSIVE.decode(hello.public_key.as_bytes()).ok();
    let key = key.and_then(|b| VerifyingKey::try_from(b.as_slice()).ok());
    let key = key.ok_or_else(|| never("the public key is not an ed25519 key (64 hexadecimal digits)"))?;
    // The machine's own address may be absent too.
    let too_many = hello.pool.len() > MAX_POOL || hello.absent.len() > MAX_POOL + 1;
    if too_many || hello.pool.iter().chain(&hello.absent).any(|a| a.parse::<IpAddr>().is_err()) {
        return Err(never(format!("the pool is not a list of at most {MAX_POOL} IP addresses")));
    }
    if hello.host.parse::<IpAddr>().is_err() {
        return Err(never(format!("host {:?} is not an IP address", hello.host.chars().take(80).collect::<String>())));
    }
    for address in hello.pool.iter().chain([&hello.host]) {
        if let Some(why) = address.parse().ok().and_then(unfit) {
            return Err(never(format!(
                "{address} {why}: no instance can have it; take it out of the worker's `pool` or `host`"
            )));
        }
    }
    let long = |s: &String| s.len() > MAX_TEXT;
    if hello.labels.len() > MAX_LABELS || hello.labels.iter().any(|(k, v)| long(k) || long(v)) || long(&hello.build) {
        return Err(never(format!("at most {MAX_LABELS} labels, of at most {MAX_TEXT} bytes each")));
    }
    if long(&hello.keeping) {
        return Err(never(format!("what is said of keeping processes together is longer than {MAX_TEXT} bytes")));
    }
    Ok(Greeting { name, key, hello })
}

/// Whether the committed row says what the agent says.
fn registered(row: &Worker, hello: &v1::Hello) -> bool {
    let pool: BTreeSet<&String> = hello.pool.iter().collect();
    row.key == hello.public_key
        && row.meta.labels == hello.labels
        && row.capacity == hello.capacity
        && row.build == hello.build
        && row.host == hello.host
        && row.absent == hello.absent
        && row.keeping == hello.keeping
        && row.pool.keys().filter(|a| !row.withdrawn.contains(*a)).collect::<BTreeSet<_>>() == pool
}

impl Api {
    async fn session_with(&self, mut stream: Streaming<v1::FromAgent>, out: &Out) -> Result<(), Refusal> {
        let Some(from_agent::Body::Hello(hello)) = next(&mut stream, HANDSHAKE).await else {
            return Err(later("a session begins with Hello"));
        };
        let greeting = check(hello)?;
        let Some(consensus) = self.consensus.get() else { return Err(later("this node belongs to no cluster yet")) };
        if let Some(why) = consensus.out_of_work() {
            return Err(later(&why));
        }
        if !self.prove(&greeting, consensus, &mut stream, out).await? {
            return Ok(());
        }
        self.register(&greeting, consensus).await?;
        let state = consensus.view();
        let (report_epoch, report_seq) = state.workers.get(&greeting.name).map_or((0, 0), |w| w.report);
        let welcome = v1::Welcome {
            report_epoch,
            report_seq,
            cluster_id: consensus.cluster().into(),
            node_id: consensus.node_id(),
            applied: state.applied.index,
            now_ms: state.now.0,
            nodes: state
                .nodes
                .values()
                .filter(|n| n.role != NodeRole::Removed)
                .map(|n| n.client_addr.clone())
                .collect(),
        };
        if out.send(Ok(to_agent(to_agent::Body::Welcome(welcome)))).await.is_err() {
            return Ok(());
        }
        tracing::info!(worker = %greeting.name, epoch = greeting.hello.epoch, "worker connected");
        self.serve_worker(&greeting, consensus, stream, out).await;
        tracing::info!(worker = %greeting.name, "worker's session ended");
        Ok(())
    }

    /// Challenge and proof; `false` when the agent went away meanwhile.
    async fn prove(
        &self,
        greeting: &Greeting,
        consensus: &Consensus,
        stream: &mut Streaming<v1::FromAgent>,
        out: &Out,
    ) -> Result<bool, Refusal> {
        let nonce: [u8; 32] = rand::random();
        let cluster_id = consensus.cluster().to_string();
        let signed = [CONTEXT, &nonce, cluster_id.as_bytes(), greeting.name.as_str().as_bytes()].concat();
        let state = consensus.view();
        if state.cluster.is_none() {
            // What this cluster was restored from stands in its State.
            return Err(later("this node has not caught up with its cluster yet"));
        }
        let lineage = state.lineage.iter().map(ToString::to_string).collect();
        let challenge = v1::Challenge { nonce: nonce.to_vec(), cluster_id, lineage };
        if out.send(Ok(to_agent(to_agent::Body::Challenge(challenge)))).await.is_err() {
            return Ok(false);
        }
        let Some(from_agent::Body::Proof(proof)) = next(stream, HANDSHAKE).await else {
            return Err(later("the challenge was not answered"));
        };
        let signature = Signature::from_slice(&proof.signature).map_err(|_| never("the proof is not a signature"))?;
        let proven = greeting.key.verify_strict(&signed, &signature);
        proven.map(|()| true).map_err(|_| never("the proof does not match the worker's key"))
    }

    async fn register(&self, greeting: &Greeting, consensus: &Consensus) -> Result<(), Refusal> {
        let (name, hello) = (&greeting.name, &greeting.hello);
        if consensus.view().workers.get(name).is_some_and(|row| registered(row, hello)) {
            return Ok(());
        }
        let command = Command::WorkerRegistered(WorkerRegistered {
            name: name.clone(),
            key: hello.public_key.clone(),
            labels: hello.labels.clone(),
            capacity: hello.capacity,
            build: hello.build.clone(),
            host: hello.host.clone(),
            pool: hello.pool.clone(),
            absent: hello.absent.clone(),
            keeping: hello.keeping.clone(),
        });
        self.node_change(command).await?;
        Ok(())
    }

    async fn serve_worker(
        &self,
        Greeting { name, hello, .. }: &Greeting,
        consensus: &Consensus,
        mut stream: Streaming<v1::FromAgent>,
        out: &Out,
    ) {
        let mut held = self.sessions.begin(name);
        let mut views = consensus.view_changes();
        let mut sent = None;
        // From its last word, and not from the last State: on a busy cluster there is always a newer one.
        let silent = tokio::time::sleep(SILENT);
        let mut silent = std::pin::pin!(silent);
        // Not with every State: a thousand a second, for each of ten thousand workers, would be work for nothing.
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut newer = true;
        loop {
            // A State that differs from the majority's must not tell a worker what to run: it finds another node.
            if consensus.out_of_work().is_some() {
                break;
            }
            tokio::select! {
                _ = look.tick(), if newer => {
                    newer = false;
                    views.borrow_and_update();
                    let state: Arc<State> = consensus.view();
                    // It was removed, or another machine has its place.
                    if state.workers.get(name).is_none_or(|row| row.key != hello.public_key) {
                        break;
                    }
                    let key = desired_key(&state, name);
                    if key.is_some() && key != sent {
                        let Some(whole) = desired(&state, name) else { break };
                        drop(state);
                        if out.send(Ok(to_agent(to_agent::Body::Desired(whole)))).await.is_err() {
                            break;
                        }
                        sent = key;
                    }
                }
                changed = views.changed(), if !newer => if changed.is_err() { break } else { newer = true },
                () = &mut silent => break,
                told = held.told.recv() => match told {
                    Some(ask) => if out.send(Ok(to_agent(to_agent::Body::TailLogs(ask)))).await.is_err() { break },
                    // A newer session of this worker has taken over.
                    None => break,
                },
                heard = stream.message() => match heard {
                    Ok(Some(v1::FromAgent { body: Some(from_agent::Body::Report(report)) })) => {
                        silent.set(tokio::time::sleep(SILENT));
                        // What makes no sense must not reach the leader.
                        let read = match read_report(name, &report) {
                            Ok(read) => Arc::new(read),
                            Err(e) => {
                                tracing::warn!(worker = %name, error = %e, "report refused");
                                let _ = out.send(Err(ApiError::from(e).into())).await;
                                break;
                            }
                        };
                        if !self.sessions.report(name, held.id, Report { sent: Arc::new(report), read }) {
                            break;
                        }
                    }
                    Ok(Some(_)) => silent.set(tokio::time::sleep(SILENT)),
                    Ok(None) | Err(_) => break,
                },
            }
        }
    }
}
