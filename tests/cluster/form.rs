//! Making a cluster, and everything that must be refused on the way.

use std::net::TcpListener;
use std::time::Duration;

use crate::lab::{Daemon, Lab, SOON, eventually, list, number, text};

#[test]
fn three_nodes_form_a_cluster_and_tell_the_same() {
    let mut lab = Lab::new(3, 1);
    let leader = lab.leader();
    let status = lab.status().unwrap();
    assert_eq!(text(&status, "name"), "test");
    assert_eq!(number(&status, "leader_id"), u64::try_from(leader + 1).unwrap());
    assert_eq!(status["quorum"], true);
    let names: Vec<&str> = list(&status, "nodes").iter().map(|n| text(n, "name")).collect();
    assert_eq!(names, ["n1", "n2", "n3"]);

    // A second cluster on a member, and a member that joins again.
    lab.slipway(&["--node", &lab.client(1), "cluster", "init"]).exits(1).says(&["already", "cluster join"]);
    let again = lab.slipway(&["--node", &lab.client(2), "cluster", "join", &lab.client(1), "-o", "json"]).ok().json();
    assert_eq!((number(&again, "node_id"), text(&again, "role")), (2, "voter"), "a repeated join changes nothing");

    // A worker of another machine under a taken name.
    let config = lab
        .agent_config(1)
        .replace("/w1/", "/other/")
        .replace(&format!("{}-", lab.block.worker(1, 1)), &format!("{0}', '{0}-", lab.block.worker(2, 1)));
    let config = config.replace(&lab.block.worker(1, 8).to_string(), &lab.block.worker(2, 8).to_string());
    let mut second = Daemon::new(lab.dir(), "other", "agent", &config, &[]);
    let said = second.refuses_to_run();
    assert!(said.contains("w1 is taken") && said.contains("--name"), "{said}");
    let workers = lab.slipway(&["worker", "list", "-o", "json"]).ok().json();
    assert_eq!(workers.as_array().unwrap().len(), 1, "{workers:#}");

    // Leadership moves on request.
    let to = format!("n{}", (leader + 1) % 3 + 1);
    lab.slipway(&["cluster", "transfer-leader", "--to", &to]).ok();
    assert_eq!(lab.leader(), (leader + 1) % 3);
    lab.finish();
}

#[test]
fn directories_and_listeners_of_others_are_refused() {
    let mut lab = Lab::new(1, 0);
    // Another node on the directory that n1 uses, at addresses of its own.
    let config = lab.node_config(2);
    let taken = config.replace("/n2/", "/n1/");
    let said = Daemon::new(lab.dir(), "n2", "node", &taken, &[]).refuses_to_run();
    assert!(said.contains("n1/data"), "names the directory: {said}");
    assert!(said.contains("use"), "says that it is in use: {said}");

    // The same ports.
    let same = lab.node_config(1).replace("/n1/", "/n3/");
    let said = Daemon::new(lab.dir(), "n3", "node", &same, &[]).refuses_to_run();
    assert!(said.contains(&lab.block.node(1).to_string()) && said.contains("use"), "{said}");

    // A port of another program.
    let other = TcpListener::bind(lab.block.at(4, 7652)).unwrap();
    let said = Daemon::new(lab.dir(), "n4", "node", &lab.node_config(4), &[]).refuses_to_run();
    assert!(said.contains(&lab.block.at(4, 7652).to_string()), "{said}");
    drop(other);

    // A copy of the directory under another name is another node with the same identity.
    lab.nodes[0].stop();
    let copy = std::process::Command::new("cp")
        .arg("-a")
        .arg(lab.dir().join("n1/data"))
        .arg(lab.dir().join("n5-data"))
        .status()
        .unwrap();
    assert!(copy.success());
    lab.nodes[0].start();
    lab.leader();
    let config = lab.node_config(5).replace("n5/data", "n5-data");
    let said = Daemon::new(lab.dir(), "n5", "node", &config, &[]).refuses_to_run();
    assert!(said.contains("n1") || said.contains("node 1"), "names the node it belongs to: {said}");
    assert_eq!(number(&lab.status().unwrap(), "node_id"), 1, "the first one goes on");
    // Neither under the first one's own name.
    let named = config.replace("'n5'", "'n1'");
    let said = Daemon::new(lab.dir(), "n6", "node", &named, &[]).refuses_to_run();
    assert!(said.contains("one identity") && said.contains(&lab.block.at(1, 7651).to_string()), "{said}");
    lab.finish();
}

