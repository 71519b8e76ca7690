//! Each strategy from the CLI to the processes, with a client that asks DNS before every request and loses none.

use std::time::Duration;

use hickory_proto::op::ResponseCode;

use crate::lab::{EventWatch, Lab, Load, SHOP, clean, list, number, spec, text};

const PACE: Duration = Duration::from_millis(15);

fn load(lab: &Lab) -> Load {
    Load::start(lab.dns_servers(), SHOP, PACE)
}

fn kinds(rollout: &serde_json::Value) -> Vec<&str> {
    list(rollout, "steps").iter().map(|s| text(s, "kind")).collect()
}

#[test]
fn direct_then_rolling() {
    let lab = Lab::new(3, 2);
    let absent = lab.dns(1, SHOP).unwrap();
    assert_eq!(absent.code, ResponseCode::NXDomain);
    lab.apply(&spec("strategy: direct, bake: 1s, min_requests: 1"));
    lab.push("1.0.0");
    lab.push("2.0.0");
    let first = lab.roll("1.0.0", &[]).ok().json();
    assert_eq!(text(&first, "strategy"), "direct");
    clean(&first);
    lab.runs(&[("1.0.0", 2)]);
    lab.dns_names(SHOP, "1.0.0", 4);
    lab.dns_names(&format!("stable.{SHOP}"), "1.0.0", 4);

    let going = load(&lab);
    let second = lab.roll("2.0.0", &["--strategy", "direct"]).ok().json();
    clean(&second);
    assert_eq!(kinds(&second), ["stage", "install", "bake", "promote", "retire"]);
    lab.runs(&[("2.0.0", 2)]);
    lab.dns_names(SHOP, "2.0.0", 4);

    lab.push("3.0.0");
    let third = lab.roll("3.0.0", &["--strategy", "rolling", "--parallelism", "1", "--min-requests", "0"]).ok().json();
    clean(&third);
    let install = list(&third, "steps").iter().find(|s| s["kind"] == "install").unwrap();
    assert_eq!(number(&install["batch"], "n"), 4, "one instance a batch: {install:#}");
    lab.runs(&[("3.0.0", 2)]);
    lab.dns_names(SHOP, "3.0.0", 4);
    let counts = going.end();
    assert!(counts.failed.is_empty() && counts.bad.is_empty(), "{counts:#?}");
    assert_eq!(counts.good.len(), 3, "all three versions answered: {counts:?}");
    lab.finish();
}

#[test]
fn canary_by_exact_shares() {
    let lab = Lab::new(3, 2);
    lab.apply(&spec("strategy: canary, steps: [25, 50, 100], bake: 3s, min_requests: 10, max_error_rate: 5%"));
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.roll("1.0.0", &[]).ok();
    let going = load(&lab);
    let id = lab.start("2.0.0", &[]);
    // In the first bake the deck holds one canary among four answers, at every node.
    let mut watch = EventWatch::after(&lab, 0);
    watch.until("the bake of 25 %", Duration::from_secs(40), |e| {
        e["rollout"] == id.as_str() && e["fields"]["kind"] == "bake" && e["fields"]["status"] == "running"
    });
    let stable = lab.dns(1, &format!("stable.{SHOP}")).unwrap().addresses;
    let canary = lab.dns(1, &format!("canary.{SHOP}")).unwrap().addresses;
    assert_eq!((stable.len(), canary.len()), (4, 1), "one of four beside the old ones");
    assert_eq!(lab.version_at(*canary.first().unwrap()), "2.0.0");
    for n in 1..=3 {
        let answers: Vec<_> = (0..40).map(|_| lab.dns(n, SHOP).unwrap().addresses).collect();
        let hits = answers.iter().filter(|a| **a == canary).count();
        // The background client draws from the same decks: a share, not an exact count.
        assert!((4..=16).contains(&hits), "{hits} of 40 at n{n}");
        assert!(answers.iter().all(|a| *a == canary || a.is_subset(&stable)), "one version an answer");
    }
    assert_eq!(text(&lab.rollout(&id), "status"), "active");
    let end = lab.ends(&id, "completed");
    clean(&end);
    let mut want = vec!["stage"];
    for _ in 0..3 {
        want.extend(["install", "route", "bake"]);
    }
    want.extend(["promote", "retire"]);
    assert_eq!(kinds(&end), want);
    for bake in list(&end, "steps").iter().filter(|s| s["kind"] == "bake") {
        let totals = list(&bake["evidence"], "totals");
        let new = totals.iter().find(|t| t["version"] == "2.0.0").map_or(&[][..], |t| list(t, "metrics"));
        let seen = new.iter().find(|m| m["name"] == "requests").map_or(0, |m| number(m, "count"));
        assert!(seen >= 10, "a verdict stands on counted requests: {bake:#}");
    }
    lab.runs(&[("2.0.0", 2)]);
    lab.dns_names(SHOP, "2.0.0", 4);
    let counts = going.end();
    assert!(counts.failed.is_empty() && counts.bad.is_empty(), "{counts:#?}");
    drop(watch);
    lab.finish();
}

