//! What a probe saw, as text: a line while it runs, a table at its end.

use super::{FailedRequest, ProbeCounts, STARVED_MS, Summary};
use crate::console::table;

fn ms(value: Option<f64>) -> String {
    value.map_or("-".into(), |v| format!("{v:.1} ms"))
}

/// One line for some seconds of a probe.
pub fn line(since_start_s: u64, seconds: u64, seen: &Summary) -> String {
    let mut text = format!("{since_start_s:>5} s  {:>5}/s", seen.requests / seconds.max(1));
    for version in seen.versions.keys() {
        text += &format!("  {version} {:.1} %", seen.share_percent(version).unwrap_or_default());
    }
    let (p50, p99) = (ms(seen.latency.quantile_ms(0.5)), ms(seen.latency.quantile_ms(0.99)));
    text += &format!("  failed {}  p50 {p50}  p99 {p99}", seen.failed());
    for (server, c) in seen.dns.iter().filter(|(_, c)| c.servfail + c.refused + c.unreachable + c.silent > 0) {
        let lost = c.servfail + c.refused + c.unreachable + c.silent;
        text += &format!("  DNS {server}: {lost} without an answer");
    }
    if seen.late_ms >= STARVED_MS {
        text += &format!("  (this machine kept the probe waiting for {} ms)", seen.late_ms);
    }
    text
}

/// What to know when the probe itself was kept from running; `None` when it was not.
pub fn starved(seen: &Summary) -> Option<String> {
    (seen.late_ms >= STARVED_MS).then(|| {
        format!(
            "this machine kept the probe itself waiting for up to {} ms, so silence and time-outs may be its own: \
             stop what else uses the processors, or lower the rate, and try again",
            seen.late_ms
        )
    })
}

/// The tables at the end.
pub fn tables(seen: &Summary, failures: &[FailedRequest]) -> String {
    let row = |(version, c): (&String, &ProbeCounts)| {
        let share = seen.share_percent(version).unwrap_or_default();
        vec![
            version.clone(),
            c.all().to_string(),
            format!("{share:.1} %"),
            c.ok.to_string(),
            c.client_errors.to_string(),
            c.failed.to_string(),
        ]
    };
    let header = ["VERSION", "ANSWERS", "SHARE", "OK", "4XX", "5XX"];
    let versions = table(&header, seen.versions.iter().map(row).collect(), "no answer at all");
    let servers = seen.dns.iter().map(|(server, c)| {
        let cells = [c.answered, c.no_address, c.servfail, c.refused, c.unreachable, c.silent];
        std::iter::once(server.clone()).chain(cells.map(|n| n.to_string())).collect()
    });
    let header = ["DNS SERVER", "ANSWERED", "NO ADDRESS", "SERVFAIL", "REFUSED", "UNREACHABLE", "SILENT"];
    let servers = table(&header, servers.collect(), "no lookup");
    let latency = [0.5, 0.9, 0.99, 1.0].map(|q| ms(seen.latency.quantile_ms(q)));
    let mut text = format!(
        "{versions}\n\n{servers}\n\n{} requests, {} failed: lookup {}, connect {}, timeout {}, broken {}, status 5xx {}\n\
         latency p50 {}, p90 {}, p99 {}, max {}",
        seen.requests,
        seen.failed(),
        seen.lookup_failed,
        seen.connect_failed,
        seen.timed_out,
        seen.broken,
        seen.failed() - seen.unanswered(),
        latency[0],
        latency[1],
        latency[2],
        latency[3],
    );
    if seen.not_sent > 0 {
        text += &format!("\n{} requests were not sent, as too many were under way: lower --rate", seen.not_sent);
    }
    if let Some(why) = starved(seen) {
        text += &format!("\n{why}");
    }
    let mut said: Vec<String> = Vec::new();
    for f in failures.iter().rev().filter(|f| !f.detail.starts_with("status")) {
        let to = f.address.map_or_else(String::new, |a| format!(" at {a}"));
        let why = f.detail.split(" (os error").next().unwrap_or(&f.detail);
        let line = format!("\nsuch as {}{to}: {why}", f.kind.words());
        // Each of them once, and no more than three.
        if said.len() < 3 && !said.contains(&line) {
            said.push(line);
        }
    }
    text + &said.concat()
}
