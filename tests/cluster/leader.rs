//! The leader killed with -9 at the beginning of every step of a canary; a node paused. No step is repeated or skipped.

use std::time::Duration;

use serde_json::Value;

use crate::lab::{EventWatch, Lab, Load, SHOP, SOON, clean, list, number, spec, step_began, text};

/// Steps of the canary below, in order.
const KINDS: [&str; 9] = ["stage", "install", "route", "bake", "install", "route", "bake", "promote", "retire"];

/// Events of one rollout's steps: each began once and passed once, in order; nothing else.
fn once_and_in_order(events: &[Value], rollout: &str) {
    let steps = events.iter().filter(|e| e["kind"] == "step_changed" && e["rollout"] == rollout);
    let told: Vec<String> =
        steps.map(|e| format!("{} {}", text(&e["fields"], "step"), text(&e["fields"], "status"))).collect();
    let of_step = |n: usize| {
        let began = (KINDS[n] != "promote").then(|| format!("{n} running"));
        began.into_iter().chain([format!("{n} passed")])
    };
    let want: Vec<String> = (0..KINDS.len()).flat_map(of_step).collect();
    assert_eq!(told, want, "every step begins once and passes once, in order");
}

/// A canary for each of `steps`; the leader dies as that step begins.
fn killed_at(steps: &[usize]) {
    let mut lab = Lab::new(3, 2);
    lab.apply(&spec("strategy: canary, steps: [50, 100], bake: 2s, min_requests: 0"));
    lab.push("1.0.0");
    lab.roll("1.0.0", &[]).ok();
    let mut version = 1;
    for step in steps {
        version += 1;
        let to = format!("{version}.0.0");
        lab.push(&to);
        let leader = lab.leader();
        let load = Load::start(lab.dns_servers(), SHOP, Duration::from_millis(20));
        let mut watch = EventWatch::after(&lab, number(&lab.status().unwrap(), "applied_index"));
        let id = lab.start(&to, &[]);
        watch.until(&format!("step {step} of {id} begins"), SOON, |e| {
            let promoting = e["rollout"] == id.as_str() && e["fields"]["status"] == "promoting";
            if KINDS[*step] == "promote" { promoting } else { step_began(e, &id, *step) }
        });
        lab.nodes[leader].kill();
        eprintln!("killed n{} as step {step} ({}) of {id} began", leader + 1, KINDS[*step]);
        let end = lab.ends(&id, "completed");
        let now = lab.leader();
        assert_ne!(now, leader, "another one leads");
        let kinds: Vec<&str> = list(&end, "steps").iter().map(|s| text(s, "kind")).collect();
        assert_eq!(kinds, KINDS);
        clean(&end);
        watch.until(&format!("{id} has completed"), SOON, |e| {
            e["rollout"] == id.as_str() && e["fields"]["status"] == "completed"
        });
        once_and_in_order(&watch.seen, &id);
        // What was begun before the death is as long as it was to be: no bake is cut short.
        for bake in list(&end, "steps").iter().filter(|s| s["kind"] == "bake") {
            assert!(number(bake, "ended_at_ms") - number(bake, "started_at_ms") >= 2000, "{bake:#}");
        }
        let counts = load.end();
        assert!(counts.failed.is_empty() && counts.bad.is_empty(), "step {step}: {counts:#?}");
        lab.nodes[leader].start();
        lab.caught_up();
        lab.runs(&[(&to, 2)]);
        lab.dns_names(SHOP, &to, 4);
    }
    lab.finish();
}

#[test]
fn killed_while_staging_installing_and_routing() {
    killed_at(&[0, 1, 2]);
}

#[test]
fn killed_while_baking_and_at_the_next_percentage() {
    killed_at(&[3, 4, 5]);
}

#[test]
fn killed_in_the_last_bake_promoting_and_retiring() {
    killed_at(&[6, 7, 8]);
}

/// Stops a node for three seconds in the first bake; the rollout completes as if nothing had been.
fn paused_in_a_bake(pick: impl Fn(usize) -> usize) {
    let mut lab = Lab::new(3, 1);
    lab.apply(&spec("strategy: canary, steps: [50, 100], bake: 3s, min_requests: 0"));
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.roll("1.0.0", &[]).ok();
    let node = pick(lab.leader());
    let mut watch = EventWatch::after(&lab, number(&lab.status().unwrap(), "applied_index"));
    let id = lab.start("2.0.0", &[]);
    watch.until("the first bake", SOON, |e| step_began(e, &id, 3));
    lab.nodes[node].pause();
    std::thread::sleep(Duration::from_secs(3));
    lab.nodes[node].resume();
    let end = lab.ends(&id, "completed");
    clean(&end);
    lab.caught_up();
    lab.leader();
    lab.runs(&[("2.0.0", 2)]);
    lab.dns_names(SHOP, "2.0.0", 2);
    drop(watch);
    lab.finish();
}

#[test]
fn the_leader_paused() {
    paused_in_a_bake(|leader| leader);
}

#[test]
fn a_follower_paused() {
    paused_in_a_bake(|leader| (leader + 1) % 3);
}
