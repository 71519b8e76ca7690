//! Disks that fill up under running nodes, and get room again: in a small file system of the node's own.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::Command,
};

use hickory_proto::op::ResponseCode;
use slipway::wire::v1::{self, cluster_client::ClusterClient};
use tonic::transport::Channel;

use crate::{
    lab,
    support::{Process, TestCluster, TestNode, apply, eventually, spec},
};

const SIZE_MIB: usize = 64;
const LOW: &str = "disk_low_mib = 16\n";
const NAME: &str = "shop.production.svc.slipway.internal.";

async fn admin(node: &TestNode) -> ClusterClient<Channel> {
    ClusterClient::new(node.channel().await.unwrap())
}

/// Whether this process may mount; says so otherwise.
fn may_mount(test: &str) -> bool {
    let tried = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    let ok = tried.is_ok_and(|out| out.status.success());
    if !ok {
        lab::skip(test, "no mount namespaces here: they need root and unshare (Debian: util-linux)");
    }
    ok
}

/// Starts a node whose directory is a file system of 64 MiB, in a mount namespace that ends with it.
fn start_small(node: &mut TestNode) {
    start_small_after(node, "true");
}

/// The same after something was done there.
fn start_small_after(node: &mut TestNode, first: &str) {
    fs::create_dir_all(&node.dir).unwrap();
    let a = &node.addresses;
    let config = node.dir.with_extension("toml");
    let text = format!(
        "name = {:?}\ndata_dir = {:?}\npeer_listen = \"{}\"\nclient_listen = \"{}\"\ndns_listen = \"{}\"\nhttp_listen = \"{}\"\nraft = \
         \"slow\"\n{}",
        node.name, node.dir, a.peer, a.client, a.dns, a.http, node.settings
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("unshare");
    command.args([
        "-m",
        "sh",
        "-c",
        "mount -t tmpfs -o size=\"$1\"m none \"$2\" && eval \"$5\" && exec \"$3\" node --config \"$4\"",
        "sh",
    ]);
    command.arg(SIZE_MIB.to_string()).arg(&node.dir).arg(env!("CARGO_BIN_EXE_slipwayd")).arg(&config).arg(first);
    node.process = Some(Process::spawn(command, &node.log()));
}

/// The file that takes the room, seen from outside the node's namespace.
fn filler(node: &TestNode) -> PathBuf {
    let id = node.process.as_ref().unwrap().id();
    PathBuf::from(format!("/proc/{id}/root{}/filler", node.dir.display()))
}

/// Leaves so many MiB; with 0 writes until nothing more goes in.
fn fill(node: &TestNode, leave_mib: usize) {
    let mut file = File::create(filler(node)).unwrap();
    let free = || slipway::storage::space::free(filler(node).parent().unwrap()).unwrap();
    while free() > (leave_mib as u64) << 20 {
        if file.write_all(&[0; 4096]).is_err() {
            return;
        }
    }
}

/// Three nodes; the first, which leads, has a small disk.
async fn small_leader() -> TestCluster {
    let root = lab::Scratch::new();
    let mut nodes: Vec<TestNode> = (1..=3).map(|n| TestNode::new(root.path(), &format!("n{n}"))).collect();
    for (place, node) in nodes.iter_mut().enumerate() {
        node.settings = LOW.into();
        if place == 0 { start_small(node) } else { node.start() }
    }
    for node in &nodes {
        eventually("node answers", || node.status()).await;
    }
    let cluster = TestCluster { nodes, root };
    let mut client = admin(&cluster.nodes[0]).await;
    client.init(v1::InitRequest { name: "test".into(), zone: String::new() }).await.unwrap();
    for node in &cluster.nodes[1..] {
        node.join(&cluster.nodes[0]).await.unwrap();
    }
    for node in &cluster.nodes {
        cluster.ready(node).await;
    }
    cluster
}

/// Asks the leader to hand over to the first node: done, or why not.
async fn transfer_to_first(cluster: &TestCluster) -> Result<(), String> {
    let leader = cluster.leader(None).await;
    let mut client = admin(&cluster.nodes[leader]).await;
    let done = client.transfer_leader(v1::TransferLeaderRequest { to: 1, term: 0 }).await;
    done.map(drop).map_err(|e| e.message().to_string())
}

#[tokio::test]
async fn a_leader_whose_disk_is_nearly_full_hands_over_and_changes_go_on() {
    if !may_mount("a_leader_whose_disk_is_nearly_full_hands_over_and_changes_go_on") {
        return;
    }
    let cluster = small_leader().await;
    let small = &cluster.nodes[0];
    assert_eq!(cluster.leader(None).await, 0);
    fill(small, 12);
    cluster.leader(Some(0)).await;
    // Through the small node too: it follows.
    eventually("a change through the small node", || async {
        small.catalog().await.apply(apply(&spec("shop", "{}"))).await.map_err(|e| e.to_string())
    })
    .await;

    // Asked to lead, it says that it cannot, and why; changes are taken all the same.
    let refused = transfer_to_first(&cluster).await.unwrap_err();
    assert!(refused.contains("disk"), "{refused}");
    eventually("a change while the small node may not lead", || async {
        let changed = cluster.nodes[1].catalog().await.apply(apply(&spec("shop", "{bake: 9s}"))).await;
        changed.map_err(|e| e.to_string())
    })
    .await;
    cluster.leader(Some(0)).await;

    fs::remove_file(filler(small)).unwrap();
    eventually("room is noticed", || async {
        let said = small.process.as_ref().unwrap().said();
        if said.contains("room on the disk again") { Ok(()) } else { Err("not yet".into()) }
    })
    .await;
    eventually("it may lead again", || transfer_to_first(&cluster)).await;
    eventually("it leads again", || async {
        match cluster.nodes[1].status().await?.leader_id {
            1 => Ok(()),
            id => Err(format!("node {id} leads")),
        }
    })
    .await;
    small.catalog().await.apply(apply(&spec("shop", "{bake: 8s}"))).await.unwrap();
}

#[tokio::test]
async fn alone_with_a_nearly_full_disk_changes_are_refused_with_the_reason() {
    if !may_mount("alone_with_a_nearly_full_disk_changes_are_refused_with_the_reason") {
        return;
    }
    let root = lab::Scratch::new();
    let mut node = TestNode::new(root.path(), "n1");
    node.settings = LOW.into();
    start_small(&mut node);
    eventually("node answers", || node.status()).await;
    let mut client = admin(&node).await;
    client.init(v1::InitRequest { name: "test".into(), zone: String::new() }).await.unwrap();
    node.catalog().await.apply(apply(&spec("shop", "{}"))).await.unwrap();
    fill(&node, 12);
    let refused = eventually("a refusal", || async {
        match node.catalog().await.apply(apply(&spec("shop", "{bake: 9s}"))).await {
            Ok(_) => Err("taken".into()),
            Err(refused) => Ok(refused),
        }
    })
    .await;
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert_eq!(refused.metadata().get("slipway-reason").unwrap(), "disk_low");
    assert!(refused.message().contains("disk_low_mib") && refused.message().contains("MiB left"), "{refused}");
    let listed = node.catalog().await.list_environments(v1::ListRequest::default()).await;
    listed.expect("reads go on");
    fs::remove_file(filler(&node)).unwrap();
    eventually("changes are taken again", || async {
        let changed = node.catalog().await.apply(apply(&spec("shop", "{bake: 9s}"))).await;
        changed.map_err(|e| e.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_node_whose_disk_is_full_answers_on_and_comes_back_by_itself() {
    if !may_mount("a_node_whose_disk_is_full_answers_on_and_comes_back_by_itself") {
        return;
    }
    let cluster = small_leader().await;
    let (small, other) = (&cluster.nodes[0], &cluster.nodes[1]);
    other.catalog().await.apply(apply(&spec("shop", "{}"))).await.unwrap();
    let process = small.process.as_ref().unwrap().id();
    fill(small, 0);
    cluster.leader(Some(0)).await;
    // Changes go on until the small node's next write finds no room.
    let mut bake = 0;
    let why = eventually("its Raft stands still", || {
        bake += 1;
        let document = spec("shop", &format!("{{bake: {bake}s}}"));
        async move {
            // The leader may have to be found anew first; nothing else may be wrong with it.
            if let Err(e) = other.catalog().await.apply(apply(&document)).await {
                assert_eq!(e.code(), tonic::Code::Unavailable, "{e}");
            }
            match small.page("/readyz").await? {
                (503, text) if text.contains("No space left on device") => Ok(text),
                (code, text) => Err(format!("{code}: {text}")),
            }
        }
    })
    .await;
    assert!(!why.is_empty());
    // It goes on answering DNS, and refuses changes with the reason; the others go on.
    let answer = lab::ask(small.addresses.dns, NAME).unwrap();
    assert!(answer.code != ResponseCode::ServFail && answer.code != ResponseCode::Refused, "{answer:?}");
    let refused = small.catalog().await.apply(apply(&spec("shop", "{bake: 1h}"))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    other.catalog().await.apply(apply(&spec("shop", "{bake: 1h}"))).await.unwrap();
    let index = other.status().await.unwrap().applied_index;

    fs::remove_file(filler(small)).unwrap();
    cluster.ready(small).await;
    eventually("it catches up", || async {
        match small.status().await?.applied_index {
            at if at >= index => Ok(()),
            at => Err(format!("at {at} of {index}")),
        }
    })
    .await;
    assert_eq!(small.process.as_ref().unwrap().id(), process);
    assert!(small.process.as_ref().unwrap().said().contains("starting anew"));
}

#[tokio::test]
async fn a_node_that_is_started_on_a_full_disk_waits_says_why_and_starts_once_there_is_room() {
    if !may_mount("a_node_that_is_started_on_a_full_disk_waits_says_why_and_starts_once_there_is_room") {
        return;
    }
    let root = lab::Scratch::new();
    let mut node = TestNode::new(root.path(), "n1");
    start_small_after(&mut node, "{ cat /dev/zero >\"$2/filler\" 2>/dev/null || true; }");
    let process = node.process.as_ref().unwrap().id();
    let why = eventually("readiness says why", || async {
        match node.page("/readyz").await? {
            (503, text) => Ok(text),
            (code, text) => Err(format!("{code}: {text}")),
        }
    })
    .await;
    assert!(why.contains("it found no room at its start") && why.contains("No space left on device"), "{why}");
    assert_eq!(node.page("/healthz").await.unwrap().0, 200);
    fs::remove_file(filler(&node)).unwrap();
    eventually("it answers", || node.status()).await;
    assert_eq!(node.process.as_ref().unwrap().id(), process);
    assert!(node.process.as_ref().unwrap().said().contains("starting anew"));
}
