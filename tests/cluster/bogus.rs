//! Somebody who is no member claims things about members: nothing that cannot be undone follows from his word.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use slipway::wire::v1::{
    self,
    cluster_server::{Cluster, ClusterServer},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::support::{TestCluster, eventually};

/// Answers for a cluster in which every node was removed.
#[derive(Clone)]
struct Liar {
    says: v1::StatusReply,
    asked: Arc<AtomicU32>,
}

fn no<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("it only lies about who was removed"))
}

#[tonic::async_trait]
impl Cluster for Liar {
    async fn init(&self, _: Request<v1::InitRequest>) -> Result<Response<v1::InitReply>, Status> {
        no()
    }
    async fn join(&self, _: Request<v1::JoinRequest>) -> Result<Response<v1::JoinReply>, Status> {
        no()
    }
    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(self.says.clone()))
    }
    async fn digest(&self, _: Request<v1::DigestRequest>) -> Result<Response<v1::DigestReply>, Status> {
        no()
    }
    async fn transfer_leader(
        &self,
        _: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderReply>, Status> {
        no()
    }
    async fn leave(&self, _: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveReply>, Status> {
        no()
    }
    async fn drain(&self, _: Request<v1::DrainRequest>) -> Result<Response<v1::DrainReply>, Status> {
        no()
    }
    async fn finalize(&self, _: Request<v1::FinalizeRequest>) -> Result<Response<v1::FinalizeReply>, Status> {
        no()
    }
    async fn rotate_dns_cookie(
        &self,
        _: Request<v1::RotateDnsCookieRequest>,
    ) -> Result<Response<v1::RotateDnsCookieReply>, Status> {
        no()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_word_of_one_who_was_merely_admitted_removes_nobody() {
    let mut cluster = TestCluster::form(3).await;
    let status = cluster.nodes[0].status().await.unwrap();
    let mut says = status.clone();
    says.nodes.iter_mut().for_each(|n| n.role = "removed".into());
    let asked = Arc::new(AtomicU32::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let liar = listener.local_addr().unwrap().to_string();
    let service = ClusterServer::new(Liar { says, asked: asked.clone() });
    let serving = tonic::transport::Server::builder().add_service(service);
    let serving = tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));

    let peer = format!("http://{}", cluster.nodes[0].addresses.peer);
    let mut admitting = v1::peer_client::PeerClient::connect(peer).await.unwrap();
    let request = v1::AdmitRequest {
        header: Some(v1::PeerHeader { cluster_id: status.cluster_id, from: 0, to: 0 }),
        name: "x".into(),
        peer_addr: "127.0.0.1:1".into(),
        client_addr: liar,
        dns_addr: "127.0.0.1:1".into(),
        level: status.level,
        min_level: 1,
    };
    assert_eq!(admitting.admit(request).await.unwrap().into_inner().node_id, 4);
    eventually("the row is known", || async {
        let status = cluster.nodes[0].status().await?;
        if status.nodes.len() == 4 { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;

    // Left alone, a node asks the others whether it still belongs to them.
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let left = cluster.nodes[0].process.as_ref().unwrap();
    eventually("the last node asks, and lives", || async {
        cluster.nodes[0].status().await.map_err(|e| format!("{e}: {}", left.said()))?;
        let times = left.said().matches("asked the voters whether this node still belongs to them").count();
        if times >= 2 { Ok(()) } else { Err(format!("asked {times} times: {}", left.said())) }
    })
    .await;
    assert_eq!(asked.load(Ordering::SeqCst), 0, "only voters are asked");
    cluster.nodes[1].start();
    cluster.ready(&cluster.nodes[0]).await;
    serving.abort();
}
