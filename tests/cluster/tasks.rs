//! Tasks that die: a planner costs its node the leadership and never DNS, three stop planning everywhere; any other
//! task ends the node with its name when it cannot be kept running.

use slipway::wire::v1::{self, cluster_client::ClusterClient, peer_client::PeerClient, relay_item::Body};

use crate::{
    lab::{Lab, SOON, eventually, list, spec},
    support::{self, TestCluster, TestNode},
};

#[test]
fn a_planner_that_panics_costs_the_leadership_and_the_third_stops_planning_everywhere() {
    let mut lab = Lab::empty();
    for n in 1..=3 {
        let config = lab.node_config(n);
        lab.add_node_within(n, &config, &[], &["--fault", "plan:shop"]);
    }
    lab.form();
    let config = lab.agent_config(1);
    lab.add_agent(1, &config);
    lab.workers_ready();
    lab.apply(&spec("strategy: direct, bake: 1s, min_requests: 0"));
    lab.push("1.0.0");
    lab.start("1.0.0", &[]);
    // Each node says it, and why.
    for n in 1..=3 {
        let status = eventually("planning is stopped", SOON, || {
            let said = lab.slipway(&["--node", &lab.client(n), "cluster", "status", "-o", "json"]);
            if said.out.contains("planning is stopped") { Ok(said.json()) } else { Err(said.out + &said.err) }
        });
        let text = status.to_string();
        assert!(text.contains("panicked 3 times") && text.contains("a fault was asked for"), "{text}");
    }
    // The next leader says so of each rollout once it leads, which may take it a moment longer than hearing of the
    // third panic.
    eventually("the leader explains", SOON, || {
        let explained = lab.slipway(&["rollout", "explain", "production/shop"]).ok();
        if explained.out.contains("planning is stopped") { Ok(()) } else { Err(explained.out) }
    });
    // The one that leads is not ready, and says why; all of them answer.
    let ready: Vec<(u16, String)> = (1..=3).map(|n| lab.page(n, "/readyz").unwrap()).collect();
    let not = ready.iter().filter(|(code, text)| *code == 503 && text.contains("planning is stopped")).count();
    assert_eq!((not, ready.iter().filter(|(code, _)| *code == 200).count()), (1, 2), "{ready:?}");
    for n in 1..=3 {
        lab.dns(n, "slipway.internal.").unwrap();
        let metrics = lab.page(n, "/metrics").unwrap().1;
        assert!(metrics.contains("slipway_lead_stopped 1"), "{metrics}");
    }
    // Changes and worker's news are taken all the same.
    lab.apply(&spec("strategy: direct, bake: 1s, min_requests: 0").replace("service: shop", "service: other"));
    let workers = lab.slipway(&["worker", "list", "-o", "json"]).ok().json();
    assert_eq!(workers.as_array().unwrap().len(), 1);
    assert!(list(&lab.status().unwrap(), "nodes").iter().all(|n| n["role"] == "voter"));
    // No node ended; the story is in their logs.
    let fell: usize = lab.nodes.iter().map(|n| n.said().matches("the leader's loop panicked").count()).sum();
    assert_eq!(fell, 3);
    lab.finish();
}

#[tokio::test]
async fn a_task_that_cannot_be_kept_running_ends_the_node_with_its_name() {
    let mut cluster = TestCluster::idle_where(1, |node: &mut TestNode| {
        node.flags = vec!["--fault".into(), "task:event log".into()];
    })
    .await;
    // It dies as soon as there is a cluster, and the node four seconds later: whoever waited for the cluster first may
    // come too late.
    let http = cluster.nodes[0].addresses.http;
    let named = tokio::spawn(async move {
        support::eventually("readiness names it", || async {
            let (code, text) = support::page(http, "/readyz").await?;
            if code == 503 && text.contains("the task \"event log\" of this node panicked") {
                Ok(())
            } else {
                Err(text)
            }
        })
        .await;
    });
    let mut client = ClusterClient::new(cluster.nodes[0].channel().await.unwrap());
    client.init(v1::InitRequest { name: "test".into(), zone: String::new() }).await.unwrap();
    named.await.unwrap();
    let mut process = cluster.nodes[0].process.take().unwrap();
    assert_eq!(process.wait().code(), Some(1));
    let said = process.said();
    let last = said.lines().rev().find(|l| l.starts_with("slipwayd: ")).unwrap_or_default();
    assert!(last.contains("the task \"event log\"") && last.contains("a fault was asked for"), "{last}\n{said}");
}

#[tokio::test]
async fn a_word_of_a_term_that_raft_does_not_know_blinds_no_leader() {
    let cluster = TestCluster::form(3).await;
    let leader = cluster.leader(None).await;
    let node = &cluster.nodes[leader];
    let status = node.status().await.unwrap();
    let (me, other) = (status.node_id, status.nodes.iter().find(|n| n.node_id != status.node_id).unwrap().node_id);
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", node.addresses.peer)).unwrap();
    let mut client = PeerClient::new(channel.connect().await.unwrap());
    let header = v1::PeerHeader { cluster_id: status.cluster_id.clone(), from: other, to: me };
    let body = Body::Node(v1::NodeSeen::default());
    let item = v1::RelayItem { header: Some(header), term: u64::MAX, body: Some(body) };
    let (send, receive) = tokio::sync::mpsc::channel(1);
    send.send(item).await.unwrap();
    let mut acks = client.relay(tokio_stream::wrappers::ReceiverStream::new(receive)).await.unwrap().into_inner();
    let refused = acks.message().await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    // It goes on hearing the others.
    support::eventually("the leader hears all", || async {
        let status = node.status().await.map_err(|e| e.clone())?;
        let heard = status.nodes.iter().filter(|n| n.served_index > 0).count();
        if heard == 3 { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}
