//! An instance that floods its log: the worker's disk, the newest lines and the agent's reports hold.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use slipway::wire::v1;

use super::{
    ID,
    worker::{Package, Worker, assignment, free_port, until},
};

/// What a log may take, as `small_logs` has it.
const CAP: u64 = 10 << 20;
/// Within this time of a look there is another one, on a machine that others load too.
const LOOK: Duration = Duration::from_secs(2);
/// A node takes an agent for silent after thirty seconds; it reports every two.
const SILENCE: Duration = Duration::from_secs(6);

/// A second of rest after every million lines, so that the rate is one that a disk takes: 8 MB at a time.
const FLOOD: &str = "for n in 1 2 3 4 5 6 7 8; do seq ${n}000000 ${n}999999; sleep 0.3; done; exec sleep 1000";
const LAST: &str = "8999999";

struct Seen {
    at: Instant,
    length: u64,
    taken: u64,
}

fn look(log: &Path) -> Seen {
    let (length, taken) = fs::metadata(log).map_or((0, 0), |m| (m.len(), m.blocks() * 512));
    Seen { at: Instant::now(), length, taken }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flooded_log_takes_its_cap_and_one_look_and_the_agent_misses_no_report() {
    let mut w = Worker::start().await;
    let (package, port) = (Package::script("1.0.0", FLOOD), free_port());
    w.offer(&[&package]);
    w.desire(vec![assignment(1, "activate", &[&package], vec![package.entry(ID, port)])]);
    let log = w.data(&format!("deployments/production.shop/instances/{ID}/out.log"));
    until("a flood", || (look(&log).length > CAP).then_some(())).await;

    let mut reports = w.node.shared.reports.subscribe();
    let (mut heard, mut silence) = (Instant::now(), Duration::ZERO);
    let mut all: Vec<Seen> = Vec::new();
    loop {
        if reports.has_changed().unwrap() {
            reports.mark_unchanged();
            heard = Instant::now();
        }
        silence = silence.max(heard.elapsed());
        let now = look(&log);
        // What was written since the last look that the shim must have had.
        let since = all.iter().rev().find(|s| now.at - s.at >= LOOK).map_or(0, |s| s.length);
        let (taken, most) = (now.taken, CAP + (now.length - since) + (1 << 20));
        assert!(taken <= most, "{taken} bytes taken, {most} allowed; {} were written", now.length);
        // The flood is over, and so is the time of one look.
        let still = all.iter().rev().find(|s| now.at - s.at >= LOOK).is_some_and(|s| s.length == now.length);
        let (done, taken) = (still && now.taken <= CAP, now.taken);
        assert!(!still || done, "{taken} bytes are still taken");
        all.push(now);
        if done {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(all.last().unwrap().length > 6 * CAP, "that was no flood");
    assert!(silence < SILENCE, "no report for {silence:?}");

    let ask = v1::TailLogs { request: 9, instance: ID.into(), lines: 100, ..Default::default() };
    w.node.shared.tail.send_replace(Some(ask));
    let newest = || {
        let lines = w.node.shared.lines.lock().unwrap();
        let out: Vec<String> = lines.iter().filter(|l| l.stream == "out").map(|l| l.line.clone()).collect();
        (out.last().is_some_and(|l| l == LAST)).then_some(out)
    };
    let newest = until("the newest lines", newest).await;
    let last: u64 = LAST.parse().unwrap();
    assert_eq!(newest, (last - 99..=last).map(|n| n.to_string()).collect::<Vec<_>>());
}