#[test]
fn blue_green_back_and_forward() {
    let lab = Lab::new(3, 2);
    lab.apply(&spec(
        "strategy: blue-green, warm_up: 1s, smoke: /smoke, monitor: 1s, grace: 10m, bake: 1s, min_requests: 1",
    ));
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.roll("1.0.0", &["--strategy", "direct"]).ok();
    let going = load(&lab);
    let there = lab.roll("2.0.0", &[]).ok().json();
    clean(&there);
    assert_eq!(kinds(&there), ["stage", "install", "bake", "smoke", "switch", "bake", "promote", "retire"]);
    lab.dns_names(SHOP, "2.0.0", 4);
    lab.dns_names(&format!("previous.{SHOP}"), "1.0.0", 4);
    lab.runs(&[("1.0.0", 2), ("2.0.0", 2)]);

    // Back by one command; traffic moves in the command's own entry.
    lab.slipway(&["rollout", "rollback", "production/shop", "--watch", "--within", "60s"]).ok();
    lab.dns_names(SHOP, "1.0.0", 4);
    lab.runs(&[("1.0.0", 2), ("2.0.0", 2)]);
    let id = text(&there, "id").to_string();
    assert_eq!(text(&lab.rollout(&id), "status"), "completed", "a rollout that ended never changes");
    lab.slipway(&["rollout", "rollback", &id]).exits(1).says(&[&id, "undone"]);

    // And forward again: what runs is used.
    let before: Vec<_> = lab.instances();
    let forward = lab.roll("2.0.0", &[]).ok().json();
    clean(&forward);
    lab.dns_names(SHOP, "2.0.0", 4);
    assert_eq!(lab.instances(), before, "nothing was started or stopped");
    let counts = going.end();
    assert!(counts.failed.is_empty() && counts.bad.is_empty(), "{counts:#?}");
    lab.finish();
}

#[test]
fn operator_verbs() {
    let lab = Lab::new(3, 1);
    lab.apply(&spec("strategy: canary, steps: [50, 100], bake: 10m, min_requests: 0"));
    for version in ["1.0.0", "2.0.0"] {
        lab.push(version);
    }
    lab.roll("1.0.0", &["--bake", "1s"]).ok();
    let mut watch = EventWatch::after(&lab, 0);
    let baking = |watch: &mut EventWatch, id: &str| {
        watch.until("a bake", Duration::from_secs(40), |e| {
            e["rollout"] == id && e["fields"]["kind"] == "bake" && e["fields"]["status"] == "running"
        });
    };
    // Paused, resumed, promoted step by step and to the end.
    let id = lab.start("2.0.0", &[]);
    baking(&mut watch, &id);
    let why = lab.slipway(&["rollout", "explain", "production/shop", "-o", "json"]).ok().json();
    assert!(list(&why, "waits").iter().any(|w| w.as_str().unwrap().contains("bak")), "{why:#}");
    lab.slipway(&["rollout", "pause", &id]).ok();
    assert_eq!(text(&lab.rollout(&id), "status"), "paused");
    lab.slipway(&["rollout", "resume", &id]).ok();
    lab.slipway(&["rollout", "promote", &id]).ok();
    baking(&mut watch, &id);
    // Taken back by an operator: everything at the old version, and that was wished for.
    lab.slipway(&["service", "rollback", "shop", "--watch", "--within", "60s"]).ok();
    assert_eq!(text(&lab.rollout(&id), "status"), "rolled_back");
    lab.runs(&[("1.0.0", 2)]);
    lab.dns_names(SHOP, "1.0.0", 2);
    // Aborted: traffic on stable, candidates stay to be looked at.
    let id = lab.start("2.0.0", &[]);
    baking(&mut watch, &id);
    lab.slipway(&["rollout", "abort", &id]).ok();
    assert_eq!(text(&lab.rollout(&id), "status"), "aborted");
    lab.dns_names(SHOP, "1.0.0", 2);
    lab.runs(&[("1.0.0", 2), ("2.0.0", 1)]);
    // Promoted at once.
    let id = lab.start("2.0.0", &[]);
    baking(&mut watch, &id);
    lab.slipway(&["service", "canary", "promote", "shop", "--watch", "--within", "60s"]).ok();
    assert_eq!(text(&lab.rollout(&id), "status"), "completed");
    lab.runs(&[("2.0.0", 2)]);
    lab.dns_names(SHOP, "2.0.0", 2);
    let history = lab.slipway(&["service", "history", "shop", "-o", "json"]).ok().json();
    let ends: Vec<&str> = history.as_array().unwrap().iter().map(|r| text(r, "status")).collect();
    assert_eq!(ends, ["completed", "aborted", "rolled_back", "completed"]);
    let logs = lab.slipway(&["logs", "production/shop"]).ok();
    assert!(logs.out.contains("shop 2.0.0 listens on"), "{}", logs.out);
    drop(watch);
    lab.finish();
}
