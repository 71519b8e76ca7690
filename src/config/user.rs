//! What the CLI reads for the person who runs it: `config.toml`, variables, and what the terminal can do.
//!
//! Invariant: each value knows where it came from, so that an error about it can say so.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

use super::{ConfigError, load, variable};

/// Variables that somebody may think are ours, and what is.
const NOT_OURS: [(&str, &str); 3] = [
    ("SLIPWAY_NODE", "write SLIPWAY_NODES"),
    ("SLIPWAY_TIMEOUT", "write --timeout DURATION"),
    ("SLIPWAY_OUTPUT", "write --output FORMAT"),
];

/// A value with its source, such as `SLIPWAY_NODES` or a file's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<T> {
    pub value: T,
    pub from: String,
}

/// The CLI's own settings: `config.toml` in [`user_dir`], with `SLIPWAY_NODES` and `SLIPWAY_ENVIRONMENT` laid over it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserConfig {
    /// Client addresses of nodes.
    pub nodes: Option<Said<Vec<String>>>,
    /// Environment that a bare service name means.
    pub environment: Option<Said<String>>,
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, deserialize_with = "one_or_more")]
    nodes: Vec<String>,
    environment: Option<String>,
}

/// An address, several joined by commas, or a list of them.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    struct Addresses;
    impl<'de> de::Visitor<'de> for Addresses {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an address such as \"127.0.0.1:7652\", or a list of them")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(split(text))
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(item) = items.next_element()? {
                all.push(item);
            }
            Ok(all)
        }
    }
    from.deserialize_any(Addresses)
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(|n| n.trim().to_string()).filter(|n| !n.is_empty()).collect()
}

impl UserConfig {
    /// Reads the file, if there is one, and the environment.
    pub fn load() -> Result<Self, ConfigError> {
        for (name, fix) in NOT_OURS {
            if variable(name).is_some() {
                return Err(ConfigError::Environment { variable: name.into(), problem: format!("is not read: {fix}") });
            }
        }
        let path = user_dir().map(|d| d.join("config.toml")).filter(|p| p.exists());
        let file: File = path.as_ref().map_or_else(|| Ok(File::default()), |path| load(path))?;
        let path = path.map(|p| p.display().to_string()).unwrap_or_default();
        let said = |name: &str| variable(name).map(|value| Said { value, from: name.into() });
        let nodes = said("SLIPWAY_NODES").map(|s| Said { value: split(&s.value), from: s.from });
        let in_file = Some(file.nodes).filter(|n| !n.is_empty()).map(|value| Said { value, from: path.clone() });
        let environment = file.environment.map(|value| Said { value, from: path });
        Ok(Self {
            nodes: nodes.filter(|n| !n.value.is_empty()).or(in_file),
            environment: said("SLIPWAY_ENVIRONMENT").or(environment),
        })
    }
}

/// Directory for the CLI's own small files: `$XDG_CONFIG_HOME/slipway`, else `$HOME/.config/slipway`.
pub fn user_dir() -> Option<PathBuf> {
    let base = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    base.or_else(|| variable("HOME").map(|h| PathBuf::from(h).join(".config"))).map(|b| b.join("slipway"))
}

/// Directory for what the CLI may lose: `$XDG_CACHE_HOME/slipway`, else `$HOME/.cache/slipway`.
pub fn cache_dir() -> Option<PathBuf> {
    let base = variable("XDG_CACHE_HOME").map(PathBuf::from);
    base.or_else(|| variable("HOME").map(|h| PathBuf::from(h).join(".cache"))).map(|b| b.join("slipway"))
}

/// Whether the terminal, if it is one, cannot move its cursor.
pub fn dumb_terminal() -> bool {
    variable("TERM").is_none_or(|t| t == "dumb")
}

/// Whether the reader wants colours at a terminal.
pub fn colours() -> bool {
    variable("NO_COLOR").is_none() && !dumb_terminal()
}

/// How many columns the reader wants, as `COLUMNS` says.
pub fn columns() -> Option<usize> {
    variable("COLUMNS")?.parse().ok().filter(|columns| *columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_a_list_of_one_and_what_is_none_is_said_in_words() {
        let read = |text: &str| toml::from_str::<File>(text);
        assert_eq!(read("nodes = 'a:1'").unwrap().nodes, ["a:1"]);
        assert_eq!(read("nodes = 'a:1, b:2'").unwrap().nodes, read("nodes = ['a:1', 'b:2']").unwrap().nodes);
        let said = read("nodes = 5").unwrap_err().to_string();
        assert!(said.contains("an address such as"), "{said}");
    }
}
