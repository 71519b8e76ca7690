//! What an agent answers when it is asked for a log: at once, whatever there is, and each line with the time at which
//! the program wrote it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use slipway::wire::v1;

use super::{
    ID,
    worker::{Package, Worker, assignment, free_port, spec_of, until},
};

/// The lines of an instance, and what its agent found.
pub async fn tail(w: &Worker, instance: &str) -> (Vec<v1::LogChunk>, String) {
    let request = {
        let mut lines = w.node.shared.lines.lock().unwrap();
        lines.clear();
        u64::from(rand::random::<u32>())
    };
    let ask = v1::TailLogs { request, instance: instance.into(), lines: 50, ..Default::default() };
    w.node.shared.tail.send_replace(Some(ask));
    until("the end of an answer", || {
        let said = w.node.shared.lines.lock().unwrap().clone();
        let said: Vec<_> = said.into_iter().filter(|c| c.request == request).collect();
        let found = said.last().map(|c| c.found.clone()).filter(|f| !f.is_empty() && f != "heard")?;
        assert_eq!(said[0].found, "heard", "a word comes before any look");
        Some((said.into_iter().filter(|c| c.found.is_empty()).collect(), found))
    })
    .await
}

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_failed_before_it_wrote_a_log_is_answered_at_once() {
    let mut w = Worker::start().await;
    let (package, port) = (Package::script("1.0.0", "exit 3"), free_port());
    w.offer(&[&package]);
    let text = "service: shop\nenvironment: production\nrun: {command: [\"bin/nope\"]}\naddress: pool\nports: {http: 80}\n\
                health: {http: /, interval: 100ms, start_within: 500ms}\nrollout: {strategy: direct}\n";
    let desired = |generation, text: &str, id: &str| v1::Assignment {
        specs: vec![spec_of(text)],
        ..assignment(generation, "activate", &[&package], vec![package.entry(id, port)])
    };
    w.desire(vec![desired(1, text, ID)]);
    let failed = w.instance_is(ID, "failed", "unknown").await;
    assert!(failed.exit.contains("holds no \"bin/nope\""), "{}", failed.exit);
    let began = Instant::now();
    assert_eq!(tail(&w, ID).await, (vec![], "never_started".into()));
    // One that began and wrote nothing, and one that nobody knows.
    w.desire(vec![desired(2, &text.replace("bin/nope", "bin/shop"), "60-0")]);
    w.instance_is("60-0", "failed", "unknown").await;
    assert_eq!(tail(&w, "60-0").await, (vec![], "empty".into()));
    assert_eq!(tail(&w, "77-0").await, (vec![], "nothing".into()));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_has_the_time_at_which_the_program_wrote_it() {
    let mut w = Worker::start().await;
    // It says when it writes, in seconds and in nanoseconds.
    let program = "for n in 1 2 3; do date +%s.%N; date +%s.%N >&2; sleep 1; done; exec sleep 1000";
    let (package, port) = (Package::script("1.0.0", program), free_port());
    w.offer(&[&package]);
    let began = now();
    w.desire(vec![assignment(1, "activate", &[&package], vec![package.entry(ID, port)])]);
    w.instance_is(ID, "running", "unknown").await;
    let lines = loop {
        let (lines, _) = tail(&w, ID).await;
        if lines.len() == 6 {
            break lines;
        }
    };
    let mut exact = 0;
    for line in &lines {
        let (seconds, nanos) = line.line.split_once('.').unwrap();
        let wrote = seconds.parse::<u64>().unwrap() * 1000 + nanos[..3].parse::<u64>().unwrap();
        // By the disk's clock, which ticks every few milliseconds.
        assert!(line.wall_ms + 20 >= wrote.max(began) && line.wall_ms <= now(), "{line:?} was written at {wrote}");
        exact += u32::from(line.wall_ms < wrote + 900);
    }
    // A shim that a busy machine keeps from its look takes a line and the next one together.
    assert!(exact >= 3, "{exact} of 6 have their own second: {lines:#?}");
}
