//! A node whose State was altered behind its back stops serving and names the index and the table.

use std::path::Path;

use hickory_proto::op::ResponseCode;
use slipway::{
    state::codec::{decode_snapshot, encode_snapshot},
    storage::SnapshotDir,
    wire::v1::{self, cluster_client::ClusterClient},
};

use crate::{
    lab::{self, Lab, SOON},
    support::{TestCluster, TestNode, apply, eventually, spec},
};

async fn digest(node: &TestNode) -> Result<v1::DigestReply, String> {
    let mut client = ClusterClient::new(node.channel().await?);
    client.digest(v1::DigestRequest {}).await.map(tonic::Response::into_inner).map_err(|e| e.to_string())
}

/// Changes one row of the newest snapshot, through the crate's own codec: every checksum is right.
fn alter(data: &Path) {
    let snapshots = SnapshotDir::open(&data.join("snapshots")).unwrap();
    let found = snapshots.newest().unwrap().expect("a snapshot");
    let mut state = decode_snapshot(&found.body).unwrap();
    let (name, mut row) = state.environments.iter().next().map(|(n, e)| (n.clone(), e.clone())).unwrap();
    row.meta.labels.insert("altered".into(), "yes".into());
    state.environments.insert(name, row);
    snapshots.write(state.applied.index, &found.meta, &encode_snapshot(&state).unwrap()).unwrap();
}

#[tokio::test]
async fn a_node_made_to_differ_stops_serving_and_names_index_and_table() {
    let mut cluster = TestCluster::form_with(3, "snapshot_every = 20\ndigest_every_ms = 1000\n").await;
    let leader = cluster.leader(None).await;
    // Probes follow each other quickly here: the answer may be about one that was begun meanwhile and nobody has
    // answered yet.
    let all = eventually("all nodes agree", || async {
        let all = digest(&cluster.nodes[(leader + 1) % 3]).await?;
        let agreed = all.agreed && all.nodes.iter().all(|n| n.reported && n.differs.is_empty());
        if agreed { Ok(all) } else { Err(format!("{all:?}")) }
    })
    .await;
    let first = &all.nodes[0].digest;
    assert!(all.nodes.iter().all(|n| &n.digest == first), "{all:?}");

    let odd = (leader + 1) % 3;
    eventually("a snapshot", || async {
        let dir = cluster.nodes[odd].dir.join("snapshots");
        let found = std::fs::read_dir(dir).map_err(|e| e.to_string())?.count();
        if found > 0 { Ok(()) } else { Err("none".into()) }
    })
    .await;
    cluster.nodes[odd].kill();
    alter(&cluster.nodes[odd].dir);
    cluster.nodes[odd].start();

    let node = &cluster.nodes[odd];
    let why = eventually("not ready with the reason", || async {
        match node.page("/readyz").await? {
            (503, text) if text.contains("differs from the majority") => Ok(text),
            (code, text) => Err(format!("{code}: {text}")),
        }
    })
    .await;
    assert!(why.contains("at index ") && why.contains("table environments"), "{why}");

    let answer = lab::ask(node.addresses.dns, "shop.production.svc.slipway.internal.").unwrap();
    assert_eq!(answer.code, ResponseCode::ServFail);
    let refused = node.catalog().await.apply(apply(&spec("shop", "{}"))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    assert!(refused.message().contains("table environments"), "{refused}");
    let listed = node.catalog().await.list_environments(v1::ListRequest::default()).await.unwrap_err();
    assert!(listed.message().contains("table environments"), "{listed}");

    // The others go on, and any of them says who differs.
    let other = &cluster.nodes[leader];
    cluster.ready(other).await;
    let said = eventually("the others agree", || async {
        let said = digest(other).await?;
        if said.agreed { Ok(said) } else { Err(format!("{said:?}")) }
    })
    .await;
    let row = said.nodes.iter().find(|n| n.node == node.name).unwrap();
    assert_eq!(row.differs, ["environments"]);
    assert!(row.differs_since > 0);
    other.catalog().await.apply(apply(&spec("shop", "{}"))).await.unwrap();

    let out = std::process::Command::new(env!("CARGO_BIN_EXE_slipway"))
        .args(["cluster", "digest"])
        .env("SLIPWAY_NODES", other.addresses.client.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("DIFFERS at index") && text.contains("table environments"), "{text}");

    // Nobody hands it the lead.
    let mut client = ClusterClient::new(cluster.nodes[leader].channel().await.unwrap());
    let refused = client.transfer_leader(v1::TransferLeaderRequest { to: row.node_id, term: 0 }).await.unwrap_err();
    assert!(refused.message().contains("cannot lead") && refused.message().contains("differs"), "{refused}");
    eventually("a change under a leader that agrees", || async {
        let status = other.status().await?;
        if status.leader_id == 0 || status.leader_id == row.node_id {
            return Err(format!("node {} leads", status.leader_id));
        }
        other.catalog().await.apply(apply(&spec("shop", "{bake: 9s}"))).await.map_err(|e| e.to_string())
    })
    .await;
}

#[test]
fn a_node_that_differs_holds_up_no_drain_and_nobody_waits_for_it() {
    let mut lab = Lab::empty();
    for n in 1..=3 {
        let config = lab.node_config(n) + "snapshot_every = 20\ndigest_every_ms = 500\n";
        lab.add_node(n, &config);
    }
    lab.form();
    let config = lab.agent_config(1);
    lab.add_agent(1, &config);
    lab.workers_ready();
    lab.apply(&lab::spec("strategy: direct"));
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.roll("1.0.0", &[]).ok();

    let odd = (lab.leader() + 1) % 3;
    let data = lab.nodes[odd].dir.join("data");
    lab::eventually("a snapshot", SOON, || {
        let found = std::fs::read_dir(data.join("snapshots")).map_err(|e| e.to_string())?.count();
        if found > 0 { Ok(()) } else { Err("none".into()) }
    });
    lab.nodes[odd].kill();
    alter(&data);
    lab.nodes[odd].start();
    let n = u8::try_from(odd + 1).unwrap();
    lab::eventually("not ready with the reason", SOON, || match lab.page(n, "/readyz")? {
        (503, text) if text.contains("differs from the majority") => Ok(()),
        (code, text) => Err(format!("{code}: {text}")),
    });
    // The old instances stop only once every server has let go of them: without the odd one's word, which never comes.
    lab.roll("2.0.0", &[]).ok();
    lab.runs(&[("2.0.0", 2)]);
    lab.finish();
}
