//! Golden texts: what a person reads.

use super::{deployment::instances, *};

fn pair(version: &str) -> Option<v1::Pair> {
    Some(v1::Pair { version: version.into(), ..Default::default() })
}

fn totals(requests: u64) -> Vec<v1::PairTotals> {
    let one = |name: &str, count| v1::Metric { name: name.into(), count, histogram: None };
    vec![v1::PairTotals { version: "2.0.0".into(), metrics: vec![one("requests", requests), one("errors", 0)] }]
}

fn canary() -> v1::Rollout {
    let step = |group: &str, detail: &str, status: &str| v1::Step {
        group: group.into(),
        detail: detail.into(),
        status: status.into(),
        started_at_ms: 190_000,
        ..Default::default()
    };
    let mut install = step("25 %", "install 25 %", "passed");
    install.kind = "install".into();
    // Too early to say anything, and not there to judge: not shown.
    install.evidence = Some(v1::Evidence { totals: totals(0), verdict: "undecided".into(), ..Default::default() });
    install.ended_at_ms = 193_500;
    install.batch = Some(v1::Batch { n: 1, added: vec!["140-0".into()], replaced: vec![], passed: true });
    let mut bake = step("25 %", "bake 15s", "running");
    (bake.kind, bake.judges) = ("bake".into(), true);
    bake.until_ms = 205_000;
    bake.evidence = Some(v1::Evidence { totals: totals(730), verdict: "not worse".into(), ..Default::default() });
    v1::Rollout {
        id: "r-110".into(),
        deployment: "production/shop".into(),
        from: pair("1.0.0"),
        to: pair("2.0.0"),
        strategy: "canary".into(),
        status: "active".into(),
        desired: 8,
        steps: vec![install, bake, step("50 %", "install 50 %", "pending")],
        waits: vec!["baking until 205.0 s".into()],
        ..Default::default()
    }
}

#[test]
fn a_rollout_shows_its_steps_and_what_it_waits_for() {
    let want = "\
r-110  production/shop  1.0.0 -> 2.0.0  canary  active

   GROUP  STEP          STATUS   TOOK
✓  25 %   install 25 %  passed   3.5 s  batch 1: 1 new, passed
●  25 %   bake 15s      running         9.1 s left; 2.0.0: 730 requests, 0 errors; not worse
   50 %   install 50 %  pending
waiting: baking until 205.0 s";
    assert_eq!(rollout(&canary(), 195_900), want);
}

#[test]
fn apply_says_what_comes_next() {
    let mut reply =
        v1::ApplyReply { deployment: "production/shop".into(), spec: 1, created: true, ..Default::default() };
    assert_eq!(
        applied(&reply, false),
        "production/shop created (spec 1); nothing runs yet: release push, then rollout start"
    );
    (reply.created, reply.changed, reply.spec) = (false, true, 2);
    reply.changes = vec!["rollout.bake: 5m -> 10m".into()];
    assert_eq!(
        applied(&reply, true),
        "production/shop would be changed (spec 2); nothing was changed\n  rollout.bake: 5m -> 10m"
    );
    reply.changed = false;
    reply.changes.clear();
    assert_eq!(applied(&reply, false), "production/shop unchanged (spec 2)");
}

#[test]
fn lists_are_plain_columns_and_say_what_to_do_when_empty() {
    let worker = |name: &str| v1::Worker {
        name: name.into(),
        status: "ready".into(),
        capacity: 100,
        instance_count: 2,
        pool_free: 6,
        pool_size: 8,
        ..Default::default()
    };
    let want = "\
NAME        STATUS  INSTANCES  ADDRESSES FREE
w1          ready   2/100      6/8
worker-two  ready   2/100      6/8";
    assert_eq!(workers(&[worker("w1"), worker("worker-two")], false), want);
    let absent = |all: &[&str]| all.iter().map(|a| (*a).to_string()).collect();
    let lacks = v1::Worker { pool_size: 2, absent: absent(&["10.9.9.1", "10.9.9.2"]), ..worker("w1") };
    let shown = workers(&[lacks, worker("w2")], false);
    assert!(shown.ends_with("\nw1: pool 2 of 4: 10.9.9.1, 10.9.9.2 are not on this machine"), "{shown}");
    let lacks = v1::Worker { host: "10.9.9.3".into(), absent: absent(&["10.9.9.3"]), ..worker("w1") };
    assert!(workers(&[lacks], false).contains("\nw1: host 10.9.9.3 is not on this machine"));
    assert!(workers(&[], false).contains("slipwayd agent"));
    assert!(deployments(&[], false).contains("slipway apply"));
}

