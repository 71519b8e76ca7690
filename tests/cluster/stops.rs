//! A service that is stopped and started, on real processes: its leader and its agents are killed meanwhile.

use std::collections::BTreeSet;

use hickory_proto::op::ResponseCode;

use crate::lab::{Lab, SHOP, SOON, eventually, spec, text};

#[test]
fn what_is_stopped_stays_stopped_over_restarts_and_comes_back_at_its_addresses() {
    let mut lab = Lab::new(3, 2);
    lab.apply(&spec("strategy: direct, bake: 100ms"));
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.roll("1.0.0", &[]).ok();
    let had = eventually("all four are named", SOON, || {
        let named = lab.dns(1, SHOP)?.addresses;
        if named.len() == 4 { Ok(named) } else { Err(format!("{named:?}")) }
    });
    let stop = |lab: &Lab, more: &[&str]| lab.slipway(&[&["service", "stop", "shop", "--yes"], more].concat());
    let stopped = stop(&lab, &["--watch", "--within", "60s"]).ok().out;
    assert!(stopped.contains("is being stopped: it leaves DNS") && stopped.contains("waiting: "), "{stopped}");
    assert!(stopped.contains("production/shop is stopped: `slipway service start production/shop`"), "{stopped}");
    assert!(lab.instances().is_empty(), "{:?}", lab.instances());
    let said = stop(&lab, &[]).ok().out;
    assert!(said.contains("production/shop is stopped already: nothing changed"), "{said}");
    let refused = lab.slipway(&["rollout", "start", "shop", "--to", "2.0.0"]);
    refused.exits(1).says(&["production/shop is stopped: `slipway service start production/shop` first"]);
    // It is said wherever somebody looks, with who did it, and it is nobody's fault.
    for args in [&["status"][..], &["deployment", "show", "shop"], &["explain", "shop"]] {
        let said = lab.slipway(args).ok();
        let words = ["stopped", "by operator:local", "slipway service start production/shop"];
        assert!(words.iter().all(|w| said.out.contains(w)) && !said.out.contains("degraded"), "{}", said.out);
    }
    assert!(lab.slipway(&["deployment", "list"]).ok().out.contains("4 (stopped)"));
    let events = lab.slipway(&["event", "list", "shop"]).ok().out;
    assert!(events.contains("is being stopped") && events.contains("operator:local"), "{events}");

    // A leader dies, and so do the agents: nothing comes back by itself.
    let leader = lab.leader();
    lab.nodes[leader].kill();
    for agent in &mut lab.agents {
        agent.kill();
        agent.start();
    }
    lab.workers_ready();
    lab.nodes[leader].start();
    lab.caught_up();
    assert!(lab.instances().is_empty(), "{:?}", lab.instances());
    for n in 1..=3 {
        let answer = eventually("it answers", SOON, || {
            lab.dns(n, SHOP).and_then(|a| if a.code == ResponseCode::ServFail { Err(format!("{a:?}")) } else { Ok(a) })
        });
        assert!(answer.code == ResponseCode::NoError && answer.addresses.is_empty(), "{answer:?}");
    }
    let page = lab.page(1, "/metrics").unwrap().1;
    assert!(page.contains("slipway_deployments_stopped 1"), "{page}");

    let started = lab.slipway(&["service", "start", "shop", "--watch", "--within", "60s", "-o", "json"]).ok().out;
    let last: serde_json::Value = serde_json::from_str(started.lines().last().unwrap()).unwrap();
    assert_eq!((text(&last, "type"), last["exit_code"].as_u64()), ("ended", Some(0)), "{started}");
    lab.runs(&[("1.0.0", 2)]);
    lab.dns_names(SHOP, "1.0.0", 4);
    let now: BTreeSet<_> = lab.dns(1, SHOP).unwrap().addresses;
    assert_eq!(now, had, "the same addresses");
    let said = lab.slipway(&["service", "start", "shop"]).ok().out;
    assert!(said.contains("production/shop is started already: nothing changed"), "{said}");
    lab.roll("2.0.0", &[]).ok();
    lab.finish();
}
