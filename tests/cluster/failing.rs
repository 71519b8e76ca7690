//! Releases that do not work: taken back by themselves, exit code 3, and everything at the old version.

use std::time::Duration;

use crate::lab::{Lab, Load, Release, SHOP, SOON, eventually, list, spec, text};

const ROLLOUT: &str = "strategy: canary, steps: [50, 100], bake: 2s, min_requests: 0, deadline: 20s";

fn lab(rollout: &str) -> Lab {
    let lab = Lab::new(3, 2);
    lab.apply(&spec(rollout));
    lab.push("1.0.0");
    lab.roll("1.0.0", &[]).ok();
    lab
}

/// Rolls `release` out and sees it taken back, for a reason with these words; clients notice nothing but its own
/// errors.
fn taken_back(lab: &Lab, release: &Release<'_>, more: &[&str], why: &str) {
    lab.push_with(release);
    let load = Load::start(lab.dns_servers(), SHOP, Duration::from_millis(10));
    let said = lab.roll(release.version, more).exits(3);
    let end = said.json();
    assert_eq!(text(&end, "status"), "rolled_back");
    assert!(said.err.contains("rolled back to 1.0.0"), "{}", said.err);
    assert!(text(&end, "reason").contains(why), "{why:?}: {end:#}");
    lab.runs(&[("1.0.0", 2)]);
    lab.dns_names(SHOP, "1.0.0", 4);
    let counts = load.end();
    assert!(counts.failed.is_empty(), "{:#?}", counts.failed);
    assert!(counts.bad.keys().all(|v| v == release.version), "{:?}", counts.bad);
    assert!(counts.good.contains_key("1.0.0"));
    let shown = lab.slipway(&["deployment", "show", "production/shop", "-o", "json"]).ok().json();
    let live = list(&shown, "instances").iter().filter(|i| i["status"] != "gone" && i["status"] != "failed");
    assert_eq!(live.count(), 4, "nothing of {} is left: {shown:#}", release.version);
}

#[test]
fn a_release_that_exits_at_once_or_is_never_healthy() {
    let lab = lab(ROLLOUT);
    // An unknown setting: the program says so and leaves.
    taken_back(&lab, &Release { version: "2.0.0", settings: "no_such_setting = 1" }, &[], "ended");
    taken_back(&lab, &Release { version: "3.0.0", settings: "healthy = false" }, &[], "health");
    let rolling = ["--strategy", "rolling"];
    taken_back(&lab, &Release { version: "4.0.0", settings: "healthy = false" }, &rolling, "health");
    // It is as good as new: the next one goes through.
    lab.push("5.0.0");
    lab.roll("5.0.0", &[]).ok();
    counted(&lab, [("deadline", 0), ("error_rate", 0), ("health_check", 3), ("manual", 0)]);
    lab.runs(&[("5.0.0", 2)]);
    lab.finish();
}

/// Every node counts what was rolled back, by its reason, and has no series for a reason that cannot come.
fn counted(lab: &Lab, reasons: [(&str, u32); 4]) {
    let want: Vec<String> =
        reasons.iter().map(|(reason, n)| format!("slipway_rollbacks_total{{reason=\"{reason}\"}} {n}")).collect();
    for node in 1..=3 {
        eventually("rollbacks are counted", SOON, || {
            let page = lab.page(node, "/metrics").map_err(|e| format!("{e:?}"))?.1;
            let mut all: Vec<&str> = page.lines().filter(|l| l.starts_with("slipway_rollbacks_total{")).collect();
            all.sort_unstable();
            if all == want { Ok(()) } else { Err(format!("{all:?}")) }
        });
    }
}

#[test]
fn a_release_with_errors_over_the_ceiling() {
    let lab = lab("strategy: canary, steps: [50, 100], bake: 20s, min_requests: 20, max_error_rate: 5%");
    taken_back(&lab, &Release { version: "2.0.0", settings: "error_percent = 30" }, &[], "5 %");
    let rolling = ["--strategy", "rolling", "--parallelism", "1", "--delay", "3s"];
    taken_back(&lab, &Release { version: "3.0.0", settings: "error_percent = 30" }, &rolling, "5 %");
    counted(&lab, [("deadline", 0), ("error_rate", 2), ("health_check", 0), ("manual", 0)]);
    lab.finish();
}
