//! A model that finds faults by itself: stories at random around the real `facts`, `plan` and `apply`, and one law for
//! all of them. Once faults stop, every deployment comes to rest in bounded cluster time, or waits with a typed reason
//! and a verb that brings it to rest; the test uses that verb and sees it. A wait is all right only where the story
//! made an end impossible or a policy asks for it.
//!
//! `SEED=n cargo test --test pure rest:: one -- --nocapture` tells one story whole; `make rest SEEDS=1..20000` plays
//! many. Not here: real processes (`tests/cluster`), DNS over the wire, clocks.

mod catalogue;
mod claims;
mod dice;
mod draw;
mod judged;
mod law;
mod lead;
mod play;
mod process;
mod report;
mod run;
mod server;
mod shape;
mod story;
mod tale;
mod tally;
mod watch;
mod way_out;
mod worker;
mod world;

use world::Look;

/// Lines of a transcript that a failing test prints.
const TAIL: usize = 120;

/// Plays seeds; each that breaks the law is told.
fn play(seeds: std::ops::RangeInclusive<u64>) {
    let mut broken = Vec::new();
    for seed in seeds {
        let outcome = run::seed(seed, Look::All);
        if let Some(f) = outcome.finding {
            broken.push(format!("seed {seed}: {}: {}", f.kind, f.text));
            if broken.len() == 1 {
                tell(seed, TAIL);
            }
        }
    }
    assert!(broken.is_empty(), "{} stories break the law:\n{}", broken.len(), broken.join("\n"));
}

/// A story's head and the end of its transcript.
fn tell(seed: u64, tail: usize) {
    let (lines, _) = run::told(seed);
    let head = lines.iter().position(|l| l == "--").unwrap_or(0);
    let skipped = lines.len().saturating_sub(head + tail);
    let (story, rest) = lines.split_at(head);
    println!("{}", story.join("\n"));
    if skipped > 0 {
        println!("... {skipped} lines: SEED={seed} cargo test --test pure rest:: one -- --nocapture");
    }
    println!("{}", rest[skipped.min(rest.len())..].join("\n"));
}

macro_rules! seeds {
    ($($name:ident $from:literal $to:literal),* $(,)?) => {
        $(#[test]
        fn $name() {
            play($from..=$to);
        })*
    };
}

seeds!(
    seeds_1_to_25 1 25,
    seeds_26_to_50 26 50,
    seeds_51_to_75 51 75,
    seeds_76_to_100 76 100,
    seeds_101_to_125 101 125,
    seeds_126_to_150 126 150,
    seeds_151_to_175 151 175,
    seeds_176_to_200 176 200,
);

/// One story, whole: `SEED=n`. Without it the first one must be told alike twice.
#[test]
fn one_story_is_the_same_each_time() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let (lines, finding) = run::told(seed.unwrap_or(1));
    if seed.is_some() {
        println!("{}", lines.join("\n"));
        assert_eq!(finding, None);
        return;
    }
    assert!(lines.len() > 20);
    assert_eq!(lines, run::told(1).0);
}

/// What stories reach is counted, so that none of it is claimed in vain. `SLIPWAY_REST=a..b` plays these instead and
/// writes a report.
#[test]
fn the_stories_reach_what_they_claim() {
    let dir = std::env::var_os("SLIPWAY_REST_DIR").map(std::path::PathBuf::from);
    let asked = std::env::var("SLIPWAY_REST").ok();
    match (asked.as_deref(), dir) {
        (Some("merge"), Some(dir)) => return long_run_ends(&dir),
        (Some(seeds), Some(dir)) => return report::write(report::range(seeds).expect("SLIPWAY_REST is a..b"), &dir),
        (Some(_) | None, _) => {}
    }
    let report =
        report::play(asked.map_or(1..=200, |text| report::range(&text).expect("SLIPWAY_REST is a..b")), Look::Story);
    for (what, n) in &report.tally.0 {
        println!("{n:>7} {what}");
    }
    println!("{}", report.summary());
    let missed: Vec<&str> = claims::ALL.iter().copied().filter(|c| !report.tally.0.contains_key(*c)).collect();
    assert!(missed.is_empty(), "the stories never reach: {}", missed.join(", "));
}

fn long_run_ends(dir: &std::path::Path) {
    let all = report::merge(dir);
    for (seed, text) in &all.findings {
        println!("seed {seed}: {text}");
    }
    println!("{}", all.summary());
}
