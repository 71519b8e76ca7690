//! Following a rollout over two real gRPC servers, one of which goes down on the way.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use clap::Parser;
use futures_util::Stream;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::*;
use crate::{
    cli::args::Command,
    clock::Clock,
    model::Period,
    wire::{
        unanswered,
        v1::{
            cluster_server::{Cluster, ClusterServer},
            events_server::{Events, EventsServer},
            rollouts_server::{Rollouts, RolloutsServer},
        },
    },
};

/// A node; `looks` counts how often the rollout was read, and it ends when an event said so.
#[derive(Clone)]
struct TestNode {
    id: u32,
    ends_as: &'static str,
    ended: Arc<AtomicU32>,
    watched: Arc<AtomicU32>,
}

type Boxed = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

#[tonic::async_trait]
impl Events for TestNode {
    type WatchStream = Boxed;
    async fn watch(&self, r: Request<v1::WatchRequest>) -> Result<Response<Boxed>, Status> {
        let after = r.into_inner().after_index;
        let event = |index: u64, status: &str| v1::Event {
            index,
            kind: "rollout_changed".into(),
            rollout: "r-5".into(),
            deployment: "production/shop".into(),
            text: format!("production/shop: r-5 is {status}"),
            fields: [("status".to_string(), status.to_string())].into(),
            ..Default::default()
        };
        self.watched.fetch_add(self.id, Ordering::SeqCst);
        if self.id == 1 {
            let items = vec![Ok(event(after + 1, "active")), Err(Status::unavailable("going down"))];
            return Ok(Response::new(Box::pin(tokio_stream::iter(items))));
        }
        self.ended.store(1, Ordering::SeqCst);
        let last = tokio_stream::iter(vec![Ok(event(after + 1, self.ends_as))]);
        // A real watch stays open.
        Ok(Response::new(Box::pin(tokio_stream::StreamExt::chain(last, tokio_stream::pending()))))
    }
}

#[tonic::async_trait]
impl Cluster for TestNode {
    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        Ok(Response::new(v1::StatusReply { now_ms: 1000, applied_index: 5, term: 4, ..Default::default() }))
    }
    unanswered! {
        init(InitRequest) -> v1::InitReply;
        join(JoinRequest) -> v1::JoinReply;
        digest(DigestRequest) -> v1::DigestReply;
        transfer_leader(TransferLeaderRequest) -> v1::TransferLeaderReply;
        leave(LeaveRequest) -> v1::LeaveReply;
        drain(DrainRequest) -> v1::DrainReply;
        rotate_dns_cookie(RotateDnsCookieRequest) -> v1::RotateDnsCookieReply;
        finalize(FinalizeRequest) -> v1::FinalizeReply;
    }
}

#[tonic::async_trait]
impl Rollouts for TestNode {
    async fn get(&self, _: Request<v1::GetRolloutRequest>) -> Result<Response<v1::Rollout>, Status> {
        if self.ends_as == "paused" {
            let (status, reason) = ("paused".into(), "by an operator".into());
            return Ok(Response::new(v1::Rollout {
                id: "r-5".into(),
                status,
                reason,
                applied_index: 6,
                ..Default::default()
            }));
        }
        let terminal = self.ended.load(Ordering::SeqCst) == 1;
        Ok(Response::new(v1::Rollout {
            id: "r-5".into(),
            deployment: "production/shop".into(),
            from: Some(v1::Pair { version: "3.0.0".into(), ..Default::default() }),
            status: if terminal { self.ends_as } else { "active" }.into(),
            reason: if terminal { "errors of 4.0.0 30.8 % > 5 %" } else { "" }.into(),
            applied_index: if terminal { 8 } else { 6 },
            terminal,
            ..Default::default()
        }))
    }
    unanswered! {
        start(StartRequest) -> v1::StartReply;
        pause(VerbRequest) -> v1::VerbReply;
        plan(StartRequest) -> v1::PlanReply;
        history(HistoryRequest) -> v1::HistoryReply;
        resume(VerbRequest) -> v1::VerbReply;
        abort(AbortRequest) -> v1::VerbReply;
        promote(PromoteRequest) -> v1::VerbReply;
        rollback(VerbRequest) -> v1::VerbReply;
        explain(ExplainRequest) -> v1::ExplainReply;
    }
}

