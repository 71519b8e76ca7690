//! Ways back on real processes, in rooms with nothing to spare and with machines that die for good.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::lab::{Lab, Load, SHOP, SOON, eventually, list, number, spec, text};

const ROLLING: &str = "strategy: rolling, bake: 1s, min_requests: 0, deadline: 20s, grace: 0s";

/// One node and so many workers with `pool` addresses each.
fn lab(workers: u8, pool: u8, spec: &str) -> Lab {
    let mut lab = Lab::empty();
    let config = lab.node_config(1);
    lab.add_node(1, &config);
    lab.form();
    for n in 1..=workers {
        let config = lab.agent_config_with(n, pool);
        lab.add_agent(n, &config);
    }
    lab.workers_ready();
    lab.apply(spec);
    lab
}

fn shown(lab: &Lab) -> Value {
    lab.slipway(&["deployment", "show", "production/shop", "-o", "json"]).ok().json()
}

/// A version's share of the traffic, basis points.
fn share(lab: &Lab, version: &str) -> u64 {
    let shown = shown(lab);
    let arms = list(&shown, "arms");
    let of = arms.iter().filter(|t| t["pair"]["version"] == version);
    of.map(|t| t["weight_bp"].as_u64().unwrap_or(0)).sum()
}

/// Waits until a version has more than this share.
fn past(lab: &Lab, version: &str, bp: u64) {
    eventually(&format!("{version} has over {bp}"), Duration::from_secs(60), || {
        let now = share(lab, version);
        if now > bp { Ok(()) } else { Err(now.to_string()) }
    });
}

