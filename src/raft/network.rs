//! openraft's network over the peer service.
//!
//! Invariants: every call has a deadline, which openraft does not enforce itself; a call that did not reach the peer is
//! an error and never an invented answer, above all for pre-votes.
//!
//! Not here: the receiving side (`serve`).

use std::{future::Future, time::Duration};

use futures_util::Stream;
use openraft::{
    BasicNode, OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2,
    base::BoxFuture,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{Backoff, RPCOption, stream_append_sequential},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
};
use tonic::{Code, Response, Status, transport::Channel};

use super::{
    codec::{CodecError, Coded, SnapshotOffer},
    peers::Peers,
    stream,
    types::{RaftSnapshot, SnapshotBytes, TypeConfig, Vote},
};
use crate::wire::v1::{RaftMessage, peer_client::PeerClient};

/// Snapshots travel in pieces of this size.
const CHUNK: usize = 1 << 20;
const RETRY_UNREACHABLE: Duration = Duration::from_millis(100);

type Failed = RPCError<TypeConfig>;

/// Makes a connection for each target that openraft names.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) peers: Peers,
    /// Limit of an append; openraft's own option says the heartbeat interval, which is too short for a sync.
    pub(super) append_limit: Duration,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        Connection { network: self.clone(), target, addr: node.addr.clone() }
    }
}

/// The way to one peer.
pub(super) struct Connection {
    network: Network,
    target: u64,
    addr: String,
}

impl Connection {
    fn client(&self) -> Result<PeerClient<Channel>, Unreachable<TypeConfig>> {
        self.network.peers.client(self.target, &self.addr).map_err(Unreachable::from_string)
    }

    fn message(&self, payload: Vec<u8>) -> RaftMessage {
        RaftMessage { header: Some(self.network.peers.header(self.target)), payload }
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> Timeout<TypeConfig> {
        Timeout { action, id: self.network.peers.me(), target: self.target, timeout }
    }

    /// One request, one answer, within the limit.
    async fn call<Q: Coded, A: Coded, F>(
        &self,
        what: RPCTypes,
        limit: Duration,
        ask: &Q,
        send: impl FnOnce(PeerClient<Channel>, RaftMessage) -> F,
    ) -> Result<A, Failed>
    where
        F: Future<Output = Result<Response<RaftMessage>, Status>>,
    {
        let sent = send(self.client()?, self.message(ask.encode()));
        match tokio::time::timeout(limit, sent).await {
            Err(_) => Err(self.timeout(what, limit).into()),
            Ok(Err(status)) => Err(failed(&status)),
            Ok(Ok(answer)) => A::decode(&answer.into_inner().payload).map_err(|e| undecodable(&e)),
        }
    }
}

pub(super) fn failed(status: &Status) -> Failed {
    match status.code() {
        // Nobody there, or somebody else: wait a little before the next try.
        Code::Unavailable | Code::FailedPrecondition | Code::Unimplemented => {
            Unreachable::from_string(describe(status)).into()
        }
        _ => NetworkError::from_string(describe(status)).into(),
    }
}

fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn undecodable(error: &CodecError) -> Failed {
    NetworkError::new(error).into()
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = SnapshotBytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failed> {
        let limit = option.soft_ttl().max(self.network.append_limit);
        self.call(RPCTypes::AppendEntries, limit, &rpc, |mut c, m| async move { c.append(m).await }).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<stream::Answers<'s>, Failed>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let limit = option.soft_ttl().max(self.network.append_limit);
            let peer = stream::Peer { header: self.network.peers.header(self.target), limit };
            match stream::open(self.client()?, peer).await {
                Ok(open) => Ok(open.run(input)),
                Err(stream::Unopened::Unknown) => stream_append_sequential(self, input, option).await,
                Err(stream::Unopened::Failed(error)) => Err(error),
            }
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        self.call(RPCTypes::Vote, option.soft_ttl(), &rpc, |mut c, m| async move { c.vote(m).await }).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        self.call(RPCTypes::Vote, option.soft_ttl(), &rpc, |mut c, m| async move { c.pre_vote(m).await }).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let bytes = snapshot.snapshot;
        let offer = SnapshotOffer { vote, meta: snapshot.meta, size: bytes.len() as u64, crc: crc32c::crc32c(&bytes) };
        let head = self.message(offer.encode());
        let header = head.header.clone();
        let pieces = bytes.len().div_ceil(CHUNK);
        let body = (0..pieces).map(move |i| {
            let piece = &bytes[i * CHUNK..((i + 1) * CHUNK).min(bytes.len())];
            RaftMessage { header: header.clone(), payload: piece.to_vec() }
        });
        let mut client = self.client()?;
        let sent = client.snapshot(futures_util::stream::iter(std::iter::once(head).chain(body)));
        let limit = option.soft_ttl();
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = tokio::time::timeout(limit, sent) => match sent {
                Err(_) => Err(self.timeout(RPCTypes::InstallSnapshot, limit).into()),
                Ok(Err(status)) => Err(failed(&status).into()),
                Ok(Ok(answer)) => SnapshotResponse::decode(&answer.into_inner().payload).map_err(|e| undecodable(&e).into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failed> {
        let limit = option.soft_ttl().max(self.network.append_limit);
        self.call(RPCTypes::TransferLeader, limit, &req, |mut c, m| async move { c.transfer(m).await }).await
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY_UNREACHABLE)))
    }
}