async fn serve(node: TestNode) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = Server::builder()
        .add_service(ClusterServer::new(node.clone()))
        .add_service(EventsServer::new(node.clone()))
        .add_service(RolloutsServer::new(node));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// A session over nodes with these ids, all of one rollout that ends as said once node 2 is watched.
async fn session(ids: &[u32], ends_as: &'static str) -> (Session, Arc<AtomicU32>) {
    let (ended, watched) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut addresses = Vec::new();
    for id in ids {
        let node = TestNode { id: *id, ends_as, ended: ended.clone(), watched: watched.clone() };
        addresses.push(serve(node).await);
    }
    let nodes = addresses.join(",");
    let command = Command::try_parse_from(["slipway", "--node", &nodes, "rollout", "status", "r-5"]).unwrap();
    (Session::new(&command.global, Clock::real()).unwrap(), watched)
}

fn what(within: Option<Period>) -> Follow {
    let limits = WatchLimits { within, until: Until::Ended };
    Follow { rollout: "r-5".into(), from_index: 5, limits, wants_rollback: false }
}

#[tokio::test]
async fn a_rollback_is_followed_over_a_lost_node_to_exit_code_three() {
    let (session, watched) = session(&[1, 2], "rolled_back").await;
    let end = follow(&session, what(Some(Period::seconds(30)))).await.unwrap();
    assert_eq!((end.code, end.text.as_str()), (3, "rolled back to 3.0.0: errors of 4.0.0 30.8 % > 5 %"));
    assert_eq!(watched.load(Ordering::SeqCst), 3, "node 1 was watched once, then node 2 once");
}

#[tokio::test]
async fn watching_ends_in_time_and_says_how_to_go_on() {
    let (session, _) = session(&[1], "completed").await;
    let end = follow(&session, what(Some(Period(300)))).await.unwrap();
    assert_eq!(end.code, error::TIMED_OUT);
    assert_eq!(end.text, "r-5 is still active: `slipway rollout watch r-5` goes on watching");
}

/// A job must not hang on a rollout that waits for a person.
#[tokio::test]
async fn a_watch_until_paused_ends_with_a_code_of_its_own() {
    let (session, _) = session(&[1], "paused").await;
    let limits = WatchLimits { within: Some(Period::seconds(30)), until: Until::Paused };
    let follow_until = Follow { limits, ..what(None) };
    let end = follow(&session, follow_until).await.unwrap();
    assert_eq!((end.code, end.text.as_str()), (error::PAUSED, "r-5 is paused (by an operator)"));
}

#[test]
fn numbers_are_no_other_reason_to_wait() {
    assert_eq!(reason("3 of 20 requests seen by 1.1.0"), reason("17 of 20 requests seen by 1.1.0"));
    assert_ne!(reason("baking for 3.0 s more"), reason("3 of 20 requests seen by 1.1.0"));
}

#[test]
fn what_a_step_saw_is_printed_once_although_its_row_moves_when_a_rollback_begins() {
    let failed = v1::Step {
        group: "install".into(),
        kind: "bake".into(),
        judges: true,
        step_id: 7,
        evidence: Some(v1::Evidence { note: "w1: it crashed".into(), verdict: "worse".into(), ..Default::default() }),
        ..Default::default()
    };
    let rollout = |phase: &str, forward: &[&v1::Step], steps: &[&v1::Step]| v1::Rollout {
        phase: phase.into(),
        forward_steps: forward.iter().map(|s| (*s).clone()).collect(),
        steps: steps.iter().map(|s| (*s).clone()).collect(),
        ..Default::default()
    };
    let mut said = BTreeSet::new();
    assert_eq!(evidence(&rollout("forward", &[], &[&failed]), &mut said).len(), 1);
    // The rollback has begun and its own steps are not made yet; then they are.
    assert_eq!(evidence(&rollout("undo", &[], &[&failed]), &mut said), []);
    let back = v1::Step { step_id: 9, ..failed.clone() };
    assert_eq!(evidence(&rollout("undo", &[&failed], &[&back]), &mut said).len(), 1);
}
