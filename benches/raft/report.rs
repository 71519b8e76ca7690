//! Ratios, and the last line.

use serde_json::{Map, Value, json};

use super::{
    load::Sample,
    stats::{Ratio, median, of_medians, paired},
};

const KEYS: [&str; 6] = ["writes_1", "writes_16", "writes_256", "p99_256", "failover_default", "failover_equal"];

/// Collects what the last line tells.
pub struct Report {
    line: Map<String, Value>,
}

impl Report {
    /// `no_peer`: why there is nothing to compare with.
    pub fn new(no_peer: Option<String>) -> Self {
        let mut line: Map<String, Value> = KEYS.iter().map(|k| ((*k).to_owned(), Value::Null)).collect();
        if let Some(why) = no_peer {
            line.insert("reason".into(), json!(format!("etcd: {why}")));
        }
        Self { line }
    }

    /// Rounds of one load.
    pub fn writes(&mut self, clients: usize, ours: &[Sample], theirs: &[Sample]) {
        let each = |all: &[Sample], what: fn(&Sample) -> f64| all.iter().map(what).collect::<Vec<f64>>();
        for all in [ours, theirs] {
            if let Some(first) = all.first() {
                let mid = |what| median(&each(all, what));
                println!(
                    "# {clients} clients, {}: median {:.0} writes/s, p50 {:.2} ms, p99 {:.2} ms",
                    first.name(),
                    mid(|s| s.per_s),
                    mid(|s| s.p50_ms),
                    mid(|s| s.p99_ms)
                );
            }
        }
        let ratio = |what| paired(&each(ours, what), &each(theirs, what));
        self.more(&format!("writes_{clients}"), ratio(|s| s.per_s));
        let p99 = ratio(|s| s.p99_ms);
        if clients == 256 {
            self.less("p99_256", p99);
        } else {
            show(&format!("p99 at {clients} clients"), p99);
        }
    }

    /// Kills of one setting: ours, theirs.
    pub fn failover(&mut self, key: &str, gaps: &[Vec<f64>; 2]) {
        self.less(key, of_medians(&gaps[0], &gaps[1]));
    }

    /// More is better: the lower end.
    fn more(&mut self, key: &str, ratio: Option<Ratio>) {
        show(key, ratio);
        self.put(key, ratio.map(|r| r.low));
    }

    /// Less is better: the upper end.
    fn less(&mut self, key: &str, ratio: Option<Ratio>) {
        show(key, ratio);
        self.put(key, ratio.map(|r| r.high));
    }

    fn put(&mut self, key: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.line.insert(key.into(), json!((value * 1000.0).round() / 1000.0));
        }
    }

    /// One JSON object.
    pub fn line(&self) -> String {
        Value::Object(self.line.clone()).to_string()
    }
}

fn show(what: &str, ratio: Option<Ratio>) {
    if let Some(Ratio { low, mid, high }) = ratio {
        println!("# {what}, Slipway by etcd: {mid:.2} (95 % interval {low:.2} to {high:.2})");
    }
}
