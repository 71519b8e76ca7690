//! A rolling upgrade from feature level 1 to 2 while clients write: one node at a time, taken back once, finalised at
//! the end. Level 2 exists in debug builds only. The newer build is played by this one with `--max-feature-level 2`;
//! without, it reads no entry and no snapshot of a later level.

use slipway::wire::v1::{self, cluster_client::ClusterClient};

use crate::{
    members::{Writers, json, no, ok},
    support::{TestCluster, TestNode, eventually},
};

/// Stops a node in good order and starts it as another build.
async fn restart(cluster: &mut TestCluster, at: usize, flags: &[&str]) {
    let mut process = cluster.nodes[at].process.take().unwrap();
    process.signal(rustix::process::Signal::TERM);
    assert!(process.wait().success(), "{}", process.said());
    cluster.nodes[at].flags = flags.iter().map(ToString::to_string).collect();
    cluster.nodes[at].start();
    cluster.ready(&cluster.nodes[at]).await;
}

/// Waits until the answering node knows what each node supports.
async fn supported(node: &TestNode, want: [u32; 3]) {
    eventually("levels are known", || async {
        let levels: Vec<u32> = node.status().await?.nodes.iter().map(|n| n.max_level).collect();
        if levels == want { Ok(()) } else { Err(format!("{levels:?}")) }
    })
    .await;
}

const NEW: [&str; 2] = ["--max-feature-level", "2"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_upgrade_costs_no_write_and_can_be_taken_back() {
    let mut cluster = TestCluster::idle(0).await;
    for n in 1..=3 {
        crate::members::add(&mut cluster, &format!("n{n}"), &[]).await;
    }
    let mut client = ClusterClient::new(cluster.nodes[0].channel().await.unwrap());
    client.init(v1::InitRequest { name: "test".into(), zone: String::new() }).await.unwrap();
    for at in [1, 2] {
        cluster.nodes[at].join(&cluster.nodes[0]).await.unwrap();
    }
    for node in &cluster.nodes {
        cluster.ready(node).await;
    }
    assert_eq!(cluster.nodes[0].status().await.unwrap().level, 1);
    let writers = Writers::start(&cluster);

    // With the new build following and leading, written is what the old ones read.
    restart(&mut cluster, 2, &NEW).await;
    supported(&cluster.nodes[0], [1, 1, 2]).await;
    if cluster.leader(None).await == 2 {
        ok(&cluster.nodes[0], &["cluster", "transfer-leader", "--to", "n1"]).await;
    }
    writers.go_on().await;
    ok(&cluster.nodes[0], &["cluster", "digest"]).await;
    let said = ok(&cluster.nodes[0], &["cluster", "transfer-leader", "--to", "n3"]).await;
    assert!(said.contains("n3 leads"), "{said}");
    writers.go_on().await;
    ok(&cluster.nodes[0], &["cluster", "digest"]).await;
    let said = no(&cluster.nodes[2], &["cluster", "upgrade", "finalize"]).await;
    assert!(said.contains("n1 (node 1, up to level 1), n2 (node 2, up to level 1)"), "{said}");
    let shown = ok(&cluster.nodes[0], &["cluster", "upgrade", "status"]).await;
    assert!(shown.contains("not upgraded yet: n1, n2"), "{shown}");
    // Taken back, it begins from a snapshot that the new build wrote.
    ok(&cluster.nodes[2], &["cluster", "snapshot", "--all"]).await;
    restart(&mut cluster, 2, &[]).await;
    supported(&cluster.nodes[0], [1, 1, 1]).await;
    writers.go_on().await;

    for at in 0..3 {
        restart(&mut cluster, at, &NEW).await;
    }
    supported(&cluster.nodes[0], [2, 2, 2]).await;
    // A retry through another node is the same request: the level rises once.
    let now = cluster.nodes[1].status().await.unwrap().now_ms;
    let meta = v1::RequestMeta { request_id: "finalize-1".into(), not_after_ms: now + 60_000 };
    let mut indexes = Vec::new();
    for at in [1, 2, 0] {
        let mut client = ClusterClient::new(cluster.nodes[at].channel().await.unwrap());
        let request = v1::FinalizeRequest { request: Some(meta.clone()), from: 1 };
        let reply = client.finalize(request).await.unwrap().into_inner();
        assert_eq!((reply.from_level, reply.level), (1, 2));
        let receipt = reply.receipt.unwrap();
        assert_eq!(receipt.repeated, at != 1);
        indexes.push(receipt.index);
    }
    indexes.dedup();
    assert_eq!(indexes.len(), 1);
    let shown = json(&cluster.nodes[1], &["cluster", "upgrade", "status"]).await;
    assert_eq!(shown["level"].as_u64(), Some(2), "{shown}");
    writers.go_on().await;
    let said = no(&cluster.nodes[1], &["cluster", "upgrade", "finalize"]).await;
    assert!(said.contains("feature level 2, the newest that this version knows"), "{said}");

    // The drained leader hands over and is not ready until it is undone.
    let leader = cluster.leader(None).await;
    let drained = json(&cluster.nodes[leader], &["cluster", "drain"]).await;
    assert_eq!((drained["drained"].as_bool(), drained["node_id"].as_u64()), (Some(true), Some(leader as u64 + 1)));
    cluster.leader(Some(leader)).await;
    let node = &cluster.nodes[leader];
    eventually("not ready", || async {
        match node.page("/readyz").await? {
            (200, text) => Err(text),
            (_, text) if text.contains("drained") => Ok(()),
            (_, text) => Err(text),
        }
    })
    .await;
    let said = no(node, &["cluster", "transfer-leader", "--to", &node.name]).await;
    assert!(said.contains("is drained"), "{said}");
    ok(node, &["cluster", "drain", "--undo"]).await;
    cluster.ready(node).await;
    // A node that does not know the level cannot join, and the old build cannot come back.
    let seed = cluster.nodes[0].addresses.client.to_string();
    let late = crate::members::add(&mut cluster, "old", &[]).await;
    let said = no(&cluster.nodes[late], &["cluster", "join", &seed]).await;
    assert!(said.contains("node old is too old: it supports feature levels 1 to 1, the cluster is at 2"), "{said}");
    cluster.nodes[late].kill();
    writers.go_on().await;
    writers.end().await;

    cluster.nodes[2].kill();
    cluster.nodes[2].flags.clear();
    cluster.nodes[2].start();
    let mut process = cluster.nodes[2].process.take().unwrap();
    assert!(!process.wait().success());
    assert!(process.said().contains("this program is too old: "), "{}", process.said());
}
