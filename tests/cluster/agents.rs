//! An agent killed with -9 while it fetches, starts instances and reports: what runs is adopted, nothing runs twice.

use std::{
    collections::BTreeSet,
    fs::DirEntry,
    path::Path,
    time::{Duration, Instant},
};

use crate::lab::{EventWatch, Lab, Release, SHOP, SOON, eventually, number, spec, step_began, text};

fn lab() -> Lab {
    let lab = Lab::new(1, 2);
    lab.apply(&spec("strategy: canary, steps: [50, 100], bake: 1s, min_requests: 0"));
    lab.push("1.0.0");
    lab.roll("1.0.0", &[]).ok();
    lab
}

fn of(lab: &Lab, worker: &str) -> BTreeSet<(String, i32)> {
    lab.instances().into_iter().filter(|(w, ..)| w == worker).map(|(_, v, pid)| (v, pid)).collect()
}

#[test]
fn killed_between_rollouts_its_instances_are_adopted() {
    let mut lab = lab();
    let before = of(&lab, "w1");
    assert_eq!(before.len(), 2);
    for _ in 0..3 {
        lab.agents[0].kill();
        assert_eq!(of(&lab, "w1"), before, "instances outlive their agent");
        lab.agents[0].start();
    }
    lab.workers_ready();
    lab.push("2.0.0");
    let end = lab.roll("2.0.0", &[]).ok().json();
    assert_eq!(text(&end, "status"), "completed");
    lab.runs(&[("2.0.0", 2)]);
    // An instance that dies is started again by the agent that adopted or started it.
    let (_, victim) = of(&lab, "w1").into_iter().next().unwrap();
    lab.agents[0].kill();
    lab.agents[0].start();
    rustix::process::kill_process(rustix::process::Pid::from_raw(victim).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    eventually("the victim is replaced", SOON, || {
        let now = of(&lab, "w1");
        if now.len() == 2 && now.iter().all(|(_, pid)| *pid != victim) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    lab.dns_names(SHOP, "2.0.0", 4);
    lab.finish();
}

/// Whether a file of a package is there, whole or in part.
fn holds(store: &Path, part: bool) -> usize {
    let files = std::fs::read_dir(store).into_iter().flatten().flatten();
    let of_kind = |f: &DirEntry| f.path().extension().is_some_and(|e| e == "part") == part;
    files.filter(|f| of_kind(f) && f.metadata().is_ok_and(|m| m.len() > 0)).count()
}

#[test]
fn killed_while_it_fetches() {
    let mut lab = lab();
    let store = lab.agents[0].dir.join("data/blobs/sha256");
    let mut in_the_middle = false;
    // A fast disk may have the package whole before the kill: that is another moment, and the next version is tried.
    for version in ["2.0.0", "3.0.0", "4.0.0"] {
        // Large enough to be under way when it dies: 24 MiB that do not compress.
        let mut noise = vec![0_u8; 24 << 20];
        rand::fill(noise.as_mut_slice());
        let dir = lab.dir().join(format!("shop-{version}"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("noise"), &noise).unwrap();
        lab.push_with(&Release { version, settings: "" });
        let whole = holds(&store, false);
        let id = lab.start(version, &[]);
        let until = Instant::now() + SOON;
        while holds(&store, true) == 0 && holds(&store, false) == whole {
            assert!(Instant::now() < until, "nothing of {version} comes");
            std::thread::sleep(Duration::from_millis(1));
        }
        lab.agents[0].kill();
        in_the_middle = holds(&store, true) > 0;
        lab.agents[0].start();
        lab.ends(&id, "completed");
        lab.runs(&[(version, 2)]);
        assert_eq!(holds(&store, true), 0, "no part is left");
        if in_the_middle {
            break;
        }
    }
    assert!(in_the_middle, "three times the package was whole before the kill");
    lab.finish();
}

#[test]
fn killed_while_it_activates_and_reports() {
    let mut lab = lab();
    let mut version = 1;
    // At once, after the first new process, and when it has reported: 0 to 2 new processes are there when it dies.
    for round in 0..3 {
        version += 1;
        let to = format!("{version}.0.0");
        lab.push(&to);
        let mut watch = EventWatch::after(&lab, number(&lab.status().unwrap(), "applied_index"));
        let id = lab.start(&to, &["--steps", "100"]);
        watch.until("the installation begins", SOON, |e| step_began(e, &id, 1));
        match round {
            0 => {}
            1 => eventually("a new process", SOON, || {
                if of(&lab, "w1").iter().any(|(v, _)| *v == to) { Ok(()) } else { Err("none".into()) }
            }),
            _ => {
                watch.until("a report", SOON, |e| {
                    e["kind"] == "instance_changed"
                        && e["fields"]["worker"] == "w1"
                        && e["fields"]["status"] == "running"
                });
            }
        }
        let new = |lab: &Lab| of(lab, "w1").into_iter().filter(|(v, _)| *v == to).collect::<BTreeSet<_>>();
        lab.agents[0].kill();
        let killed_with = new(&lab);
        std::thread::sleep(Duration::from_millis(300));
        lab.agents[0].start();
        lab.ends(&id, "completed");
        lab.runs(&[(&to, 2)]);
        assert!(killed_with.is_subset(&new(&lab)), "what ran was adopted: {killed_with:?}, now {:?}", new(&lab));
    }
    lab.dns_names(SHOP, "4.0.0", 4);
    lab.finish();
}
