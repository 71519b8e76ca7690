//! A wall clock that is set back by an hour under a running leader: cluster time goes on, and nothing that was agreed
//! comes undone.

use std::path::{Path, PathBuf};

use slipway::wire::v1;

use crate::support::{TestCluster, TestNode, apply, eventually, spec};

const HOUR_MS: u64 = 3_600_000;

/// libfaketime, which lies to a process about the wall clock; with `FAKETIME_DONT_FAKE_MONOTONIC` about nothing else,
/// as a clock that is set does.
fn faketime() -> Option<PathBuf> {
    let dirs = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"];
    let found = dirs.iter().map(|d| Path::new(d).join("faketime/libfaketimeMT.so.1"));
    found.into_iter().find(|lib| lib.exists())
}

/// The file that says how wrong a node's wall clock is.
fn lie(node: &TestNode) -> PathBuf {
    node.dir.with_extension("faketime")
}

fn change(bake: u32) -> v1::ApplyRequest {
    apply(&spec("shop", &format!("{{bake: {bake}s}}")))
}

#[tokio::test]
async fn a_clock_set_back_an_hour_takes_nothing_back() {
    let Some(lib) = faketime() else {
        crate::lab::skip("a_clock_set_back_an_hour_takes_nothing_back", "libfaketime is not here (Debian: faketime)");
        return;
    };
    let mut cluster = TestCluster::idle_where(3, |node| {
        let file = lie(node);
        std::fs::write(&file, "+0\n").unwrap();
        node.environment = vec![
            ("LD_PRELOAD", lib.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
        ];
    })
    .await
    .formed()
    .await;
    let leader = cluster.leader(None).await;
    let began = std::time::Instant::now();

    // A change with a request id, to be repeated when the clock is another.
    let keyed = |status: &v1::StatusReply| v1::ApplyRequest {
        request: Some(v1::RequestMeta { request_id: "before-the-clock".into(), not_after_ms: status.now_ms + 300_000 }),
        ..apply(&spec("shop", "{}"))
    };
    let before = cluster.nodes[leader].status().await.unwrap();
    let request = keyed(&before);
    let first = cluster.nodes[leader].catalog().await.apply(request.clone()).await.unwrap().into_inner();
    let right = cluster.nodes[leader].status().await.unwrap();

    std::fs::write(lie(&cluster.nodes[leader]), "-1h\n").unwrap();
    let mut newest = right.now_ms;
    for bake in 1..=5 {
        let node = &cluster.nodes[leader];
        node.catalog().await.apply(change(bake)).await.unwrap();
        let status = node.status().await.unwrap();
        assert!(status.now_ms >= newest, "cluster time went from {newest} to {}", status.now_ms);
        newest = status.now_ms;
        assert_eq!(status.leader_id, right.leader_id, "nobody lost the leadership over it");
    }
    let wrong = cluster.nodes[leader].status().await.unwrap();
    assert!(wrong.wall_ms + HOUR_MS / 2 < right.wall_ms, "the clock was set: {} to {}", right.wall_ms, wrong.wall_ms);
    eventually("the jump is said", || async {
        let said = cluster.nodes[leader].status().await?.warnings;
        if said.iter().any(|w| w.contains("clock jumped back by")) { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
    // A repeat is still known, and a new deadline is still judged by cluster time.
    let again = cluster.nodes[leader].catalog().await.apply(request).await.unwrap().into_inner();
    let (again, first) = (again.receipt.unwrap(), first.receipt.unwrap());
    assert!(again.repeated && !first.repeated && again.index == first.index, "{again:?} is not {first:?}");

    // The next leader has the right clock, and then one that starts with the wrong one comes back.
    cluster.nodes[leader].kill();
    let second = cluster.leader(Some(leader)).await;
    eventually("a change under the next leader", || async {
        let node = &cluster.nodes[second];
        node.catalog().await.apply(change(9)).await.map_err(|e| e.to_string())
    })
    .await;
    cluster.nodes[leader].start();
    cluster.ready(&cluster.nodes[leader]).await;
    let last = cluster.nodes[leader].status().await.unwrap();
    let real = u64::try_from(began.elapsed().as_millis()).unwrap();
    assert!(last.now_ms >= newest, "{newest} to {}", last.now_ms);
    assert!(last.now_ms <= before.now_ms + real + 2_000, "it went on by {} ms in {real}", last.now_ms - before.now_ms);
}