/// A worker and all that runs on it are gone in a moment.
fn burn(lab: &mut Lab, worker: usize) {
    lab.agents[worker].kill();
    let name = lab.agents[worker].name.clone();
    for (w, _, pid) in lab.instances() {
        if w == name {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
}

/// Place of the worker that runs a version.
fn runs_on(lab: &Lab, version: &str) -> usize {
    let shown = shown(lab);
    let all = list(&shown, "instances");
    let lives = |i: &&Value| i["status"] != "gone" && i["status"] != "failed";
    let on = all.iter().filter(lives).find(|i| i["pair"]["version"] == version).unwrap_or_else(|| panic!("{shown:#}"));
    let name = text(on, "worker");
    lab.agents.iter().position(|a| a.name == name).unwrap()
}

fn watch(lab: &Lab, id: &str) -> Value {
    lab.slipway(&["rollout", "watch", id, "--within", "90s", "-o", "json"]);
    lab.rollout(id)
}

#[test]
fn past_half_in_the_tightest_pools_everything_goes_back_as_it_came() {
    // Three instances on three and on four addresses: in place, and with a surge of one.
    for (pool, more) in [(3, &["--max-surge", "0", "--max-unavailable", "1"][..]), (4, &[][..])] {
        let text_of_spec = spec(ROLLING).replace("per_worker: 2", "per_worker: 3");
        let lab = lab(1, pool, &text_of_spec);
        lab.push("1.0.0");
        lab.push("2.0.0");
        lab.roll("1.0.0", &[]).ok();
        let load = Load::start(lab.dns_servers(), SHOP, Duration::from_millis(20));
        let id = lab.start("2.0.0", &[more, &["--delay", "1s"]].concat());
        past(&lab, "2.0.0", 6000);
        lab.slipway(&["rollout", "rollback", "production/shop", "--watch", "--within", "90s"]).ok();
        assert_eq!(text(&lab.rollout(&id), "status"), "rolled_back");
        lab.runs(&[("1.0.0", 3)]);
        assert_eq!(share(&lab, "1.0.0"), 10_000);
        // And from one that completed, in the same room.
        lab.roll("2.0.0", more).ok();
        lab.runs(&[("2.0.0", 3)]);
        lab.slipway(&["rollout", "rollback", "production/shop", "--watch", "--within", "90s"]).ok();
        lab.runs(&[("1.0.0", 3)]);
        let again = lab.slipway(&["rollout", "rollback", "production/shop"]).exits(1);
        again.says(&["is back on 1.0.0 already", "goes forward again"]);
        let counts = load.end();
        assert!(counts.failed.is_empty() && counts.bad.is_empty(), "{counts:#?}");
        lab.finish();
    }
}

#[test]
fn a_worker_that_burns_in_a_rollback_is_counted_out_and_leaves_dns() {
    let text_of_spec = format!("{}lost_for_good: 20s\n", spec(ROLLING).replace("per_worker: 2", "per_worker: 1"));
    let mut lab = lab(3, 3, &text_of_spec);
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.roll("1.0.0", &[]).ok();
    let id = lab.start("2.0.0", &["--delay", "20s"]);
    past(&lab, "2.0.0", 3000);
    // The one that was replaced: its old instance cannot come back.
    let at = runs_on(&lab, "2.0.0");
    let name = lab.agents[at].name.clone();
    burn(&mut lab, at);
    lab.slipway(&["rollout", "rollback", &id]).ok();
    eventually("it says what it waits for, and what ends it", SOON, || {
        let said = lab.slipway(&["rollout", "explain", "production/shop"]).ok().out;
        let lost = format!("{name}, which is lost");
        let all = [&lost, "so far)", "--as-is", "--replace"];
        if all.iter().all(|w| said.contains(w)) { Ok(()) } else { Err(said) }
    });
    let end = watch(&lab, &id);
    assert_eq!(text(&end, "status"), "rolled_back", "{end:#}");
    assert_eq!(end["without"], serde_json::json!([name]), "{end:#}");
    // The dead one is out of DNS although only two of three are left, and the views say that it is lost.
    lab.dns_names(SHOP, "1.0.0", 2);
    let shown = shown(&lab);
    assert_eq!(shown["lost"], serde_json::json!([name]), "{shown:#}");
    let dead =
        list(&shown, "instances").iter().filter(|i| i["worker"] == name.as_str() && i["counted_out"] == true).count();
    assert!(dead > 0, "{shown:#}");
    lab.finish();
}

#[test]
fn when_the_old_version_cannot_run_any_more_a_person_decides() {
    let lab = lab(1, 3, &spec(ROLLING));
    // The settings that 1.0.0 was rolled out with name a file of the worker; later ones do not.
    let key = lab.dir().join("database.env");
    std::fs::write(&key, "DATABASE=here\n").unwrap();
    lab.apply(&spec(ROLLING).replace("  stop:", &format!("  env_file: {}\n  stop:", key.display())));
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.push("3.0.0");
    lab.roll("1.0.0", &[]).ok();
    lab.apply(&spec(ROLLING));
    let id = lab.start("2.0.0", &["--delay", "20s"]);
    past(&lab, "2.0.0", 4000);
    std::fs::remove_file(&key).unwrap();
    for (_, version, pid) in lab.instances() {
        if version == "1.0.0" {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
    lab.slipway(&["rollout", "rollback", &id]).ok();
    eventually("it tries, and says why in vain", SOON, || {
        let said = lab.slipway(&["rollout", "explain", "production/shop"]).ok().out;
        if said.contains("no new try on w1") || said.contains("instances pass") { Ok(()) } else { Err(said) }
    });
    lab.slipway(&["rollout", "abort", &id]).exits(1).says(&["--as-is", "--replace"]);
    let fix = ["rollout", "start", "production/shop", "--to", "3.0.0", "--replace", "--watch", "--within", "90s"];
    lab.slipway(&fix).ok();
    assert_eq!(text(&lab.rollout(&id), "status"), "aborted");
    lab.runs(&[("3.0.0", 2)]);
    lab.dns_names(SHOP, "3.0.0", 2);
    lab.finish();
}

#[test]
fn a_return_whose_worker_burns_is_ended_as_it_is_and_never_turned() {
    let direct = "strategy: direct, bake: 1s, min_requests: 0, deadline: 10s, grace: 0s";
    let mut lab = lab(2, 4, &spec(direct));
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.roll("1.0.0", &[]).ok();
    lab.roll("2.0.0", &[]).ok();
    lab.runs(&[("2.0.0", 2)]);
    let back = lab.slipway(&["rollout", "rollback", "production/shop", "-o", "json"]).ok().json();
    let id = text(&back, "rollout").to_string();
    burn(&mut lab, 1);
    past(&lab, "1.0.0", 3000);
    eventually("w2 is missed", SOON, || {
        let said = lab.slipway(&["rollout", "explain", "production/shop"]).ok().out;
        if said.contains("w2, which is lost") { Ok(()) } else { Err(said) }
    });
    lab.slipway(&["rollout", "abort", &id]).exits(1).says(&["--as-is"]);
    lab.slipway(&["rollout", "rollback", &id]).exits(1).says(&["being rolled back to 1.0.0 already"]);
    let before = share(&lab, "1.0.0");
    assert!(before >= 4_000, "the traffic followed the instances: {before}");
    lab.slipway(&["rollout", "abort", &id, "--as-is"]).ok();
    assert_eq!((share(&lab, "1.0.0"), text(&lab.rollout(&id), "status").to_string()), (before, "aborted".into()));
    assert_eq!(text(&shown(&lab), "as_is"), id);
    lab.finish();
}

#[test]
fn a_worker_that_comes_back_in_the_middle_of_a_rolling_update_holds_it_up_in_no_way() {
    let text_of_spec = spec(ROLLING).replace("per_worker: 2", "per_worker: 1");
    let lab = lab(3, 3, &text_of_spec);
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.roll("1.0.0", &[]).ok();
    lab.agents[2].pause();
    eventually("w3 is lost", SOON, || {
        let said = lab.slipway(&["worker", "list", "-o", "json"]).ok().json();
        let lost = said.as_array().unwrap().iter().any(|w| w["status"] == "lost");
        if lost { Ok(()) } else { Err(said.to_string()) }
    });
    let id = lab.start("2.0.0", &["--delay", "8s"]);
    past(&lab, "2.0.0", 4000);
    lab.agents[2].resume();
    let end = watch(&lab, &id);
    assert_eq!(text(&end, "status"), "completed", "{end:#}");
    lab.runs(&[("2.0.0", 1)]);
    lab.finish();
}

#[test]
fn a_bake_with_a_dead_worker_ends_as_its_policy_says() {
    let canary = "strategy: canary, steps: [50], bake: 14s, min_requests: 0, grace: 0s, deadline: 30s";
    let text_of_spec = format!("{}lost_for_good: 5m\n", spec(canary).replace("per_worker: 2", "per_worker: 1"));
    let mut lab = lab(2, 3, &text_of_spec);
    lab.push("1.0.0");
    lab.push("2.0.0");
    lab.push("3.0.0");
    lab.roll("1.0.0", &[]).ok();
    // The one candidate stands on w1; with w1 gone nobody is left to judge, which is no reason to go on.
    let id = lab.start("2.0.0", &["--on-no-data", "fail"]);
    past(&lab, "2.0.0", 4000);
    let at = runs_on(&lab, "2.0.0");
    burn(&mut lab, at);
    let end = watch(&lab, &id);
    assert_eq!(text(&end, "status"), "rolled_back", "{end:#}");
    assert!(number(&end, "ended_at_ms") - number(&end, "started_at_ms") < 60_000, "{end:#}");
    lab.agents[at].start();
    lab.workers_ready();
    lab.finish();
}
