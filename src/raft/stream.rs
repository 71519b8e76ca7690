//! Replication as a stream of appends to one peer: up to [`WINDOW`] of them under way, answered in order.
//!
//! Invariants: while an append is under way, some answer comes within the limit or the stream ends with an error;
//! whoever drops the answers drops the requests too, so nothing goes on being read for a stream that is given up; the
//! receiving side answers an append only once it is durable there, as openraft does for single ones.
//!
//! Deliberately not here: heartbeats, which are single calls on their own and do not wait behind a long append.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use openraft::{
    OptionalSend, RPCTypes,
    base::BoxStream,
    errors::{NetworkError, RPCError, Timeout, Unreachable},
    raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult},
};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::{
    Consensus, PeerError,
    codec::{CodecError, Coded, WireLogId, WireVote},
    network::failed,
    suspect::Inbound,
    types::{LogId, TypeConfig, Vote},
};
use crate::wire::v1::{PeerHeader, RaftMessage, peer_client::PeerClient};

/// Appends under way to one peer. More would make batches smaller, not answers faster: a peer syncs one after the
/// other.
const WINDOW: usize = 4;

type Failed = RPCError<TypeConfig>;
pub(super) type Answers<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Failed>>;

/// Why no stream could be opened.
pub(super) enum Unopened {
    /// The peer does not know such streams.
    Unknown,
    /// It did not answer, or refused.
    Failed(Failed),
}

/// What a stream needs to know of its peer.
pub(super) struct Peer {
    pub(super) header: PeerHeader,
    pub(super) limit: Duration,
}

impl Peer {
    fn timeout(&self) -> Failed {
        let Self { header, limit } = self;
        Timeout { action: RPCTypes::AppendEntries, id: header.from, target: header.to, timeout: *limit }.into()
    }
}

struct Sender<S> {
    peer: Peer,
    input: S,
    // Gone once the input has ended, which tells the peer.
    out: Option<mpsc::Sender<RaftMessage>>,
    answers: Streaming<RaftMessage>,
    under_way: usize,
}

/// A stream to a peer that is not yet given anything to send.
pub(super) struct Open {
    peer: Peer,
    out: mpsc::Sender<RaftMessage>,
    answers: Streaming<RaftMessage>,
}

/// Opens a stream.
pub(super) async fn open(mut client: PeerClient<tonic::transport::Channel>, peer: Peer) -> Result<Open, Unopened> {
    // Room for all that may be under way, so that sending never waits.
    let (out, messages) = mpsc::channel(WINDOW);
    match tokio::time::timeout(peer.limit, client.append_stream(ReceiverStream::new(messages))).await {
        Ok(Ok(answers)) => Ok(Open { peer, out, answers: answers.into_inner() }),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Err(Unopened::Unknown),
        Ok(Err(status)) => Err(Unopened::Failed(failed(&status))),
        Err(_) => Err(Unopened::Failed(peer.timeout())),
    }
}

impl Open {
    /// Sends what `input` yields; the answers in its order.
    pub(super) fn run<'s, S>(self, input: S) -> Answers<'s>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let Self { peer, out, answers } = self;
        let sender = Sender { peer, input, out: Some(out), answers, under_way: 0 };
        Box::pin(futures_util::stream::unfold(Some(sender), |sender| async {
            let mut sender = sender?;
            let answer = sender.next().await?;
            let goes_on = matches!(answer, Ok(Ok(_)));
            Some((answer, goes_on.then_some(sender)))
        }))
    }
}

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> Sender<S> {
    /// The next answer; `None` once everything was sent and answered.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, Failed>> {
        loop {
            let Self { peer, input, out, answers, under_way } = self;
            if out.is_none() && *under_way == 0 {
                return None;
            }
            let answer = async {
                if *under_way == 0 {
                    return Ok(answers.message().await);
                }
                tokio::time::timeout(peer.limit, answers.message()).await
            };
            tokio::select! {
                biased;
                answer = answer => {
                    *under_way = under_way.saturating_sub(1);
                    return Some(match answer {
                        Err(_) => Err(peer.timeout()),
                        Ok(Err(status)) => Err(failed(&status)),
                        // It stops, or its consensus has: wait a little before the next try.
                        Ok(Ok(None)) => Err(Unreachable::from_string("the peer ended the stream of appends").into()),
                        Ok(Ok(Some(message))) => AppendAnswer::decode(&message.payload)
                            .map(|answer| answer.0)
                            .map_err(|e| NetworkError::new(&e).into()),
                    });
                }
                request = input.next(), if out.is_some() && *under_way < WINDOW => {
                    let Some(request) = request else {
                        *out = None;
                        continue;
                    };
                    let message = RaftMessage { header: Some(peer.header.clone()), payload: request.encode() };
                    // A connection that has gone says so through the answers.
                    let _gone = out.as_ref().map(|out| out.try_send(message));
                    *under_way += 1;
                }
            }
        }
    }
}

