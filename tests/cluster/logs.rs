//! Logs of very many instances of one worker at once: all answer, and the worker stays in service.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::lab::{Lab, Release, SOON, eventually, spec, text};

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
        let out = lab.slipway(&["logs", service, "-n", "20"]).ok().out;
        let complaint = out.lines().find(|l| l.contains("(no logs") || l.contains("may not be all"));
        assert_eq!(complaint, None);
        let said = out.lines().filter(|l| l.contains(" ! ") && l.contains("listens on"));
        let from: BTreeSet<String> = said.map(|l| l.split(' ').next().unwrap().to_owned()).collect();
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
