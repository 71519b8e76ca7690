//! docs/cli-reference.md and the man pages, made of the declarations in `args`.
//!
//! Not here: writing docs/cli-reference.md; `cli/tests` does, and holds that it is current.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::{args, error};

const HEAD: &str = "\
# The command line

Every verb of `slipway`, with its arguments, flags and examples; `slipway NOUN VERB --help` says the same. Made of the program itself:
`SLIPWAY_GOLDEN=write cargo test --lib cli::`.

* **Names.** DEPLOYMENT is `ENVIRONMENT/SERVICE`, or a service in the default environment (`--environment`, `SLIPWAY_ENVIRONMENT`,
  `environment` in `config.toml`, else `production`). TARGET is a deployment or a rollout (`r-52`). NODE is a name or a number.
* **Short names.** Plurals are understood (`rollouts`, `nodes`), and `ro`, `svc`, `dep`, `env`.
* **Completions.** `source <(slipway completions bash)` in `~/.bashrc` (zsh: the same in `~/.zshrc`; fish:
  `slipway completions fish | source` in `~/.config/fish/config.fish`) completes verbs, flags and the cluster's own names.
* **Man pages.** `slipway man DIR` writes them.
* **Scripts.** `-o json` prints the reply whole: an object with the `applied_index` that it was answered from (0: no State was asked), a list in `items`. An error is one
  JSON object on standard error: `error`, `reason` (the cluster's own word, or `usage`, `unreachable`, `unavailable`, `timed_out`,
  `not_found`, `failed`, `file`, `output`) and `exit_code`. With `--watch`, and `rollout watch`, there is one JSON object a line as it
  comes, each with a `type`: `started` (the rollout's id, first of all), `event`, `evidence` (what a step that ended has seen), `waiting`, `paused`, `moved` (another node is
  followed), `silent` (no node answers) and last `ended` with the rollout, `exit_code` and `text`. `event list`, `event watch` and
  `logs` print one object a line too; remarks about a log are text on standard error. Names that end in `_ms` are cluster time, which no clock on a wall shows; `_wall_ms` is Unix time.
* **Tables** are cut to the terminal, or to `COLUMNS`; `-o wide` cuts nothing and has more columns for releases, workers, nodes,
  deployments and past rollouts.

## Exit codes

| code | meaning |
|---|---|
";

const GLOBAL: &str = "Options of every verb";

/// The whole page.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    for (code, word, about) in error::CODES {
        let _ = writeln!(text, "| {code} | {word}: {about} |");
    }
    let definition = args::definition();
    let _ = writeln!(text, "\n## {GLOBAL}\n\n| flag | meaning |\n|---|---|");
    definition.get_arguments().filter(|a| a.get_help_heading() == Some(GLOBAL)).for_each(|a| row(&mut text, a));
    for (path, verb) in verbs(&definition) {
        section(&mut text, &path, &verb);
    }
    text
}

/// Every verb that can be run, hidden ones left out, with the words that name it.
pub fn verbs(command: &Command) -> Vec<(String, Command)> {
    let mut built = command.clone();
    built.build();
    let mut all = Vec::new();
    walk(&built, "slipway", &mut all);
    all
}

fn walk(command: &Command, path: &str, all: &mut Vec<(String, Command)>) {
    let below = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
    for verb in below {
        let path = format!("{path} {}", verb.get_name());
        if verb.has_subcommands() { walk(verb, &path, all) } else { all.push((path, verb.clone())) }
    }
}

fn section(text: &mut String, path: &str, verb: &Command) {
    let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = verb.clone().render_usage().to_string().replace("Usage: ", "").replace("       slipway", "slipway");
    let _ = write!(text, "\n## `{path}`\n\n{about}\n\n");
    for line in usage.lines() {
        let _ = writeln!(text, "    {}", line.trim());
    }
    let aliases: Vec<&str> = verb.get_visible_aliases().collect();
    if !aliases.is_empty() {
        let _ = writeln!(text, "\nAlso: `{}`.", aliases.join("`, `"));
    }
    let own = |a: &&Arg| !a.is_hide_set() && a.get_help_heading() != Some(GLOBAL) && a.get_id() != "help";
    let (settings, own): (Vec<&Arg>, Vec<&Arg>) =
        verb.get_arguments().filter(own).partition(|a| a.get_help_heading().is_some_and(|h| h.starts_with("Rollout")));
    if !own.is_empty() {
        text.push_str("\n| argument or flag | meaning |\n|---|---|\n");
        own.into_iter().for_each(|a| row(text, a));
    }
    if !settings.is_empty() {
        text.push_str("\nAnd the [settings of a rollout](rollout-settings.md) as flags.\n");
    }
    for line in verb.get_after_help().map(ToString::to_string).unwrap_or_default().lines() {
        let line = line.trim();
        let _ = if line.starts_with("slipway") || line.starts_with("source") {
            writeln!(text, "    {line}")
        } else {
            writeln!(text, "\n{line}\n")
        };
    }
}

fn row(text: &mut String, arg: &Arg) {
    let value = arg.get_value_names().map(|v| v.join(" ")).unwrap_or_default();
    let takes = arg.get_action().takes_values();
    let mut name = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        (_, None) => String::new(),
    };
    if takes {
        name = format!("{name} {value}").trim().to_string();
    }
    let mut about = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let words: Vec<String> = arg.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect();
    if takes && !words.is_empty() && arg.get_long().is_some() {
        about += &format!(" ({})", words.join(", "));
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
    if takes && !defaults.is_empty() {
        about += &format!(" [default: {}]", defaults.join(","));
    }
    let _ = writeln!(text, "| `{name}` | {} |", about.replace('|', "\\|"));
}
