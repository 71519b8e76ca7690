//! The secret of DNS cookies: one for the whole cluster, changed by a word, and shown nowhere.

use std::{collections::BTreeSet, time::Duration};

use tokio::{net::UdpSocket, time::timeout};

use crate::{
    members::ok,
    support::{TestCluster, TestNode, eventually},
};

/// The zone's SOA with a cookie; what the server sends back as one: ours and its own.
async fn ask(node: &TestNode, cookie: &[u8]) -> Result<Vec<u8>, String> {
    let mut query = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in ["slipway", "internal"] {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.bytes());
    }
    query.extend([0, 0, 6, 0, 1]);
    // OPT: 1,232 octets, version 0, one option.
    query.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
    let length = u8::try_from(cookie.len()).unwrap();
    query.extend([0, length + 4, 0, 10, 0, length]);
    query.extend(cookie);
    let socket = UdpSocket::bind("127.0.0.1:0").await.map_err(|e| e.to_string())?;
    socket.send_to(&query, node.addresses.dns).await.map_err(|e| e.to_string())?;
    let mut answer = [0; 2048];
    let got = timeout(Duration::from_secs(2), socket.recv(&mut answer)).await;
    let n = got.map_err(|_| "no answer".to_string())?.map_err(|e| e.to_string())?;
    let at = answer[..n].windows(4).position(|w| w == [0, 10, 0, 24]).ok_or("no cookie in the answer")?;
    Ok(answer[at + 4..at + 28].to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_accepts_what_another_made_and_for_an_hour_what_came_before() {
    let mut cluster = TestCluster::form(3).await;
    let ours = [1, 2, 3, 4, 5, 6, 7, 8];
    // A good cookie that is young comes back as it is, which no server can do that has another secret.
    let shared = async |cookie: Vec<u8>| {
        for node in &cluster.nodes {
            eventually("the cookie is accepted", || async {
                let back = ask(node, &cookie).await?;
                if back == cookie { Ok(()) } else { Err(format!("{}: {back:?}, sent {cookie:?}", node.name)) }
            })
            .await;
        }
    };
    // Until the leader has generated a secret each node has its own.
    let first = eventually("all have one secret", || async {
        let cookie = ask(&cluster.nodes[0], &ours).await?;
        for node in &cluster.nodes {
            if ask(node, &cookie).await? != cookie {
                return Err(format!("{} has another secret", node.name));
            }
        }
        Ok(cookie)
    })
    .await;
    let index = async || cluster.nodes[2].status().await.map(|s| s.dns_cookie_index);
    let before = index().await.unwrap();
    assert!(before > 0);
    let said = ok(&cluster.nodes[1], &["cluster", "dns-cookie", "rotate"]).await;
    assert!(said.contains("good for an hour"), "{said}");
    eventually("another secret", || async {
        let now = index().await?;
        if now > before { Ok(()) } else { Err(format!("still of entry {now}")) }
    })
    .await;
    let second = ask(&cluster.nodes[2], &ours).await.unwrap();
    shared(second).await;
    shared(first).await;
    // What every node has on its disk stands in no node's log and in nothing that a person is shown, however it might
    // be written.
    let status = ok(&cluster.nodes[1], &["cluster", "status", "-o", "json"]).await;
    let mut secrets = BTreeSet::new();
    for node in &mut cluster.nodes {
        node.kill();
        let cookies = slipway::raft::open_stopped(&node.dir).unwrap().state.cookies;
        let both = cookies.newest.into_iter().chain(cookies.before.map(|(secret, _)| secret));
        secrets.extend(both.map(|secret| *secret.bytes()));
    }
    assert_eq!(secrets.len(), 2, "the newest and the one before");
    for secret in &secrets {
        let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        let list = format!("{secret:?}");
        for shown in cluster.nodes.iter().map(|n| std::fs::read_to_string(n.log()).unwrap()).chain([status.clone()]) {
            assert!(shown.len() > 100, "something was said");
            let written = shown.to_lowercase().contains(&hex) || shown.contains(list.trim_matches(['[', ']']));
            assert!(!written, "a secret is shown");
        }
    }
}