impl Consensus {
    /// `Peer.AppendStream`: an answer for each append, in order; ends at the first that is not taken.
    pub fn handle_append_stream<S>(
        &self,
        messages: S,
    ) -> impl Stream<Item = Result<RaftMessage, PeerError>> + Send + 'static
    where
        S: Stream<Item = RaftMessage> + Send + 'static,
    {
        let refused = Arc::new(Mutex::new(None::<PeerError>));
        let from = Arc::new(AtomicU64::new(0));
        let (this, refusing, inbound) = (self.clone(), refused.clone(), Inbound::opened(self, from.clone()));
        let appends = tokio_stream::StreamExt::map_while(messages, move |message| {
            inbound.is_from(message.header.as_ref().map_or(0, |h| h.from));
            match this.open_shared::<AppendEntriesRequest<TypeConfig>>(message) {
                Ok(append) => Some(append),
                Err(error) => {
                    *refusing.lock() = Some(error);
                    None
                }
            }
        });
        let this = self.clone();
        let answers = self.raft().stream_append(appends).map(move |answer| match answer {
            Ok(answer) => {
                if !matches!(answer, Err(StreamAppendError::HigherVote(_))) {
                    this.hear(from.load(Ordering::Relaxed));
                }
                Ok(RaftMessage { header: None, payload: AppendAnswer(answer).encode() })
            }
            Err(stopped) => Err(PeerError::Failed { reason: stopped.to_string() }),
        });
        let last = futures_util::stream::once(async move { refused.lock().take() });
        answers.chain(last.filter_map(|refused| async { refused.map(Err) }))
    }
}

/// One answer on a stream.
#[derive(Debug, PartialEq)]
pub(super) struct AppendAnswer(pub(super) StreamAppendResult<TypeConfig>);

/// `kind`: 1 durable up to `at`, 2 conflict at `at`, 3 a higher vote was seen.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WireAnswer {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(message, optional, tag = "2")]
    at: Option<WireLogId>,
    #[prost(message, optional, tag = "3")]
    vote: Option<WireVote>,
}

impl Coded for AppendAnswer {
    const WHAT: &'static str = "answer of a stream of appends";
    type Wire = WireAnswer;

    fn to_wire(&self) -> WireAnswer {
        use StreamAppendError::{Conflict, HigherVote};
        let (kind, at, vote) = match &self.0 {
            Ok(upto) => (1, upto.as_ref(), None),
            Err(Conflict(at)) => (2, Some(at), None),
            Err(HigherVote(vote)) => (3, None, Some(vote)),
        };
        WireAnswer { kind, at: at.map(Coded::to_wire), vote: vote.map(Coded::to_wire) }
    }

    fn from_wire(wire: WireAnswer) -> Result<Self, CodecError> {
        use StreamAppendError::{Conflict, HigherVote};
        Ok(Self(match wire.kind {
            1 => Ok(wire.at.map(LogId::from_wire).transpose()?),
            2 => Err(Conflict(LogId::from_wire(Self::need(wire.at, "the place")?)?)),
            3 => Err(HigherVote(Vote::from_wire(Self::need(wire.vote, "the vote")?)?)),
            other => return Err(Self::malformed(format!("unknown kind {other}"))),
        }))
    }
}
