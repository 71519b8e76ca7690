//! Logs of instances that failed, ended, or are on a worker that is silent; and of very many instances of one worker at
//! once: all answer, and the worker stays in service.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::lab::{Lab, Release, SOON, Said, eventually, number, package, spec, text};

/// Most instances of one deployment on a worker.
const EACH: usize = 100;
/// Addresses of a worker's pool in this test at most.
const MOST: usize = 200;

#[test]
fn logs_of_very_many_instances_all_come_and_the_worker_stays_in_service() {
    let many: usize = std::env::var("SLIPWAY_LOGS_OF").map_or(30, |n| n.parse().unwrap());
    assert!((1..=MOST).contains(&many), "SLIPWAY_LOGS_OF={many}: from 1 to {MOST}");
    let mut lab = Lab::new(1, 0);
    let config = lab.agent_config_with(1, u8::try_from(many).unwrap()) + &format!("capacity = {many}\n");
    lab.add_agent(1, &config);
    lab.workers_ready();
    let deployments = many.div_ceil(EACH);
    let mut services = Vec::new();
    for n in 0..deployments {
        let service = if n == 0 { "shop".into() } else { format!("shop{n}") };
        let count = EACH.min(many - n * EACH);
        let text = spec("strategy: rolling, max_surge: 100, bake: 0s, deadline: 120s");
        let text = text.replace("service: shop", &format!("service: {service}"));
        lab.apply(&text.replace("per_worker: 2", &format!("per_worker: {count}")));
        lab.push_to(&service, &Release { version: "1.0.0", settings: "" });
        let deployment = format!("production/{service}");
        let start = ["rollout", "start", &deployment, "--to", "1.0.0", "--watch", "--within", "150s"];
        lab.slipway(&start).ok();
        services.push((deployment, count));
    }
    eventually("all run", SOON, || {
        let n = lab.instances().len();
        if n == many { Ok(()) } else { Err(format!("{n} do")) }
    });
    let ask = |(service, count): &(String, usize)| {
        let said = lab.slipway(&["logs", service, "-n", "20"]).ok();
        assert_eq!(said.err, "");
        let said = said.out.lines().filter(|l| l.contains(" ! ") && l.contains("listens on"));
        let from: BTreeSet<String> = said.map(|l| l.split(' ').nth(2).unwrap().to_owned()).collect();
        assert_eq!(from.len(), *count, "of {service} answered");
        from
    };
    let asked = AtomicBool::new(true);
    let answered: BTreeSet<String> = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut looks = 0;
            while looks == 0 || asked.load(Ordering::Relaxed) {
                let said = lab.slipway(&["worker", "list", "-o", "json"]).ok().json();
                let worker = said.as_array().unwrap()[0].clone();
                assert_eq!(text(&worker, "status"), "ready", "{worker:#}");
                looks += 1;
            }
        });
        // Twice at once.
        let ask = &ask;
        let asking: Vec<_> = services.iter().chain(&services).map(|s| scope.spawn(move || ask(s))).collect();
        let all: Vec<_> = asking.into_iter().map(|t| t.join()).collect();
        asked.store(false, Ordering::Relaxed);
        looking.join().unwrap();
        all.into_iter().flat_map(Result::unwrap).collect()
    });
    assert_eq!(answered.len(), many);
    // One session all the while: the agent was never given up.
    assert_eq!(lab.agents[0].said().matches("session open").count(), 1, "{}", lab.agents[0].said());
    lab.finish();
}

