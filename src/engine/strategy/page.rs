//! docs/rollout-settings.md, made of the settings and the strategies themselves.
//!
//! Not here: writing the file; `tests/pure/transcripts/settings.rs` does, and holds that it is current.

use std::fmt::Write as _;

use super::STRATEGIES;
use crate::engine::prelude::*;

const HEAD: &str = "\
# Strategies and settings of rollouts

A rollout takes each setting from the first of: the flags of `slipway rollout start`, `rollout:` of the spec, the environment (`strategy` and
`on_no_data` alone), its default. `slipway rollout plan` says what a spec says for other strategies; a flag that the strategy does not
read is refused.

Generated from `src/model/settings.rs` and `src/engine/strategy/`: `GOLDEN=write cargo test --test pure settings`.

| strategy | what it does |
|---|---|
";

const TABLE: &str = "
`address: host` has no room for two instances on a worker, so some settings say nothing there.

| setting | flag | what to write | default | meaning | read by |
|---|---|---|---|---|---|
";

/// The whole page.
pub fn settings_page() -> String {
    let mut text = String::from(HEAD);
    for s in STRATEGIES {
        let _ = writeln!(text, "| `{}` | {} |", s.name, s.about);
    }
    text.push_str(TABLE);
    let defaults = Overrides::from(RolloutParams::default()).said();
    for ((s, range), (_, default)) in SETTINGS.iter().zip(RolloutParams::ranges()).zip(defaults) {
        let what = if s.words.is_empty() { s.value.replace('|', "\\|") } else { s.words.join(", ") };
        let range = if range.is_empty() { range } else { format!(", {range}") };
        let _ = writeln!(
            text,
            "| `{}` | `{}` | {what}{range} | {default} | {} | {} |",
            s.name,
            s.flag(),
            s.about,
            readers(s.name)
        );
    }
    text
}

/// Which strategies read a setting.
fn readers(setting: &str) -> String {
    let has = |of: &[&crate::model::Setting]| of.iter().any(|s| s.name == setting);
    let some: Vec<String> = STRATEGIES
        .iter()
        .filter_map(|s| match (has(s.pool), has(s.host)) {
            (true, true) => Some(s.name.to_string()),
            (true, false) => Some(format!("{} (`address: pool`)", s.name)),
            (false, true) => Some(format!("{} (`address: host`)", s.name)),
            (false, false) => None,
        })
        .collect();
    if some.is_empty() { "all".into() } else { some.join(", ") }
}
