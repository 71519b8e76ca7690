//! The client against real gRPC servers that fail in the ways nodes fail.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::*;
use crate::wire::{
    unanswered,
    v1::{
        artifacts_server::{Artifacts, ArtifactsServer},
        cluster_server::{Cluster, ClusterServer},
        events_server::{Events, EventsServer},
        rollouts_server::{Rollouts, RolloutsServer},
    },
};

/// What both test nodes record, and how they behave.
#[derive(Default)]
struct Record {
    pauses: Mutex<Vec<(u32, v1::RequestMeta)>>,
    watches: Mutex<Vec<(u32, u64, u32)>>,
    members: Mutex<Vec<v1::Node>>,
    /// How often the time was asked for.
    asked: AtomicU32,
}

/// Id of a node that belongs to no cluster.
const IDLE: u32 = 9;
/// Id of a node that has been cut off from the others for long.
const CUT_OFF: u32 = 8;

#[derive(Clone)]
struct TestNode {
    id: u32,
    /// Calls to `pause` answered with "no leader" before one succeeds.
    not_now: Arc<AtomicU32>,
    seen: Arc<Record>,
}

#[tonic::async_trait]
impl Cluster for TestNode {
    async fn init(&self, _: Request<v1::InitRequest>) -> Result<Response<v1::InitReply>, Status> {
        Err(Status::already_exists("this is already a cluster"))
    }
    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        let nodes = self.seen.members.lock().unwrap().clone();
        self.seen.asked.fetch_add(1, Ordering::SeqCst);
        let quorum = self.id != CUT_OFF;
        Ok(Response::new(v1::StatusReply {
            now_ms: 5_000,
            applied_index: 7,
            nodes,
            quorum,
            ..Default::default()
        }))
    }
    unanswered! {
        join(JoinRequest) -> v1::JoinReply;
        digest(DigestRequest) -> v1::DigestReply;
        transfer_leader(TransferLeaderRequest) -> v1::TransferLeaderReply;
        leave(LeaveRequest) -> v1::LeaveReply;
        drain(DrainRequest) -> v1::DrainReply;
        rotate_dns_cookie(RotateDnsCookieRequest) -> v1::RotateDnsCookieReply;
        finalize(FinalizeRequest) -> v1::FinalizeReply;
    }
}

type Boxed = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<v1::Event, Status>> + Send>>;

#[tonic::async_trait]
impl Events for TestNode {
    type WatchStream = Boxed;
    async fn watch(&self, r: Request<v1::WatchRequest>) -> Result<Response<Boxed>, Status> {
        let r = r.into_inner();
        self.seen.watches.lock().unwrap().push((self.id, r.after_index, r.after_ordinal));
        let first = r.after_index + 1;
        // Node 1 breaks off after two events; node 2 repeats the last one it is told about, then goes on.
        let indexes: Vec<u64> =
            if self.id == 1 { vec![first, first + 1] } else { vec![r.after_index, first, first + 1] };
        let mut items: Vec<_> =
            indexes.into_iter().map(|index| Ok(v1::Event { index, ..Default::default() })).collect();
        if self.id == 1 {
            items.push(Err(Status::unavailable("going down")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(items))))
    }
}

