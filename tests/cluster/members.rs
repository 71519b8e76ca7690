//! Members come, go and are replaced while clients write; what would lose the quorum or is no member is refused by
//! name.

use std::{
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use slipway::{
    client::{Client, Limits},
    clock::Clock,
    wire::v1,
};
use tokio::task::JoinHandle;

use crate::support::{Addresses, TestCluster, TestNode, apply, eventually, spec};

/// Clients that write through the library until they are ended.
pub struct Writers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    slowest: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

impl Writers {
    pub fn start(cluster: &TestCluster) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let slowest = Arc::new(AtomicU64::new(0));
        let addresses: Vec<String> = cluster.nodes.iter().map(|n| n.addresses.client.to_string()).collect();
        let tasks = (0..2)
            .map(|w| {
                let limits = Limits { deadline: Duration::from_secs(30), ..Limits::default() };
                let client = Client::new(&addresses, limits, Clock::real()).unwrap();
                let (stop, done, slowest) = (stop.clone(), done.clone(), slowest.clone());
                tokio::spawn(async move {
                    let mut failed = Vec::new();
                    let mut wrote = 0;
                    for n in 1u32.. {
                        if stop.load(Ordering::SeqCst) {
                            break;
                        }
                        let document = spec(&format!("writer{w}"), &format!("{{bake: {n}s}}"));
                        // Members change: a client that lives long must hear of those that came.
                        if let Err(e) = client.status().await {
                            failed.push(format!("status before write {n}: {e}"));
                        }
                        let asked = Instant::now();
                        let answer = client.apply(apply(&document)).await;
                        slowest.fetch_max(asked.elapsed().as_millis() as u64, Ordering::SeqCst);
                        match answer {
                            Ok(_) => drop(done.fetch_add(1, Ordering::SeqCst)),
                            Err(e) => failed.push(format!("write {n}: {e}")),
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        wrote = n;
                    }
                    // Each write changes the spec once, so its revision counts those that took effect.
                    let writer = format!("production/writer{w}");
                    match client.deployments(slipway::wire::v1::ListRequest::default()).await {
                        Ok(all) => {
                            let spec = all.items.iter().find(|d| d.id == writer).map_or(0, |d| d.spec);
                            if spec != u64::from(wrote) {
                                failed.push(format!("{wrote} writes made revision {spec}"));
                            }
                        }
                        Err(e) => failed.push(e.to_string()),
                    }
                    failed
                })
            })
            .collect();
        Self { stop, done, slowest, tasks }
    }

    /// Waits until some more have been written.
    pub async fn go_on(&self) {
        let before = self.done.load(Ordering::SeqCst);
        eventually("more writes", || async {
            let now = self.done.load(Ordering::SeqCst);
            if now >= before + 4 { Ok(()) } else { Err(format!("{now} after {before}")) }
        })
        .await;
    }

    /// Ends them; none may have failed.
    pub async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            assert_eq!(task.await.unwrap(), Vec::<String>::new());
        }
        let (done, slowest) = (self.done.load(Ordering::SeqCst), self.slowest.load(Ordering::SeqCst));
        println!("{done} writes, the slowest took {slowest} ms with its retries");
    }
}

/// The CLI, said to this node.
pub async fn cli(node: &TestNode, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_slipway"));
    command.arg("--node").arg(node.addresses.client.to_string()).args(args).kill_on_drop(true);
    tokio::time::timeout(crate::support::LIMIT, command.output()).await.expect("the CLI ends").unwrap()
}

/// Its output; it must have gone well.
pub async fn ok(node: &TestNode, args: &[&str]) -> String {
    let out = cli(node, args).await;
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Its output as JSON; standard output holds nothing else.
pub async fn json(node: &TestNode, args: &[&str]) -> serde_json::Value {
    let said = ok(node, &[args, &["-o", "json"]].concat()).await;
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("{args:?}: {e}: {said}"))
}

