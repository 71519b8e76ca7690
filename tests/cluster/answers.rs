//! `slipway dns`: why a name is answered as it is, and what each node says, with a node that is gone.

use crate::lab::{Lab, SHOP, SOON, Said, eventually, list, number, spec, text};

fn shows(said: &Said, wants: &[&str]) {
    for want in wants {
        assert!(said.out.contains(want), "{}: does not show {want:?}:\n{}{}", said.line, said.out, said.err);
    }
}

#[test]
fn an_answer_is_explained_and_every_node_is_compared() {
    let mut lab = Lab::new(3, 2);
    lab.apply(&spec("strategy: canary, steps: [50, 100], bake: 10m, min_requests: 0"));
    for version in ["1.0.0", "2.0.0"] {
        lab.push(version);
    }
    lab.roll("1.0.0", &["--bake", "1s"]).ok();
    // One resolver has all the answers: the plan says how much may swing at once.
    lab.dns(1, SHOP).unwrap();
    let said = lab.slipway(&["--node", &lab.client(1), "rollout", "plan", "production/shop", "--to", "2.0.0"]).ok();
    shows(&said, &["few DNS clients make the steps coarse", "100.0 %", "50.0 %"]);
    lab.start("2.0.0", &[]);
    let arms = |t: &serde_json::Value| -> Vec<(String, u64)> {
        list(t, "arms").iter().map(|a| (text(a, "version").to_string(), number(a, "weight_bp"))).collect()
    };
    let traced = |args: &[&str]| {
        let mut all = vec!["dns", "trace"];
        all.extend(args);
        lab.slipway(&[&all[..], &["-o", "json"]].concat())
    };
    // Half the traffic, as each node's DNS knows it.
    for node in ["n1", "n2", "n3"] {
        eventually("half the traffic on the canary", SOON, || {
            let t = traced(&["production/shop", "--on", node]).json();
            let want = vec![("1.0.0".to_string(), 5000), ("2.0.0".to_string(), 5000)];
            if arms(&t) == want && text(&t, "node") == node { Ok(()) } else { Err(t.to_string()) }
        });
    }
    let t = traced(&["shop"]).ok().json();
    assert_eq!((text(&t, "outcome"), text(&t, "role")), ("answer", ""), "a weighted answer is drawn anew: {t}");
    assert!(text(&t, "because").contains("deck"), "{t}");
    assert!(list(&t, "instances").iter().all(|i| i["answering"] == true), "{t}");

    // A key has one version on every node, the one that DNS gives it.
    for key in ["alice", "bob", "carol"] {
        let name = format!("k-{key}.shop.production.svc.slipway.internal");
        let seen: Vec<(String, u64)> = ["n1", "n2", "n3"]
            .iter()
            .map(|node| traced(&["shop", "--key", key, "--on", node]).ok().json())
            .map(|t| (text(&t, "version").to_string(), number(&t, "slot")))
            .collect();
        assert!(seen.iter().all(|s| *s == seen[0]), "{key}: {seen:?}");
        let answered = lab.dns(2, &name).unwrap();
        assert!(!answered.addresses.is_empty());
        for ip in answered.addresses {
            assert_eq!(lab.version_at(ip), seen[0].0, "{key}");
        }
    }
    let t = traced(&["v-1-0-0.shop.production.svc.slipway.internal"]).ok().json();
    let left_out: Vec<&serde_json::Value> = list(&t, "instances").iter().filter(|i| i["answering"] == false).collect();
    assert!(!left_out.is_empty() && left_out.iter().all(|i| text(i, "version") == "2.0.0"), "{t}");
    // On one screen, for people.
    let said = lab.slipway(&["dns", "trace", "shop", "--key", "alice", "-o", "wide"]).ok();
    shows(&said, &["k-alice", "slot", "1.0.0", "2.0.0", "generation", "TTL 1 s", "lease", "w2"]);
    // What has no answer says why, by its exit code too.
    let nothing = lab.slipway(&["dns", "trace", "nothing.production.svc.slipway.internal"]).exits(1);
    shows(&nothing, &["nxdomain", "no service nothing"]);
    shows(&lab.slipway(&["dns", "trace", "example.com"]).exits(1), &["refused"]);
    lab.slipway(&["dns", "trace", "shop", "--on", "n9"]).exits(1).says(&["n9", "n1"]);

    // What was answered stands beside what is wanted, of all nodes together: whole decks of two.
    for _ in 0..10 {
        lab.dns(1, SHOP).unwrap();
        lab.dns(3, SHOP).unwrap();
    }
    let route = lab.slipway(&["traffic", "show", "production/shop", "-o", "json"]).ok().json();
    let answers: Vec<u64> = list(&route, "shares").iter().map(|s| number(s, "answer_count")).collect();
    assert!(answers.iter().sum::<u64>() >= 20 && answers.iter().all(|n| *n >= 8), "{route}");
    assert!(number(&route, "clients") >= 1 && number(&route, "spread_bp") > 0, "{route}");
    shows(&lab.slipway(&["traffic", "show", "production/shop"]).ok(), &["ANSWERED", "DNS clients lately", "spread"]);

    // And what instances count, at every node, although the leader alone hears all workers.
    for slug in ["v-1-0-0", "v-2-0-0"] {
        for ip in lab.dns(1, &format!("{slug}.shop.production.svc.slipway.internal")).unwrap().addresses {
            (0..5).for_each(|_| drop(lab.version_at(ip)));
        }
    }
    for n in 1..=3 {
        eventually("requests by version", SOON, || {
            let node = ["--node", &lab.client(n), "traffic", "show", "production/shop", "-o", "json"];
            let route = lab.slipway(&node).ok().json();
            let of = |s: &serde_json::Value, field: &str| s[field].as_u64().unwrap_or(0);
            let counted = |s: &serde_json::Value| of(s, "request_count") >= 5 && of(s, "requested_bp") > 0;
            if list(&route, "shares").iter().all(counted) { Ok(()) } else { Err(route.to_string()) }
        });
    }

    let all = lab.slipway(&["dns", "query", "stable.shop.production.svc.slipway.internal", "-o", "json"]).ok().json();
    let servers = list(&all, "servers");
    assert_eq!(servers.len(), 3, "{all}");
    for s in servers {
        assert_eq!((&s["answers"], &s["behind"]), (&servers[0]["answers"], &serde_json::Value::Bool(false)), "{all}");
        assert_eq!(number(s, "generation"), number(&servers[0], "generation"), "{all}");
    }
    let leader = lab.leader();
    let gone = (leader + 1) % 3;
    lab.nodes[gone].kill();
    let said = lab.slipway(&["dns", "query", "production/shop", "--type", "srv"]).exits(1);
    shows(&said, &[&format!("n{} ", gone + 1), "8080", "its DNS at"]);
    lab.nodes[gone].start();
    lab.caught_up();
    lab.slipway(&["rollout", "abort", "production/shop"]).ok();
    lab.finish();
}
