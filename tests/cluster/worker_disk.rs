//! A worker whose disk others fill: what runs goes on, an agent that is started anew finds it, what cannot be done says
//! why and heals.

use rustix::process::Signal;

use crate::lab::{self, Disk, Lab, SOON, eventually, signal, spec, text};

#[test]
fn a_full_disk_stops_nothing_that_runs_and_heals_when_there_is_room() {
    let mut lab = Lab::new(1, 0);
    match Disk::make(&lab.dir().join("w1"), 96) {
        Ok(disk) => lab.disks.push(disk),
        Err(why) => {
            lab::skip("a_full_disk_stops_nothing_that_runs_and_heals_when_there_is_room", &why);
            return lab.finish();
        }
    }
    let config = lab.agent_config(1);
    lab.add_agent(1, &config);
    lab.workers_ready();
    lab.apply(&spec("strategy: rolling, bake: 0s, min_requests: 0, deadline: 120s"));
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.roll("1.0.0", &[]).ok();
    let before = lab.instances();
    lab.disks[0].fill();

    // An agent that is killed, its disk full, finds its instances again and says so.
    lab.agents[0].kill();
    lab.agents[0].start();
    lab.workers_ready();
    let sessions = eventually("a second session", SOON, || {
        let said = lab.agents[0].said();
        if said.matches("session open").count() >= 2 { Ok(said) } else { Err(said) }
    });
    assert!(!sessions.contains("No space left on device: "), "{sessions}");
    assert_eq!(lab.instances(), before);

    // A rollout waits for room, and the reason is in the agent's log; nothing that runs is touched.
    let id = lab.start("2.0.0", &[]);
    eventually("the reason by name", SOON, || {
        let said = lab.agents[0].said();
        if said.contains("it is tried again") && said.contains("No space left") { Ok(()) } else { Err(said) }
    });
    assert_eq!(lab.instances(), before);
    assert!(lab.agents[0].ended().is_none());
    lab.disks[0].make_room();
    lab.ends(&id, "completed");
    lab.runs(&[("2.0.0", 2)]);
    // What cannot be seen from outside: an instance that is killed is still supervised.
    let pid = lab.instances()[0].2;
    signal(pid, Signal::KILL);
    eventually("it is started again", SOON, || {
        let now = lab.instances();
        if now.len() == 2 && now.iter().all(|i| i.2 != pid) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    let shown = lab.rollout(&id);
    assert_eq!(text(&shown, "status"), "completed");
    lab.finish();
}
