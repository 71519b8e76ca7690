//! A cluster forms, takes changes at any node, and goes on when its leader is killed.

use slipway::wire::v1::{self, cluster_client::ClusterClient};

use crate::support::{TestCluster, apply, eventually, spec};

#[tokio::test]
async fn three_nodes_form_and_any_takes_a_spec() {
    let cluster = TestCluster::form(3).await;
    for node in &cluster.nodes {
        let status = eventually("all vote", || async {
            let s = node.status().await?;
            let voters = s.nodes.iter().filter(|n| n.role == "voter").count();
            if voters == 3 && s.quorum { Ok(s) } else { Err(format!("{voters} voters")) }
        })
        .await;
        assert_eq!(status.nodes.iter().map(|n| n.node_id).collect::<Vec<_>>(), [1, 2, 3]);
    }
    let leader = cluster.leader(None).await;
    let follower = &cluster.nodes[(leader + 1) % 3];
    let mut catalog = follower.catalog().await;

    let rehearsal = v1::ApplyRequest { dry_run: true, ..apply(&spec("shop", "{}")) };
    let would = catalog.apply(rehearsal).await.unwrap().into_inner();
    assert!(would.created && would.spec == 1);
    let listed = |reply: tonic::Response<v1::ListDeploymentsReply>| reply.into_inner().items.len();
    assert_eq!(listed(catalog.list_deployments(v1::ListRequest::default()).await.unwrap()), 0);

    let made = catalog.apply(apply(&spec("shop", "{}"))).await.unwrap().into_inner();
    assert!(made.created && made.deployment == "production/shop");
    let changed = catalog.apply(apply(&spec("shop", "{bake: 7s}"))).await.unwrap().into_inner();
    assert_eq!((changed.spec, changed.created), (2, false));
    assert_eq!(changed.changes, ["rollout.bake: 5m -> 7s"]);
    for node in &cluster.nodes {
        assert_eq!(listed(node.catalog().await.list_deployments(v1::ListRequest::default()).await.unwrap()), 1);
    }
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_comes_back() {
    let mut cluster = TestCluster::form(3).await;
    let first = cluster.leader(None).await;
    cluster.nodes[first].kill();
    let second = cluster.leader(Some(first)).await;
    eventually("a change after the leader's death", || async {
        let mut catalog = cluster.nodes[second].catalog().await;
        catalog.apply(apply(&spec("shop", "{}"))).await.map_err(|e| e.to_string())
    })
    .await;

    cluster.nodes[first].start();
    let back = &cluster.nodes[first];
    cluster.ready(back).await;
    let list = back.catalog().await.list_deployments(v1::ListRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.items.len(), 1);
}

#[tokio::test]
async fn without_a_quorum_the_answer_comes_at_once() {
    let mut cluster = TestCluster::form(3).await;
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let left = &cluster.nodes[0];
    let asked = std::time::Instant::now();
    let refused = left.catalog().await.apply(apply(&spec("shop", "{}"))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    assert!(asked.elapsed() < std::time::Duration::from_secs(6), "{:?}", asked.elapsed());
    assert!(refused.metadata().contains_key("slipway-retry-after-ms"), "{refused:?}");
    // A list needs the leader too...
    let unread = left.catalog().await.list_environments(v1::ListRequest::default()).await.unwrap_err();
    assert_eq!(unread.code(), tonic::Code::Unavailable, "{unread}");
    // ...unless what this node knows will do, which is said then.
    let mut stale = tonic::Request::new(v1::ListRequest::default());
    stale.metadata_mut().insert("slipway-stale", tonic::metadata::MetadataValue::from_static("1"));
    let list = left.catalog().await.list_environments(stale).await.unwrap();
    assert!(list.metadata().contains_key("slipway-applied"));
    assert!(list.metadata().contains_key("slipway-warning"));
    assert_eq!(list.get_ref().items.len(), 4);
}

#[tokio::test]
async fn a_leader_that_is_asked_to_stop_hands_over_first() {
    let mut cluster = TestCluster::form(3).await;
    let first = cluster.leader(None).await;
    let mut process = cluster.nodes[first].process.take().unwrap();
    process.signal(rustix::process::Signal::TERM);
    assert!(process.wait().success(), "{}", process.said());
    assert!(process.said().contains("leadership handed over"), "{}", process.said());
    cluster.leader(Some(first)).await;
}

#[tokio::test]
async fn an_init_that_is_refused_leaves_nothing_behind() {
    let cluster = TestCluster::idle(2).await;
    let (first, second) = (&cluster.nodes[0], &cluster.nodes[1]);
    let init = |name: &str, zone: &str| v1::InitRequest { name: name.into(), zone: zone.into() };
    for (name, zone) in [("test", "Typo.Example"), ("test", "."), ("test", "a..b"), (&*"n".repeat(64), "")] {
        let mut client = ClusterClient::new(second.channel().await.unwrap());
        let refused = client.init(init(name, zone)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{zone:?}: {refused}");
    }
    // The directory is nobody's: it makes no cluster of its own at a restart, and it may join one.
    assert_eq!(second.status().await.unwrap().cluster_id, "");
    ClusterClient::new(first.channel().await.unwrap()).init(init("test", "shop.example.")).await.unwrap();
    assert_eq!(first.status().await.unwrap().zone, "shop.example", "the root's dot may be written");
    let wrong = v1::JoinRequest { seed: first.status().await.unwrap().nodes[0].peer_addr.clone() };
    let refused = ClusterClient::new(second.channel().await.unwrap()).join(wrong).await.unwrap_err();
    assert!(refused.message().contains("not the client address of a member"), "{refused}");
    assert_eq!(second.join(first).await.unwrap().node_id, 2);
}
