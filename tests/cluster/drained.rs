//! Nodes that are out for maintenance, and who leads meanwhile.

use slipway::wire::v1::{self, cluster_client::ClusterClient};

use crate::{
    members::{json, no, ok},
    support::{TestCluster, apply, eventually, spec},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_leads_when_nobody_else_can_until_somebody_can() {
    let mut cluster = TestCluster::form(3).await;
    for name in ["n1", "n2"] {
        ok(&cluster.nodes[2], &["cluster", "drain", name]).await;
    }
    assert_eq!(cluster.leader(None).await, 2);
    let status = json(&cluster.nodes[2], &["cluster", "status"]).await;
    cluster.nodes[2].kill();
    let leader = cluster.leader(Some(2)).await;
    let changed = eventually("two of three voters take changes", || async {
        cluster.nodes[leader].catalog().await.apply(apply(&spec("shop", "{}"))).await.map_err(|e| e.to_string())
    })
    .await;
    assert!(changed.into_inner().created);
    // One who is back leads, as those that are out do not keep what they had to take.
    cluster.nodes[2].start();
    assert_eq!(cluster.leader(Some(leader)).await, 2);
    let now = json(&cluster.nodes[2], &["cluster", "status"]).await;
    assert!(now["term"].as_u64() > status["term"].as_u64(), "{now}");
    // It asks before it hands over to somebody who cannot lead.
    ok(&cluster.nodes[2], &["cluster", "drain", "n1", "--undo"]).await;
    cluster.nodes[0].kill();
    let term = json(&cluster.nodes[2], &["cluster", "status"]).await["term"].clone();
    let said = no(&cluster.nodes[2], &["cluster", "transfer-leader", "--to", "n1"]).await;
    assert!(said.contains("n1: node 1 does not"), "{said}");
    let said = no(&cluster.nodes[2], &["cluster", "transfer-leader", "--to", "n2"]).await;
    assert!(said.contains("n2 is drained"), "{said}");
    // A retry that reaches the next leader names the term of the one before.
    let mut client = ClusterClient::new(cluster.nodes[2].channel().await.unwrap());
    let earlier = v1::TransferLeaderRequest { to: 2, term: term.as_u64().unwrap() - 1 };
    let said = client.transfer_leader(earlier).await.unwrap_err();
    assert!(said.message().contains("leadership has moved meanwhile: n3 leads in term"), "{said}");
    let after = json(&cluster.nodes[2], &["cluster", "status"]).await;
    assert_eq!((&after["term"], after["leader_id"].as_u64()), (&term, Some(3)), "nobody gave up what he had");
}