fn lines(said: &Said) -> Vec<Value> {
    said.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// From which instances lines came, in their order, without repeats.
fn instances(said: &Said) -> Vec<String> {
    let mut all: Vec<String> = lines(said).iter().map(|l| text(l, "instance").to_string()).collect();
    all.dedup();
    all
}

#[test]
fn failed_and_ended_and_silent_instances_are_told_and_delay_nobody() {
    let lab = Lab::new(1, 2);
    lab.workers_ready();
    lab.apply(&spec("strategy: rolling, max_surge: 1, failure_action: pause"));
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.roll("1.0.0", &[]).ok();
    let ask = |args: &[&str]| lab.slipway(&[&["logs"], args, &["-o", "json"]].concat());
    let first = ask(&["shop"]).ok();
    let old = instances(&first);
    let mut sorted = old.clone();
    sorted.sort_by_key(|id| id.split('-').map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>());
    assert!(old.len() == 4 && old == sorted, "{old:?}");
    for line in lines(&first) {
        assert!(number(&line, "wall_ms") > 1_600_000_000_000 && text(&line, "version") == "1.0.0", "{line}");
        assert!(line.get("request").is_none() && text(&line, "worker").starts_with('w'), "{line}");
    }

    // One that fails before it writes anything: it was waited for.
    let dir = package(lab.dir(), &Release { version: "3.0.0", settings: "" });
    std::fs::write(dir.join("bin/shop"), "#!/bin/sh\nexit 3\n").unwrap();
    lab.slipway(&["release", "push", "shop", "3.0.0", dir.to_str().unwrap()]).ok();
    let bad = lab.start("3.0.0", &[]);
    eventually("it is paused", SOON, || {
        let rollout = lab.rollout(&bad);
        if text(&rollout, "status") == "paused" { Ok(()) } else { Err(rollout.to_string()) }
    });
    let failed = ask(&["shop"]).ok().says(&["(3.0.0 on w", ") wrote nothing: exited with status 3"]);
    assert_eq!(instances(&failed), old);
    assert!(failed.took < Duration::from_secs(4), "{:?}", failed.took);
    let of_it = ask(&[&bad]).ok().says(&["wrote nothing: exited with status 3"]);
    assert_eq!(of_it.out, "");
    assert_eq!(instances(&ask(&[&bad, "--previous"]).ok()), old);
    lab.slipway(&["rollout", "rollback", &bad, "--watch", "--within", "90s"]).ok();

    // Those that ended stay to be read.
    let good = text(&lab.roll("2.0.0", &[]).ok().json(), "id").to_string();
    let now = instances(&ask(&["shop"]).ok());
    assert!(now.len() == 4 && now.iter().all(|id| !old.contains(id)), "{now:?}");
    assert_eq!(instances(&ask(&[&good]).ok()), now);
    let ended = ask(&["shop", "--previous"]).ok();
    assert!(lines(&ended).iter().all(|l| text(l, "version") == "1.0.0"), "{}", ended.out);
    // Those that the cluster has not forgotten yet.
    let kept = instances(&ended);
    assert!(!kept.is_empty() && kept.iter().all(|id| old.contains(id)), "{kept:?}");
    let one = ask(&["shop", "--instance", &kept[0]]).ok();
    assert_eq!(instances(&one), kept[..1]);
    ask(&["shop", "--instance", "7-7"]).exits(1).says(&["production/shop has no instance 7-7: there is", "(running)"]);

    // What a time leaves out is said.
    assert_eq!(instances(&ask(&["shop", "--since", "1h"]).ok()), now);
    let newest = ask(&["shop", "--since", "1ms"]).ok().says(&["wrote nothing in the last 1ms"]);
    assert_eq!(newest.out, "");
    assert_eq!(lines(&ask(&["shop", "-n", "1"]).ok()).len(), 4);

    // A worker that does not answer is named, and the others' lines are there.
    lab.agents[1].pause();
    let half = ask(&["shop"]).exits(1).says(&["on w2) gives no log: worker w2 did not answer within 3 s"]);
    lab.agents[1].resume();
    assert_eq!(half.err.lines().count(), 2, "{}", half.err);
    assert!(instances(&half).len() == 2 && lines(&half).iter().all(|l| text(l, "worker") == "w1"), "{}", half.out);
    assert!(half.took < Duration::from_secs(15), "{:?}", half.took);
    lab.finish();
}