#[test]
fn a_directory_of_another_cluster_is_refused() {
    let mut lab = Lab::new(1, 0);
    // A cluster of its own at n2.
    let config = lab.node_config(2);
    let mut foreign = Daemon::new(lab.dir(), "n2", "node", &config, &[]);
    foreign.start();
    lab.slipway(&["--node", &lab.client(2), "cluster", "init", "--name", "foreign"]).ok();
    let said = lab.slipway(&["--node", &lab.client(2), "cluster", "join", &lab.client(1)]);
    assert_ne!(said.code, 0, "{}", said.out);
    assert!(said.err.contains("cluster"), "{}", said.err);
    foreign.stop();
    assert_eq!(list(&lab.status().unwrap(), "nodes").len(), 1);
    // An agent that knows the first cluster does not work for the second.
    let config = lab.agent_config(1);
    lab.add_agent(1, &config);
    lab.workers_ready();
    lab.agents[0].stop();
    foreign.start();
    let config = config.replace(&lab.client(1), &lab.client(2));
    let data = lab.agents[0].dir.join("data").display().to_string();
    std::fs::write(&lab.agents[0].config, config).unwrap();
    let said = lab.agents[0].refuses_to_run();
    assert!(said.contains(&format!("{data} belongs to cluster")), "{said}");
    let at = lab.client(2);
    let workers = lab.slipway(&["--node", &at, "worker", "list", "-o", "json"]).ok().json();
    assert_eq!(workers.as_array().unwrap().len(), 0, "{workers:#}");
    foreign.stop();
    lab.finish();
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let lab = Lab::empty();
    let good = lab.node_config(1);
    let refused = |name: &str, verb: &str, config: &str, wants: &[&str]| {
        let said = Daemon::new(lab.dir(), name, verb, config, &[]).refuses_to_run();
        for want in wants {
            assert!(said.contains(want), "{name}: does not say {want:?}: {said}");
        }
    };
    let unknown = good.replace("dns_listen", "dns_listn");
    refused("unknown-key", "node", &unknown, &["config.toml", "dns_listn", "dns_listen"]);
    let open = good.replace(&lab.block.at(1, 7652).to_string(), "0.0.0.0:7652");
    refused("open", "node", &open, &["client_listen", "0.0.0.0:7652", "insecure = true"]);
    refused("no-nodes", "agent", "name = 'w1'\ndata_dir = 'x'\nnodes = []\n", &["nodes"]);
    refused(
        "bad-pool",
        "agent",
        "name = 'w1'\ndata_dir = 'x'\nnodes = ['127.0.0.1:1']\npool = ['x']\n",
        &["pool", "\"x\""],
    );
    // A file where the directory should be.
    std::fs::write(lab.dir().join("a-file"), "x").unwrap();
    let path = lab.dir().join("a-file");
    let config = good.replace(lab.dir().join("n1/data").to_str().unwrap(), path.to_str().unwrap());
    refused("file", "node", &config, &[path.to_str().unwrap()]);
    lab.finish();
}

#[test]
fn without_a_quorum_commands_are_answered_at_once() {
    let mut lab = Lab::new(3, 0);
    let leader = lab.leader();
    for n in 0..3 {
        if n != leader {
            lab.nodes[n].kill();
        }
    }
    let at = lab.client(u8::try_from(leader + 1).unwrap());
    let spec = lab.dir().join("spec.yaml");
    std::fs::write(&spec, crate::lab::spec("strategy: direct")).unwrap();
    // The leader notices within its lease; until then a command may wait for the answers of the others.
    eventually("the survivor knows that it is alone", SOON, || {
        let said = lab.slipway(&["--node", &at, "cluster", "status", "-o", "json"]);
        if said.code == 0 && said.json()["quorum"] == false { Ok(()) } else { Err(said.out + &said.err) }
    });
    let said = lab.slipway(&["--node", &at, "apply", "-f", spec.to_str().unwrap()]).exits(5);
    assert!(said.took < Duration::from_secs(3), "{:?}: {}", said.took, said.err);
    assert!(said.err.contains("unavailable"), "{}", said.err);
    // A follower alone may be in the middle of an election: each try is answered at once, and the command goes on
    // trying for as long as it is allowed to.
    let follower = (leader + 1) % 3;
    lab.nodes[leader].kill();
    lab.nodes[follower].start();
    let alone = lab.client(u8::try_from(follower + 1).unwrap());
    eventually("the follower answers", SOON, || {
        let said = lab.slipway(&["--node", &alone, "cluster", "status", "-o", "json"]);
        let itself = said.code == 0 && number(&said.json(), "node_id") == u64::try_from(follower + 1).unwrap();
        if itself { Ok(()) } else { Err(said.out + &said.err) }
    });
    let said = lab.slipway(&["--node", &alone, "--timeout", "2s", "apply", "-f", spec.to_str().unwrap()]).exits(5);
    assert!(said.took < Duration::from_secs(3), "{:?}: {}", said.took, said.err);
    assert!(said.err.contains("no leader"), "{}", said.err);
    lab.nodes[follower].kill();
    lab.nodes[leader].start();
    // One more node is a majority again.
    let back = (leader + 1) % 3;
    lab.nodes[back].start();
    eventually("the same command works again", SOON, || {
        let said = lab.slipway(&["apply", "-f", spec.to_str().unwrap()]);
        if said.code == 0 { Ok(()) } else { Err(said.err) }
    });
    lab.nodes[(leader + 2) % 3].start();
    lab.caught_up();
    lab.finish();
}
