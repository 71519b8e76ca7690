//! What the rounds say, line by line, and the last line.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    client::Outcome,
    stats::{Ratio, median, paired},
};

/// Ratio, ours, its base; a base that is the echo is none, as each figure is divided by its own echo already.
const RATIOS: [(&str, &str, Option<&str>); 6] = [
    ("plain_vs_knot", "plain", Some("knot")),
    ("weighted_vs_knot", "weighted", Some("knot")),
    ("sticky_vs_knot", "sticky", Some("knot")),
    ("plain_vs_echo", "plain", None),
    ("scale_10000_vs_100", "many", Some("few")),
    ("under_change_vs_still", "change", Some("still")),
];

/// Collects the rounds.
pub struct Report {
    line: Map<String, Value>,
    /// By target: answers a second, and the same divided by the echo just before.
    rounds: BTreeMap<&'static str, Vec<(f64, f64)>>,
}

impl Report {
    /// `no_peer`: why there is nothing to compare with. `commits`: from commit to answer.
    pub fn new(no_peer: Option<String>, commits: Option<f64>) -> Self {
        let mut line: Map<String, Value> = RATIOS.iter().map(|(k, ..)| ((*k).to_owned(), Value::Null)).collect();
        line.insert("p99_half_load_ms".into(), Value::Null);
        line.insert("p99_half_load_knot_ms".into(), Value::Null);
        line.insert("commit_to_answer_p99_ms".into(), json!(commits));
        if let Some(why) = no_peer {
            line.insert("reason".into(), json!(why));
        }
        Self { line, rounds: BTreeMap::new() }
    }

    /// One measurement.
    pub fn round(&mut self, round: usize, name: &'static str, outcome: &Outcome, echo: f64) {
        let per_s = outcome.per_s();
        println!(
            "# round {:2}, {name:8}: {per_s:7.0} right answers/s, {:.3} of the echo's {echo:.0}; {} wrong, {} lost",
            round + 1,
            per_s / echo,
            outcome.wrong,
            outcome.lost
        );
        self.rounds.entry(name).or_default().push((per_s, per_s / echo));
    }

    /// Median answers a second.
    pub fn median_of(&self, name: &str) -> Option<f64> {
        let all: Vec<f64> = self.rounds.get(name)?.iter().map(|r| r.0).collect();
        Some(median(&all))
    }

    /// Rounds at a fixed rate.
    pub fn latency(&mut self, name: &str, key: &str, rate: f64, mut all: Vec<Outcome>) {
        let of = |all: &mut Vec<Outcome>, p| median(&all.iter_mut().map(|o| o.percentile_ms(p)).collect::<Vec<f64>>());
        let (mid, high) = (of(&mut all, 50.0), of(&mut all, 99.0));
        let bad: u64 = all.iter().map(|o| o.wrong + o.lost).sum();
        println!(
            "# {name} at {rate:.0} queries/s, half of its own best: p50 {mid:.3} ms, p99 {high:.3} ms (medians of the rounds); {bad} wrong or lost"
        );
        self.line.insert(key.into(), json!((high * 1000.0).round() / 1000.0));
    }

    /// One JSON object.
    pub fn line(&mut self) -> String {
        for (name, all) in &self.rounds {
            let (rates, parts): (Vec<f64>, Vec<f64>) = all.iter().copied().unzip();
            println!("# {name}: median {:.0} right answers/s, {:.3} of the echo", median(&rates), median(&parts));
        }
        for (key, ours, base) in RATIOS {
            let of = |name: &str| self.rounds.get(name).map(|all| all.iter().map(|r| r.1).collect::<Vec<f64>>());
            let Some(ours) = of(ours) else { continue };
            let Some(base) = base.map_or_else(|| Some(vec![1.0; ours.len()]), of) else { continue };
            if let Some(Ratio { low, mid, high }) = paired(&ours, &base) {
                println!("# {key}: {mid:.3} (95 % interval {low:.3} to {high:.3})");
                self.line.insert(key.into(), json!((low * 1000.0).round() / 1000.0));
            }
        }
        Value::Object(self.line.clone()).to_string()
    }
}
