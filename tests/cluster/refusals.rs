//! What a node refuses, each with a message that names the thing and the fix.

use slipway::wire::v1::{self, cluster_client::ClusterClient};

use crate::support::{TestCluster, TestNode, apply, eventually, spec};

#[tokio::test]
async fn a_used_port_is_named_with_its_key() {
    let root = crate::lab::Scratch::new();
    let mut node = TestNode::new(root.path(), "n1");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    node.addresses.client = taken.local_addr().unwrap();
    node.start();
    let mut process = node.process.take().unwrap();
    assert!(!process.wait().success());
    let said = process.said();
    assert!(said.contains("client_listen") && said.contains(&node.addresses.client.to_string()), "{said}");
}

#[tokio::test]
async fn a_directory_in_use_or_of_another_cluster_is_refused() {
    let one = TestCluster::form(1).await;
    let mut twin = TestNode::new(one.root.path(), "twin");
    twin.dir = one.nodes[0].dir.clone();
    let log = one.root.path().join("twin.log");
    let a = &twin.addresses;
    let (peer, client, dns, http) = (a.peer.to_string(), a.client.to_string(), a.dns.to_string(), a.http.to_string());
    let dir = twin.dir.display().to_string();
    let args = [
        "node",
        "--name",
        "twin",
        "--data-dir",
        &dir,
        "--peer-listen",
        &peer,
        "--client-listen",
        &client,
        "--dns-listen",
        &dns,
        "--http-listen",
        &http,
    ];
    let mut process = crate::support::Process::slipwayd(&args, &log);
    assert!(!process.wait().success());
    assert!(process.said().contains("in use by a running node"), "{}", process.said());

    let two = TestCluster::form(1).await;
    let refused = two.nodes[0].join(&one.nodes[0]).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::AlreadyExists);
    assert!(refused.message().contains("empty data directory"), "{refused}");
}

#[tokio::test]
async fn before_init_everything_says_what_to_do() {
    let cluster = TestCluster::idle(1).await;
    let node = &cluster.nodes[0];
    let refused = node.catalog().await.apply(apply(&spec("shop", "{}"))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert_eq!(refused.metadata().get("slipway-reason").unwrap(), "no_cluster");
    assert!(refused.message().contains("slipway cluster init"), "{refused}");
    let (code, text) = eventually("page", || node.page("/readyz")).await;
    assert_eq!(code, 503);
    assert!(text.contains("no cluster"), "{text}");

    let mut client = ClusterClient::new(node.channel().await.unwrap());
    client.init(v1::InitRequest::default()).await.unwrap();
    let again = client.init(v1::InitRequest::default()).await.unwrap_err();
    assert_eq!(again.code(), tonic::Code::AlreadyExists);
}

#[tokio::test]
async fn bad_documents_are_refused_by_name() {
    let cluster = TestCluster::form(1).await;
    let mut catalog = cluster.nodes[0].catalog().await;
    for (document, want) in [
        (spec("shop", "{}").replace("placement:", "placment:"), "did you mean `placement`"),
        (spec("canary", "{}"), "reserved"),
        (spec("shop", "{steps: [50, 20]}"), "does not rise"),
    ] {
        let refused = catalog.apply(apply(&document)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains(want), "{refused}");
    }
}