/// Its complaint; it must have failed.
pub async fn no(node: &TestNode, args: &[&str]) -> String {
    let out = cli(node, args).await;
    assert!(!out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Adds a running node that belongs to nothing yet.
pub async fn add(cluster: &mut TestCluster, name: &str, flags: &[&str]) -> usize {
    let mut node = TestNode::new(cluster.root.path(), name);
    node.dir = cluster.root.path().join(format!("{name}-{}", cluster.nodes.len() + 1));
    node.flags = flags.iter().map(ToString::to_string).collect();
    node.start();
    eventually("node answers", || node.status()).await;
    cluster.nodes.push(node);
    cluster.nodes.len() - 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grow_shrink_and_replace_under_load() {
    let mut cluster = TestCluster::form(3).await;
    let writers = Writers::start(&cluster);
    for name in ["n4", "n5"] {
        let at = add(&mut cluster, name, &[]).await;
        let seed = cluster.nodes[1].addresses.client.to_string();
        let joined = cli(&cluster.nodes[at], &["cluster", "join", &seed, "-o", "json"]).await;
        let told = String::from_utf8_lossy(&joined.stderr).into_owned();
        let joined: serde_json::Value = serde_json::from_slice(&joined.stdout).expect(&told);
        assert_eq!((joined["node"].as_str(), joined["role"].as_str()), (Some(name), Some("voter")), "{joined}");
        assert!(told.contains("joins the cluster of"), "progress: {told}");
        writers.go_on().await;
    }
    // The leader leaves as well as another does: it hands over first.
    let leader = cluster.leader(None).await;
    let name = cluster.nodes[leader].name.clone();
    let left = json(&cluster.nodes[leader], &["cluster", "leave", &name]).await;
    assert_eq!((left["role"].as_str(), left["node_id"].as_u64()), (Some("removed"), Some(leader as u64 + 1)), "{left}");
    let mut process = cluster.nodes[leader].process.take().unwrap();
    assert!(!process.wait().success(), "it ends, as it is no member any more");
    assert!(process.said().contains("cannot come back"), "{}", process.said());
    writers.go_on().await;
    let leader = cluster.leader(None).await;
    let mut others = (0..5).filter(|i| *i != leader && cluster.nodes[*i].process.is_some());
    let (second, dead) = (others.next().unwrap(), others.next().unwrap());
    let name = cluster.nodes[second].name.clone();
    assert!(ok(&cluster.nodes[leader], &["cluster", "leave", &name]).await.contains("was removed"));
    cluster.nodes[second].process = None;

    cluster.nodes[dead].kill();
    let new = add(&mut cluster, "n6", &[]).await;
    let (name, with) = (cluster.nodes[dead].name.clone(), cluster.nodes[new].addresses.client.to_string());
    let replaced = ok(&cluster.nodes[leader], &["node", "replace", &name, "--with", &with]).await;
    assert!(replaced.contains(&format!("n6 (node 6) took the place of {name} (node {})", dead + 1)), "{replaced}");
    // Run again it finds everything done.
    let again = json(&cluster.nodes[leader], &["node", "replace", &name, "--with", &with]).await;
    assert_eq!(again["removed"]["role"].as_str(), Some("removed"), "{again}");
    writers.go_on().await;
    writers.end().await;

    let status = cluster.nodes[new].status().await.unwrap();
    let voters: Vec<u64> = status.nodes.iter().filter(|n| n.role == "voter").map(|n| n.node_id).collect();
    assert_eq!((voters.len(), status.nodes.len()), (3, 6), "{voters:?}");
    assert!(status.quorum && status.nodes.iter().filter(|n| n.role == "voter").all(|n| n.reachable == Some(true)));

    // The one that was down when it was removed learns of it from the others, and cannot come back after that either.
    for told in ["was removed from cluster", "was removed"] {
        cluster.nodes[dead].start();
        let mut process = cluster.nodes[dead].process.take().unwrap();
        assert!(!process.wait().success());
        assert!(process.said().contains(told), "{}", process.said());
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let mut cluster = TestCluster::form(3).await;
    let said = no(&cluster.nodes[0], &["cluster", "leave", "n9"]).await;
    assert!(said.contains("node n9 does not exist: there is n1, n2, n3; "), "{said}");

    let twin = add(&mut cluster, "n3", &[]).await;
    let seed = cluster.nodes[0].addresses.client.to_string();
    let said = no(&cluster.nodes[twin], &["cluster", "join", &seed]).await;
    assert!(said.contains("node name n3 is taken by node 3 (voter)"), "{said}");
    cluster.nodes[twin].kill();
    let newer = add(&mut cluster, "new", &["--min-feature-level", "2"]).await;
    let said = no(&cluster.nodes[newer], &["cluster", "join", &seed]).await;
    assert!(said.contains("node new is too new: it supports feature levels 2 to 2, the cluster is at 1"), "{said}");
    cluster.nodes[newer].kill();

    let leader = cluster.leader(None).await;
    let (stays, dead) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[dead].kill();
    let name = cluster.nodes[stays].name.clone();
    let said = eventually("the leader misses the dead node", || async {
        let said = no(&cluster.nodes[leader], &["cluster", "leave", &name]).await;
        if said.contains("lose its quorum") { Ok(said) } else { Err(said) }
    })
    .await;
    let gone = format!("reachable: {}; not reachable: {}", cluster.nodes[leader].name, cluster.nodes[dead].name);
    assert!(said.contains(&gone), "{said}");
    let status = cluster.nodes[leader].status().await.unwrap();
    assert_eq!(status.nodes.iter().filter(|n| n.role == "voter").count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planned_restarts_cost_no_command() {
    let mut cluster = TestCluster::form(3).await;
    let writers = Writers::start(&cluster);
    // Always the leader, so that each restart has to hand over, until each node was restarted.
    let mut done = [false; 3];
    while let Some(waits) = done.iter().position(|d| !d) {
        let leader = cluster.leader(None).await;
        if done[leader] {
            let name = cluster.nodes[waits].name.clone();
            ok(&cluster.nodes[leader], &["cluster", "transfer-leader", "--to", &name]).await;
            continue;
        }
        done[leader] = true;
        let mut process = cluster.nodes[leader].process.take().unwrap();
        process.signal(rustix::process::Signal::TERM);
        assert!(process.wait().success(), "{}", process.said());
        assert!(process.said().contains("leadership handed over"), "{}", process.said());
        writers.go_on().await;
        cluster.nodes[leader].start();
        cluster.ready(&cluster.nodes[leader]).await;
        writers.go_on().await;
    }
    writers.end().await;
}

/// The answer to an admission may be lost on its way, so that the node knows nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_admission_got_lost_is_no_voter_and_can_still_join() {
    let mut cluster = TestCluster::form(3).await;
    let new = add(&mut cluster, "n4", &[]).await;
    let own = &cluster.nodes[new].addresses;
    let peer = format!("http://{}", cluster.nodes[0].addresses.peer);
    let mut admitting = v1::peer_client::PeerClient::connect(peer).await.unwrap();
    let status = cluster.nodes[0].status().await.unwrap();
    let request = v1::AdmitRequest {
        header: Some(v1::PeerHeader { cluster_id: status.cluster_id, from: 0, to: 0 }),
        name: "n4".into(),
        peer_addr: own.peer.to_string(),
        client_addr: own.client.to_string(),
        dns_addr: own.dns.to_string(),
        level: status.level,
        min_level: 1,
    };
    assert_eq!(admitting.admit(request).await.unwrap().into_inner().node_id, 4);
    // It keeps nobody else from coming or going.
    let other = add(&mut cluster, "n5", &[]).await;
    let joined = cluster.nodes[other].join(&cluster.nodes[1]).await.unwrap();
    assert_eq!((joined.node_id, joined.role.as_str()), (5, "voter"));
    ok(&cluster.nodes[0], &["cluster", "leave", "n3"]).await;
    cluster.nodes[2].process = None;
    let status = ok(&cluster.nodes[0], &["cluster", "status"]).await;
    assert!(status.contains("n4 was admitted and has not come yet: `slipway cluster leave n4` forgets it"), "{status}");
    let joined = cluster.nodes[new].join(&cluster.nodes[1]).await.unwrap();
    assert_eq!((joined.node_id, joined.role.as_str()), (4, "voter"));
}

/// Packages in a node's store.
fn stored(node: &TestNode) -> Result<usize, String> {
    Ok(std::fs::read_dir(node.dir.join("blobs/sha256")).map_err(|e| e.to_string())?.count())
}

/// The one that died is the first holder of every package, and is never to be asked alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_replaces_the_first_holder_gets_every_package() {
    let mut cluster = TestCluster::form(3).await;
    for version in ["1.0.0", "1.1.0"] {
        let dir = cluster.root.path().join(format!("shop-{version}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("version"), version).unwrap();
        let pushed = ok(&cluster.nodes[0], &["release", "push", "shop", version, dir.to_str().unwrap(), "--new"]).await;
        assert!(pushed.contains("on 3 of 3 nodes"), "{pushed}");
    }
    cluster.nodes[0].kill();
    cluster.leader(Some(0)).await;
    let new = add(&mut cluster, "n4", &[]).await;
    let with = cluster.nodes[new].addresses.client.to_string();
    ok(&cluster.nodes[1], &["node", "replace", "n1", "--with", &with]).await;
    let status = eventually("every package on the new node", || async {
        let (here, text) = (stored(&cluster.nodes[new])?, ok(&cluster.nodes[1], &["cluster", "status"]).await);
        if here == 2 && text.contains("packages: 2 of 2 on all 3 voters") { Ok(text) } else { Err(text) }
    })
    .await;
    assert!(!status.contains("push it again"), "{status}");
    let list = ok(&cluster.nodes[1], &["release", "list"]).await;
    assert_eq!(list.matches(" stored ").count(), 2, "{list}");
    assert_eq!(list.matches("3/3").count(), 2, "{list}");
    // A copy that vanished is fetched again, from whoever has it.
    let store = cluster.nodes[new].dir.join("blobs/sha256");
    let lost = std::fs::read_dir(&store).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&lost).unwrap();
    eventually("the lost copy is back", || async { if lost.exists() { Ok(()) } else { Err("not yet".into()) } }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_moved_are_noticed() {
    let mut cluster = TestCluster::form(3).await;
    cluster.nodes[2].kill();
    let moved = Addresses { peer: cluster.nodes[2].addresses.peer, ..Addresses::allocate() };
    cluster.nodes[2].addresses = moved.clone();
    cluster.nodes[2].start();
    eventually("the others know where it is", || async {
        let status = cluster.nodes[0].status().await?;
        let row = status.nodes.iter().find(|n| n.node_id == 3).ok_or("no row")?;
        let now = (row.client_addr == moved.client.to_string()) && (row.dns_addr == moved.dns.to_string());
        if now { Ok(()) } else { Err(format!("{row:?}")) }
    })
    .await;
}