#[tonic::async_trait]
impl Rollouts for TestNode {
    async fn start(&self, _: Request<v1::StartRequest>) -> Result<Response<v1::StartReply>, Status> {
        let mut status = Status::not_found("release shop 9.9.9 does not exist: `slipway release push` it first");
        status.metadata_mut().insert(crate::wire::REASON, "not_found".parse().unwrap());
        Err(status)
    }
    async fn pause(&self, r: Request<v1::VerbRequest>) -> Result<Response<v1::VerbReply>, Status> {
        let meta = r.into_inner().request.unwrap();
        let not_after = meta.not_after_ms;
        self.seen.pauses.lock().unwrap().push((self.id, meta));
        if self.id == IDLE {
            let mut status = Status::failed_precondition("there is no cluster yet");
            status.metadata_mut().insert(crate::wire::REASON, "no_cluster".parse().unwrap());
            return Err(status);
        }
        if self.not_now.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(Status::unavailable("no leader"));
        }
        // As the law does, at 62 s.
        let (code, reason) = match not_after {
            1..=62_000 => (tonic::Code::DeadlineExceeded, "expired"),
            700_000.. => (tonic::Code::InvalidArgument, "too_far_ahead"),
            _ => return Ok(Response::new(v1::VerbReply { rollout: "r-1".into(), ..Default::default() })),
        };
        let mut status = Status::new(code, reason);
        status.metadata_mut().insert(crate::wire::REASON, reason.parse().unwrap());
        Err(status)
    }
    async fn history(&self, r: Request<v1::HistoryRequest>) -> Result<Response<v1::HistoryReply>, Status> {
        let after = r.into_inner().page.unwrap_or_default().after;
        let next = if after.is_empty() { "r-2".to_string() } else { String::new() };
        let item = v1::Rollout { id: if after.is_empty() { "r-2" } else { "r-1" }.into(), ..Default::default() };
        Ok(Response::new(v1::HistoryReply {
            page: Some(v1::PageInfo { next, now_ms: 9_000, index: 1 }),
            items: vec![item],
        }))
    }
    unanswered! {
        plan(StartRequest) -> v1::PlanReply;
        get(GetRolloutRequest) -> v1::Rollout;
        resume(VerbRequest) -> v1::VerbReply;
        abort(AbortRequest) -> v1::VerbReply;
        promote(PromoteRequest) -> v1::VerbReply;
        rollback(VerbRequest) -> v1::VerbReply;
        explain(ExplainRequest) -> v1::ExplainReply;
    }
}

#[tonic::async_trait]
impl Artifacts for TestNode {
    type FetchStream = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<v1::FetchChunk, Status>> + Send>>;
    async fn stat(&self, _: Request<v1::StatRequest>) -> Result<Response<v1::StatReply>, Status> {
        Ok(Response::new(v1::StatReply::default()))
    }
    async fn push(&self, _: Request<tonic::Streaming<v1::PushChunk>>) -> Result<Response<v1::PushReply>, Status> {
        Err(Status::unavailable("the disk of this node is low"))
    }
    unanswered! {
        fetch(FetchRequest) -> Self::FetchStream;
    }
}

/// A node in a runtime of its own, so that it can die with its connections.
async fn serve(id: u32, not_now: u32, seen: &Arc<Record>) -> (String, Dies) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let node = TestNode { id, not_now: Arc::new(AtomicU32::new(not_now)), seen: seen.clone() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        Server::builder()
            .add_service(ClusterServer::new(node.clone()))
            .add_service(EventsServer::new(node.clone()))
            .add_service(ArtifactsServer::new(node.clone()))
            .add_service(RolloutsServer::new(node))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    (address, Dies(Some(runtime)))
}

struct Dies(Option<tokio::runtime::Runtime>);

