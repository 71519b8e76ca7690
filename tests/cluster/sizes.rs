//! Clusters of one, two and five nodes with the timing that production has by default; the other scenarios have three
//! and `slow`.

use slipway::wire::v1;

use crate::support::{TestCluster, TestNode, apply, eventually, spec};

/// Nodes that run as they do when nobody says how.
async fn as_by_default(size: usize) -> TestCluster {
    TestCluster::idle_where(size, |node: &mut TestNode| node.raft = None).await.formed().await
}

/// A change through every node that runs; the revision it made.
async fn change_everywhere(cluster: &TestCluster) -> u64 {
    let mut newest = 0;
    for node in cluster.nodes.iter().filter(|n| n.process.is_some()) {
        let document = spec("shop", &format!("{{bake: {}s}}", newest + 1));
        newest = eventually("a change is taken", || async {
            let done = node.catalog().await.apply(apply(&document)).await;
            done.map(|r| r.into_inner().spec).map_err(|e| e.to_string())
        })
        .await;
    }
    newest
}

/// Every node that runs says that it holds this revision.
async fn hold(cluster: &TestCluster, revision: u64) {
    for node in cluster.nodes.iter().filter(|n| n.process.is_some()) {
        let held = eventually("a read", || async {
            let list = node.catalog().await.list_deployments(v1::ListRequest::default()).await;
            list.map(|l| l.into_inner().items[0].spec).map_err(|e| e.to_string())
        })
        .await;
        assert_eq!(held, revision, "{}", node.name);
    }
}

#[tokio::test]
async fn one_node_as_by_default_takes_changes_and_has_them_after_its_kill() {
    let mut cluster = as_by_default(1).await;
    let revision = change_everywhere(&cluster).await;
    assert_eq!(revision, 1);
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    cluster.ready(&cluster.nodes[0]).await;
    hold(&cluster, revision).await;
    assert!(change_everywhere(&cluster).await >= revision);
}

#[tokio::test]
async fn two_nodes_as_by_default_need_each_other() {
    let mut cluster = as_by_default(2).await;
    let revision = change_everywhere(&cluster).await;
    assert_eq!(revision, 2);
    hold(&cluster, revision).await;
    let leader = cluster.leader(None).await;
    // Whichever of them is gone, the other is no majority, and says so instead of taking a change.
    for gone in [1 - leader, leader] {
        cluster.nodes[gone].kill();
        let refused = cluster.nodes[1 - gone].catalog().await.apply(apply(&spec("shop", "{bake: 1h}"))).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
        cluster.nodes[gone].start();
        cluster.ready(&cluster.nodes[0]).await;
        cluster.ready(&cluster.nodes[1]).await;
    }
    let revision = change_everywhere(&cluster).await;
    hold(&cluster, revision).await;
}

#[tokio::test]
async fn five_nodes_as_by_default_go_on_without_two_of_them() {
    let mut cluster = as_by_default(5).await;
    let revision = change_everywhere(&cluster).await;
    assert_eq!(revision, 5);
    hold(&cluster, revision).await;
    let first = cluster.leader(None).await;
    cluster.nodes[first].kill();
    let second = cluster.leader(Some(first)).await;
    cluster.nodes[second].kill();
    let revision = change_everywhere(&cluster).await;
    hold(&cluster, revision).await;
    for back in [first, second] {
        cluster.nodes[back].start();
        cluster.ready(&cluster.nodes[back]).await;
    }
    hold(&cluster, revision).await;
    let status = cluster.nodes[first].status().await.unwrap();
    assert_eq!(status.nodes.iter().filter(|n| n.role == "voter").count(), 5, "{status:?}");
}
