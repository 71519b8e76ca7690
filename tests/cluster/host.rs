//! Address mode `host`: three workers in network namespaces, each with an address of its own, updated in place.

use std::{collections::BTreeSet, net::Ipv4Addr};

use crate::lab::{Daemon, Lab, Net, SHOP, clean, eventually, list, skip, spec};

const NAME: &str = "rolling_in_place_in_network_namespaces";
const WORKERS: u8 = 3;

#[test]
fn rolling_in_place_in_network_namespaces() {
    let mut lab = Lab::empty();
    let net = match Net::make(&lab.block, WORKERS) {
        Ok(net) => net,
        Err(why) => {
            skip(NAME, &why);
            return lab.finish();
        }
    };
    // Nodes are reached from the namespaces through the bridge.
    let outside = net.address(254);
    let mut config = lab.node_config(1).replace(&lab.client(1), &format!("{outside}:7652"));
    config += "insecure = true\n";
    lab.add_node(1, &config);
    let node = format!("{outside}:7652");
    let slipway = |lab: &Lab, args: &[&str]| {
        let mut all = vec!["--node", &node];
        all.extend(args);
        lab.slipway(&all)
    };
    slipway(&lab, &["cluster", "init"]).ok();
    let status = slipway(&lab, &["cluster", "status", "-o", "json"]).ok().json();
    assert!(list(&status, "warnings").iter().any(|w| w.as_str().unwrap().contains(&node)), "{status:#}");
    for n in 1..=WORKERS {
        let data = lab.dir().join(format!("w{n}/data"));
        let config = format!(
            "name = 'w{n}'\ndata_dir = '{}'\nnodes = ['{node}']\nhost = '{}'\ninsecure = true\n",
            data.display(),
            net.address(n)
        );
        let mut agent = Daemon::new(lab.dir(), &format!("w{n}"), "agent", &config, &net.within(n));
        agent.start();
        lab.agents.push(agent);
    }
    eventually("all workers are ready", crate::lab::SOON, || {
        let said = slipway(&lab, &["worker", "list", "-o", "json"]);
        let ready = said.code == 0
            && said.json().as_array().unwrap().iter().filter(|w| w["status"] == "ready").count()
                == usize::from(WORKERS);
        if ready { Ok(()) } else { Err(format!("{}{}", said.out, said.err)) }
    });
    let in_place = "strategy: rolling, parallelism: 1, max_surge: 0, max_unavailable: 1, bake: 1s, min_requests: 0";
    let text_of_spec =
        spec(in_place).replace("address: pool", "address: host").replace("per_worker: 2", "per_worker: 1");
    let path = lab.dir().join("spec.yaml");
    std::fs::write(&path, &text_of_spec).unwrap();
    slipway(&lab, &["apply", "-f", path.to_str().unwrap()]).ok();
    for version in ["1.0.0", "2.0.0"] {
        let dir = crate::lab::package(lab.dir(), &crate::lab::Release { version, settings: "" });
        slipway(&lab, &["release", "push", "shop", version, dir.to_str().unwrap()]).ok();
    }
    let roll = |to: &str| {
        slipway(&lab, &["rollout", "start", "production/shop", "--to", to, "--watch", "--within", "90s", "-o", "json"])
    };
    roll("1.0.0").ok();
    let all: BTreeSet<Ipv4Addr> = (1..=WORKERS).map(|n| net.address(n)).collect();
    assert_eq!(lab.dns(1, SHOP).unwrap().addresses, all, "each worker by its own address");
    let load = crate::lab::Load::start(lab.dns_servers(), SHOP, std::time::Duration::from_millis(20));
    let end = roll("2.0.0").ok().json();
    clean(&end);
    let counts = load.end();
    assert!(counts.failed.is_empty() && counts.bad.is_empty(), "{counts:#?}");
    lab.runs(&[("2.0.0", 1)]);
    assert_eq!(lab.dns(1, SHOP).unwrap().addresses, all);
    for ip in all {
        assert_eq!(lab.version_at(ip), "2.0.0");
    }
    // Two versions need two machines here.
    let said = slipway(&lab, &["rollout", "start", "production/shop", "--to", "1.0.0", "--strategy", "blue-green"]);
    said.exits(1).says(&["host", "spare worker"]);
    lab.finish();
}
