//! docs/config.md, made of the settings themselves.
//!
//! Not here: writing the file; `tests/cluster/shipped_files.rs` does, and holds that it is current.

use std::fmt::Write as _;

use super::{AgentConfig, Described, NodeConfig};

const HEAD: &str = "\
# Settings

A setting comes from the first of: the command line, an environment variable, the file of `--config` (TOML), its default. Unknown keys
and unknown variables that begin with `SLIPWAY_NODE_` or `SLIPWAY_AGENT_` are refused, with the nearest known one. A list in a variable
is written with commas, a table as `KEY=VALUE` with commas; an empty variable counts as not set. Give all nodes of a cluster the same
file but for names, directories and addresses.

* `slipwayd config check node --config FILE` (or `agent`) reads all of it as `slipwayd node` would: exit code 0, or 2 and what is wrong.
* `slipwayd config print node --config FILE` says what is in force, as a file with the source of each value.

Generated from `src/config.rs`: `SLIPWAY_GOLDEN=write cargo test --test cluster shipped_files`.
";

const TAIL: &str = "
## Both, and the CLI

| variable | flag | meaning |
|---|---|---|
| `SLIPWAY_LOG` | `--log` | What `slipwayd` logs to stderr, such as `info` or `slipway=debug` |
| `SLIPWAY_LOG_FORMAT` | `--log-format` | How: `text`, or `json`, one object a line |
| `SLIPWAY_NODES` | `--node` | Nodes that `slipway` asks, with commas; `nodes` in `config.toml` |
| `SLIPWAY_ENVIRONMENT` | | Environment that a bare service name means; `environment` in `config.toml` |

`slipway` reads `config.toml` in `$XDG_CONFIG_HOME/slipway`, else in `$HOME/.config/slipway`: `nodes` is one address or a list of them.
";

fn table(text: &mut String, program: &str, settings: &[Described]) {
    let _ = write!(
        text,
        "\n## `{program}`\n\n| key | what to write | default | flag | variable | meaning |\n|---|---|---|---|---|---|\n"
    );
    for s in settings {
        let default = match s.default.as_deref() {
            None => "must be given".into(),
            Some("not set") => "not set".into(),
            Some(value) => format!("`{value}`"),
        };
        let about = s.about.trim_end_matches('.');
        let _ = writeln!(text, "| `{}` | {} | {default} | `{}` | `{}` | {about} |", s.key, s.kind, s.flag, s.variable);
    }
}

/// The whole page.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    table(&mut text, "slipwayd node", &NodeConfig::described());
    table(&mut text, "slipwayd agent", &AgentConfig::described());
    text.push_str(TAIL);
    text
}
