//! The worker agent as a real process under a test's node: it stages, runs, counts and stops; killed at any moment,
//! every instance is there exactly once; what is unsafe or broken is refused with a reason.

mod addresses;
mod archives;
mod checks;
mod counts;
mod delegated;
mod descendants;
mod environment;
mod fitness;
mod floods;
mod node;
mod ports;
mod serves;
mod tails;
mod worker;

use std::{fs, time::Duration};

use rustix::process::Signal;
use slipway::wire::v1;
use worker::{Package, Worker, assignment, free_port, spec_of, until};

use crate::helpers::procs::signal;

const ID: &str = "59-0";

/// A worker with one shop that passes.
async fn running() -> (Worker, Package, u16) {
    let mut w = Worker::start().await;
    let (package, port) = (Package::shop("1.0.0"), free_port());
    w.offer(&[&package]);
    w.desire(vec![assignment(1, "activate", &[&package], vec![package.entry(ID, port)])]);
    w.instance_is(ID, "running", "passing").await;
    (w, package, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_runs_counts_tails_and_stops() {
    let mut w = Worker::start().await;
    let (package, port) = (Package::shop("1.0.0"), free_port());
    w.offer(&[&package]);
    let entries = vec![package.entry(ID, port)];
    w.desire(vec![assignment(1, "stage", &[&package], vec![])]);
    w.reached(1, "staged").await;
    assert_eq!(w.report().staged, std::slice::from_ref(&package.digest));
    w.desire(vec![assignment(2, "activate", &[&package], entries.clone())]);
    w.instance_is(ID, "running", "passing").await;
    w.reached(2, "active").await;
    assert!(w.data("deployments/production.shop/current").join("bin/shop").exists());
    let pid = w.pid(ID);
    w.desire(vec![assignment(2, "commit", &[&package], entries.clone())]);
    w.reached(2, "committed").await;

    assert_eq!(w.get(port, "/").await, 200);
    let marked = |mark| v1::Assignment { mark, ..assignment(2, "commit", &[&package], entries.clone()) };
    w.desire(vec![marked(140)]);
    let counted = |w: &Worker, step: u64| {
        let report = w.report();
        let step = report.counts.into_iter().find(|c| c.step_id == step)?;
        step.pairs.first().and_then(counts::numbers)
    };
    until("the step begins at zero", || counted(&w, 140).filter(|c| *c == (0, 0))).await;
    for _ in 0..7 {
        w.get(port, "/").await;
    }
    until("seven requests", || counted(&w, 140).filter(|c| *c == (7, 0))).await;
    w.kill();
    w.restart();
    w.instance_is(ID, "running", "passing").await;
    until("still seven after the agent's death", || counted(&w, 140).filter(|c| *c == (7, 0))).await;
    w.desire(vec![marked(150)]);
    until("the next step begins at zero", || counted(&w, 150).filter(|c| *c == (0, 0))).await;
    assert_eq!(w.pid(ID), pid);

    let line = tails::tail(&w, ID).await.0.remove(0);
    assert!(line.line.contains("listens on") && line.stream == "err" && line.worker == w.name, "{line:?}");

    w.desire(vec![assignment(3, "commit", &[&package], vec![])]);
    let gone = w.instance_is(ID, "gone", "unknown").await;
    assert!(gone.exit.contains("status 0"), "{}", gone.exit);
    assert!(w.pids(ID).is_empty());
    w.desire(vec![]);
    until("nothing is reached any more", || w.report().reached.is_empty().then_some(())).await;
    until("the release is removed", || w.report().staged.is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_fetches_it_goes_on_where_it_was() {
    let mut w = Worker::start().await;
    let (package, port) = (Package::shop("1.0.0"), free_port());
    w.offer(&[&package]);
    w.node.shared.hold_at.send_replace(Some(1 << 20));
    w.desire(vec![assignment(1, "activate", &[&package], vec![package.entry(ID, port)])]);
    let part = w.data(&format!("blobs/sha256/{}.part", package.digest));
    until("a part", || fs::metadata(&part).ok().filter(|m| m.len() >= 1 << 20)).await;
    w.kill();
    w.node.shared.hold_at.send_replace(None);
    w.restart();
    w.instance_is(ID, "running", "passing").await;
    w.pid(ID);
    let offsets = w.node.shared.fetches.lock().unwrap().clone();
    assert!(offsets.len() >= 2 && offsets[0] == 0 && *offsets.last().unwrap() >= 1 << 20, "{offsets:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_unpacks_it_unpacks_anew() {
    let mut w = Worker::start().await;
    let (package, port) = (Package::shop("1.0.0"), free_port());
    w.offer(&[&package]);
    w.desire(vec![assignment(1, "activate", &[&package], vec![package.entry(ID, port)])]);
    let staging = w.data("staging");
    let half = || fs::read_dir(&staging).ok()?.flatten().next();
    until("unpacking", half).await;
    w.kill();
    w.restart();
    w.instance_is(ID, "running", "passing").await;
    w.pid(ID);
    assert!(half().is_none(), "staging is empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_spawn_and_report_it_starts_one() {
    for file in ["launch", "identity"] {
        let mut unreported = false;
        // On a busy machine the kill may come after a report: then it was another moment, and it is tried anew.
        for _ in 0..5 {
            let mut w = Worker::start().await;
            let (package, port) = (Package::shop("1.0.0"), free_port());
            w.offer(&[&package]);
            w.desire(vec![assignment(1, "activate", &[&package], vec![package.entry(ID, port)])]);
            let mark = w.data(&format!("deployments/production.shop/instances/{ID}/run-1/{file}"));
            until(file, || mark.exists().then_some(())).await;
            w.kill();
            unreported = w.instance(ID).is_none_or(|i| i.life != "running");
            w.restart();
            let report = w.instance_is(ID, "running", "passing").await;
            assert_eq!(report.restarts, 0);
            w.pid(ID);
            if unreported {
                break;
            }
        }
        assert!(unreported, "five times the report was faster than the kill after {file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_there_is_one_instance() {
    let mut w = Worker::start().await;
    let (package, port) = (Package::shop("1.0.0"), free_port());
    w.offer(&[&package]);
    w.desire(vec![assignment(1, "activate", &[&package], vec![package.entry(ID, port)])]);
    for n in 0..8 {
        let life = Duration::from_millis(20 + 37 * n);
        // Not a wait for something: the moment of the kill is what varies.
        tokio::time::sleep(life).await;
        w.kill();
        assert!(w.pids(ID).len() <= 1);
        w.restart();
    }
    w.instance_is(ID, "running", "passing").await;
    w.pid(ID);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_all_runs_it_adopts() {
    let (mut w, _, _) = running().await;
    let (pid, epoch) = (w.pid(ID), w.epoch());
    w.kill();
    assert_eq!(w.pid(ID), pid);
    w.restart();
    until("the next epoch", || (w.epoch() == epoch + 1).then_some(())).await;
    let report = w.instance_is(ID, "running", "passing").await;
    assert_eq!((w.pid(ID), report.restarts), (pid, 0));
    let first = w.node.shared.hellos.lock().unwrap().first().cloned().unwrap();
    let last = w.node.shared.hellos.lock().unwrap().last().cloned().unwrap();
    assert_eq!(first.public_key, last.public_key);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_stops_it_stops() {
    let mut w = Worker::start().await;
    let program = "trap '' TERM; echo ready >&2; while :; do sleep 0.1; done";
    let (package, port) = (Package::script("1.0.0", program), free_port());
    w.offer(&[&package]);
    w.desire(vec![assignment(1, "activate", &[&package], vec![package.entry(ID, port)])]);
    w.instance_is(ID, "running", "unknown").await;
    let log = w.data(&format!("deployments/production.shop/instances/{ID}/err.log"));
    until("its trap is set", || fs::read(&log).ok().filter(|text| text.starts_with(b"ready"))).await;
    w.desire(vec![assignment(2, "activate", &[&package], vec![])]);
    let journal = w.data("deployments/production.shop/journal");
    until("stopping", || String::from_utf8_lossy(&fs::read(&journal).ok()?).contains("Stopping").then_some(())).await;
    w.kill();
    w.restart();
    let gone = w.instance_is(ID, "gone", "unknown").await;
    assert!(gone.exit.contains("signal 9"), "{}", gone.exit);
    assert!(w.pids(ID).is_empty());
    w.reached(2, "active").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_dies_after_it_passed_is_started_again() {
    let (w, _, _) = running().await;
    let pid = w.pid(ID);
    signal(i32::try_from(pid).unwrap(), Signal::KILL);
    let report = until("one restart", || w.instance(ID).filter(|i| i.restarts == 1 && i.health == "passing")).await;
    assert!(report.exit.contains("signal 9"), "{}", report.exit);
    assert_ne!(w.pid(ID), pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exits_at_once_has_failed_with_its_words() {
    let mut w = Worker::start().await;
    let (package, port) = (Package::script("1.0.0", "echo no database here >&2; exit 3"), free_port());
    w.offer(&[&package]);
    w.desire(vec![assignment(1, "activate", &[&package], vec![package.entry(ID, port)])]);
    let failed = w.instance_is(ID, "failed", "unknown").await;
    assert!(failed.exit.contains("status 3") && failed.exit.contains("no database here"), "{}", failed.exit);
    let reached = w.reached(1, "failed").await;
    assert!(reached.detail.contains("status 3"), "{}", reached.detail);
    w.kill();
    w.restart();
    w.instance_is(ID, "failed", "unknown").await;
    assert!(w.pids(ID).is_empty());
    assert!(!w.data(&format!("deployments/production.shop/instances/{ID}/run-2")).exists(), "it is not tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_passes_is_stopped_and_a_missing_program_is_named() {
    let mut w = Worker::start().await;
    let (package, port) = (Package::script("1.0.0", "exec sleep 1000"), free_port());
    w.offer(&[&package]);
    let text = "service: shop\nenvironment: production\nrun: {command: [\"bin/shop\"]}\naddress: pool\nports: {http: 80}\n\
                health: {http: /, interval: 100ms, start_within: 500ms}\nrollout: {strategy: direct}\n";
    let offer = |generation, text: &str, id: &str| v1::Assignment {
        specs: vec![spec_of(text)],
        ..assignment(generation, "activate", &[&package], vec![package.entry(id, port)])
    };
    w.desire(vec![offer(1, text, ID)]);
    let failed = w.instance_is(ID, "failed", "unknown").await;
    assert!(failed.exit.contains("within 500ms") && failed.exit.contains("efused"), "{}", failed.exit);
    assert!(w.pids(ID).is_empty());
    w.desire(vec![offer(2, &text.replace("bin/shop", "bin/other"), "60-0")]);
    let failed = w.instance_is("60-0", "failed", "unknown").await;
    assert!(failed.exit.contains("holds no \"bin/other\""), "{}", failed.exit);
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_and_wrong_packages_are_refused() {
    let mut w = Worker::start().await;
    let bad = Package::new("1.0.0", &[("../outside", b"x")]);
    w.offer(&[&bad]);
    // One that cannot be had keeps none of the others away.
    let beside = Package::script("0.9.0", "exit 3");
    w.offer(&[&beside]);
    w.desire(vec![assignment(1, "stage", &[&bad, &beside], vec![])]);
    let staged = || w.report().staged.contains(&beside.digest.to_string()).then_some(());
    until("the other one is staged", staged).await;
    let reached = w.reached(1, "refused").await;
    assert!(reached.detail.contains("'..'"), "{}", reached.detail);
    assert_eq!(reached.packages, [bad.digest.to_string()]);
    assert!(!w.data("staging/outside").exists() && !w.data("releases/outside").exists());
    // Bytes that do not match the digest are never unpacked; the right ones are taken when some node has them.
    let (good, other) = (Package::script("1.1.0", "exit 0"), Package::script("1.1.0", "exit 1"));
    w.node.shared.packages.lock().unwrap().insert(good.digest.clone(), other.bytes);
    w.desire(vec![assignment(2, "stage", &[&good], vec![])]);
    until("two tries", || (w.node.shared.fetches.lock().unwrap().len() >= 4).then_some(())).await;
    assert!(!w.report().staged.contains(&good.digest.to_string()));
    w.offer(&[&good]);
    w.reached(2, "staged").await;
    assert!(w.report().staged.contains(&good.digest.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_replacement_is_undone_without_the_cluster() {
    let (mut w, one, port) = running().await;
    let two = Package::script("2.0.0", "exit 1");
    w.offer(&[&two]);
    let entry = v1::Entry { replaces: ID.into(), ..two.entry("70-0", port) };
    w.desire(vec![assignment(2, "activate", &[&one, &two], vec![entry])]);
    w.instance_is("70-0", "failed", "unknown").await;
    w.instance_is(ID, "running", "passing").await;
    let reached = w.reached(2, "failed").await;
    assert!(reached.detail.contains("70-0"), "{}", reached.detail);
    let pid = w.pid(ID);
    w.desire(vec![assignment(3, "activate", &[&one], vec![one.entry(ID, port)])]);
    w.reached(3, "active").await;
    assert_eq!(w.pid(ID), pid, "it goes on untouched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_passes_takes_the_address() {
    let (mut w, one, port) = running().await;
    let two = Package::shop("2.0.0");
    w.offer(&[&two]);
    let entry = v1::Entry { replaces: ID.into(), ..two.entry("70-0", port) };
    w.desire(vec![assignment(2, "activate", &[&one, &two], vec![entry])]);
    w.instance_is("70-0", "running", "passing").await;
    w.instance_is(ID, "gone", "unknown").await;
    assert_eq!((w.pids(ID).len(), w.pids("70-0").len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn older_states_are_ignored_and_conflicting_generations_refused() {
    let (mut w, package, port) = running().await;
    let pid = w.pid(ID);
    let newest = w.node.shared.desired.borrow().clone().unwrap();
    let older = v1::Desired { index: newest.index - 1, assignments: vec![], ..newest };
    w.node.shared.desired.send_replace(Some(older));
    let other = v1::Assignment {
        content_digest: 99,
        ..assignment(1, "activate", &[&package], vec![package.entry("60-0", port)])
    };
    w.desire(vec![other]);
    let reached = w.reached(1, "failed").await;
    assert!(reached.detail.contains("other content"), "{}", reached.detail);
    assert_eq!(w.pid(ID), pid);
    assert!(w.instance("60-0").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanent_refusal_ends_the_agent_with_its_reason() {
    let (mut w, _, _) = running().await;
    let pid = w.pid(ID);
    *w.node.shared.refuse.lock().unwrap() = Some("the name is taken by another key".into());
    w.kill();
    w.restart();
    let status = until("its end", || w.child.try_wait().unwrap()).await;
    assert!(!status.success());
    let log = fs::read_to_string(w.dir.path().join("agent.log")).unwrap();
    assert!(log.contains("the name is taken by another key"), "{log}");
    assert_eq!(w.pid(ID), pid, "its instances go on");
}

/// Its directory was restored from an older image: it counts on from where the cluster stands, or nothing that it says
/// would count.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_went_back_in_time_reports_above_what_the_cluster_knows() {
    let mut w = Worker::start().await;
    until("a report", || (w.report().seq > 0).then_some(())).await;
    for known in [(40, 7), (42, 1_000_000)] {
        w.kill();
        *w.node.shared.known_report.lock().unwrap() = known;
        w.restart();
        until("a report that counts", || (w.report().epoch == known.0 + 1).then_some(())).await;
    }
    w.kill();
    // What the cluster knows now is the agent's own.
    *w.node.shared.known_report.lock().unwrap() = (43, 1);
    w.restart();
    until("the next start", || (w.report().epoch == 44).then_some(())).await;
}
