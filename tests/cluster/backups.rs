//! A cluster is backed up, lost, and restored on other disks: what runs goes on running, and the next rollout works.

use crate::lab::{Lab, Release, SHOP, SOON, eventually, number, spec, text};

fn restore(lab: &Lab, n: u8, file: &str) {
    let config = lab.dir().join(format!("n{n}/config.toml"));
    lab.slipway(&["cluster", "restore", file, "--config", config.to_str().unwrap()]).ok();
}

#[test]
fn a_cluster_lost_with_all_its_disks_goes_on_from_its_backup() {
    let mut lab = Lab::new(3, 2);
    lab.apply(&spec("strategy: canary, steps: [50, 100], bake: 1s, min_requests: 0"));
    lab.push("1.0.0");
    lab.roll("1.0.0", &[]).ok();
    lab.runs(&[("1.0.0", 2)]);
    let before = lab.instances();
    let cluster = text(&lab.status().unwrap(), "cluster_id").to_string();

    let made = lab.slipway(&["cluster", "snapshot", "--all", "-o", "json"]).ok().json();
    assert_eq!(made.as_array().unwrap().len(), 3, "{made}");
    assert!(made.as_array().unwrap().iter().all(|m| number(m, "index") > 0 && number(m, "size") > 0), "{made}");
    // From each node, also one that does not lead.
    for n in 1..=3_u8 {
        let done = lab.slipway(&["--node", &lab.client(n), "cluster", "backup", &format!("b{n}"), "-o", "json"]).ok();
        assert_eq!((number(&done.json(), "node_id"), number(&done.json(), "package_count")), (u64::from(n), 1));
        lab.slipway(&["cluster", "check", &format!("b{n}")]).ok();
    }
    let names: Vec<String> =
        std::fs::read_dir(lab.dir()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.iter().any(|n| n.contains("incomplete")), "{names:?}");
    lab.slipway(&["cluster", "backup", "b1"]).exits(2).says(&["b1 exists"]);

    // Bad input: each is named, and nothing is left behind or changed.
    let whole = std::fs::read(lab.dir().join("b1")).unwrap();
    std::fs::write(lab.dir().join("cut"), &whole[..whole.len() / 2]).unwrap();
    let mut altered = whole.clone();
    altered[whole.len() / 3] ^= 1;
    std::fs::write(lab.dir().join("altered"), &altered).unwrap();
    std::fs::write(lab.dir().join("none"), b"#!/bin/sh\necho no backup\n").unwrap();
    let mut later = whole.clone();
    later[9] = 7;
    std::fs::write(lab.dir().join("later"), &later).unwrap();
    for (file, says) in
        [("cut", "cut short"), ("altered", "damaged at byte"), ("none", "not a Slipway backup"), ("later", "format 7")]
    {
        lab.slipway(&["cluster", "check", file]).exits(1).says(&[file, says]);
        lab.slipway(&["cluster", "restore", file, "--name", "x", "--data-dir", "x/data"]).exits(1).says(&[says]);
        let left: Vec<_> = std::fs::read_dir(lab.dir().join("x")).map(|d| d.flatten().collect()).unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
    }
    let n1 = lab.dir().join("n1/data");
    let n1 = n1.to_str().unwrap();
    lab.slipway(&["cluster", "restore", "b1", "--name", "n1", "--data-dir", n1])
        .exits(1)
        .says(&["in use by a running node"]);
    lab.slipway(&["cluster", "check", n1]).exits(1).says(&["in use by a running node"]);

    // A change after the backup is lost with the disks, its generations and instances are not forgotten by the agents.
    lab.push("2.0.0");
    lab.roll("2.0.0", &[]).ok();
    lab.runs(&[("2.0.0", 2)]);
    let later = lab.instances();
    let done = lab.slipway(&["cluster", "backup", "b4", "-o", "json"]).ok().json();
    let incarnation = number(&done, "incarnation");

    for node in &mut lab.nodes {
        node.kill();
    }
    lab.slipway(&["cluster", "check", n1]).ok();
    lab.slipway(&["cluster", "restore", "b4", "--name", "n1", "--data-dir", n1]).exits(1).says(&["not empty"]);
    for n in 1..=3 {
        std::fs::rename(lab.dir().join(format!("n{n}/data")), lab.dir().join(format!("n{n}/lost"))).unwrap();
    }
    restore(&lab, 1, "b4");
    lab.nodes[0].start();
    let status = eventually("the restored cluster leads", SOON, || {
        let status = lab.status()?;
        if number(&status, "leader_id") == 1 { Ok(status) } else { Err(status.to_string()) }
    });
    assert_ne!(text(&status, "cluster_id"), cluster);
    lab.workers_ready();
    for n in 2..=3_u8 {
        lab.nodes[usize::from(n) - 1].start();
        lab.slipway(&["--node", &lab.client(n), "cluster", "join", &lab.client(1)]).ok();
    }
    lab.dns_names(SHOP, "2.0.0", 4);
    assert_eq!(lab.instances(), later, "adopted, not restarted");
    assert!(before.iter().all(|b| !later.contains(b)));

    lab.push_with(&Release { version: "3.0.0", settings: "" });
    lab.roll("3.0.0", &[]).ok();
    lab.runs(&[("3.0.0", 2)]);
    lab.dns_names(SHOP, "3.0.0", 4);

    // The older backup again, above the first restoration: agents follow it back to 1.0.0.
    let id = text(&lab.status().unwrap(), "cluster_id").to_string();
    for node in &mut lab.nodes {
        node.kill();
    }
    // Offline, from one survivor's directory.
    let n2 = lab.dir().join("n2/data");
    let offline = std::process::Command::new(env!("CARGO_BIN_EXE_slipwayd"))
        .args(["backup", "--data-dir", n2.to_str().unwrap()])
        .arg(lab.dir().join("offline"))
        .output()
        .unwrap();
    assert!(offline.status.success(), "{offline:?}");
    lab.slipway(&["cluster", "check", "offline"]).ok();
    for n in 1..=3 {
        std::fs::remove_dir_all(lab.dir().join(format!("n{n}/data"))).unwrap();
    }
    let config = lab.dir().join("n1/config.toml");
    let above = (incarnation + 2).to_string();
    let config = config.to_str().unwrap();
    lab.slipway(&["cluster", "restore", "b1", "--config", config, "--incarnation", &above, "--succeeds", &id]).ok();
    lab.nodes[0].start();
    lab.workers_ready();
    lab.runs(&[("1.0.0", 2)]);
    eventually("n1 names 1.0.0", SOON, || {
        let answer = lab.dns(1, SHOP)?;
        if answer.addresses.len() == 4 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    lab.finish();
}
