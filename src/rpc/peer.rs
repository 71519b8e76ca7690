//! The `Peer` service: Raft's messages, proposals passed on, the relay of what nodes hear, admissions.
//!
//! Invariant: every call but `Admit` names this cluster and this node as its target, or is refused.

use futures_util::{StreamExt, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::skin::{Sent, many};
use crate::{
    api::{Api, ApiError, Kind, fetch_blob},
    model::{DeploymentId, Digest, WorkerName},
    raft::Consensus,
    state::{Command, NewNode, command::NodeAdmitted},
    wire::v1,
};

const ACKS: usize = 16;

impl Api {
    fn peer(&self, header: Option<&v1::PeerHeader>) -> Result<&Consensus, Status> {
        let consensus = self.consensus()?;
        consensus.check_peer(header)?;
        Ok(consensus)
    }
}

#[async_trait]
impl v1::peer_server::Peer for Api {
    type AppendStreamStream = BoxStream<'static, Result<v1::RaftMessage, Status>>;
    type RelayStream = ReceiverStream<Result<v1::RelayAck, Status>>;
    type TailLogsStream = Sent<v1::LogChunk>;

    async fn append(&self, request: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        Ok(Response::new(self.consensus()?.handle_append(request.into_inner()).await?))
    }

    async fn append_stream(
        &self,
        request: Request<Streaming<v1::RaftMessage>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let consensus = self.consensus()?;
        let stopped = || self.stop.clone().cancelled_owned();
        // A connection that breaks ends the stream like one that was closed.
        let messages = tokio_stream::StreamExt::map_while(request.into_inner(), Result::ok).take_until(stopped());
        let answers = consensus.handle_append_stream(messages).map(|answer| answer.map_err(Status::from));
        Ok(Response::new(answers.take_until(stopped()).boxed()))
    }

    async fn vote(&self, request: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        Ok(Response::new(self.consensus()?.handle_vote(request.into_inner()).await?))
    }

    async fn pre_vote(&self, request: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        Ok(Response::new(self.consensus()?.handle_pre_vote(request.into_inner()).await?))
    }

    async fn transfer(&self, request: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        Ok(Response::new(self.consensus()?.handle_transfer(request.into_inner()).await?))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<v1::RaftMessage>>,
    ) -> Result<Response<v1::RaftMessage>, Status> {
        let mut stream = request.into_inner();
        let first = stream.message().await?.ok_or_else(|| ApiError::bad("a snapshot has at least one message"))?;
        let mut receiver = self.consensus()?.begin_snapshot(&first)?;
        while let Some(message) = stream.message().await? {
            receiver.push(&message)?;
        }
        Ok(Response::new(receiver.finish().await?))
    }

    async fn propose(&self, request: Request<v1::ProposeRequest>) -> Result<Response<v1::ProposeReply>, Status> {
        Ok(Response::new(self.consensus()?.handle_propose(request.into_inner()).await?))
    }

    async fn read_index(&self, request: Request<v1::ReadIndexRequest>) -> Result<Response<v1::ReadIndexReply>, Status> {
        Ok(Response::new(self.consensus()?.handle_read_index(request.into_inner()).await?))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewReply>, Status> {
        let ask = request.into_inner();
        self.peer(ask.header.as_ref())?;
        let from = ask.header.as_ref().map_or(0, |h| h.from);
        Ok(Response::new(self.backend.renew(from, ask).await?))
    }

    async fn relay(&self, request: Request<Streaming<v1::RelayItem>>) -> Result<Response<Self::RelayStream>, Status> {
        let mut stream = request.into_inner();
        let (acks, receive) = mpsc::channel(ACKS);
        let api = self.clone();
        let take = async move {
            let mut acked = 0;
            while let Ok(Some(item)) = stream.message().await {
                let taken = api.peer(item.header.as_ref()).and_then(|_| {
                    let from = item.header.as_ref().map_or(0, |h| h.from);
                    Ok(api.backend.relayed(from, &item)?)
                });
                if let Err(status) = taken {
                    let _ = acks.send(Err(status)).await;
                    return;
                }
                if acked != item.term {
                    acked = item.term;
                    if acks.send(Ok(v1::RelayAck { term: acked })).await.is_err() {
                        return;
                    }
                }
            }
        };
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(take));
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    async fn panicked(&self, request: Request<v1::PanickedRequest>) -> Result<Response<v1::PanickedReply>, Status> {
        let told = request.into_inner();
        self.peer(told.header.as_ref())?;
        self.backend.panicked(&told.panics);
        Ok(Response::new(v1::PanickedReply {}))
    }

    async fn present(&self, request: Request<v1::PresentRequest>) -> Result<Response<v1::PresentReply>, Status> {
        let consensus = self.peer(request.into_inner().header.as_ref())?;
        let cannot_lead = consensus.out_of_work().or_else(|| consensus.refusing()).unwrap_or_default();
        Ok(Response::new(v1::PresentReply { cannot_lead }))
    }

    async fn have_blob(&self, request: Request<v1::HaveBlobRequest>) -> Result<Response<v1::HaveBlobReply>, Status> {
        let ask = request.into_inner();
        self.peer(ask.header.as_ref())?;
        let from = ask.header.as_ref().map_or(0, |h| h.from);
        let digest = Digest::new(&ask.digest).map_err(ApiError::from)?;
        fetch_blob(self, from, &digest, ask.size).await?;
        Ok(Response::new(v1::HaveBlobReply { held: true }))
    }

    async fn waits(&self, request: Request<v1::WaitsRequest>) -> Result<Response<v1::WaitsReply>, Status> {
        let ask = request.into_inner();
        let consensus = self.peer(ask.header.as_ref())?;
        if !consensus.leader().borrow().is_me {
            return Err(ApiError::no_leader().into());
        }
        let id: DeploymentId = ask.deployment.parse().map_err(ApiError::from)?;
        let (waits, now, term) = self.backend.waits(&id);
        Ok(Response::new(v1::WaitsReply { waits, now_ms: now.0, term }))
    }

    async fn tail_logs(&self, request: Request<v1::PeerTailRequest>) -> Result<Response<Self::TailLogsStream>, Status> {
        let ask = request.into_inner();
        let consensus = self.peer(ask.header.as_ref())?;
        let worker = WorkerName::new(&ask.worker).map_err(ApiError::from)?;
        let tail = ask.tail.ok_or_else(|| ApiError::bad("the request says nothing of what to read"))?;
        // The leader passes on to the node that holds the session; a node that was passed to only looks at its own.
        if !consensus.leader().borrow().is_me && !self.sessions.all().iter().any(|s| s.worker == worker) {
            return Err(ApiError::not_found(format!("worker {worker} has no session here")).into());
        }
        Ok(many(self.tail(&worker, tail).await?))
    }

    async fn admit(&self, request: Request<v1::AdmitRequest>) -> Result<Response<v1::AdmitReply>, Status> {
        let ask = request.into_inner();
        let consensus = self.consensus()?;
        let cluster = ask.header.as_ref().map_or("", |h| h.cluster_id.as_str());
        if cluster != consensus.cluster() {
            let text = format!("this node belongs to cluster {}, the call is for {cluster}", consensus.cluster());
            return Err(ApiError::new(Kind::Precondition, "other_cluster", text).into());
        }
        let level = consensus.view().level;
        if ask.min_level > level {
            let text = format!(
                "node {} is too new: it supports feature levels {} to {}, the cluster is at {level}: install the version before it",
                ask.name, ask.min_level, ask.level
            );
            return Err(ApiError::precondition(text).into());
        }
        let name = ask.name.clone();
        let node = NewNode {
            name: ask.name,
            peer_addr: ask.peer_addr,
            client_addr: ask.client_addr,
            dns_addr: ask.dns_addr,
            level: ask.level,
        };
        self.node_change(Command::NodeAdmitted(NodeAdmitted { node })).await?;
        let state = consensus.view();
        let row = state.nodes.values().rfind(|n| n.name == name).ok_or_else(|| {
            ApiError::new(Kind::Unavailable, "behind", "admitted, but this node lags behind: join again")
        })?;
        Ok(Response::new(v1::AdmitReply {
            cluster_id: consensus.cluster().into(),
            node_id: row.id,
            role: row.role.to_string(),
        }))
    }
}