#[test]
fn the_cluster_says_who_leads_or_that_nothing_can_change() {
    let node = |id: u64| v1::Node {
        node_id: id,
        name: format!("n{id}"),
        role: "voter".into(),
        leader: id == 2,
        ..Default::default()
    };
    let mut status = v1::StatusReply {
        name: "demo".into(),
        cluster_id: "c1".into(),
        zone: "slipway.internal".into(),
        node_id: 1,
        leader_id: 2,
        term: 4,
        applied_index: 77,
        quorum: true,
        nodes: vec![node(1), node(2)],
        warnings: vec!["n1 listens on 0.0.0.0:7652 without TLS".into()],
        ..Default::default()
    };
    let text = cluster(&status, false);
    assert!(
        text.starts_with("cluster demo (c1), zone slipway.internal: led by n2, term 4, quorum\nasked n1, applied 77"),
        "{text}"
    );
    assert!(text.ends_with("warning: n1 listens on 0.0.0.0:7652 without TLS"), "{text}");
    (status.leader_id, status.quorum) = (0, false);
    assert!(cluster(&status, false).contains("no leader, term 4, NO QUORUM"));
    let none = v1::StatusReply { warnings: status.warnings, ..Default::default() };
    let text = cluster(&none, false);
    assert!(text.starts_with("no cluster yet: `slipway cluster init`") && !text.contains("QUORUM"), "{text}");
    assert!(text.ends_with("without TLS"), "{text}");
}

#[test]
fn the_last_line_of_a_watch_carries_the_exit_code() {
    use crate::cli::{error, live::end};
    let serving = v1::Deployment {
        arms: vec![v1::Arm { role: "stable".into(), serving: 8, ..Default::default() }],
        ..Default::default()
    };
    let mut r = canary();
    r.status = "completed".into();
    let e = end(&r, Some(&serving), false);
    assert_eq!((e.text.as_str(), e.code), ("completed: 2.0.0 on 8 of 8", error::DONE));
    r.status = "rolled_back".into();
    r.reason = "errors of 2.0.0 30.8 % > 5 %".into();
    let e = end(&r, None, false);
    assert_eq!((e.text.as_str(), e.code), ("rolled back to 1.0.0: errors of 2.0.0 30.8 % > 5 %", error::ROLLED_BACK));
    assert_eq!(end(&r, None, true).code, error::DONE, "an operator who asked for it got it");
    r.status = "failed".into();
    assert_eq!(end(&r, None, false).code, error::FAILED);
}

#[test]
fn a_rollback_says_what_is_known_of_the_servers() {
    let server = |name: &str, state: &str, at_ms| v1::SwitchServer {
        node_id: 1,
        node: name.into(),
        status: state.into(),
        at_ms,
    };
    let mut r =
        v1::Rollout { id: "r-9".into(), started_at_ms: 1000, traffic_back_at_ms: 9000, ..v1::Rollout::default() };
    r.back =
        Some(v1::TrafficBack { index: 77, at_ms: 9000, from_version: "2.0.0".into(), ..v1::TrafficBack::default() });
    let open = rollout(&r, 9100);
    assert!(open.contains("fence: the servers' word that none answers with 2.0.0 is still out"), "{open}");
    let servers = vec![server("n1", "served", 9012), server("n3", "lease-over", 0)];
    let back = v1::TrafficBack { ended: true, servers, ..r.back.clone().unwrap_or_default() };
    r.back = Some(v1::TrafficBack { fenced: true, fenced_at_ms: 12_000, clear_at_ms: 13_000, ..back.clone() });
    let told = rollout(&r, 20_000);
    let want = "fenced 3.0 s after that: no server answers with 2.0.0 (n1 12 ms, n3 by the end of its lease); caches clear after 4.0 s";
    assert!(told.contains(want), "{told}");
    let servers = vec![server("n1", "served", 9012), server("n3", "unknown", 0)];
    r.back = Some(v1::TrafficBack { servers, note: "n3 may go on answering with 2.0.0".into(), ..back });
    let told = rollout(&r, 20_000);
    assert!(told.contains("fenced=false: n3 may go on answering with 2.0.0 (n1 12 ms, n3 unheard)"), "{told}");
}

#[test]
fn times_say_their_zone_and_addresses_with_ports_can_be_read_back() {
    let at = |zone: &str| wall_in(1_782_820_800_000, &jiff::tz::TimeZone::get(zone).unwrap());
    assert_eq!(at("UTC"), "2026-06-30 12:00:00Z");
    assert_eq!(at("Europe/Berlin"), "2026-06-30 14:00:00+02:00");
    assert_eq!(wall_in(0, &jiff::tz::TimeZone::UTC), "-");
    let instance = |address: &str| v1::Instance {
        id: "5-0".into(),
        address: address.into(),
        ports: [("http".to_string(), 8080)].into(),
        ..Default::default()
    };
    assert!(instances(&[instance("::1")], false).contains("[::1]:8080"));
    assert!(instances(&[instance("127.0.0.1")], false).contains(" 127.0.0.1:8080"));
}

#[test]
fn an_event_names_the_operator_that_caused_it_and_nobody_else() {
    let of = |actor: &str, text: &str| {
        let deployment = "production/shop".into();
        let e = v1::Event { index: 52, deployment, text: text.into(), actor: actor.into(), ..Default::default() };
        event(&e).split("production/shop  ").last().unwrap_or_default().to_string()
    };
    assert_eq!(of("operator:local", "spec 2"), "spec 2, by operator:local");
    assert_eq!(of("operator:ann", "r-52 is aborted: by operator:ann"), "r-52 is aborted: by operator:ann");
    assert_eq!(of("leader", "traffic 2.0.0 10 %"), "traffic 2.0.0 10 %");
    assert_eq!(of("node:2", "worker w1: registered"), "worker w1: registered");
}
