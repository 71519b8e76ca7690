//! A release that one of the machines cannot run: its worker says so while it has it merely staged, and nothing that
//! runs is touched.

use std::process::Command;

use crate::lab::{Lab, SOON, eventually, skip, spec, text};

const NAME: &str = "a_user_that_one_worker_lacks_is_told_by_its_name_before_a_batch_and_heals_once_it_is_there";
const SAYS: &str = "run.user: this worker has no user \"shop-test\": create it";

#[test]
fn a_user_that_one_worker_lacks_is_told_by_its_name_before_a_batch_and_heals_once_it_is_there() {
    let tried = Command::new("unshare").args(["-m", "mount", "--bind", "/etc/passwd", "/etc/passwd"]).output();
    if !tried.is_ok_and(|out| out.status.success()) {
        return skip(NAME, "no mount namespaces here: they need root and unshare (Debian: util-linux)");
    }
    let mut lab = Lab::empty();
    let config = lab.node_config(1);
    lab.add_node(1, &config);
    lab.form();
    // Each worker has users of its own; the second lacks root's other name.
    let usual = std::fs::read_to_string("/etc/passwd").unwrap();
    let with_shop = format!("{usual}shop-test:x:0:0::/:/bin/sh\n");
    let users = [1, 2].map(|n| lab.dir().join(format!("users-{n}")));
    std::fs::write(&users[0], &with_shop).unwrap();
    std::fs::write(&users[1], &usual).unwrap();
    for (n, users) in (1..).zip(&users) {
        let own = format!("mount --bind {} /etc/passwd && exec \"$@\"", users.display());
        let within = ["unshare", "-m", "sh", "-c", &own, "sh"].map(ToOwned::to_owned);
        let config = lab.agent_config(n);
        lab.add_agent_within(n, &config, &within);
    }
    lab.workers_ready();
    let plain = spec("strategy: direct").replace("per_worker: 2", "per_worker: 1");
    lab.apply(&plain);
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.roll("1.0.0", &[]).ok();
    let before = lab.instances();
    assert_eq!(before.len(), 2, "{before:?}");

    let with_user = plain.replace("  stop:", "  user: shop-test\n  stop:");
    lab.apply(&with_user.replace("strategy: direct", "strategy: direct, deadline: 5s"));
    let waits = |id: &str| {
        eventually(&format!("it says what {id} waits for"), SOON, || {
            let said = lab.slipway(&["rollout", "explain", "production/shop"]).ok().out;
            let all = ["w2 cannot run the release", SAYS];
            if all.iter().all(|w| said.contains(w)) { Ok(()) } else { Err(said) }
        });
    };
    let id = lab.start("2.0.0", &[]);
    waits(&id);
    let end = lab.ends(&id, "rolled_back");
    assert_eq!(text(&end, "reason"), format!("worker w2: {SAYS}"), "{end:#}");
    let status = lab.slipway(&["rollout", "status", &id]).ok().out;
    assert!(status.contains(&format!("worker w2: {SAYS}")), "{status}");
    assert_eq!(lab.instances(), before, "nothing that ran was touched");

    // In the same file, so that the worker's view of it changes.
    lab.apply(&with_user);
    let id = lab.start("2.0.0", &[]);
    waits(&id);
    std::fs::write(&users[1], &with_shop).unwrap();
    lab.ends(&id, "completed");
    lab.runs(&[("2.0.0", 1)]);
    lab.finish();
}
