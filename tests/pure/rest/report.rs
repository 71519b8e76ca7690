//! Many stories: played one after the other, counted, and written down as one JSON object for `scripts/rest.sh`, which
//! runs ranges in two processes and puts their reports together.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Value, json};

use super::run;
use super::tally::Tally;
use super::world::Look;

/// What a range came to.
#[derive(Default)]
pub struct Report {
    pub seeds: u64,
    pub findings: Vec<(u64, String)>,
    pub micros: Vec<u64>,
    pub tally: Tally,
}

/// Plays a range.
pub fn play(seeds: RangeInclusive<u64>, look: Look) -> Report {
    let mut report = Report::default();
    for seed in seeds {
        let outcome = run::seed(seed, look);
        report.seeds += 1;
        report.micros.push(outcome.micros);
        report.tally.add(&outcome.tally);
        if let Some(f) = outcome.finding {
            report.findings.push((seed, format!("{}: {}", f.kind, f.text)));
        }
    }
    report
}

impl Report {
    fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.findings.extend(other.findings);
        self.micros.extend(other.micros);
        self.tally.add(&other.tally);
    }

    fn median_ms(&self) -> f64 {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).map_or(0.0, |m| (*m as f64 / 100.0).round() / 10.0)
    }

    /// The last line of a long run.
    pub fn summary(&self) -> Value {
        let ends: BTreeMap<&str, u64> = self
            .tally
            .0
            .iter()
            .filter(|(what, _)| ["end ", "ended ", "allowed"].iter().any(|p| what.starts_with(p)))
            .map(|(what, n)| (what.as_str(), *n))
            .collect();
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, text) in &self.findings {
            *kinds.entry(text.split(':').next().unwrap_or_default()).or_default() += 1;
        }
        json!({
            "seeds": self.seeds,
            "findings": self.findings.len(),
            "kinds_of_findings": kinds,
            "median_ms_a_seed": self.median_ms(),
            "slowest_ms": self.micros.iter().max().map_or(0, |m| m / 1000),
            "ends": ends,
        })
    }

    fn whole(&self) -> Value {
        json!({ "seeds": self.seeds, "findings": self.findings, "micros": self.micros, "tally": self.tally.0 })
    }

    fn read(v: &Value) -> Option<Self> {
        let numbers = |v: &Value| v.as_array().map(|a| a.iter().filter_map(Value::as_u64).collect::<Vec<_>>());
        let finding = |v: &Value| Some((v.get(0)?.as_u64()?, v.get(1)?.as_str()?.to_string()));
        let tally = v.get("tally")?.as_object()?.iter().filter_map(|(k, n)| Some((k.clone(), n.as_u64()?)));
        Some(Self {
            seeds: v.get("seeds")?.as_u64()?,
            findings: v.get("findings")?.as_array()?.iter().filter_map(finding).collect(),
            micros: numbers(v.get("micros")?)?,
            tally: Tally(tally.collect()),
        })
    }
}

/// `a..b`, both included.
pub fn range(text: &str) -> Option<RangeInclusive<u64>> {
    let (from, to) = text.split_once("..")?;
    Some(from.trim().parse().ok()?..=to.trim().trim_start_matches('=').parse().ok()?)
}

/// Plays a range and writes its report beside the others, whole or not at all.
pub fn write(seeds: RangeInclusive<u64>, dir: &Path) {
    let name = format!("{}-{}", seeds.start(), seeds.end());
    let report = play(seeds, Look::All);
    let part = dir.join(format!("{name}.part"));
    std::fs::write(&part, report.whole().to_string()).expect("the report is written");
    std::fs::rename(&part, dir.join(format!("{name}.json"))).expect("the report is renamed");
}

/// All reports of a directory as one.
pub fn merge(dir: &Path) -> Report {
    let mut all = Report::default();
    let files = std::fs::read_dir(dir).expect("a directory of reports").flatten();
    let mut paths: Vec<_> = files.map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    paths.sort();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a report");
        let report = serde_json::from_str(&text).ok().as_ref().and_then(Report::read);
        all.add(report.unwrap_or_else(|| panic!("{}: no report", path.display())));
    }
    all.findings.sort();
    all
}