impl Drop for Dies {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

/// An address where nothing listens.
async fn dead() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

fn client(addresses: &[String]) -> Client {
    Client::new(addresses, Limits::default(), Clock::real()).unwrap()
}

#[tokio::test]
async fn a_change_goes_on_at_the_next_node_under_the_same_request() {
    let seen = Arc::new(Record::default());
    let (a, _task_a) = serve(1, 1, &seen).await;
    let (b, _task_b) = serve(2, 0, &seen).await;
    let client = client(&[dead().await, a, b]);
    let reply = client.pause(v1::VerbRequest { rollout: "r-1".into(), ..Default::default() }).await.unwrap();
    assert_eq!(reply.rollout, "r-1");
    let pauses = seen.pauses.lock().unwrap().clone();
    assert_eq!(pauses.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [1, 2], "refused there, taken here");
    assert_eq!(pauses[0].1, pauses[1].1, "one request id and one limit for all tries");
    assert_eq!(pauses[0].1.request_id.len(), 32);
    let ahead = pauses[0].1.not_after_ms - 5_000;
    assert!((60_000..70_000).contains(&ahead), "60 s ahead of the cluster's time, not {ahead} ms");
}

/// Found by following the runbook: a member that was admitted and had not begun yet failed a client's change.
#[tokio::test]
async fn a_node_without_a_cluster_is_passed_by_unless_all_are() {
    let seen = Arc::new(Record::default());
    let (idle, _task_a) = serve(IDLE, 0, &seen).await;
    let (b, _task_b) = serve(2, 0, &seen).await;
    let pause = || v1::VerbRequest { rollout: "r-1".into(), ..Default::default() };
    client(&[idle.clone(), b]).pause(pause()).await.unwrap();
    let asked: Vec<u32> = seen.pauses.lock().unwrap().iter().map(|(node, _)| *node).collect();
    assert_eq!(asked, [IDLE, 2]);
    let error = client(&[idle]).pause(pause()).await.unwrap_err();
    assert_eq!((error.reason(), error.to_string().as_str()), ("no_cluster", "there is no cluster yet"));
}

/// Its time may be minutes old: with a limit made of it, the first node that can take the change refused it as expired.
#[tokio::test]
async fn the_time_of_a_node_that_is_cut_off_counts_for_nothing() {
    let seen = Arc::new(Record::default());
    let (alone, _task_a) = serve(CUT_OFF, u32::MAX, &seen).await;
    let (b, _task_b) = serve(2, 0, &seen).await;
    let client = client(&[alone, b]);
    client.pause(v1::VerbRequest { rollout: "r-1".into(), ..Default::default() }).await.unwrap();
    let pauses = seen.pauses.lock().unwrap().clone();
    assert_eq!(pauses.iter().map(|(node, m)| (*node, m.not_after_ms)).collect::<Vec<_>>(), [(CUT_OFF, 0), (2, 0)]);
    assert_eq!(client.cluster_now(), None);
}

#[tokio::test]
async fn a_refusal_is_final_and_keeps_message_and_reason() {
    let seen = Arc::new(Record::default());
    let (a, _task) = serve(1, 0, &seen).await;
    let error = client(&[a]).start_rollout(v1::StartRequest::default()).await.unwrap_err();
    assert_eq!(error.reason(), "not_found");
    assert!(error.to_string().contains("slipway release push"), "{error}");
}

/// It was taken for a broken connection, and tried at every node until the deadline.
#[test]
fn a_request_that_came_too_late_is_refused_for_good() {
    let mut late = Status::deadline_exceeded("the request was to take effect until 60.0 s, and it is 61.0 s");
    assert!(error::judge(late.clone()).is_ok(), "a deadline of the transport's may be met at another node");
    late.metadata_mut().insert(crate::wire::REASON, "expired".parse().unwrap());
    assert_eq!(error::judge(late).unwrap_err().reason(), "expired");
}

/// What an earlier command heard saves the call that asks for the time; the nodes' own time settles it when that was
/// wrong.
#[tokio::test]
async fn a_guessed_time_saves_a_call_and_a_wrong_one_is_put_right_under_the_same_id() {
    let seen = Arc::new(Record::default());
    let (a, _task) = serve(1, 0, &seen).await;
    let limit = |guess: u64| {
        let (client, seen) = (client(std::slice::from_ref(&a)), &seen);
        async move {
            seen.pauses.lock().unwrap().clear();
            client.guess(guess);
            client.pause(v1::VerbRequest { rollout: "r-1".into(), ..Default::default() }).await.unwrap();
            seen.pauses.lock().unwrap().iter().map(|(_, m)| m.clone()).collect::<Vec<_>>()
        }
    };
    let near = limit(5_500).await;
    assert!(near.len() == 1 && (65_500..70_000).contains(&near[0].not_after_ms), "{near:?}");
    assert_eq!(seen.asked.load(Ordering::SeqCst), 0, "nobody was asked for the time");
    for wrong in [1, 900_000_000] {
        let tries = limit(wrong).await;
        assert_eq!(tries.len(), 2, "{tries:?}");
        assert_eq!(tries[0].request_id, tries[1].request_id);
        assert!((60_000..70_000).contains(&(tries[1].not_after_ms - 5_000)), "{tries:?}");
    }
    // A try of unknown outcome with a limit far ahead might take effect when the second one is forgotten: not again.
    let (b, _task) = serve(2, 1, &seen).await;
    let client = client(&[b]);
    client.guess(900_000_000);
    let refused = client.pause(v1::VerbRequest::default()).await.unwrap_err();
    assert_eq!(refused.reason(), "too_far_ahead");
    // Nor where the limit has passed: the try may have taken effect before it did, and the nodes have forgotten it.
    let (c, _task) = serve(3, 1, &seen).await;
    let client = self::client(&[c]);
    client.guess(1);
    let refused = client.pause(v1::VerbRequest::default()).await.unwrap_err();
    assert_eq!(refused.reason(), "expired");
}

#[tokio::test]
async fn nobody_there_is_said_at_once_with_what_to_do() {
    let address = dead().await;
    let limits = Limits { refused: Duration::ZERO, ..Limits::default() };
    let client = Client::new(std::slice::from_ref(&address), limits, Clock::real()).unwrap();
    let text = client.status().await.unwrap_err().to_string();
    assert_eq!(text, format!("no node answers at {address} (connection refused)"));
    for bad in ["", "here", "host:", ":1", "host:port", "host:99999", "http://host:1"] {
        assert!(
            matches!(Client::new(&[bad.to_string()], limits, Clock::real()), Err(ClientError::Address(_))),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn without_a_leader_it_ends_at_the_deadline_with_the_nodes_words() {
    let seen = Arc::new(Record::default());
    let (a, _task) = serve(1, u32::MAX, &seen).await;
    let limits = Limits { deadline: Duration::from_millis(300), ..Limits::default() };
    let client = Client::new(&[a], limits, Clock::real()).unwrap();
    let error = client.pause(v1::VerbRequest::default()).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable { message, .. } if message == "no leader"), "{error:?}");
    assert!(seen.pauses.lock().unwrap().len() > 1, "it tried more than once");
}

#[tokio::test]
async fn what_gives_up_says_how_long_it_tried_and_not_how_long_it_might_have() {
    let (a, _task) = serve(1, u32::MAX, &Arc::new(Record::default())).await;
    let limits = Limits { deadline: Duration::from_secs(900), ..Limits::default() };
    let client = Client::new(&[a], limits, Clock::real()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let pushed = client.push("0", file.path(), 0, |_| ()).await.unwrap_err();
    assert!(matches!(pushed, ClientError::Unavailable { tried, .. } if tried < Duration::from_secs(600)), "{pushed:?}");
    // One that takes back its word at once.
    let once = client.call_this_node(limits.deadline, |_| async { Err::<Response<()>, _>(Status::unavailable("low")) });
    let once = once.await.unwrap_err();
    assert!(matches!(once, ClientError::Unavailable { tried, .. } if tried < Duration::from_secs(600)), "{once:?}");
    let never = ClientError::Unavailable { message: "low".into(), tried: Duration::ZERO };
    assert!(never.to_string().starts_with("unavailable: low;"), "{never}");
}

#[tokio::test]
async fn one_address_is_enough_once_the_cluster_named_its_members() {
    let seen = Arc::new(Record::default());
    let (a, task_a) = serve(1, 0, &seen).await;
    let (b, _task_b) = serve(2, 0, &seen).await;
    let member = |id: u64, addr: &str| v1::Node {
        node_id: id,
        name: format!("n{id}"),
        client_addr: addr.into(),
        role: "voter".into(),
        ..Default::default()
    };
    *seen.members.lock().unwrap() = vec![member(1, &a), member(2, &b)];
    let client = client(&[a]);
    client.status().await.unwrap();
    assert_eq!(client.node(), "n1");
    drop(task_a);
    client.pause(v1::VerbRequest::default()).await.unwrap();
    assert_eq!(client.node(), "n2");
}

#[tokio::test]
async fn a_watch_goes_on_elsewhere_after_the_last_event_and_repeats_none() {
    let seen = Arc::new(Record::default());
    let (a, _task_a) = serve(1, 0, &seen).await;
    let (b, _task_b) = serve(2, 0, &seen).await;
    let client = client(&[a.clone(), b.clone()]);
    let mut watch = client.watch("", (10, 0), true);
    let mut got = Vec::new();
    while got.len() < 5 {
        match watch.next().await.unwrap().unwrap() {
            Seen::Event(e) => got.push(e.index.to_string()),
            Seen::Moved { from, to } => {
                assert_eq!((from, to), (a.clone(), b.clone()));
                got.push("moved".into());
            }
        }
    }
    assert_eq!(got, ["11", "12", "moved", "13", "14"]);
    assert_eq!(*seen.watches.lock().unwrap(), [(1, 10, 0), (2, 12, 0)]);
}

#[tokio::test]
async fn lists_are_read_to_their_last_page() {
    let seen = Arc::new(Record::default());
    let (a, _task) = serve(1, 0, &seen).await;
    let client = client(&[a]);
    let all = client.history(v1::HistoryRequest::default()).await.unwrap();
    assert_eq!(all.items.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["r-2", "r-1"]);
    assert!(client.cluster_now().unwrap() >= 9_000);
}
